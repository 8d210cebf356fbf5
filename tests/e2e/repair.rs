//! A node whose container runs and whose Node is not Ready is restarted, and replaced if that does not help.

use std::collections::BTreeMap;

use localcluster_operator::k3s::load_balancer::CONFIG_FILE;
use serde_json::Value;

use crate::{
    cluster::container,
    live::{
        command, docker, eventually,
        harness::Group,
        holds, inspect, install, now,
        operator::{Operator, Victim},
        scene::{LIMIT, Scene, Seen},
        world,
    },
};

pub const GROUP: Group = Group {
    name: "repair",
    setup,
    tests: &[
        ("a_manually_changed_load_balancer_is_repaired", a_manually_changed_load_balancer_is_repaired),
        ("a_hung_node_is_restarted", a_hung_node_is_restarted),
        ("an_only_hung_server_is_restarted", an_only_hung_server_is_restarted),
        ("a_broken_node_is_replaced", a_broken_node_is_replaced),
        ("a_broken_server_of_three_rejoins", a_broken_server_of_three_rejoins),
        ("most_of_three_hung_servers_are_restarted", most_of_three_hung_servers_are_restarted),
    ],
};

/// Creates a cluster with an agent, with an operator that waits only briefly and resyncs often.
fn setup() -> Scene {
    install();
    let operator =
        Operator::new(&world("DOCKER_HOST"), &["--node-repair-after=15s", "--resync=20s"], Victim::default());
    operator.start();
    let scene = Scene::new("rep").with(operator);
    let servers = r#"{count: 1, args: ["--disable=traefik,metrics-server,servicelb"]}"#;
    scene.apply("LocalCluster", "c", &format!("{{servers: {servers}, agents: {{count: 1}}}}"));
    scene.ready("lc/c");
    scene
}

fn suspend(pids: &[&str]) {
    command("kill", &[&["-STOP"][..], pids].concat(), "").unwrap_or_else(|e| panic!("{e}"));
}

/// Stops all processes of K3s in a node, as if it hung; its container keeps running.
fn freeze(node: &str) {
    suspend_in(node, |args| args[0].ends_with("k3s") && matches!(args.get(1), Some(&("agent" | "server"))));
}

/// Stops the processes of a node that match, with or without arguments.
fn suspend_in(node: &str, wanted: impl Fn(&[&str]) -> bool) {
    let processes = docker(&["top", node, "-o", "pid,args"]);
    let pids: Vec<&str> = processes
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 1 && wanted(&words[1..]))
        .map(|words| words[0])
        .collect();
    assert!(!pids.is_empty(), "{processes}");
    suspend(&pids);
    assert_eq!(inspect(node).expect("it exists")["State"]["Status"], "running");
}

fn repairs(scene: &Scene, node: &str) -> Result<Value, String> {
    let nodes = scene.try_get("lc/c")?["status"]["nodes"].as_array().cloned().unwrap_or_default();
    Ok(nodes.into_iter().find(|n| n["name"] == node).ok_or("no such node")?["repairs"].clone())
}

/// Waits until a node was repaired this many times, and then until the cluster is Ready and the count is reset. The
/// reset follows the Node, which may be Ready long before the load balancer forwards to its server again.
fn heals(scene: &Scene, node: &str, count: u64, message: &str, since: &str) {
    eventually(LIMIT, "the node was repaired", || {
        let repairs = repairs(scene, node)?;
        holds(repairs["count"] == count, || repairs.to_string())
    });
    scene.ready("lc/c");
    let events = scene.events(since);
    assert!(events.iter().any(|e| e.contains(message)), "{message}: {events:?}");
    eventually(60, "the repair is forgotten", || {
        let repairs = repairs(scene, node)?;
        holds(repairs.is_null(), || repairs.to_string())
    });
}

fn a_manually_changed_load_balancer_is_repaired(scene: &Scene) {
    let balancer = container(scene, "serverlb");
    let (since, before) = (now(), scene.picture()[&balancer].clone());
    let file = format!("{balancer}:{CONFIG_FILE}");
    let text = docker(&["exec", &balancer, "cat", CONFIG_FILE]);
    let broken = tempfile::NamedTempFile::new().expect("a file can be created");
    // It keeps running and forwards nowhere.
    std::fs::write(broken.path(), "events {}\n").expect("it can be written");
    docker(&["cp", broken.path().to_str().expect("it is UTF-8"), &file]);
    docker(&["kill", "-s", "HUP", &balancer]);
    // It is undetermined whether the API fails to respond in the meantime.
    let event = format!("UpdatedFiles Updated files in container {balancer}: its configuration changed");
    eventually(60, "it is repaired", || {
        let events = scene.events(&since);
        holds(events.iter().any(|e| e.contains(&event)), || format!("{events:?}"))
    });
    eventually(60, "the API responds", || scene.child("c").attempt(&["get", "--raw", "/readyz"]));
    assert_eq!(docker(&["exec", &balancer, "cat", CONFIG_FILE]), text);
    assert_eq!(scene.picture()[&balancer], before, "it was recreated or restarted");
    scene.ready("lc/c");
}

