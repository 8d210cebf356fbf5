//! Registries that the HostPolicy names for all clusters of its namespaces.

use super::{
    consent::{HUB, connected, have, nodes, rounds, told_inside},
    *,
};

const POLICY: &str = "/apis/localcluster.dev/v1alpha1/hostpolicies/teams";
const NODES: [&str; 2] = ["k3d-dev-agent-0", "k3d-dev-server-0"];

fn put_policy(rig: &Rig, registries: &serde_json::Value) {
    let spec = json!({"namespaceSelector": {}, "defaults": {"registries": registries}});
    let metadata = json!({"name": "teams"});
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "HostPolicy", "metadata": metadata, "spec": spec,
    });
    rig.api.put(POLICY, object);
}

fn hub() -> serde_json::Value {
    json!([{"namespace": "shared", "name": "hub"}])
}

/// A cache of another namespace that all may use, unless `spec` says otherwise.
fn put_cache(rig: &Rig, spec: serde_json::Value) {
    let mut all = json!({
        "hostname": "hub.example", "allowedNamespaces": ["*"], "proxy": {"remoteURL": "https://quay.io"},
    });
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let metadata = json!({"name": "hub"});
    let object = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry", "metadata": metadata, "spec": all,
    });
    rig.api.put(HUB, object);
}

/// A cluster whose policy names the cache.
async fn with_cache() -> Rig {
    let mut rig = applied(1);
    put_cache(&rig, json!({}));
    put_policy(&rig, &hub());
    rig.settle(ENOUGH).await;
    rounds(&mut rig).await;
    rig
}

fn both() -> std::collections::BTreeSet<String> {
    NODES.map(str::to_owned).into()
}

fn used_by(rig: &Rig) -> serde_json::Value {
    rig.api.get(HUB).map(|registry| registry["status"]["usedBy"].clone()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_cache_comes_and_goes_without_a_restart() {
    let mut rig = applied(1);
    put_cache(&rig, json!({}));
    rig.settle(ENOUGH).await;
    let before = nodes(&rig);
    assert_eq!((have(&rig, "quay.io"), connected(&rig)), (Default::default(), 1), "no policy names it");

    put_policy(&rig, &hub());
    rounds(&mut rig).await;
    assert_eq!((have(&rig, "quay.io"), connected(&rig)), (both(), 2));
    let status = rig.api.get(&path("localclusters", "dev")).unwrap()["status"].clone();
    let used = &status["registries"];
    assert!(
        used.as_array().unwrap().iter().any(|r| r["name"] == "shared/hub" && r["byDefault"] == true),
        "{used}"
    );
    assert_eq!(used_by(&rig), json!(["default/dev"]));
    rig.settle(ENOUGH).await;

    put_policy(&rig, &json!([]));
    rounds(&mut rig).await;
    assert_eq!((have(&rig, "quay.io"), connected(&rig)), (Default::default(), 1));
    assert_eq!(nodes(&rig), before, "no node was replaced");
    assert_eq!(used_by(&rig), json!(null));
}

/// Nobody who writes a spec chose it, so that it holds up nothing.
#[tokio::test(start_paused = true)]
async fn a_cluster_does_not_wait_for_a_cache() {
    for (what, spec) in [
        ("does not exist", None),
        ("does not allow the namespace", Some(json!({"allowedNamespaces": []}))),
        ("requires a login", Some(json!({"auth": {"htpasswdSecret": "users"}}))),
        ("has no certificate", Some(json!({"tls": {"secretName": "missing"}}))),
        ("is invalid", Some(json!({"hostPort": 70000}))),
    ] {
        let mut rig = applied(1);
        spec.iter().for_each(|spec| put_cache(&rig, spec.clone()));
        put_policy(&rig, &hub());
        rounds(&mut rig).await;
        assert_eq!(rig.told("Ready").1, "Ready", "{what}");
        assert_eq!(have(&rig, "quay.io"), Default::default(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_a_cache_does_not_wait_for_clusters() {
    let mut rig = with_cache().await;
    let before = nodes(&rig);
    rig.api.delete(HUB);
    rounds(&mut rig).await;
    assert!(rig.api.get(HUB).is_none(), "it waits");
    assert!(rig.world(|w| w.named("hub.example").is_none()));
    assert_eq!((have(&rig, "quay.io"), nodes(&rig)), (Default::default(), before));
    assert_eq!(rig.told("Ready").1, "Ready");
}

/// What is unknown for a while changes nothing that runs.
#[tokio::test(start_paused = true)]
async fn a_cache_or_policy_that_is_away_changes_nothing() {
    for what in ["without status", "paused", "stopped", "unreadable", "invalid policy", "unreadable policy"] {
        let mut rig = with_cache().await;
        let (before, told) = (nodes(&rig), told_inside(&rig));
        match what {
            "without status" => rig.api.lose_status(HUB),
            "paused" => {
                let mut object = rig.api.get(HUB).unwrap();
                object["metadata"]["annotations"] = json!({"localcluster.dev/paused": "true"});
                rig.api.put(HUB, object);
            }
            "stopped" => {
                let mut object = rig.api.get(HUB).unwrap();
                object["metadata"]["annotations"] = json!({"localcluster.dev/paused": "true"});
                rig.api.put(HUB, object);
                rig.world(|w| assert!(w.interfere(&Outside::Stop("hub.example".into()))));
            }
            "unreadable" => {
                let mut object = rig.api.get(HUB).unwrap();
                object["spec"]["hostname"] = json!(1);
                rig.api.put(HUB, object);
            }
            "invalid policy" => {
                let mut object = rig.api.get(POLICY).unwrap();
                object["spec"]["maxTTL"] = json!("soon");
                rig.api.put(POLICY, object);
            }
            _ => {
                let mut object = rig.api.get(POLICY).unwrap();
                object["spec"]["unknown"] = json!(true);
                rig.api.put(POLICY, object);
            }
        }
        rounds(&mut rig).await;
        assert_eq!(nodes(&rig), before, "{what}");
        assert_eq!((have(&rig, "quay.io"), connected(&rig)), (both(), 2), "{what}");
        assert_eq!(told_inside(&rig), told, "{what}");
        if !what.contains("policy") {
            assert_eq!(rig.told("Ready").1, "Ready", "{what}");
        }
    }
}
