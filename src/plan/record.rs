//! The record of an object on the Docker host: what it was made from, in a file of its load balancer or registry container, so
//! that `localcluster adopt` can create it again when the management cluster is lost. It has the contents of no Secret: the
//! spec names them. Like all files in containers, it is readable for those who may use the Docker Engine, and in the container
//! for root.

use kube::{Resource, core::object::HasSpec};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::steps::{Action, Plan, Step, Target};
use crate::{
    api::{ADOPTS_ANNOTATION, RESET_QUORUM_ANNOTATION},
    docker::{
        engine::{ContainerDetail, State},
        spec::{FileChange, FileSpec},
    },
};

/// The file.
pub const FILE: &str = "/etc/localcluster/object.json";

/// Prefix of the annotations in it. Those of other tools describe the object that is gone, and may have copies of it.
const ANNOTATIONS: &str = "localcluster.dev/";
/// Annotations that are about one moment.
const PASSING: [&str; 2] = [ADOPTS_ANNOTATION, RESET_QUORUM_ANNOTATION];

/// Returns the record of an object.
pub fn of<K: Resource<DynamicType = ()> + HasSpec<Spec: Serialize>>(object: &K) -> Vec<u8> {
    let meta = object.meta();
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(meta.name));
    metadata.insert("namespace".into(), json!(meta.namespace));
    if let Some(labels) = meta.labels.as_ref().filter(|labels| !labels.is_empty()) {
        metadata.insert("labels".into(), json!(labels));
    }
    let kept = |key: &str| key.starts_with(ANNOTATIONS) && !PASSING.contains(&key);
    let annotations = meta.annotations.iter().flatten().filter(|(key, _)| kept(key));
    let annotations: Map<String, Value> =
        annotations.map(|(key, value)| (key.clone(), json!(value))).collect();
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), annotations.into());
    }
    let spec = serde_json::to_value(object.spec()).unwrap_or_default();
    let record = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "spec": spec,
    });
    record.to_string().into_bytes()
}

/// Reports whether a container can have a record.
pub fn takes(detail: &ContainerDetail) -> bool {
    detail.started_at.is_some()
        && matches!(detail.container.state, State::Running | State::Paused | State::Exited)
}

/// Plans that a container has this record. It waits for everything else, and no Event reports it.
pub fn plan(plan: &mut Plan, detail: &ContainerDetail, content: Vec<u8>) {
    let file = FileSpec { path: FILE.to_owned(), mode: 0o600, content, change: FileChange::Keep };
    plan.step(Action::Upload { container: Target::of(&detail.container), files: vec![file] }, &[], "");
}

/// Reports whether a step does nothing but that.
pub fn is_one(step: &Step) -> bool {
    let Action::Upload { files, .. } = &step.action else { return false };
    !files.is_empty() && files.iter().all(|file| file.path == FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{LocalCluster, LocalClusterSpec, LocalClusterStatus};

    #[test]
    fn it_has_what_a_user_wrote_and_nothing_that_passes() {
        let mut cluster = LocalCluster::new("dev", LocalClusterSpec::default());
        cluster.metadata.namespace = Some("team".into());
        cluster.metadata.uid = Some("u".into());
        cluster.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        let annotations = [
            ("localcluster.dev/hold", "true"),
            (ADOPTS_ANNOTATION, "u@m"),
            (RESET_QUORUM_ANNOTATION, "k3d-dev-server-0"),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ];
        let annotations = annotations.map(|(k, v)| (k.to_owned(), v.to_owned()));
        cluster.metadata.annotations = Some(annotations.into());
        let bare = of(&cluster);
        cluster.status = Some(LocalClusterStatus::default());
        cluster.metadata.resource_version = Some("7".into());
        assert_eq!(of(&cluster), bare, "nor anything that changes by itself");
        let value: Value = serde_json::from_slice(&bare).unwrap();
        let metadata = json!({"name": "dev", "namespace": "team", "labels": {"a": "b"},
            "annotations": {"localcluster.dev/hold": "true"}});
        assert_eq!(value["metadata"], metadata);
        assert_eq!((&value["kind"], value.get("status")), (&json!("LocalCluster"), None));
        let again: LocalCluster = serde_json::from_value(value).unwrap();
        assert_eq!(again.spec, cluster.spec);
    }
}
