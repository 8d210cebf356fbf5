//! Heartbeats of agents: each marks its Node as ready while its Docker Engine responds, and the controller takes the mark
//! away when the agent is silent.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::hosts::{DOCKER, READY};

/// Annotation of a Node: the time of the last heartbeat, and the version of the Docker Engine.
pub const HEARTBEAT: &str = "localcluster.dev/docker-heartbeat";
/// Interval of heartbeats.
pub const INTERVAL: Duration = Duration::from_secs(15);
/// Time after which an agent without a heartbeat is down.
pub const SILENT: Duration = Duration::from_secs(60);

/// Returns the merge patch of a Node whose Docker Engine responds, with its version.
pub fn beat(now: Timestamp, engine: &str) -> Value {
    let heartbeat = json!({"time": now, "engine": engine}).to_string();
    json!({"metadata": {"labels": {DOCKER: READY}, "annotations": {HEARTBEAT: heartbeat}}})
}

/// Returns the merge patch of a Node whose agent is silent, or whose Docker Engine does not respond.
pub fn silent() -> Value {
    json!({"metadata": {"labels": {DOCKER: null}}})
}

/// The last heartbeat of each Node, and when it was first seen: the clocks of hosts may differ.
#[derive(Debug, Default)]
pub struct Heartbeats(BTreeMap<String, (Option<String>, Duration)>);

impl Heartbeats {
    /// Records the Nodes as they are now, and returns the names of those that are marked although their agent is silent.
    /// `now` is the time since any fixed moment.
    pub fn silent<'a>(&mut self, nodes: impl Iterator<Item = &'a Node>, now: Duration) -> Vec<String> {
        let mut before = std::mem::take(&mut self.0);
        let mut silent = Vec::new();
        for node in nodes.filter(|node| node.labels().get(DOCKER).is_some_and(|value| value == READY)) {
            let (name, beat) = (node.name_any(), node.annotations().get(HEARTBEAT).cloned());
            let since = match before.remove(&name) {
                Some((last, since)) if last == beat => since,
                _ => now,
            };
            if now.saturating_sub(since) >= SILENT {
                silent.push(name.clone());
            }
            self.0.insert(name, (beat, since));
        }
        silent
    }
}
