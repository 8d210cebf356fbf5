//! Parsing and patching of Nodes, Pods and Leases. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition, NodeSpec, Pod, Taint},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, runtime::watcher::Event};
use serde_json::{Value, json};

use super::state::{self, Member, NodeConfig};
use crate::{k3s::LEASES, time};

/// Annotation of a Node: the time since which this operator drains it, in RFC 3339.
pub const DRAINING_SINCE: &str = "localcluster.dev/draining-since";

/// Annotation of a Node: the labels and taints that this operator has set, so that those removed from the spec can be
/// distinguished from those of other clients.
pub const CONFIGURED: &str = "localcluster.dev/configured";

/// Annotation of the Node of a server, set by K3s: the name of its etcd member.
const MEMBER: &str = "etcd.k3s.cattle.io/node-name";
/// Annotation of the Node of a server, set by K3s: the address of its etcd member.
const ADDRESS: &str = "etcd.k3s.cattle.io/node-address";
/// Annotation of the Node of a server: requests that K3s removes the server from etcd.
pub const LEAVE: &str = "etcd.k3s.cattle.io/remove";
/// Annotation of the Node of a server: the etcd member that K3s has removed.
const LEFT: &str = "etcd.k3s.cattle.io/removed-node-name";

/// Reports whether the server of a Node was removed from etcd. A server that joined again is another member. A server
/// that removed itself, as K3s does where it manages the members, can no longer report it, but the leader of etcd can:
/// it looks up the member by name.
fn left(node: &Node) -> bool {
    let (member, left) = (node.annotations().get(MEMBER), node.annotations().get(LEFT));
    let reported = left.is_some() && (member.is_none() || member == left);
    let is_none = || condition(node, VOTER).is_some_and(|c| c.reason.as_deref() == Some("NotAMember"));
    reported || leaving(node) && member.is_some() && is_none()
}

fn leaving(node: &Node) -> bool {
    node.annotations().get(LEAVE).is_some_and(|v| v == "true")
}

/// Returns the Node by which K3s removes an etcd member whose server has none: its controller considers Nodes with this
/// label, and finds the member by the annotations. No Pod is scheduled to it.
pub fn departing(member: &Member) -> Node {
    let text = |all: &[(&str, &str)]| Some(all.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
    Node {
        metadata: ObjectMeta {
            name: Some(member.node.clone()),
            labels: text(&[(ETCD_ROLE, "true")]),
            annotations: text(&[(MEMBER, &member.name), (ADDRESS, &member.address), (LEAVE, "true")]),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec { unschedulable: Some(true), ..NodeSpec::default() }),
        ..Node::default()
    }
}

/// Label of the Nodes of servers with etcd.
const ETCD_ROLE: &str = "node-role.kubernetes.io/etcd";

/// Condition of a server's Node: whether its member of etcd votes.
const VOTER: &str = "EtcdIsVoter";

/// Reports whether the server of a Node is an etcd voter according to K3s. K3s reports a server that does not respond
/// as no voter, although it counts for the quorum.
fn voter(node: &Node) -> Option<bool> {
    condition(node, VOTER).map(|c| c.status == "True" || c.reason.as_deref() == Some("Unhealthy"))
}

/// Returns the labels and taints that this operator has set on a Node.
pub fn configured(node: &Node) -> Option<NodeConfig> {
    serde_json::from_str(node.annotations().get(CONFIGURED)?).ok()
}

/// Formats a taint as `key=value:Effect` or `key:Effect`.
pub fn taint_text(taint: &Taint) -> String {
    match taint.value.as_deref().filter(|v| !v.is_empty()) {
        Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
        None => format!("{}:{}", taint.key, taint.effect),
    }
}

fn taint(text: &str) -> Option<Taint> {
    let (rest, effect) = text.rsplit_once(':')?;
    let (key, value) = match rest.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (rest, None),
    };
    Some(Taint { key: key.to_owned(), value, effect: effect.to_owned(), ..Taint::default() })
}

