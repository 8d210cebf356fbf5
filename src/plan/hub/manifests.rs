//! The objects in the API of a hub: the definitions of the operator's kinds, its ServiceAccount with the permissions that
//! it has as a Pod too, its token, and a first HostPolicy.

use std::{collections::BTreeSet, sync::OnceLock};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::{crds, names};

/// Name of the first HostPolicy.
pub const POLICY_NAME: &str = "one-user";
/// Namespace of the operator.
pub const NAMESPACE: &str = "localcluster-system";
/// Secret with the operator's token.
pub const TOKEN: &str = "localcluster-operator-token";
/// Lease of the operator.
pub const LEASE: &str = "localcluster-operator";
/// ConfigMap that exists from the time when the hub has had its first HostPolicy. A user who deletes the policy closes
/// the hub, and it is not opened again.
pub const INITIALIZED: &str = "localcluster-hub";
/// Label of the objects: the hash of all of them.
pub const LABEL: &str = "localcluster.dev/installation";

/// The files of an installation as a Pod.
const FILES: [&str; 3] = [
    include_str!("../../../deploy/namespace.yaml"),
    include_str!("../../../deploy/rbac.yaml"),
    include_str!("../../../deploy/user-roles.yaml"),
];
const POLICY: &str = include_str!("../../../deploy/samples/policy.yaml");

/// The objects that belong to a version of the operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Installation {
    /// The hash of all objects, which is the value of their label.
    pub hash: String,
    /// `Kind/name` of all objects.
    pub keys: BTreeSet<String>,
    /// Those of the definitions.
    pub definitions: BTreeSet<String>,
    /// The objects, in the order in which they can be applied.
    objects: Vec<Value>,
}

impl Installation {
    /// Returns the objects of this version, which are rendered once.
    pub fn of_this_version() -> &'static Self {
        static ALL: OnceLock<Installation> = OnceLock::new();
        ALL.get_or_init(Self::new)
    }

    fn new() -> Self {
        let definitions = crds::all().into_iter().map(|(_, crd)| json!(crd));
        // The ServiceAccount comes before its token, which would be deleted without it.
        let files = FILES.iter().flat_map(|text| documents(text));
        let mut objects: Vec<Value> = files.chain([token()]).chain(definitions).collect();
        let hash = names::hex(&Sha256::digest(Value::from(objects.clone()).to_string())[..8]);
        for object in &mut objects {
            object["metadata"]["labels"][LABEL] = json!(hash);
        }
        let keys: BTreeSet<String> = objects.iter().map(key).collect();
        let definitions =
            keys.iter().filter(|key| key.starts_with("CustomResourceDefinition/")).cloned().collect();
        Self { hash, keys, definitions, objects }
    }

    /// Returns all objects as a list.
    pub fn manifest(&self) -> String {
        list(&self.objects)
    }
}

/// Returns the first HostPolicy as a list.
pub fn policy() -> String {
    list(&documents(POLICY))
}

/// Returns the mark that the hub has had its first HostPolicy, as a list.
pub fn initialized() -> String {
    let metadata = json!({"name": INITIALIZED, "namespace": NAMESPACE});
    list(&[json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})])
}

/// Returns `Kind/name` of an object.
fn key(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

fn token() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": TOKEN, "namespace": NAMESPACE,
            "annotations": {"kubernetes.io/service-account.name": "localcluster-operator"},
        },
    })
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("the shipped files are valid")
}

fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_is_installed_for_a_pod_and_a_token() {
        let all = Installation::new();
        for key in [
            "Namespace/localcluster-system",
            "ServiceAccount/localcluster-operator",
            "ClusterRole/localcluster-operator",
            "ClusterRole/localcluster-edit",
            "Secret/localcluster-operator-token",
            "CustomResourceDefinition/localclusters.localcluster.dev",
        ] {
            assert!(all.keys.contains(key), "{key} is not in {:?}", all.keys);
        }
        assert_eq!(all.definitions.len(), 5);
        assert_eq!(all, Installation::new());
        assert!(all.objects.iter().all(|o| o["metadata"]["labels"][LABEL] == json!(all.hash)));
        let at = |kind| all.objects.iter().position(|o| o["kind"] == kind).unwrap();
        assert!(at("Namespace") < at("ServiceAccount") && at("ServiceAccount") < at("Secret"));
    }

    /// Roles with one name in two kinds, or a Role and a RoleBinding, are distinguished by the kind.
    #[test]
    fn no_two_objects_have_one_key() {
        let all = Installation::new();
        assert_eq!(all.keys.len(), all.objects.len());
    }

    #[test]
    fn the_policy_is_that_of_the_samples() {
        assert_eq!(documents(POLICY)[0]["metadata"]["name"], POLICY_NAME);
        assert!(policy().contains("kubernetes.io/metadata.name"));
    }

    #[test]
    fn what_is_applied_is_a_list() {
        let all = Installation::new();
        let read: Value = serde_json::from_str(&all.manifest()).unwrap();
        assert_eq!((&read["kind"], read["items"].as_array()), (&json!("List"), Some(&all.objects)));
        let mark: Value = serde_json::from_str(&initialized()).unwrap();
        assert_eq!(
            mark["items"].as_array().unwrap().iter().map(key).collect::<Vec<_>>(),
            [format!("ConfigMap/{INITIALIZED}")]
        );
    }
}
