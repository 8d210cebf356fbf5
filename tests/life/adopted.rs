//! Objects that take over what earlier objects left, after a restore and after the loss of the management cluster.

use std::sync::Arc;

use localcluster_operator::{api::names, plan::record};

use super::*;

/// UID of the object in labels of a container.
fn uid(rig: &Rig, container: &str) -> String {
    rig.world(|w| w.named(container).expect("it exists").labels[names::UID].clone())
}

/// Containers by name with what changes when they are replaced or started again.
fn containers(rig: &Rig) -> BTreeMap<String, (String, Option<i64>)> {
    rig.world(|w| w.containers.iter().map(|(id, c)| (c.name.clone(), (id.clone(), c.started))).collect())
}

/// The management cluster and all its objects are lost, and the operator of another one looks at the host.
async fn lose(rig: &mut Rig) {
    for kind in ["localclusters", "registries"] {
        for object in rig.api.all(kind) {
            rig.api.remove(&path(kind, object["metadata"]["name"].as_str().unwrap()));
        }
    }
    for secret in rig.api.all("secrets") {
        rig.api.remove(&super::secret(secret["metadata"]["name"].as_str().unwrap()));
    }
    rig.world(|w| {
        let others = |labels: &mut Arc<BTreeMap<String, String>>| {
            if let Some(manager) = Arc::make_mut(labels).get_mut(names::MANAGER) {
                "gone".clone_into(manager);
            }
        };
        w.containers.values_mut().for_each(|c| others(&mut c.labels));
        w.networks.values_mut().for_each(|n| others(&mut n.labels));
        w.volumes.values_mut().for_each(|v| others(&mut v.labels));
    });
    rig.reconcile_together().await;
}

fn adopts(pairs: &str) -> Value {
    json!({"localcluster.dev/adopts": pairs})
}

#[tokio::test(start_paused = true)]
async fn an_object_with_another_uid_takes_over_and_replaces_nothing() {
    let mut rig = Rig::new(lab::settings());
    let spec = || json!({"agents": {"count": 1}});
    put(&rig, "dev", json!({}), spec());
    rig.settle(ENOUGH).await;
    let (before, old) = (containers(&rig), uid(&rig, "k3d-dev-server-0"));
    let token = rig.api.get(&secret("dev-token")).unwrap()["data"].clone();
    lose(&mut rig).await;

    // Nothing is taken over by its name.
    put(&rig, "dev", json!({}), spec());
    rig.round().await;
    assert_eq!(rig.told("Ready").1, "NameConflict", "{}", message(&rig, "Ready"));
    assert!(message(&rig, "Ready").contains("localcluster adopt"), "{}", message(&rig, "Ready"));
    for (wrong, reason) in [
        (old.clone(), "InvalidSpec"),
        (format!("{old}@manager"), "NameConflict"),
        ("another@gone".to_owned(), "NameConflict"),
    ] {
        put(&rig, "dev", adopts(&wrong), spec());
        rig.round().await;
        assert_eq!(rig.told("Ready").1, reason, "{wrong}: {}", message(&rig, "Ready"));
    }
    assert_eq!(containers(&rig), before);

    put(&rig, "dev", adopts(&format!("{old}@gone")), spec());
    rig.settle(ENOUGH).await;
    assert!(rig.settled(), "{}", message(&rig, "Ready"));
    assert_eq!(containers(&rig), before, "the same containers run on");
    assert_eq!(rig.api.get(&secret("dev-token")).unwrap()["data"], token);
    orphans::look(&rig.ctx, &mut Sweep::default()).await;
    assert!(rig.ctx.metrics.encode().unwrap().contains("localcluster_orphans{resource=\"container\"} 0"));

    // What is new is the object's own.
    put(&rig, "dev", adopts(&format!("{old}@gone")), json!({"agents": {"count": 2}}));
    rig.settle(ENOUGH).await;
    let new = object(&rig).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!((uid(&rig, "k3d-dev-agent-1"), uid(&rig, "k3d-dev-agent-0")), (new, old));
    rig.api.delete(&path("localclusters", "dev"));
    rig.settle(ENOUGH).await;
    assert_eq!(object(&rig), None);
    assert!(rig.world(|w| w.containers.is_empty() && w.volumes.is_empty()));
    assert!(rig.world(|w| w.networks.values().all(|n| !n.name.starts_with("k3d"))));
}

fn policy(rig: &Rig, more: Value) {
    let mut spec = json!({"namespaceSelector": {}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let object = json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": "HostPolicy",
        "metadata": {"name": "teams"}, "spec": spec});
    rig.api.put("/apis/localcluster.dev/v1alpha1/hostpolicies/teams", object);
}

