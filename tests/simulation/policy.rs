//! What is made keeps to the HostPolicy.

use std::collections::{BTreeMap, BTreeSet};

use localcluster_operator::api::names;
use serde_json::Value;

use super::{desk::is_ours, shot::Shot};
use crate::support::model::world::{Container, Network};

/// What was made between two moments, and this policy does not allow.
pub fn violations(rules: Option<&Value>, before: &Shot, after: &Shot) -> Vec<String> {
    let Some(rules) = rules else { return Vec::new() };
    let is_new = |id: &String, c: &Container| {
        is_ours(&c.labels) && before.containers.get(id).is_none_or(|old| old.labels != c.labels)
    };
    let made = after.containers.iter().filter(|(id, c)| is_new(id, c)).map(|(_, c)| c);
    let mut violations: Vec<String> =
        made.filter(|c| !allows(rules, c)).map(|c| format!("{} violates {rules}", c.name)).collect();
    if let Some(most) = rules["quota"]["clusters"].as_u64() {
        let (had, has) = (clusters(before), clusters(after));
        let over = has.iter().filter(|(namespace, many)| {
            **many > usize::try_from(most).unwrap().max(had.get(*namespace).copied().unwrap_or(0))
        });
        violations.extend(over.map(|(namespace, many)| format!("{many} clusters in {namespace}: {rules}")));
    }
    violations
}

fn allows(rules: &Value, container: &Container) -> bool {
    let role = container.labels.get(names::ROLE).map(String::as_str).unwrap_or_default();
    let is_node = matches!(role, "server" | "agent");
    let image = !is_node || rules["nodes"]["images"].is_null() || container.image.starts_with("rancher/k3s:");
    let ranges = rules["ports"]["ranges"].is_null();
    let ports = ranges || container.wanted_ports.iter().all(|p| (20000..=20099).contains(&p.host_port));
    let within = container.limits.memory.is_some_and(|memory| memory <= 1 << 30);
    let memory = !is_node || rules["perNode"]["maxMemory"].is_null() || within;
    image && ports && memory
}

/// Returns the number of clusters that have a network, by namespace. Registries have networks too, which do not count.
fn clusters(shot: &Shot) -> BTreeMap<String, usize> {
    let of_clusters = |n: &&Network| is_ours(&n.labels) && n.labels.contains_key(names::CLUSTER);
    let owners: BTreeSet<&String> =
        shot.networks.values().filter(of_clusters).filter_map(|n| n.labels.get(names::OWNER)).collect();
    let mut clusters = BTreeMap::new();
    for owner in owners {
        *clusters.entry(owner.split('/').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    clusters
}
