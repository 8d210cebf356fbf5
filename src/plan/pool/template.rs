//! What a pool and a claim write into a LocalCluster.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::api::{
    CLAIM_LABEL, HOLD_ANNOTATION, LocalCluster, LocalClusterClaim, LocalClusterPool, LocalClusterSpec,
    POOL_LABEL, TEMPLATE_ANNOTATION,
    cluster_pool::ClusterTemplate,
    local_cluster::{ClusterState, PortSpec},
    names::{MANAGED_BY, hex},
};

/// Keys of labels and annotations that a template does not set: they are the operator's.
const OWN: &str = "localcluster.dev/";
/// Digits of the names of clusters, without vowels, so that they form no words.
const DIGITS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Returns the hash of a template. Fields that have their default do not count, so a later operator, which knows more
/// fields, has the same hash.
pub fn hash(template: &ClusterTemplate) -> String {
    let spec = |spec: &LocalClusterSpec| serde_json::to_value(spec).unwrap_or_default();
    let wanted = LocalClusterSpec { state: ClusterState::default(), ..template.spec.clone() };
    let (labels, annotations) = (&template.metadata.labels, &template.metadata.annotations);
    let content = json!({
        "labels": labels,
        "annotations": annotations,
        "spec": without(spec(&wanted), &spec(&ClusterTemplate::default().spec)),
    });
    hex(&Sha256::digest(sorted(content).to_string())[..8])
}

/// Returns what of a value differs from the default.
fn without(value: Value, default: &Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let fields = fields.into_iter().filter(|(key, value)| default.get(key) != Some(value));
    let fields = fields.map(|(key, value)| {
        let below = default.get(&key).cloned().unwrap_or_default();
        (key, without(value, &below))
    });
    Value::Object(fields.collect())
}

/// Returns a value with the keys of all objects in order, however they are kept in memory.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> =
                fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(fields.into_iter().collect::<Map<String, Value>>())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// Returns names for new clusters of a pool, those left out that exist. The same ones come again until they are taken:
/// whoever does not know yet that a cluster exists creates it again, which the API server refuses, and no other one.
pub fn names<'a>(
    pool: &'a LocalClusterPool,
    taken: &'a BTreeSet<String>,
) -> impl Iterator<Item = String> + 'a {
    let (name, uid) = (pool.name_any(), pool.uid().unwrap_or_default());
    let all = (0u32..).map(move |number| format!("{name}-{}", suffix(&uid, number)));
    all.filter(|name| !taken.contains(name))
}

fn suffix(uid: &str, number: u32) -> String {
    let hash = Sha256::digest(format!("{uid}/{number}"));
    hash[..5].iter().map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()])).collect()
}

/// Returns a new cluster of a pool.
pub fn cluster(pool: &LocalClusterPool, name: &str) -> LocalCluster {
    let template = &pool.spec.template;
    let given = |all: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let given = all.iter().filter(|(key, _)| !key.starts_with(OWN) || *key == HOLD_ANNOTATION);
        given.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let mut labels = given(&template.metadata.labels);
    labels.extend([(POOL_LABEL, pool.name_any()), (MANAGED_BY.0, MANAGED_BY.1.to_owned())].map(owned));
    let mut annotations = given(&template.metadata.annotations);
    annotations.extend([(TEMPLATE_ANNOTATION, hash(template))].map(owned));
    let spec = LocalClusterSpec { state: ClusterState::Running, ..template.spec.clone() };
    let mut cluster = LocalCluster::new(name, spec);
    cluster.metadata.namespace = pool.namespace();
    cluster.metadata.labels = Some(labels);
    cluster.metadata.annotations = Some(annotations);
    cluster.metadata.owner_references = Some(vec![owner::<LocalClusterPool>(&pool.metadata)]);
    cluster
}

fn owned((key, value): (&str, String)) -> (String, String) {
    (key.to_owned(), value)
}

/// Returns the reference to the object that controls a cluster.
fn owner<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

/// Returns the metadata of a patch of a cluster that applies only to the version that was read.
fn as_read(cluster: &LocalCluster) -> Value {
    json!({"uid": cluster.uid(), "resourceVersion": cluster.resource_version()})
}

/// Returns the patch by which a claim takes a cluster, if the cluster still has the version that was read.
pub fn taking(claim: &LocalClusterClaim, cluster: &LocalCluster) -> Value {
    let mut metadata = as_read(cluster);
    metadata["ownerReferences"] = json!([owner::<LocalClusterClaim>(&claim.metadata)]);
    metadata["labels"] = json!({CLAIM_LABEL: claim.name_any()});
    let mut patch = json!({"metadata": metadata});
    if cluster.spec.state != ClusterState::Running {
        patch["spec"]["state"] = json!(ClusterState::Running);
    }
    let ports = ports(claim, cluster);
    if ports != cluster.spec.ports {
        patch["spec"]["ports"] = json!(ports);
    }
    patch
}

/// Returns the ports of a cluster with those of a claim, each instead of one with the same name.
fn ports(claim: &LocalClusterClaim, cluster: &LocalCluster) -> Vec<PortSpec> {
    let replaced = |port: &&PortSpec| claim.spec.ports.iter().any(|own| own.name == port.name);
    let kept = cluster.spec.ports.iter().filter(|port| !replaced(port));
    kept.chain(&claim.spec.ports).cloned().collect()
}

