//! When a cluster ends: its time, holds, edits and pauses.

use super::*;

pub(super) fn expires(rig: &Rig) -> Value {
    object(rig).unwrap()["status"]["expiresAt"].clone()
}

/// Rounds until something asks for the cluster to be looked at; how many seconds that took.
pub(super) async fn until_triggered(rig: &mut Rig) -> i64 {
    let began = rig.world(|w| w.clock);
    for _ in 0..3600 {
        // As time goes by, with nobody looking.
        rig.pass().await;
        if !rig.triggered().is_empty() {
            return rig.world(|w| w.clock) - began;
        }
    }
    panic!("nobody asked for it");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_goes_when_its_time_is_over() {
    let mut rig = Rig::new(lab::settings());
    let begin = rig.world(|w| w.clock);
    put(&rig, "dev", json!({}), json!({"ttl": "1h"}));
    let uid = object(&rig).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    rig.settle(ENOUGH).await;
    assert!(rig.world(|w| w.owned_by(&uid)));
    assert_eq!(expires(&rig), "2023-11-14T23:13:20Z");
    assert_eq!(rig.events("Expiring"), [] as [String; 0]);
    rig.triggered();

    // A tenth of an hour before, people are told, once.
    until_triggered(&mut rig).await;
    let left = begin + 3600 - rig.world(|w| w.clock);
    assert!((360 - TICK..=360).contains(&left), "{left} s are left");
    rig.round().await;
    rig.round().await;
    let told = rig.events("Expiring");
    assert!(
        told.len() == 1 && told[0].contains("2023-11-14T23:13:20Z") && told[0].contains("hold"),
        "{told:?}"
    );
    assert!(rig.settled());
    rig.triggered();

    until_triggered(&mut rig).await;
    let over = rig.world(|w| w.clock) - begin - 3600;
    assert!((0..=TICK).contains(&over), "{over} s too late");
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(object(&rig), None);
    assert!(!rig.world(|w| w.owned_by(&uid)));
    assert_eq!((rig.events("Expired").len(), rig.api.sins().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hold_keeps_a_cluster_and_its_end_keeps_it_no_longer() {
    let mut rig = Rig::new(lab::settings());
    let ttl = || json!({"ttl": "10m"});
    put(&rig, "dev", json!({"localcluster.dev/hold": "until friday"}), ttl());
    rig.settle(ENOUGH).await;
    assert_eq!(expires(&rig), Value::Null);
    rig.triggered();
    for _ in 0..2 * 600 / TICK {
        rig.round().await;
    }
    assert!(rig.settled() && rig.triggered().is_empty());
    assert_eq!(rig.events("Expiring"), [] as [String; 0]);

    put(&rig, "dev", json!({"localcluster.dev/hold": "false"}), ttl());
    rig.round().await;
    assert!(!object(&rig).unwrap()["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_edit_moves_the_end() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"ttl": "5m"}));
    rig.settle(ENOUGH).await;
    assert_eq!(expires(&rig), "2023-11-14T22:18:20Z");
    put(&rig, "dev", json!({}), json!({"ttl": "2h"}));
    rig.round().await;
    assert_eq!(expires(&rig), "2023-11-15T00:13:20Z");
    rig.triggered();
    // The first end has no more say.
    let waited = until_triggered(&mut rig).await;
    assert!(waited > 6000, "{waited}");
    put(&rig, "dev", json!({}), json!({}));
    rig.round().await;
    assert_eq!(expires(&rig), Value::Null);
    rig.triggered();
    for _ in 0..2 * 7200 / TICK {
        rig.pass().await;
    }
    assert_eq!(rig.triggered(), [] as [String; 0]);
    rig.round().await;
    assert!(rig.settled());
}

#[tokio::test(start_paused = true)]
async fn a_paused_cluster_does_not_go() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"ttl": "5m"}));
    rig.settle(ENOUGH).await;
    put(&rig, "dev", json!({"localcluster.dev/paused": "true"}), json!({"ttl": "5m"}));
    for _ in 0..600 / TICK {
        rig.round().await;
    }
    assert!(object(&rig).unwrap()["metadata"]["deletionTimestamp"].is_null());
    put(&rig, "dev", json!({}), json!({"ttl": "5m"}));
    rig.round().await;
    assert!(!object(&rig).unwrap()["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_end_does_not_overtake_a_hold() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"ttl": "5m"}));
    rig.settle(ENOUGH).await;
    for _ in 0..600 / TICK {
        rig.pass().await;
    }
    // What a look saw before the hold was set must not be carried out after it.
    rig.look_at_then("dev", |rig| {
        put(rig, "dev", json!({"localcluster.dev/hold": "true"}), json!({"ttl": "5m"}));
    })
    .await;
    rig.round().await;
    assert!(object(&rig).unwrap()["metadata"]["deletionTimestamp"].is_null());
    assert!(rig.settled());
}

/// Nothing else tells of nodes that still run when somebody removed the finalizer.
#[tokio::test(start_paused = true)]
async fn what_an_object_without_its_finalizer_left_is_counted() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"agents": {"count": 1}}));
    rig.settle(ENOUGH).await;
    orphans::look(&rig.ctx, &mut Sweep::default()).await;
    let count = |rig: &Rig, resource: &str| {
        let text = rig.ctx.metrics.encode().unwrap();
        let begin = format!("localcluster_orphans{{resource=\"{resource}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&begin)?.parse::<usize>().ok()).unwrap()
    };
    let counts = |rig: &Rig| ["container", "network", "volume"].map(|resource| count(rig, resource));
    assert_eq!(counts(&rig), [0, 0, 0]);
    rig.api.remove(&path("localclusters", "dev"));
    rig.reconcile_together().await;
    let before = rig.world(|w| w.normal());
    orphans::look(&rig.ctx, &mut Sweep::default()).await;
    assert_eq!(counts(&rig), [3, 1, 10]);
    assert_eq!(rig.world(|w| w.normal()), before, "it only tells");
}

/// An operator that removes orphans after ten minutes.
fn sweeping() -> Rig {
    Rig::new(Settings { remove_orphans_after: Some(SignedDuration::from_mins(10)), ..lab::settings() })
}

/// What it leaves, looking once a minute for this long.
async fn swept(rig: &mut Rig, minutes: i64) -> Vec<String> {
    let mut seen = Sweep::default();
    for _ in 0..=minutes {
        orphans::look(&rig.ctx, &mut seen).await;
        for _ in 0..60 / TICK {
            rig.pass().await;
        }
    }
    rig.world(|w| w.containers.values().map(|c| c.name.clone()).collect())
}

#[tokio::test(start_paused = true)]
async fn what_nobody_owns_is_removed_if_that_is_wanted() {
    let mut rig = sweeping();
    for name in ["dev", "other"] {
        put(&rig, name, json!({}), json!({}));
    }
    rig.settle(ENOUGH).await;
    let all = ["k3d-dev-server-0", "k3d-dev-serverlb", "k3d-other-server-0", "k3d-other-serverlb"];
    assert_eq!(swept(&mut rig, 20).await, all);
    let before = rig.faults.calls(Side::Docker).len();
    orphans::look(&rig.ctx, &mut Sweep::default()).await;
    let calls = rig.faults.calls(Side::Docker).split_off(before);
    let mut calls: Vec<String> = calls.into_iter().map(|(call, _)| call).collect();
    calls.sort();
    assert_eq!(calls, ["containers", "networks", "volumes"]);
    rig.api.remove(&path("localclusters", "dev"));
    rig.reconcile_together().await;
    // Somebody else's.
    rig.world(|w| assert!(w.interfere(&Outside::Visitor("k3d-dev".into()))));
    let strangers = rig.world(|w| w.strangers());
    assert_eq!(swept(&mut rig, 9).await.len(), 5, "an operator that starts waits for all of the time");
    assert_eq!(swept(&mut rig, 10).await, ["visitor", all[2], all[3]]);
    assert_eq!(rig.world(|w| w.strangers()), strangers);
    assert!(rig.world(|w| w.networks.values().all(|n| n.name != "k3d-dev")));
    assert!(rig.world(|w| w.volumes.keys().all(|name| !name.starts_with("k3d-dev-"))));
    rig.settle(ENOUGH).await;
}

#[tokio::test(start_paused = true)]
async fn what_may_be_needed_again_is_never_removed() {
    for (name, needed) in [
        // GitOps applied it again, with another UID.
        ("again", |rig: &mut Rig| put(rig, "dev", json!({"localcluster.dev/paused": "true"}), json!({}))),
        ("unknown", |rig: &mut Rig| {
            rig.faults.every(Some(("GET /apis/localcluster.dev/v1alpha1/localclusters*", Fault::Refused)));
        }),
        ("docker", |rig: &mut Rig| rig.faults.away.store(true, Ordering::Relaxed)),
    ] as [(&str, fn(&mut Rig)); 3]
    {
        let mut rig = sweeping();
        put(&rig, "dev", json!({}), json!({}));
        rig.settle(ENOUGH).await;
        rig.api.remove(&path("localclusters", "dev"));
        rig.reconcile_together().await;
        needed(&mut rig);
        assert_eq!(swept(&mut rig, 20).await.len(), 2, "{name}");
    }
}
