//! Pools and claims in the states that GitOps tools tell apart.

use jiff::Timestamp;
use localcluster_operator::{
    api::{LocalCluster, LocalClusterClaim, LocalClusterPool},
    plan::pool::decide::Counts,
    status::{self, ClaimView, Moment},
};

use super::*;

const MOMENT: Moment = Moment { generation: 1, now: Timestamp::UNIX_EPOCH };

/// A new object, as the API server stores it.
fn new(kind: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "dev", "namespace": "default", "generation": 1, "uid": "u"},
        "spec": spec, "status": {"observedGeneration": -1},
    })
}

/// The object with this status, which replaces the first one.
fn with(object: &Value, status: impl serde::Serialize) -> Value {
    let mut object = object.clone();
    object["status"] = json!(status);
    object
}

pub(super) fn pools() -> BTreeMap<&'static str, Value> {
    let new = new("LocalClusterPool", &json!({"replicas": 2}));
    let pool: LocalClusterPool = serde_json::from_value(with(&new, json!({}))).unwrap();
    let of = |counts: &Counts, refused| with(&new, status::cluster_pool(&pool, counts, refused, MOMENT));
    let starting = Some(("dev-x".to_owned(), "NodeStarting: k3d-dev-x-server-0 starts".to_owned()));
    let full = Counts { free: 2, ready: 2, current: 2, ..Counts::default() };
    let fills = Counts { free: 2, ready: 1, current: 2, starting, ..Counts::default() };
    BTreeMap::from([
        ("new", new.clone()),
        ("progressing", of(&fills, None)),
        ("ready", of(&full, None)),
        ("stalled", of(&Counts::default(), Some("exceeded quota"))),
    ])
}

pub(super) fn claims() -> BTreeMap<&'static str, Value> {
    let new = new("LocalClusterClaim", &json!({"poolName": "ci"}));
    let claim: LocalClusterClaim = serde_json::from_value(with(&new, json!({}))).unwrap();
    let of = |view: &ClaimView<'_>| with(&new, status::cluster_claim(&claim, view, MOMENT));
    let cluster = |status: &str, reason: &str| -> LocalCluster {
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": "why",
            "lastTransitionTime": "1970-01-01T00:00:00Z"});
        let status = json!({"observedGeneration": 1, "conditions": [ready], "endpoint": "https://127.0.0.1:20000",
            "kubeconfigSecret": "ci-x-kubeconfig"});
        let metadata = json!({"name": "ci-x", "uid": "x", "generation": 1});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}, "status": status})).unwrap()
    };
    BTreeMap::from([
        ("new", new.clone()),
        ("progressing", of(&ClaimView::Waits(None))),
        ("ready", of(&ClaimView::Has(&cluster("True", "Ready")))),
        ("starting", of(&ClaimView::Has(&cluster("False", "NodeStarting")))),
        ("stalled", of(&ClaimView::Has(&cluster("False", "DataLost")))),
    ])
}