/// Returns the merge patch that sets the labels and taints of a Node.
pub fn configure(node: &Node, config: &NodeConfig) -> Value {
    let before = configured(node).unwrap_or_default();
    let mut labels: BTreeMap<&str, Option<&str>> =
        before.labels.keys().map(|key| (key.as_str(), None)).collect();
    labels.extend(config.labels.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))));
    // Taints are one list with several writers: foreign taints are sent back unchanged with the resource version that
    // was read, so that a concurrent change causes a conflict and is not reverted.
    let ours = |t: &Taint| before.taints.contains(&taint_text(t)) || config.taints.contains(&taint_text(t));
    let kept = node.spec.iter().flat_map(|s| s.taints.iter().flatten()).filter(|t| !ours(t)).cloned();
    let taints: Vec<Taint> = kept.chain(config.taints.iter().filter_map(|t| taint(t))).collect();
    let text = serde_json::to_string(config).expect("plain values always serialize");
    json!({
        "metadata": {
            "annotations": {CONFIGURED: text},
            "labels": labels,
            "resourceVersion": node.metadata.resource_version,
        },
        "spec": {"taints": taints},
    })
}

/// Returns the time since which this operator drains a Node. An invalid annotation counts as none, so that the next
/// drain overwrites it.
pub fn draining_since(node: &Node) -> Option<Timestamp> {
    node.annotations().get(DRAINING_SINCE)?.parse().ok()
}

/// Reports whether a Node is schedulable.
pub fn schedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true)
}

/// Label selector of the identity Leases of kube-apiservers in `kube-system` (feature gate APIServerIdentity, enabled
/// by default since 1.26).
const API_SERVERS: &str = "apiserver.kubernetes.io/identity=kube-apiserver";

/// Reports whether a Lease is the identity of an API server.
fn is_api_server(lease: &Lease) -> bool {
    API_SERVERS
        .split_once('=')
        .is_some_and(|(key, value)| lease.labels().get(key).is_some_and(|v| v == value))
}

fn renewed(lease: &Lease) -> Option<Timestamp> {
    lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0)
}

/// Returns the Leases in `kube-system` with which K3s elects a server for its own controllers.
pub fn leases(of_system: &[Lease]) -> BTreeMap<String, state::Lease> {
    let own = of_system.iter().filter(|lease| LEASES.iter().any(|(name, _)| lease.name_any() == *name));
    own.map(|lease| {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let version = lease.resource_version().unwrap_or_default();
        (lease.name_any(), state::Lease { holder, renewed: renewed(lease), version })
    })
    .collect()
}

/// Time after which a K3s Lease that is not renewed expires.
const KEPT: SignedDuration = SignedDuration::from_secs(45);

/// Describes the cause that keeps a deleted Node, by its finalizers and the Leases at the start and the end of the
/// wait.
pub fn kept(
    finalizers: &[String],
    before: &BTreeMap<String, state::Lease>,
    after: &BTreeMap<String, state::Lease>,
) -> String {
    let why = |finalizer: &String| {
        let Some((name, _)) = LEASES.iter().find(|(_, of)| of == finalizer) else {
            return format!(
                "finalizer {finalizer} is not from K3s; its controller must remove it, or remove it with `kubectl \
                 edit node`"
            );
        };
        let what = format!("waiting for K3s to remove finalizer {finalizer}");
        match after.get(*name).filter(|lease| !lease.holder.is_empty()) {
            None => format!("{what}: no server holds the Lease {name} yet"),
            Some(lease) if before.get(*name) == Some(lease) => {
                let until =
                    lease.renewed.map(|at| Timestamp::from_second(time::after(at, KEPT).as_second() + 1));
                let until = until.and_then(Result::ok).map(|at| format!(" at {at}")).unwrap_or_default();
                format!(
                    "{what}: {} holds the Lease {name} but does not renew it; another server can acquire it{until}",
                    lease.holder
                )
            }
            Some(lease) => format!("{what}: {} holds the Lease {name}", lease.holder),
        }
    };
    let why: Vec<String> = finalizers.iter().map(why).collect();
    format!("the Node is being deleted: {}", why.join("; "))
}