/// Returns the patch that starts or stops a free cluster, if it still has the version that was read.
pub fn state(cluster: &LocalCluster, state: ClusterState) -> Value {
    json!({"metadata": as_read(cluster), "spec": {"state": state}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(template: Value) -> LocalClusterPool {
        serde_json::from_value(json!({
            "metadata": {"name": "ci", "namespace": "team", "uid": "p"}, "spec": {"template": template},
        }))
        .unwrap()
    }

    fn claim(ports: Value) -> LocalClusterClaim {
        let (metadata, spec) =
            (json!({"name": "one", "uid": "c"}), json!({"poolName": "ci", "ports": ports}));
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn a_hash_follows_what_a_cluster_is_made_of() {
        let of = |template: Value| hash(&pool(template).spec.template);
        let plain = of(json!({}));
        // A change of this value replaces the clusters of all pools when the operator is upgraded.
        assert_eq!(plain, "6aa688af1559799e");
        for same in [
            json!({"spec": {"agents": {"count": 0}}}),
            json!({"spec": {"state": "Stopped"}}),
            json!({"spec": {"durability": "Durable"}}),
        ] {
            assert_eq!(of(same.clone()), plain, "{same}");
        }
        for other in [
            json!({"spec": {"agents": {"count": 1}}}),
            json!({"spec": {"version": "v1.36.2+k3s1"}}),
            json!({"spec": {"durability": "Ephemeral"}}),
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"annotations": {"a": "b"}}}),
        ] {
            assert_ne!(of(other.clone()), plain, "{other}");
        }
        assert_eq!(
            sorted(json!({"b": [{"d": 1, "c": 2}], "a": 0})).to_string(),
            r#"{"a":0,"b":[{"c":2,"d":1}]}"#
        );
    }

    #[test]
    fn names_come_again_until_they_are_taken() {
        let pool = pool(json!({}));
        let none = BTreeSet::new();
        let first: Vec<String> = names(&pool, &none).take(3).collect();
        assert!(first.iter().all(|name| name.starts_with("ci-") && name.len() == 8), "{first:?}");
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3);
        let taken = BTreeSet::from([first[1].clone()]);
        let next: Vec<String> = names(&pool, &taken).take(2).collect();
        assert_eq!(next, [first[0].clone(), first[2].clone()]);
    }

    #[test]
    fn a_cluster_is_what_the_template_says_and_the_pools() {
        let template = json!({
            "metadata": {
                "labels": {"a": "b", "localcluster.dev/claim": "x"},
                "annotations": {"localcluster.dev/hold": "true", "localcluster.dev/adopts": "x"},
            },
            "spec": {"state": "Stopped", "agents": {"count": 2}},
        });
        let pool = pool(template);
        let made = serde_json::to_value(cluster(&pool, "ci-x")).unwrap();
        let meta = &made["metadata"];
        assert_eq!((&meta["name"], &meta["namespace"]), (&json!("ci-x"), &json!("team")));
        let labels = json!({"a": "b", "localcluster.dev/pool": "ci", "app.kubernetes.io/managed-by": "localcluster-operator"});
        assert_eq!(meta["labels"], labels);
        let annotations = json!({
            "localcluster.dev/hold": "true", "localcluster.dev/template-hash": hash(&pool.spec.template),
        });
        assert_eq!(meta["annotations"], annotations);
        assert_eq!(
            meta["ownerReferences"],
            json!([{"apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalClusterPool", "name": "ci", "uid": "p",
                "controller": true}])
        );
        assert_eq!(
            (&made["spec"]["state"], &made["spec"]["agents"]["count"]),
            (&json!("Running"), &json!(2))
        );
    }

    #[test]
    fn a_claim_moves_the_version_that_was_read_with_its_ports() {
        let mut cluster = cluster(
            &pool(json!({"spec": {"ports": [
            {"name": "http", "port": 80}, {"name": "dns", "port": 53}]}})),
            "ci-x",
        );
        cluster.metadata.resource_version = Some("7".into());
        cluster.metadata.uid = Some("u".into());
        let patch = taking(&claim(json!([])), &cluster);
        assert_eq!(patch.get("spec"), None);
        let meta = &patch["metadata"];
        assert_eq!((&meta["resourceVersion"], &meta["uid"]), (&json!("7"), &json!("u")));
        assert_eq!(meta["labels"], json!({"localcluster.dev/claim": "one"}));
        assert_eq!(meta["ownerReferences"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            (&meta["ownerReferences"][0]["kind"], &meta["ownerReferences"][0]["uid"]),
            (&json!("LocalClusterClaim"), &json!("c"))
        );

        cluster.spec.state = ClusterState::Stopped;
        let patch =
            taking(&claim(json!([{"name": "http", "port": 8080}, {"name": "own", "port": 90}])), &cluster);
        assert_eq!(patch["spec"]["state"], "Running");
        let ports = patch["spec"]["ports"].as_array().unwrap();
        let ports: Vec<_> =
            ports.iter().map(|p| (p["name"].as_str().unwrap(), p["port"].as_i64().unwrap())).collect();
        assert_eq!(ports, [("dns", 53), ("http", 8080), ("own", 90)]);
        assert_eq!(state(&cluster, ClusterState::Running)["metadata"]["resourceVersion"], "7");
    }
}
