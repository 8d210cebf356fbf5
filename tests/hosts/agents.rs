//! Agents and the controller are killed, missing, or there twice.

use serde_json::{Value, json};

use crate::{
    live::{
        Kubectl, SYSTEM, eventually, holds,
        scene::{LIMIT, Scene, condition},
    },
    rack::{
        self, IDLE, Marked, bound, host, hosts_with, idle, is_nowhere_else, kill_process, on, picture,
        runs_on,
    },
    sampler::{Sampler, nothing_was_twice},
};

pub const GROUP: crate::live::harness::Group = crate::live::harness::Group {
    name: "agents",
    setup: || {
        rack::install();
        let scene = Scene::new("agent").with(Sampler::begin());
        scene.apply("LocalCluster", "steady", &idle(&on(host(2), "")));
        runs_on(&scene, "steady", host(2), IDLE);
        scene
    },
    tests: &[
        ("a_killed_agent_changes_nothing", a_killed_agent_changes_nothing),
        ("an_agent_is_killed_while_it_creates", an_agent_is_killed_while_it_creates),
        ("a_killed_controller_changes_nothing", a_killed_controller_changes_nothing),
        ("two_agents_of_a_node_act_as_one", two_agents_of_a_node_act_as_one),
        ("without_an_agent_all_runs_on", without_an_agent_all_runs_on),
        ("nothing_was_twice", nothing_was_twice),
    ],
};

fn delete(scene: &Scene, cluster: &str) {
    scene.run(&["delete", "lc", cluster, "--timeout=240s"]);
}

/// Waits until the only agent of a host has run for longer than the one that this is a copy of, and is ready.
fn agent_is_back(number: usize, killed: &Value) -> Value {
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    eventually(LIMIT, "the agent is back", || {
        let agents = host(number).agents();
        let [agent] = &agents[..] else { return Err(format!("{} agents", agents.len())) };
        let ready = agent["status"]["containerStatuses"][0]["ready"] == true;
        let again =
            agent["metadata"]["uid"] != killed["metadata"]["uid"] || restarts(agent) > restarts(killed);
        holds(ready && again, || agent["status"].to_string())?;
        Ok(agent.clone())
    })
}

fn agent(number: usize) -> Value {
    host(number).agents().pop().expect("each host has an agent")
}

fn a_killed_agent_changes_nothing(scene: &Scene) {
    let before = picture(scene, "steady", host(2));
    let killed = agent(2);
    kill_process(&killed);
    agent_is_back(2, &killed);
    // It does something again, so it has looked at everything.
    scene.apply("LocalCluster", "later", &idle(&on(host(2), "")));
    runs_on(scene, "later", host(2), IDLE);
    assert_eq!(picture(scene, "steady", host(2)), before);
    delete(scene, "later");
}

fn an_agent_is_killed_while_it_creates(scene: &Scene) {
    scene.apply("LocalCluster", "made", &idle(&on(host(3), "")));
    bound(scene, "lc/made", &[]);
    kill_process(&agent(3));
    runs_on(scene, "made", host(3), IDLE);
    scene.run(&["delete", "lc", "made", "--wait=false"]);
    kill_process(&agent(3));
    eventually(LIMIT, "it is deleted", || {
        let left = scene.attempt(&["get", "lc", "made", "--ignore-not-found", "-o", "name"])?;
        holds(left.is_empty(), || left)
    });
    assert!(hosts_with(scene, "made").is_empty());
}

fn a_killed_controller_changes_nothing(scene: &Scene) {
    let before = picture(scene, "steady", host(2));
    let pods = Kubectl::management().json(&["-n", SYSTEM, "pods"]).unwrap_or_else(|e| panic!("{e}"));
    let of_deployment = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet";
    let controller = pods["items"].as_array().into_iter().flatten().find(of_deployment).expect("it runs");
    let placeholder = scene.get("pod/steady-host")["metadata"]["uid"].clone();
    kill_process(controller);
    scene.apply("LocalCluster", "later", &idle(&on(host(3), "")));
    runs_on(scene, "later", host(3), IDLE);
    assert_eq!(picture(scene, "steady", host(2)), before);
    assert_eq!(scene.get("pod/steady-host")["metadata"]["uid"], placeholder);
    delete(scene, "later");
}

