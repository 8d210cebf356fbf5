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

/// The secrets of the tokens that the nodes have in their files.
pub(super) fn tokens(rig: &Rig) -> BTreeSet<String> {
    let secret = |token: String| token.rsplit(':').next().unwrap().to_owned();
    files(rig).into_values().map(secret).collect()
}

/// The tokens that the nodes have in their files, by name without the cluster.
fn files(rig: &Rig) -> BTreeMap<String, String> {
    rig.world(|w| {
        let nodes =
            w.containers.values().filter(|c| c.name.contains("-server-") || c.name.contains("-agent-"));
        let read = |name: &str| String::from_utf8_lossy(&w.read(name, TOKEN_FILE).unwrap()).into_owned();
        nodes.map(|c| (c.name.trim_start_matches("k3d-dev-").to_owned(), read(&c.name))).collect()
    })
}

/// The containers of all nodes, with their starts.
fn starts(rig: &Rig) -> Vec<(String, Option<i64>)> {
    rig.world(|w| w.containers.iter().map(|(id, c)| (id.clone(), c.started)).collect())
}

/// The token of nodes of a role that join only the first cluster that a world has.
fn pinned(user: &str) -> String {
    format!("K10{}::{user}:first", ca_hash(0))
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

/// K3s trusts the first CA that it sees otherwise, and a guest on the network would get the token.
#[tokio::test(start_paused = true)]
async fn nodes_join_only_the_ca_of_their_cluster() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    let spec = |agents: u8| json!({"token": {"secretName": "mine"}, "servers": {"count": 3}, "agents": {"count": agents}});
    put(&rig, "dev", json!({}), spec(1));
    rig.settle(ENOUGH).await;
    rig.settle(ENOUGH).await;
    let wanted = [
        ("agent-0", pinned("node")),
        ("server-0", pinned("server")),
        ("server-1", pinned("server")),
        ("server-2", pinned("server")),
    ];
    assert_eq!(files(&rig), wanted.map(|(node, token)| (node.to_owned(), token)).into());

    put(&rig, "dev", json!({}), spec(2));
    while rig.world(|w| w.named("k3d-dev-agent-1").is_none_or(|c| c.started.is_none())) {
        rig.reconcile().await;
        assert!(files(&rig).get("agent-1").is_none_or(|token| *token == pinned("node")));
        rig.pass().await;
    }
    rig.settle(ENOUGH).await;

    // The first server joins the others when it has lost its data.
    rig.world(|w| assert!(w.interfere(&Outside::RemoveWithVolumes("k3d-dev-server-0".into()))));
    rig.settle_after_a_round(2 * ENOUGH).await;
    assert_eq!(files(&rig)["server-0"], pinned("server"));
    let told = serde_json::to_string(&(object(&rig), rig.api.all("events"))).unwrap();
    assert!(!told.contains("first") && !told.contains("K10"));
}

/// Neither the nodes of an earlier operator, nor those that name the CA of data that was replaced, are restarted.
#[tokio::test(start_paused = true)]
async fn another_ca_in_a_token_restarts_no_node() {
    let mut rig = Rig::new(lab::settings());
    set_token(&rig, "first");
    put(&rig, "dev", json!({}), with_token());
    rig.settle(ENOUGH).await;
    rig.settle(ENOUGH).await;
    let (before, with) = (starts(&rig), files(&rig));
    assert_eq!(with["server-0"], "first", "alone, it has its CA, or has none to name");
    for token in [
        "first".to_owned(),
        format!("K10{}::node:first", "f".repeat(64)),
        format!("K10{}::server:first", ca_hash(0)),
    ] {
        rig.world(|w| {
            for agent in ["k3d-dev-agent-0", "k3d-dev-agent-1"] {
                w.write(agent, TOKEN_FILE, token.as_bytes()).unwrap();
            }
        });
        rig = rig.restart();
        for _ in 0..4 {
            rig.round().await;
            assert!(rig.settled(), "{token}: {:?}", rig.told("Ready"));
        }
        assert_eq!((starts(&rig), files(&rig)), (before.clone(), with.clone()), "{token}");
    }
    // While the CA is unknown, nothing changes.
    rig.world(|w| w.write("k3d-dev-server-0", SERVER_TOKEN_FILE, b"").unwrap());
    let mut rig = rig.restart();
    rig.reconcile().await;
    assert_eq!((starts(&rig), files(&rig)), (before, with));
}