/// Converts Nodes for the planner, with the Leases of their kubelets, those in `kube-system` and, for drained Nodes,
/// the number of Pods to evict.
pub fn observe(
    nodes: &[Node],
    leases: &[Lease],
    of_system: &[Lease],
    pods_to_evict: &BTreeMap<String, usize>,
) -> BTreeMap<String, state::Node> {
    nodes
        .iter()
        .map(|node| {
            let name = node.name_any();
            let lease = leases.iter().find(|lease| lease.name_any() == name);
            let server = of_system
                .iter()
                .filter(|l| is_api_server(l) && l.labels().get("kubernetes.io/hostname") == Some(&name));
            let condition = ready_condition(node);
            let ready = condition.is_some_and(|c| c.status == "True");
            let message = if ready { String::new() } else { why_not(condition) };
            let observed = state::Node {
                ready,
                since: condition.and_then(|c| c.last_transition_time.as_ref()).map(|time| time.0),
                lacks_network_plugin: message.contains(NO_NETWORK_PLUGIN),
                message,
                pressures: pressures(node),
                addresses: addresses(node),
                version: version(node).to_owned(),
                // A new kubelet reports the state of its Node immediately and creates its Lease up to seven seconds
                // later.
                renewed: condition
                    .and_then(|c| c.last_heartbeat_time.as_ref())
                    .map(|time| time.0)
                    .max(lease.and_then(renewed)),
                api_renewed: server.filter_map(renewed).max(),
                schedulable: schedulable(node),
                draining_since: draining_since(node),
                pods_to_evict: pods_to_evict.get(&name).copied().unwrap_or_default(),
                voter: voter(node),
                leaving: leaving(node),
                left: left(node),
                pods: node.spec.as_ref().and_then(|s| s.pod_cidr.as_deref()?.parse().ok()),
                labels: node.labels().clone(),
                taints: node.spec.iter().flat_map(|s| s.taints.iter().flatten()).map(taint_text).collect(),
                configured: configured(node),
            };
            (name, observed)
        })
        .collect()
}

/// Message of kubelets for a container runtime without a network plugin.
const NO_NETWORK_PLUGIN: &str = "NetworkPluginNotReady";

/// Conditions for which Kubernetes taints a Ready Node so that no new Pods are scheduled to it
/// (kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration).
const PRESSURES: [&str; 4] = ["DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable"];

fn pressures(node: &Node) -> Vec<String> {
    let holds = |type_: &&str| condition(node, type_).is_some_and(|c| c.status == "True");
    PRESSURES.into_iter().filter(holds).map(str::to_owned).collect()
}

fn addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
    all.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok()).collect()
}

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    condition(node, "Ready")
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

fn why_not(condition: Option<&NodeCondition>) -> String {
    condition
        .and_then(|c| c.message.clone().or(c.reason.clone()))
        .filter(|words| !words.is_empty())
        .unwrap_or_else(|| "the kubelet has not reported yet".to_owned())
}

fn version(node: &Node) -> &str {
    node.status.as_ref().and_then(|s| s.node_info.as_ref()).map_or("", |info| &info.kubelet_version)
}

