//! A cluster that was made by a pool, as the watch of LocalClusters tells it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use crate::api::{
    LocalCluster, LocalClusterClaim, LocalClusterPool, POOL_LABEL, TEMPLATE_ANNOTATION,
    condition::{self, ConditionType},
    local_cluster::ClusterState,
};

/// What a cluster belongs to, with its UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The pool: it is free.
    Pool(String),
    /// The claim that has taken it.
    Claim(String),
}

/// How far a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is ready as its spec says.
    Ready,
    /// It is stopped as its spec says.
    Stopped,
    /// It is neither, for this reason.
    Starting(String),
    /// It needs the user, for this reason.
    Stalled(String),
}

/// A cluster that was made by a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What it belongs to.
    pub holder: Holder,
    /// Name of the pool that made it.
    pub pool: String,
    /// Time of its creation.
    pub created: Timestamp,
    /// It is being deleted.
    pub deleting: bool,
    /// Hash of the template that it was made from.
    pub template: String,
    /// The state that its spec wants.
    pub state: ClusterState,
    /// How far it is.
    pub phase: Phase,
}

impl Member {
    /// Returns the member that an object is; `None` for a cluster that no pool made. `cluster` is missing for one that
    /// this version of the operator cannot decode, which is not ready.
    pub fn of(meta: &ObjectMeta, cluster: Option<&LocalCluster>) -> Option<Self> {
        let holder = holder(meta)?;
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        let (labels, annotations) = (meta.labels.as_ref(), meta.annotations.as_ref());
        Some(Self {
            name: text(meta.name.as_ref()),
            uid: text(meta.uid.as_ref()),
            holder,
            pool: text(labels.and_then(|all| all.get(POOL_LABEL))),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            deleting: meta.deletion_timestamp.is_some(),
            template: text(annotations.and_then(|all| all.get(TEMPLATE_ANNOTATION))),
            state: cluster.map(|cluster| cluster.spec.state).unwrap_or_default(),
            phase: cluster.map_or_else(|| Phase::Starting("it cannot be read".into()), phase),
        })
    }

    /// Reports whether a claim can take it: it was ready.
    pub fn is_available(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Stopped)
    }
}

/// Returns the object that controls this one.
fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn holder(meta: &ObjectMeta) -> Option<Holder> {
    let owner = controller(meta)?;
    let is = |api: &str, kind: &str| owner.api_version == api && owner.kind == kind;
    if is(&LocalClusterPool::api_version(&()), &LocalClusterPool::kind(&())) {
        return Some(Holder::Pool(owner.uid.clone()));
    }
    let claimed = is(&LocalClusterClaim::api_version(&()), &LocalClusterClaim::kind(&()));
    claimed.then(|| Holder::Claim(owner.uid.clone()))
}

/// Reports whether a cluster waits in a pool: nobody waits for it.
pub fn is_free(meta: &ObjectMeta) -> bool {
    matches!(holder(meta), Some(Holder::Pool(_)))
}

/// Returns how far a cluster is.
fn phase(cluster: &LocalCluster) -> Phase {
    let Some(status) = &cluster.status else { return Phase::Starting("it is new".into()) };
    let known = status.observed_generation.unwrap_or(-1) >= cluster.metadata.generation.unwrap_or_default();
    let holds = |type_| condition::is_true(&status.conditions, type_);
    let ready = condition::get(&status.conditions, ConditionType::Ready);
    let why = || {
        let told = ready.map(|ready| format!("{}: {}", ready.reason, ready.message));
        told.unwrap_or_else(|| status.reason.clone().unwrap_or_default())
    };
    if !known {
        return Phase::Starting("its spec has changed".into());
    }
    match cluster.spec.state {
        ClusterState::Running if holds(ConditionType::Ready) => Phase::Ready,
        ClusterState::Stopped if holds(ConditionType::Stopped) => Phase::Stopped,
        _ if holds(ConditionType::Stalled) => Phase::Stalled(why()),
        _ => Phase::Starting(why()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(generation: i64, spec: serde_json::Value, conditions: &[(&str, &str)]) -> LocalCluster {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(type_, status)| {
                json!({"type": type_, "status": status, "reason": "ImagePullFailed", "message": "no",
                    "lastTransitionTime": "2026-11-25T00:00:00Z"})
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "x", "generation": generation},
            "spec": spec, "status": {"observedGeneration": 2, "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn a_cluster_counts_when_its_spec_is_fulfilled() {
        let ready = [("Ready", "True")];
        assert_eq!(phase(&cluster(2, json!({}), &ready)), Phase::Ready);
        // Of a spec before.
        assert!(matches!(phase(&cluster(3, json!({}), &ready)), Phase::Starting(_)));
        assert!(matches!(phase(&cluster(2, json!({"state": "Stopped"}), &ready)), Phase::Starting(_)));
        let stopped = [("Stopped", "True")];
        assert_eq!(phase(&cluster(2, json!({"state": "Stopped"}), &stopped)), Phase::Stopped);
        assert!(matches!(phase(&cluster(2, json!({}), &stopped)), Phase::Starting(_)));
        let stalled = [("Ready", "False"), ("Stalled", "True")];
        assert_eq!(phase(&cluster(2, json!({}), &stalled)), Phase::Stalled("ImagePullFailed: no".into()));
        assert!(matches!(phase(&LocalCluster::default()), Phase::Starting(_)));
    }

    #[test]
    fn only_the_controller_of_the_right_kind_holds_a_cluster() {
        let owned = |api: &str, kind: &str, controller: bool| -> ObjectMeta {
            serde_json::from_value(json!({"ownerReferences": [
                {"apiVersion": api, "kind": kind, "name": "n", "uid": "u", "controller": controller}]}))
            .unwrap()
        };
        let api = "localcluster.dev/v1alpha1";
        assert_eq!(holder(&owned(api, "LocalClusterPool", true)), Some(Holder::Pool("u".into())));
        assert_eq!(holder(&owned(api, "LocalClusterClaim", true)), Some(Holder::Claim("u".into())));
        assert_eq!(holder(&owned(api, "LocalClusterPool", false)), None);
        assert_eq!(holder(&owned("example.com/v1", "LocalClusterPool", true)), None);
        assert_eq!(holder(&owned(api, "LocalCluster", true)), None);
        assert!(is_free(&owned(api, "LocalClusterPool", true)));
        assert!(!is_free(&owned(api, "LocalClusterClaim", true)) && !is_free(&ObjectMeta::default()));
    }
}
