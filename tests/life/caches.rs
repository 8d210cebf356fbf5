//! Pull-through caches, and what they tell of their upstream registries.

use std::sync::Arc;

use localcluster_operator::plan::registry::upstream::LIMITED_FOR;

use super::*;
use crate::support::model::world::Upstreams;

const CACHE: &str = "k3d-hub";
/// Longer than the interval at which a cache is looked at, in rounds.
const A_LOOK: i64 = 90 / TICK;

fn put_cache(rig: &Rig, annotations: Value, proxy: Option<Value>) {
    let spec = proxy.map_or_else(|| json!({}), |proxy| json!({"proxy": proxy}));
    let metadata = json!({"name": "hub", "annotations": annotations});
    rig.api.put(
        &path("registries", "hub"),
        json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry", "metadata": metadata, "spec": spec}),
    );
}

fn hub() -> Value {
    json!({"remoteURL": "https://registry-1.docker.io"})
}

fn object(rig: &Rig) -> Value {
    rig.api.get(&path("registries", "hub")).unwrap()
}

fn upstream(rig: &Rig) -> (String, String) {
    condition(&object(rig), "UpstreamReady")
}

fn message(rig: &Rig) -> String {
    let object = object(rig);
    let all = object["status"]["conditions"].as_array().unwrap();
    all.iter().find(|c| c["type"] == "UpstreamReady").unwrap()["message"].as_str().unwrap().to_owned()
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

fn set(rig: &Rig, change: impl FnOnce(&mut Upstreams)) {
    rig.world(|w| change(Arc::make_mut(&mut w.upstreams)));
}

async fn rounds(rig: &mut Rig, n: i64) {
    for _ in 0..n {
        rig.round().await;
    }
}

async fn settled() -> Rig {
    let mut rig = Rig::new(lab::settings());
    put_cache(&rig, json!({}), Some(hub()));
    rig.settle(ENOUGH).await;
    rig.round().await;
    assert_eq!(upstream(&rig), is("True", "Reachable"));
    rig
}

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_is_told_and_nothing_else_comes_of_it() {
    let mut rig = settled().await;
    let id = rig.world(|w| w.id(CACHE));
    rig.faults.take_writes();
    let error = |port: u16| {
        format!("Get \"https://registry-1.docker.io/v2/\": read udp 10.0.0.2:{port}: i/o timeout")
    };
    set(&rig, |u| u.silent = Some(error(1)));
    rounds(&mut rig, A_LOOK).await;
    assert_eq!(upstream(&rig), is("False", "UpstreamUnreachable"));
    assert!(rig.settled(), "it serves what it has");
    let told = message(&rig);
    assert!(
        told.contains("https://registry-1.docker.io does not answer") && told.ends_with(&error(1)),
        "{told}"
    );
    assert_eq!(rig.events("UpstreamUnreachable"), std::slice::from_ref(&told));
    let writes = rig.faults.take_writes();
    assert!(!writes.iter().any(|write| write.starts_with("Docker")), "{writes:?}");
    assert_eq!(writes.len(), 1, "the status: {writes:?}");

    // The same, in other words: nothing is written.
    for port in 2..20 {
        set(&rig, |u| u.silent = Some(error(port)));
        rounds(&mut rig, A_LOOK).await;
    }
    assert_eq!((rig.faults.take_writes(), message(&rig)), (Vec::new(), told));

    set(&rig, |u| u.silent = None);
    rounds(&mut rig, A_LOOK).await;
    assert_eq!((upstream(&rig), rig.events("UpstreamReady").len()), (is("True", "Reachable"), 1));
    assert_eq!(rig.world(|w| w.id(CACHE)), id, "it is the same container");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_told_until_it_is_over() {
    let mut rig = settled().await;
    let rejected = |rig: &Rig| {
        let now = rig.world(|w| w.now());
        set(rig, |u| {
            u.log = vec![format!("time=\"{now}\" level=error err.code=toomanyrequests go.version=go1.26")]
        });
    };
    rejected(&rig);
    rounds(&mut rig, A_LOOK).await;
    assert_eq!(upstream(&rig), is("False", "RateLimited"));
    assert!(rig.settled() && message(&rig).contains("set spec.proxy.credentialsSecret"), "{}", message(&rig));
    assert_eq!(rig.events("RateLimited"), [message(&rig)]);
    rounds(&mut rig, LIMITED_FOR.as_secs() / 2 / TICK).await;
    rejected(&rig);
    rounds(&mut rig, LIMITED_FOR.as_secs() / TICK - 1).await;
    assert_eq!(upstream(&rig), is("False", "RateLimited"), "it was rejected again");
    rounds(&mut rig, A_LOOK).await;
    assert_eq!(upstream(&rig), is("True", "Reachable"));
    assert_eq!((rig.events("RateLimited").len(), rig.events("UpstreamReady").len()), (1, 1));
}

/// What else may become of a cache whose upstream is silent.
#[tokio::test(start_paused = true)]
async fn the_condition_is_true_to_what_is_known() {
    let mut rig = settled().await;
    set(&rig, |u| u.silent = Some("no route to host".into()));
    rounds(&mut rig, A_LOOK).await;
    let silent = is("False", "UpstreamUnreachable");
    assert_eq!(upstream(&rig), silent);
    // A new process of the operator knows it from the container.
    let mut rig = rig.restart();
    rounds(&mut rig, 1).await;
    assert_eq!((upstream(&rig), rig.events("UpstreamUnreachable").len()), (silent.clone(), 1));
    // Docker does not respond: nothing is known to have changed.
    rig.faults.away.store(true, Ordering::Relaxed);
    rounds(&mut rig, A_LOOK).await;
    assert_eq!(upstream(&rig), silent);
    rig.faults.away.store(false, Ordering::Relaxed);
    rig.settle_after_a_round(ENOUGH).await;
    put_cache(&rig, json!({"localcluster.dev/paused": "true"}), Some(hub()));
    rounds(&mut rig, 1).await;
    assert_eq!(upstream(&rig), is("Unknown", "Paused"));
    put_cache(&rig, json!({}), Some(hub()));
    rounds(&mut rig, A_LOOK).await;
    assert_eq!(upstream(&rig), silent);
    // It is killed, and starts again.
    rig.world(|w| assert!(w.interfere(&Outside::Stop(CACHE.into()))));
    rig.settle_after_a_round(ENOUGH).await;
    rig.round().await;
    assert_eq!(upstream(&rig), silent);
    // It is no cache any more.
    put_cache(&rig, json!({}), None);
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(upstream(&rig), (String::new(), String::new()));
    // A cache that is deleted is not held back by its upstream.
    put_cache(&rig, json!({}), Some(hub()));
    rig.settle_after_a_round(ENOUGH).await;
    rig.api.delete(&path("registries", "hub"));
    rounds(&mut rig, 10).await;
    assert_eq!(rig.api.get(&path("registries", "hub")), None);
}