/// Reports whether a Pod must leave a drained Node. Pods that would return immediately (of DaemonSets), that only the
/// kubelet can stop (mirror Pods), or that have completed need not.
pub fn must_leave(pod: &Pod) -> bool {
    let of_daemon_set =
        pod.owner_references().iter().any(|o| o.controller == Some(true) && o.kind == "DaemonSet");
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    !of_daemon_set && !mirror && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The state of each Node that a plan depends on, to distinguish changes from mere heartbeats of kubelets.
#[derive(Debug, Default)]
pub struct Changes(HashMap<String, Digest>);

/// Maximum number of Nodes whose states are compared. A cluster with more is observed more often.
const WATCHED: usize = 1000;

#[derive(Debug, PartialEq)]
struct Digest {
    ready: bool,
    version: String,
    schedulable: bool,
    draining: bool,
    going: bool,
    member: (Option<bool>, bool, bool),
    pressures: Vec<String>,
    addresses: Vec<IpAddr>,
    labels: BTreeMap<String, String>,
    taints: Vec<String>,
}

impl Changes {
    /// Records an event of a watch and reports whether it requires an observation.
    pub fn note(&mut self, event: Event<Node>) -> bool {
        match event {
            Event::Init => {
                self.0.clear();
                false
            }
            Event::InitApply(node) => {
                self.apply(&node);
                false
            }
            // Once per list: something may have changed between the last observation and this list.
            Event::InitDone => true,
            Event::Apply(node) => self.apply(&node),
            Event::Delete(node) => self.0.remove(&node.name_any()).is_some(),
        }
    }

    fn apply(&mut self, node: &Node) -> bool {
        let digest = Digest {
            ready: ready_condition(node).is_some_and(|c| c.status == "True"),
            version: version(node).to_owned(),
            schedulable: schedulable(node),
            draining: draining_since(node).is_some(),
            going: node.metadata.deletion_timestamp.is_some(),
            member: (voter(node), leaving(node), left(node)),
            pressures: pressures(node),
            addresses: addresses(node),
            labels: node.labels().clone(),
            taints: node.spec.iter().flat_map(|s| s.taints.iter().flatten()).map(taint_text).collect(),
        };
        let changed = self.0.get(&node.name_any()) != Some(&digest);
        if self.0.len() > WATCHED {
            self.0.clear();
        }
        self.0.insert(node.name_any(), digest);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ready: &str) -> Node {
        let disk = if name == "full" { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": {"name": name, "resourceVersion": "1"},
            "status": {
                "conditions": [
                    {"type": "MemoryPressure", "status": "False"},
                    {"type": "Ready", "status": ready, "reason": "KubeletNotReady", "message": "cni plugin not \
                        initialized"},
                    {"type": "DiskPressure", "status": disk},
                ],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "Hostname", "address": name}],
                "nodeInfo": {
                    "kubeletVersion": "v1.36.2+k3s1", "architecture": "", "bootID": "", "containerRuntimeVersion": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
                    "systemUUID": "",
                },
            },
        }))
        .unwrap()
    }

    fn drained(mut node: Node, since: &str) -> Node {
        node.annotations_mut().insert(DRAINING_SINCE.to_owned(), since.to_owned());
        node.spec.get_or_insert_default().unschedulable = Some(true);
        node
    }

    fn pod(extra: Value) -> Pod {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": []}});
        for (key, value) in extra.as_object().unwrap() {
            if key == "metadata" {
                pod[key].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            } else {
                pod[key] = value.clone();
            }
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn nodes_are_told_with_their_leases() {
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": "a"}, "spec": {"renewTime": "2026-11-25T01:02:03.500000Z"},
        }))
        .unwrap();
        let nodes = [node("a", "True"), drained(node("b", "Unknown"), "2026-11-25T00:00:00Z")];
        let server: Lease = serde_json::from_value(json!({
            "metadata": {"name": "apiserver-x", "labels": {
                "kubernetes.io/hostname": "a", "apiserver.kubernetes.io/identity": "kube-apiserver",
            }},
            "spec": {"renewTime": "2026-11-25T01:02:05.000000Z"},
        }))
        .unwrap();
        let seen = observe(&nodes, &[lease], &[server], &BTreeMap::from([("b".to_owned(), 3)]));
        let up = "2026-11-25T01:02:05Z".parse().unwrap();
        assert_eq!((seen["a"].api_renewed, seen["b"].api_renewed), (Some(up), None));

        assert_eq!(seen["a"].renewed, Some("2026-11-25T01:02:03.5Z".parse().unwrap()));
        assert_eq!(seen["a"].version, "v1.36.2+k3s1");
        assert!(seen["a"].ready && seen["a"].schedulable && seen["a"].message.is_empty());
        assert_eq!((seen["a"].draining_since, seen["a"].pods_to_evict), (None, 0));

        assert!(!seen["b"].ready && !seen["b"].schedulable);
        assert_eq!(seen["b"].message, "cni plugin not initialized");
        assert_eq!(seen["b"].renewed, None);
        assert_eq!(seen["b"].draining_since, Some("2026-11-25T00:00:00Z".parse().unwrap()));
        assert_eq!(seen["b"].pods_to_evict, 3);
    }

    #[test]
    fn what_a_server_is_in_etcd() {
        let server = |annotations: &[(&str, &str)], voter: Option<(&str, &str)>| {
            let mut node = node("a", "True");
            node.annotations_mut().extend(annotations.iter().map(|(k, v)| ((*k).into(), (*v).into())));
            if let Some((status, reason)) = voter {
                let told = json!({"type": VOTER, "status": status, "reason": reason});
                let conditions = node.status.as_mut().unwrap().conditions.as_mut().unwrap();
                conditions.push(serde_json::from_value(told).unwrap());
            }
            let seen = observe(&[node], &[], &[], &BTreeMap::new());
            (seen["a"].voter, seen["a"].leaving, seen["a"].left)
        };
        let member = (MEMBER, "a-1");
        assert_eq!(server(&[], None), (None, false, false));
        let votes = Some(("True", "MemberNotLearner"));
        assert_eq!(server(&[member], votes), (Some(true), false, false));
        assert_eq!(server(&[member], Some(("False", "MemberIsLearner"))).0, Some(false));
        let stopped = Some(("False", "Unhealthy"));
        assert_eq!(server(&[member], stopped).0, Some(true), "it counts for the majority");

        let leave = (LEAVE, "true");
        assert_eq!(server(&[member, leave], votes), (Some(true), true, false));
        assert_eq!(server(&[leave, (LEFT, "a-1")], votes), (Some(true), true, true));
        assert!(!server(&[member, leave, (LEFT, "a-0")], votes).2, "another member");
        // The server removed itself.
        let none = Some(("False", "NotAMember"));
        assert_eq!(server(&[member, leave], none), (Some(false), true, true));
        assert!(!server(&[leave], none).2, "nothing tells which member was looked for");
        assert!(!server(&[member], none).2, "it is only about to join");
    }

    #[test]
    fn a_sign_of_life_is_the_later_of_lease_and_heartbeat() {
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": "a"}, "spec": {"renewTime": "2026-11-25T01:02:03.500000Z"},
        }))
        .unwrap();
        for (heartbeat, renewed) in [
            ("2026-11-25T01:02:09Z", "2026-11-25T01:02:09Z"),
            ("2026-11-25T01:02:01Z", "2026-11-25T01:02:03.5Z"),
        ] {
            let mut node = node("a", "True");
            let conditions = node.status.as_mut().unwrap().conditions.as_mut().unwrap();
            conditions[1].last_heartbeat_time =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(heartbeat.parse().unwrap()));
            let seen = observe(&[node], std::slice::from_ref(&lease), &[], &BTreeMap::new());
            assert_eq!(seen["a"].renewed, Some(renewed.parse().unwrap()));
        }
    }

    #[test]
    fn a_node_tells_what_keeps_pods_from_it() {
        let mut starting = node("full", "False");
        let conditions = starting.status.as_mut().unwrap().conditions.as_mut().unwrap();
        conditions[1].message = Some(
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network \
             plugin \
             returns error: cni plugin not initialized"
                .into(),
        );
        let nodes = [starting, node("a", "True")];
        let seen = observe(&nodes, &[], &[], &BTreeMap::new());
        assert_eq!(seen["full"].pressures, ["DiskPressure"]);
        assert!(seen["full"].lacks_network_plugin && !seen["a"].lacks_network_plugin);
        assert_eq!(seen["a"].pressures, [] as [&str; 0]);
        assert_eq!(seen["a"].addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_node_without_any_condition_is_not_ready() {
        let bare: Node = serde_json::from_value(json!({"metadata": {"name": "new"}})).unwrap();
        let seen = observe(&[bare], &[], &[], &BTreeMap::new());
        assert!(!seen["new"].ready && seen["new"].schedulable);
        assert_eq!(seen["new"].message, "the kubelet has not reported yet");
    }

    #[test]
    fn only_own_labels_and_taints_are_taken_away() {
        let mut node = node("a", "True");
        let config = |label: &str, taint: &str| NodeConfig {
            labels: BTreeMap::from([(label.to_owned(), "1".to_owned())]),
            taints: vec![taint.to_owned()],
        };
        let text = serde_json::to_string(&config("old", "old=x:NoSchedule")).unwrap();
        node.annotations_mut().insert(CONFIGURED.to_owned(), text);
        node.spec.get_or_insert_default().taints =
            Some(vec![taint("theirs:NoExecute").unwrap(), taint("old=x:NoSchedule").unwrap()]);
        let patch = configure(&node, &config("new", "new:NoSchedule"));
        assert_eq!(patch["metadata"]["labels"], json!({"old": null, "new": "1"}));
        let taints: Vec<Taint> = serde_json::from_value(patch["spec"]["taints"].clone()).unwrap();
        assert_eq!(taints.iter().map(taint_text).collect::<Vec<_>>(), ["theirs:NoExecute", "new:NoSchedule"]);
        let kept: NodeConfig =
            serde_json::from_str(patch["metadata"]["annotations"][CONFIGURED].as_str().unwrap()).unwrap();
        assert_eq!(kept, config("new", "new:NoSchedule"));
    }

    #[test]
    fn which_pods_must_leave() {
        let owner = |kind: &str, controller: bool| {
            json!({"metadata": {"ownerReferences": [
                {"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": controller}
            ]}})
        };
        for (must, what) in [
            (true, json!({})),
            (true, json!({"status": {"phase": "Running"}})),
            (true, json!({"status": {"phase": "Pending"}})),
            (true, json!({"metadata": {"deletionTimestamp": "2026-11-25T00:00:00Z"}})),
            (true, owner("ReplicaSet", true)),
            (true, owner("DaemonSet", false)),
            (false, owner("DaemonSet", true)),
            (false, json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}})),
            (false, json!({"status": {"phase": "Succeeded"}})),
            (false, json!({"status": {"phase": "Failed"}})),
        ] {
            assert_eq!(must_leave(&pod(what.clone())), must, "{what}");
        }
    }

    #[test]
    fn only_changes_that_matter_are_told() {
        let mut changes = Changes::default();
        assert!(!changes.note(Event::Init));
        assert!(!changes.note(Event::InitApply(node("a", "True"))));
        assert!(changes.note(Event::InitDone));

        let mut sign_of_life = node("a", "True");
        sign_of_life.metadata.resource_version = Some("2".to_owned());
        assert!(!changes.note(Event::Apply(sign_of_life)));
        assert!(changes.note(Event::Apply(node("a", "False"))), "not ready");
        assert!(changes.note(Event::Apply(drained(node("a", "False"), "2026-11-25T00:00:00Z"))), "drained");
        assert!(changes.note(Event::Apply(node("b", "False"))), "appeared");
        let mut newer = node("b", "False");
        newer.status.as_mut().unwrap().node_info.as_mut().unwrap().kubelet_version =
            "v1.37.0+k3s1".to_owned();
        assert!(changes.note(Event::Apply(newer.clone())), "other version");
        let mut going = newer.clone();
        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        assert!(changes.note(Event::Apply(going.clone())), "to be deleted");
        assert!(changes.note(Event::Delete(going)), "gone");
        assert!(!changes.note(Event::Delete(node("never-seen", "True"))));
    }
}
