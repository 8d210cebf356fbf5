//! The placeholder of an object: a Pod that does nothing but hold the place.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Object,
    hosts::{DOCKER, HOSTNAME, Hosts, READY},
};
use crate::{
    api::names::{self, MANAGED_BY, UID},
    plan::kind::Kind,
};

/// Label of placeholders: the kind of the object.
pub const PLACEHOLDER: &str = "localcluster.dev/placeholder";
/// Label of placeholders: the name of the object, which has at most 63 characters.
const NAME: &str = "localcluster.dev/name";
/// Annotation of a placeholder: the hash of what the spec of its object says about it.
pub const HASH: &str = "localcluster.dev/placement-hash";
/// Finalizer of a placeholder: containers of its object may run on its host.
pub const RUNS: &str = "localcluster.dev/runs";

/// Returns the hash of what the spec of an object says about its placeholder.
pub fn hash(object: &Object) -> String {
    let requests = object.requests.as_ref().ok();
    let host = object.host.as_ref().filter(|_| object.is_sticky());
    let said = json!([object.placement, requests, host, near(object)]);
    names::hex(&Sha256::digest(said.to_string())[..8])
}

/// Returns the placeholder of an object. `image` is that of the operator.
pub fn desired(
    object: &Object,
    requests: &BTreeMap<String, crate::api::placement::Amount>,
    hosts: &Hosts,
    image: &str,
) -> Value {
    let placement = &object.placement;
    let mut selector = placement.node_selector.clone();
    selector.insert(DOCKER.into(), READY.into());
    if let Some(host) = object.host.as_deref().filter(|_| object.is_sticky()) {
        selector.insert(HOSTNAME.into(), hosts.hostname(host).to_owned());
    }
    // Lost hosts are the controller's: it waits until a user says that one is gone for good.
    let stays = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute"});
    let mut tolerations =
        vec![stays("node.kubernetes.io/not-ready"), stays("node.kubernetes.io/unreachable")];
    tolerations.extend(placement.tolerations.iter().map(|t| t.0.clone()));
    let mut spec = json!({
        "hostname": "hold",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": selector,
        "tolerations": tolerations,
        "containers": [container(requests, image)],
    });
    let optional = [
        ("affinity", affinity(object)),
        ("priorityClassName", placement.priority_class_name.clone().map(Value::from)),
        ("schedulerName", placement.scheduler_name.clone().map(Value::from)),
        ("topologySpreadConstraints", spread(placement)),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            spec[field] = value;
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata(object), "spec": spec})
}

/// Returns the terms by which an object runs on the host of others.
fn near(object: &Object) -> Vec<Value> {
    let term = |near: &super::Near| {
        json!({
            "labelSelector": {"matchLabels": {PLACEHOLDER: near.kind.as_str(), NAME: near.name}},
            "namespaces": [near.namespace],
            "topologyKey": HOSTNAME,
        })
    };
    object.near.iter().map(term).collect()
}

/// Returns the affinity of the spec, with that to other objects.
fn affinity(object: &Object) -> Option<Value> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let given = object.placement.affinity.as_ref().map(|affinity| affinity.0.clone());
    let near = near(object);
    if near.is_empty() {
        return given;
    }
    // What is no object is refused by the API server, with its field.
    let mut affinity = given.filter(Value::is_object).unwrap_or_else(|| json!({}));
    if !affinity["podAffinity"].is_object() {
        affinity["podAffinity"] = json!({});
    }
    let pods = &mut affinity["podAffinity"];
    let terms = pods[REQUIRED].as_array().cloned().unwrap_or_default();
    pods[REQUIRED] = terms.into_iter().chain(near).collect();
    Some(affinity)
}

fn spread(placement: &crate::api::placement::Placement) -> Option<Value> {
    let all = &placement.topology_spread_constraints;
    (!all.is_empty()).then(|| json!(all))
}

/// Returns the container. Its limits are its requests, for quotas of limits, and so that the kubelet evicts others first.
fn container(requests: &BTreeMap<String, crate::api::placement::Amount>, image: &str) -> Value {
    json!({
        "name": "hold",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["hold"],
        "resources": {"requests": requests, "limits": requests},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    })
}

fn metadata(object: &Object) -> Value {
    let mut labels = object.placement.labels.clone();
    let kind = (PLACEHOLDER, object.kind.as_str());
    let own = [MANAGED_BY, kind, (NAME, object.name.as_str()), (UID, object.uid.as_str())];
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut annotations = BTreeMap::from([(HASH, hash(object))]);
    if object.is_sticky() {
        annotations.insert("cluster-autoscaler.kubernetes.io/safe-to-evict", "false".into());
    }
    json!({
        "name": object.placeholder(),
        "namespace": object.namespace,
        "labels": labels,
        "annotations": annotations,
        "finalizers": [RUNS],
        "ownerReferences": [{
            "apiVersion": "localcluster.dev/v1alpha1",
            "kind": object.kind.as_str(),
            "name": object.name,
            "uid": object.uid,
            "controller": true,
        }],
    })
}

/// Returns the PodDisruptionBudget that refuses the eviction of a placeholder.
pub fn budget(object: &Object) -> Value {
    let mut metadata = metadata(object);
    for field in ["finalizers", "annotations"] {
        metadata.as_object_mut().map(|metadata| metadata.remove(field));
    }
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        // A number of Pods, since the API server would otherwise ask the owner how many it wants: its agents.
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {UID: object.uid}}},
    })
}

/// Returns kind, namespace, name and UID of the object that a placeholder is of.
pub fn owner(pod: &Pod) -> Option<(Kind, String, String, String)> {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    let kind = Kind::parse(&owner.kind)?;
    (pod.labels().get(PLACEHOLDER).map(String::as_str) == Some(kind.as_str()))
        .then(|| (kind, pod.namespace().unwrap_or_default(), owner.name.clone(), owner.uid.clone()))
}

/// Reports whether a Pod is the placeholder of the object with this UID.
pub fn is_of(pod: &Pod, uid: &str) -> bool {
    owner(pod).is_some_and(|(.., own)| own == uid)
}

/// Returns the node that a Pod is bound to.
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// Reports whether a Pod is being deleted.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Returns the phase of a Pod.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Reports whether a Pod has ended, and will not run again.
pub fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

/// Returns the condition by which the scheduler says why a Pod is not bound.
pub fn unscheduled(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")
}

/// Reports whether a placeholder keeps its object from existing elsewhere.
pub fn is_held(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == RUNS)
}