/// Asserts that this node's container was restarted and these others are unchanged.
fn restarted_alone(scene: &Scene, before: &BTreeMap<String, Seen>, node: &str, others: [&str; 2]) {
    let after = scene.picture();
    assert_eq!(after[node].id, before[node].id);
    assert_ne!(after[node].started, before[node].started);
    for other in others.map(|n| container(scene, n)) {
        assert_eq!(after[&other], before[&other]);
    }
}

fn a_hung_node_is_restarted(scene: &Scene) {
    let agent = container(scene, "agent-0");
    let (since, before) = (now(), scene.picture());
    freeze(&agent);
    heals(scene, &agent, 1, "its Node is not Ready (repair 1 of 5)", &since);
    restarted_alone(scene, &before, &agent, ["server-0", "serverlb"]);
}

fn an_only_hung_server_is_restarted(scene: &Scene) {
    let (server, child) = (container(scene, "server-0"), scene.child("c"));
    child.run(&["create", "configmap", "witness", "--from-literal=said=before"]);
    let (since, before) = (now(), scene.picture());
    // All processes: the stand-in runs the API in a process of its own.
    let processes = docker(&["top", &server, "-o", "pid"]);
    let pids: Vec<&str> = processes.lines().skip(1).map(str::trim).collect();
    suspend(&pids);
    heals(scene, &server, 1, "its API does not respond (repair 1 of 5)", &since);
    restarted_alone(scene, &before, &server, ["agent-0", "serverlb"]);
    let said = child.run(&["get", "configmap", "witness", "-o", "jsonpath={.data.said}"]);
    assert_eq!(said, "before", "the data of the cluster is lost");
}

/// A kubelet never starts with a state file that it cannot parse: only new volumes help.
const STATE: &str = "/var/lib/kubelet/cpu_manager_state";

fn a_broken_node_is_replaced(scene: &Scene) {
    let agent = container(scene, "agent-0");
    let (since, before) = (now(), scene.picture());
    freeze(&agent);
    docker(&["exec", &agent, "sh", "-c", &format!("echo broken >{STATE}")]);
    heals(scene, &agent, 2, "its Node is not Ready (repair 2 of 5)", &since);
    let after = scene.picture();
    assert_ne!(after[&agent].id, before[&agent].id);
    assert_eq!(after[&agent].networks, before[&agent].networks);
    assert!(!docker(&["exec", &agent, "cat", STATE]).contains("broken"), "it has new volumes");
}

fn a_broken_server_of_three_rejoins(scene: &Scene) {
    scene.patch("lc/c", r#"{"servers": {"count": 3}, "agents": {"count": 0}}"#);
    scene.ready("lc/c");
    let server = container(scene, "server-2");
    let (since, before) = (now(), scene.picture());
    freeze(&server);
    docker(&["exec", &server, "sh", "-c", &format!("echo broken >{STATE}")]);
    heals(
        scene,
        &server,
        2,
        &format!("Removing {server} from etcd: its Node is not Ready (repair 2 of 5)"),
        &since,
    );
    let after = scene.picture();
    assert_ne!(after[&server].id, before[&server].id);
    for other in ["server-0", "server-1"].map(|n| container(scene, n)) {
        assert_eq!(after[&other], before[&other]);
    }
    let voters = scene.get("lc/c")["status"]["voters"].as_array().cloned().unwrap_or_default();
    assert_eq!(voters.len(), 3, "{voters:?}");
}

/// The Nodes of two of three servers are NotReady, while all three agree in etcd: a kubelet reports that half a
/// minute after its containerd hangs.
fn most_of_three_hung_servers_are_restarted(scene: &Scene) {
    scene.patch("lc/c", r#"{"servers": {"count": 3}, "agents": {"count": 0}}"#);
    scene.ready("lc/c");
    let [first, hang @ ..] = ["server-0", "server-1", "server-2"].map(|n| container(scene, n));
    let (since, before) = (now(), scene.picture());
    hang.iter().for_each(|node| suspend_in(node, |args| args[0].ends_with("containerd")));
    let ready = r#"jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    eventually(LIMIT, "two are NotReady at a time", || {
        let message = scene.child("c").attempt(&["get", "nodes", "-o", ready])?;
        holds(message.lines().filter(|line| *line != "True").count() == 2, || message)
    });
    for node in &hang {
        let message = format!("Started container {node}: its Node is not Ready (repair 1 of 5)");
        eventually(LIMIT, "it is restarted", || {
            let events = scene.events(&since);
            holds(events.iter().any(|e| e.contains(&message)), || format!("{message}: {events:?}"))
        });
    }
    scene.ready("lc/c");
    let after = scene.picture();
    assert_eq!(after[&first], before[&first]);
    for node in &hang {
        assert_eq!(after[node].id, before[node].id);
        assert_ne!(after[node].started, before[node].started);
    }
}
