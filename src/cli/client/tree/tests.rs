use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-11-30T10:00:00Z".parse().unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-30T09:00:00Z"})
}

fn cluster(spec: Value, mut status: Value, conditions: &[Value]) -> LocalCluster {
    status["conditions"] = conditions.into();
    status["observedGeneration"] = 1.into();
    serde_json::from_value(json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
        "metadata": {"name": "dev", "namespace": "default", "generation": 1}, "spec": spec, "status": status,
    }))
    .unwrap()
}

fn rendered(cluster: &LocalCluster, events: &Result<Vec<Event>, String>) -> String {
    render(cluster, events, now(), Paint::none())
}

#[test]
fn a_cluster_that_is_ready() {
    let status = json!({
        "endpoint": "https://127.0.0.1:24067", "kubeconfigSecret": "dev-kubeconfig",
        "kubeconfig": {"access": "View", "expiresAt": "2026-11-30T11:30:00Z"},
        "expiresAt": "2026-12-02T13:00:00Z",
        "servers": {"desired": 1, "replicas": 1, "ready": 1}, "agents": {"desired": 3, "replicas": 2, "ready": 1},
        "agentPools": [{"name": "big", "desired": 1, "replicas": 0, "ready": 0}, {"name": "gpu", "desired": 1, "replicas": 1, "ready": 1}],
        "nodes": [
            {"name": "k3d-dev-server-0", "role": "Server", "phase": "Ready", "ip": "10.1.0.3", "version": "v1.36.2+k3s1"},
            {"name": "k3d-dev-agent-0", "role": "Agent", "phase": "Starting", "ip": "10.1.0.4", "repairs": {"count": 2}},
            {"name": "k3d-dev-gpu-0", "role": "Agent", "pool": "gpu", "phase": "Ready", "ip": "10.1.0.90"},
        ],
        "ports": [
            {"name": "http", "hostIP": "127.0.0.1", "hostPort": 8080, "port": 80, "protocol": "TCP"},
            {"name": "games", "hostIP": "0.0.0.0", "hostPort": 7000, "port": 30000, "endPort": 30010, "protocol": "UDP",
                "problem": "port 7003 is in use"},
        ],
        "registries": [{"name": "registry", "host": "localhost:21461", "cluster": "k3d-registry:5000", "mirrors": ["docker.io"]}],
    });
    let conditions = [
        condition("Ready", "True", "Ready", "everything is there"),
        condition("Accepted", "True", "Accepted", "the spec is valid"),
        condition("AgentsReady", "False", "NodeStarting", "k3d-dev-agent-0 starts"),
        condition("HostReady", "Unknown", "Pending", ""),
        condition("Reconciling", "True", "Progressing", "1 step"),
        condition("Stalled", "False", "NotStalled", ""),
    ];
    let event = |reason: &str, type_: &str, fields: Value| {
        let mut event =
            json!({"metadata": {}, "involvedObject": {}, "reason": reason, "type": type_, "message": "said"});
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value::<Event>(event).unwrap()
    };
    let events = vec![
        event("PortConflict", "Warning", json!({"lastTimestamp": "2026-11-30T09:59:30Z"})),
        event("Created", "Normal", json!({"eventTime": "2026-11-30T08:58:00.000000Z"})),
    ];
    insta::assert_snapshot!(rendered(&cluster(json!({}), status, &conditions), &Ok(events)));
}

#[test]
fn a_cluster_that_needs_the_user() {
    let conditions = [
        condition("Ready", "False", "NameConflict", "the network k3d-dev is another's; remove it"),
        condition("Stalled", "True", "NameConflict", "the network k3d-dev is another's; remove it"),
    ];
    let seen = cluster(json!({}), json!({}), &conditions);
    assert!(!is_ready(&seen));
    insta::assert_snapshot!(rendered(&seen, &Err("cannot list Events: forbidden".into())));
}

#[test]
fn a_cluster_that_is_stopped_or_new() {
    let stopped = cluster(
        json!({"state": "Stopped"}),
        json!({}),
        &[condition("Stopped", "True", "Stopped", "it is stopped")],
    );
    assert!(!is_ready(&stopped));
    insta::assert_snapshot!(rendered(&stopped, &Ok(vec![])));
    let mut new = cluster(json!({}), json!({}), &[]);
    new.status = None;
    insta::assert_snapshot!(rendered(&new, &Ok(vec![])));
}

#[test]
fn only_the_last_events_are_shown() {
    let events = (0..20).map(|n| {
        serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "reason": format!("R{n}"),
            "lastTimestamp": format!("2026-11-30T09:00:{n:02}Z")}))
        .unwrap()
    });
    let text = rendered(&cluster(json!({}), json!({}), &[]), &Ok(events.collect()));
    assert!(!text.contains("R11\n") && text.contains("R12\n") && text.contains("R19\n"), "{text}");
}

#[test]
fn times_have_two_units() {
    let after = |seconds| until(now(), now() + jiff::SignedDuration::from_secs(seconds));
    assert_eq!([-5, 59, 61, 3600, 90_000].map(after), ["0s", "59s", "1m1s", "1h0m", "1d1h"]);
}

#[test]
fn a_cluster_on_one_of_several_hosts() {
    let status = json!({"host": "node-b"});
    let text =
        rendered(&cluster(json!({}), status, &[condition("Ready", "True", "Ready", "")]), &Ok(Vec::new()));
    assert_eq!(text.lines().next(), Some("LocalCluster default/dev: Ready on the host node-b"));
}