#[tokio::test(start_paused = true)]
async fn a_policy_decides_whether_another_management_cluster_may_lose_something() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    let (before, old) = (containers(&rig), uid(&rig, "k3d-dev-server-0"));
    lose(&mut rig).await;
    policy(&rig, json!({"mode": "Audit", "adopt": ["other"]}));
    put(&rig, "dev", adopts(&format!("{old}@gone")), json!({}));
    rig.round().await;
    let told = message(&rig, "Ready");
    assert!(rig.told("Ready").1 == "PolicyViolation" && told.contains("spec.adopt"), "{told}");
    // It may go, and leaves what is not its own.
    rig.api.delete(&path("localclusters", "dev"));
    rig.settle(ENOUGH).await;
    assert_eq!((object(&rig), containers(&rig)), (None, before.clone()));

    // While a policy cannot be read, nobody knows whose it is.
    policy(&rig, json!({"adopt": ["gone"]}));
    put(&rig, "dev", adopts(&format!("{old}@gone")), json!({}));
    rig.settle(ENOUGH).await;
    assert!(rig.settled(), "{}", message(&rig, "Ready"));
    policy(&rig, json!({"adopt": ["gone"], "unknown": true}));
    rig.round().await;
    assert!(rig.settled(), "what runs is not given up: {}", message(&rig, "Ready"));
    let mut rig = rig.restart();
    rig.round().await;
    assert!(!rig.settled(), "a new process knows of no consent");
    rig.api.delete(&path("localclusters", "dev"));
    for _ in 0..3 {
        rig.round().await;
    }
    assert!(object(&rig).is_some(), "its deletion waits");
    assert_eq!(containers(&rig), before);
    policy(&rig, json!({"adopt": ["*"]}));
    rig.settle(ENOUGH).await;
    assert_eq!((object(&rig), containers(&rig)), (None, BTreeMap::new()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_from_an_object_that_lives() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    let before = containers(&rig);
    let uid = uid(&rig, "k3d-dev-server-0");
    // By its own name, of another kind, and by another one.
    let metadata = json!({"name": "dev", "annotations": adopts(&format!("{uid}@manager"))});
    let registry = json!({"apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry", "metadata": metadata,
        "spec": {}});
    rig.api.put(&path("registries", "dev"), registry);
    put(&rig, "thief", adopts(&format!("{uid}@manager")), json!({"clusterName": "dev"}));
    for _ in 0..5 {
        rig.round().await;
    }
    let thief = rig.api.get(&path("localclusters", "thief")).unwrap();
    assert_eq!(condition(&thief, "Ready").1, "NameConflict");
    let now = containers(&rig);
    assert!(before.iter().all(|(name, seen)| now.get(name) == Some(seen)), "{now:?}");
    rig.api.delete(&path("localclusters", "thief"));
    rig.api.delete(&path("registries", "dev"));
    rig.settle(ENOUGH).await;
    assert_eq!(containers(&rig), before);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_takes_over_its_own_registry_and_everyone_sees_it() {
    let mut rig = Rig::new(lab::settings());
    let spec = || json!({"registries": {"create": {}}});
    put(&rig, "dev", json!({}), spec());
    rig.settle(ENOUGH).await;
    let before = containers(&rig);
    let pairs = format!("{}@gone,{}@gone", uid(&rig, "k3d-dev-server-0"), uid(&rig, "k3d-dev-registry"));
    lose(&mut rig).await;
    put(&rig, "dev", adopts(&pairs), spec());
    rig.settle(ENOUGH).await;
    assert!(rig.settled(), "{}", message(&rig, "Ready"));
    assert_eq!(containers(&rig), before);
    rig.api.delete(&path("localclusters", "dev"));
    rig.settle(ENOUGH).await;
    assert_eq!(containers(&rig), BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn the_record_is_the_last_spec_that_was_carried_out() {
    let mut rig = Rig::new(lab::settings());
    let record = |rig: &Rig| -> Value {
        let content = rig.world(|w| w.read(&w.id("k3d-dev-serverlb").unwrap(), record::FILE));
        serde_json::from_slice(&content.expect("there is a record")).unwrap()
    };
    put(&rig, "dev", json!({"localcluster.dev/hold": "true", "x": "y"}), json!({}));
    rig.settle(ENOUGH).await;
    rig.round().await;
    let first = record(&rig);
    assert_eq!(
        first["metadata"],
        json!({"name": "dev", "namespace": "default",
        "annotations": {"localcluster.dev/hold": "true"}})
    );
    assert_eq!((&first["kind"], &first["spec"]["agents"]["count"]), (&json!("LocalCluster"), &json!(0)));
    put(&rig, "dev", json!({}), json!({"agents": {"count": 1}, "state": "Stopped"}));
    for _ in 0..4 {
        rig.round().await;
    }
    assert!(rig.world(|w| w.containers.values().all(|c| !c.is_up())));
    assert_eq!(record(&rig)["spec"]["state"], "Stopped");
    // Nobody notices, and nothing is written twice.
    let calls = rig.faults.calls(Side::Docker).len();
    rig.round().await;
    let calls = rig.faults.calls(Side::Docker).split_off(calls);
    assert!(calls.iter().all(|(call, _)| !call.starts_with("upload")), "{calls:?}");
    assert_eq!(rig.events("UpdatedFiles"), Vec::<String>::new());
}