/// A second agent of a host, as there is one while a new version replaces the old one. Removed on drop.
struct Second;

impl Second {
    fn on(node: &str) -> Self {
        let k = Kubectl::management();
        let all = k.json(&["-n", SYSTEM, "daemonsets"]).unwrap_or_else(|e| panic!("{e}"));
        let mut spec = all["items"][0]["spec"]["template"]["spec"].clone();
        spec["nodeName"] = node.into();
        spec["terminationGracePeriodSeconds"] = 5.into();
        let container = spec["containers"][0].as_object_mut().expect("it has one");
        // Both are in the network of the host.
        ["ports", "livenessProbe", "readinessProbe", "startupProbe"].iter().for_each(|key| {
            container.remove(*key);
        });
        let env = container.entry("env").or_insert(json!([])).as_array_mut().expect("it is a list");
        env.retain(|variable| variable["name"] != "LOCALCLUSTER_HTTP_LISTEN");
        env.push(json!({"name": "LOCALCLUSTER_HTTP_LISTEN", "value": "127.0.0.1:0"}));
        let metadata =
            json!({"name": "second-agent", "namespace": SYSTEM, "labels": {"app": "second-agent"}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        let second = Self;
        k.input(&["create", "-f", "-"], &pod.to_string()).unwrap_or_else(|e| panic!("{e}"));
        k.run(&["-n", SYSTEM, "wait", "--for=condition=Ready", "pod/second-agent", "--timeout=60s"]);
        second
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let args = ["-n", SYSTEM, "delete", "pod", "second-agent", "--ignore-not-found", "--timeout=60s"];
        if let Err(why) = Kubectl::management().attempt(&args) {
            eprintln!("{why}");
        }
    }
}

fn two_agents_of_a_node_act_as_one(scene: &Scene) {
    let place = host(2);
    let before = picture(scene, "steady", place);
    let second = Second::on(&place.node);
    scene.apply("LocalCluster", "both", &idle(&on(place, "")));
    runs_on(scene, "both", place, IDLE);
    let both = picture(scene, "both", place);
    // The other one takes over, or the first one comes back: something acts, and what runs stays as it is.
    let killed = agent(2);
    kill_process(&killed);
    scene.apply("LocalCluster", "after", &idle(&on(place, "")));
    runs_on(scene, "after", place, IDLE);
    drop(second);
    agent_is_back(2, &killed);
    delete(scene, "after");
    assert_eq!((picture(scene, "steady", place), picture(scene, "both", place)), (before, both));
    delete(scene, "both");
}

fn without_an_agent_all_runs_on(scene: &Scene) {
    let place = host(3);
    scene.apply("LocalCluster", "alone", &idle(&on(place, "")));
    runs_on(scene, "alone", place, IDLE);
    let before = picture(scene, "alone", place);
    let without = Marked::without_agent(place);
    let message = scene.reason("lc/alone", "HostReachable", "AgentDown");
    assert!(message.contains(&place.node), "{message}");
    place.is_withdrawn();
    assert_eq!(picture(scene, "alone", place), before);
    is_nowhere_else(scene, "alone", place);
    // Nothing new is placed there, and it says so.
    scene.apply("LocalCluster", "new", &idle(&on(place, "")));
    scene.reason("lc/new", "Scheduled", "Unschedulable");

    drop(without);
    place.is_offered();
    runs_on(scene, "new", place, IDLE);
    eventually(LIMIT, "the host is reachable", || {
        let reachable = condition(&scene.try_get("lc/alone")?, "HostReachable")?;
        holds(reachable["status"] == "True", || reachable.to_string())
    });
    assert_eq!(picture(scene, "alone", place), before);
    delete(scene, "new");
    delete(scene, "alone");
}
