//! A token that is exchanged for another.

use super::*;

pub(super) fn set_token(rig: &Rig, token: &str) {
    let data = json!({"token": BASE64_STANDARD.encode(token)});
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "data": data});
    rig.api.put(&secret("mine"), object);
}

pub(super) fn joined_by(rig: &Rig) -> String {
    let token = rig.world(|w| w.clusters.values().next().unwrap().token.clone().unwrap());
    String::from_utf8_lossy(&token).into_owned()
}

/// The tokens that the nodes have in their files.
pub(super) fn tokens(rig: &Rig) -> BTreeSet<String> {
    rig.world(|w| {
        let nodes =
            w.containers.values().filter(|c| c.name.contains("-server-") || c.name.contains("-agent-"));
        let names: Vec<String> = nodes.map(|c| c.name.clone()).collect();
        let read = names.iter().map(|n| w.read(n, "/etc/rancher/k3s/token").unwrap());
        read.map(|t| String::from_utf8_lossy(&t).into_owned()).collect()
    })
}

pub(super) fn with_token() -> Value {
    json!({"token": {"secretName": "mine"}, "agents": {"count": 2}})
}

#[tokio::test(start_paused = true)]
async fn another_token_takes_the_place_of_the_first() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    put(&rig, "dev", json!({}), with_token());
    rig.settle(ENOUGH).await;
    let ids = |rig: &Rig| {
        rig.world(|w| w.containers.iter().map(|(id, c)| (c.name.clone(), id.clone())).collect::<Vec<_>>())
    };
    let before = ids(&rig);
    set_token(&rig, "second");
    rig.round().await;
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert!(rig.settled(), "{:?}", rig.told("Ready"));
    assert_eq!((joined_by(&rig), tokens(&rig)), ("second".into(), ["second".to_owned()].into()));
    // Each node is another container by now, and the load balancer is not.
    let same: Vec<_> = ids(&rig).into_iter().filter(|c| before.contains(c)).map(|(name, _)| name).collect();
    assert_eq!(same, ["k3d-dev-serverlb"]);

    // What joins later joins by the new one, and nothing is left of the way there.
    let mut more = with_token();
    more["agents"] = json!({"count": 3});
    put(&rig, "dev", json!({}), more);
    rig.settle(ENOUGH).await;
    let left = rig.world(|w| w.read("k3d-dev-server-0", "/etc/rancher/k3s/token.new"));
    assert!(left.is_none_or(|l| l.is_empty()));
    let told = serde_json::to_string(&(object(&rig), rig.api.all("events"))).unwrap();
    assert!(!told.contains("second") && !told.contains("first"));
}

/// It waits: there is no server that could exchange it, and a stopped cluster is at rest all the same.
#[tokio::test(start_paused = true)]
async fn another_token_does_not_keep_a_cluster_from_being_stopped() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    put(&rig, "dev", json!({}), with_token());
    rig.settle(ENOUGH).await;
    let mut stopped = with_token();
    stopped["state"] = json!("Stopped");
    set_token(&rig, "second");
    put(&rig, "dev", json!({}), stopped);
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.told("Stopped"), ("True".into(), "Stopped".into()));
    put(&rig, "dev", json!({}), with_token());
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!((joined_by(&rig), tokens(&rig)), ("second".into(), ["second".to_owned()].into()));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_exchanged_whatever_fails_on_the_way() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    put(&rig, "dev", json!({}), with_token());
    rig.settle(ENOUGH).await;
    let ends = |run: &Rig, what: &str| {
        assert_eq!((joined_by(run), tokens(run)), ("second".into(), ["second".to_owned()].into()), "{what}");
    };
    let mut clean = rig.copy();
    set_token(&clean, "second");
    clean.settle_after_a_round(2 * ENOUGH).await;
    ends(&clean, "without a fault");
    let calls = clean.faults.calls(Side::Docker);
    let writes: Vec<usize> = (0..calls.len()).filter(|i| calls[*i].1).collect();
    assert!(calls.iter().any(|(call, _)| call.starts_with("exec")) && writes.len() > 10, "{calls:?}");
    for number in writes {
        for fault in [Fault::Lost, Fault::Refused] {
            let mut run = rig.copy();
            set_token(&run, "second");
            run.faults.plan(Side::Docker, number, fault);
            for _ in 0..2 {
                run.round().await;
            }
            // A new process goes on.
            let mut run = run.restart();
            run.settle_after_a_round(2 * ENOUGH).await;
            ends(&run, &format!("{fault:?} of {}", calls[number].0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_k3s_might_misread_is_refused() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    put(&rig, "dev", json!({}), with_token());
    rig.settle(ENOUGH).await;
    set_token(&rig, "a b$(c)");
    rig.round().await;
    assert_eq!(rig.told("ResolvedRefs"), ("False".into(), "SecretInvalid".into()));
    assert_eq!(joined_by(&rig), "first");
    set_token(&rig, "first");
    rig.settle(ENOUGH).await;
}
