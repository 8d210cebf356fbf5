//! What `kubectl get` and `kubectl describe` show.

use super::*;

fn shown(rig: &Rig) -> (String, String, String) {
    let status = object(rig).unwrap()["status"].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&status["reason"]), text(&status["servers"]["summary"]), text(&status["agents"]["summary"]))
}

fn is(reason: &str, servers: &str, agents: &str) -> (String, String, String) {
    (reason.to_owned(), servers.to_owned(), agents.to_owned())
}

#[tokio::test(start_paused = true)]
async fn the_columns_of_a_cluster_say_what_it_is() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({"agents": {"count": 2}}));
    rig.settle(ENOUGH).await;
    assert_eq!(shown(&rig), is("Ready", "1/1", "2/2"));
    // As an older version left it: the first look completes it.
    let mut old = object(&rig).unwrap();
    old["status"].as_object_mut().unwrap().remove("reason");
    old["status"]["agents"].as_object_mut().unwrap().remove("summary");
    rig.api.store(&path("localclusters", "dev"), old);
    let mut rig = rig.restart();
    rig.round().await;
    assert_eq!(shown(&rig), is("Ready", "1/1", "2/2"));

    put(&rig, "dev", json!({}), json!({"agents": {"count": 2}, "state": "Stopped"}));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(shown(&rig), is("Stopped", "0/1", "0/2"));
    put(&rig, "dev", json!({"localcluster.dev/paused": "true"}), json!({"agents": {"count": 2}}));
    rig.round().await;
    assert_eq!(shown(&rig).0, "Paused");
    put(&rig, "dev", json!({}), json!({"agents": {"count": 2}}));
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(shown(&rig), is("Ready", "1/1", "2/2"));
    put(&rig, "dev", json!({}), json!({"agents": {"count": 2}, "clusterName": "Not a name"}));
    rig.round().await;
    assert_eq!(shown(&rig), is("InvalidSpec", "1/1", "2/2"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_says_what_it_waits_for() {
    let mut rig = Rig::new(lab::settings());
    let registry = json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "hub"}, "spec": {},
    });
    rig.api.put(&path("registries", "hub"), registry);
    put(&rig, "dev", json!({}), json!({"registries": {"use": [{"name": "hub"}]}}));
    rig.settle(ENOUGH).await;
    rig.round().await;
    let users = |rig: &Rig| rig.api.get(&path("registries", "hub")).unwrap()["status"]["users"].clone();
    assert_eq!(users(&rig), 1);
    rig.api.delete(&path("registries", "hub"));
    put(
        &rig,
        "dev",
        json!({"localcluster.dev/paused": "true"}),
        json!({"registries": {"use": [{"name": "hub"}]}}),
    );
    rig.api.delete(&path("localclusters", "dev"));
    for _ in 0..3 {
        rig.round().await;
    }
    let mut told = rig.events("DeletionWaits");
    told.sort();
    assert_eq!(
        told,
        [
            "the deletion waits: LocalClusters use the registry: default/dev; delete them, or remove the registry from \
             their spec.registries",
            "the deletion waits: the annotation localcluster.dev/paused is true; remove it to continue",
        ]
    );
    assert_eq!(users(&rig), 1);
    let mut object = object(&rig).unwrap();
    object["metadata"]["annotations"] = json!({});
    rig.api.store(&path("localclusters", "dev"), object);
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert!(rig.api.get(&path("registries", "hub")).is_none() && super::object(&rig).is_none());
    assert_eq!(rig.events("DeletionWaits").len(), 2);
}
