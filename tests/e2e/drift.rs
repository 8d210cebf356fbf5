//! What is stopped, removed or disconnected is restored in its place, without any effect on the rest.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    cluster::{container, witnesses},
    live::{
        command, docker, eventually, holds, inspect, now,
        scene::{LIMIT, Scene, Seen, is_ready},
        try_docker, world,
    },
};

/// Returns what must survive: addresses and ports by container, and the addresses in the status.
fn places(scene: &Scene) -> (BTreeMap<String, Seen>, Value) {
    let (cluster, registry) = (&scene.get("lc/c")["status"], &scene.get("lreg/r")["status"]);
    let addresses = ["endpoints", "apiPort", "ports"].map(|key| cluster[key].clone());
    (
        scene.picture(),
        serde_json::json!([addresses, cluster["network"]["subnet"], registry["host"], registry["cluster"]]),
    )
}

/// Breaks something and asserts that it is repaired: all containers run again in their places, the objects are Ready,
/// an Event names the repair, only the `hurt` containers were restarted, and the data exists.
fn heals(scene: &Scene, hurt: &[&str], words: &[&str], break_it: impl FnOnce()) {
    let (before, status) = places(scene);
    let since = now();
    break_it();
    eventually(LIMIT, "all is as it was", || {
        let after = scene.picture();
        for (name, was) in &before {
            let is = after.get(name).ok_or(format!("{name} is missing"))?;
            let same = is.running && is.networks == was.networks && is.ports == was.ports;
            holds(same, || format!("{name} was {was:?} and is {is:?}"))?;
        }
        holds(after.len() == before.len(), || format!("{:?}", after.keys()))?;
        is_ready(&scene.try_get("lreg/r")?)?;
        is_ready(&scene.try_get("lc/c")?)?;
        let events = scene.events(&since);
        for word in words {
            holds(events.iter().any(|e| e.contains(word)), || {
                format!("no Event contains {word}: {events:?}")
            })?;
        }
        Ok(())
    });
    let (after, status_after) = places(scene);
    assert_eq!(status_after, status, "an address or a port changed");
    for (name, was) in &before {
        if !hurt.contains(&name.as_str()) {
            assert_eq!(after[name].started, was.started, "{name} was restarted");
        }
    }
    witnesses(scene);
}

pub fn agent_removed(scene: &Scene) {
    let agent = container(scene, "agent-1");
    heals(scene, &[&agent], &[&agent], || drop(docker(&["rm", "-f", &agent])));
}

pub fn load_balancer_removed(scene: &Scene) {
    let balancer = container(scene, "serverlb");
    heals(scene, &[&balancer], &[&balancer], || drop(docker(&["rm", "-f", &balancer])));
}

pub fn registry_removed(scene: &Scene) {
    let registry = scene.registry("r");
    heals(scene, &[&registry], &[&registry], || drop(docker(&["rm", "-f", &registry])));
}

pub fn server_removed(scene: &Scene) {
    let server = container(scene, "server-0");
    heals(scene, &[&server], &[&server], || drop(docker(&["rm", "-f", &server])));
}

/// Runs this docker command on one container of each kind at once, and asserts the repair.
fn each(scene: &Scene, verb: &str) {
    let names = ["agent-0", "serverlb", "server-0"].map(|n| container(scene, n));
    let registry = scene.registry("r");
    let all: Vec<&str> = names.iter().map(String::as_str).chain([registry.as_str()]).collect();
    heals(scene, &all, &all, || drop(docker(&[&[verb][..], &all].concat())));
}

pub fn stopped(scene: &Scene) {
    each(scene, "stop");
}

pub fn killed(scene: &Scene) {
    each(scene, "kill");
}

pub fn paused(scene: &Scene) {
    let agent = container(scene, "agent-0");
    let (server, balancer) = (container(scene, "server-0"), container(scene, "serverlb"));
    let all = [agent.as_str(), &balancer, &server];
    // Nothing was restarted.
    heals(scene, &[], &all, || drop(docker(&[&["pause"][..], &all].concat())));
}

pub fn disconnected(scene: &Scene) {
    let network = scene.network("c");
    let agent = container(scene, "agent-0");
    let balancer = container(scene, "serverlb");
    let registry = scene.registry("r");
    for name in [&agent, &balancer, &registry] {
        // The registry recovers without a restart: nothing in it is bound to the interface.
        let hurt: &[&str] = if *name == registry { &[] } else { &[name] };
        heals(scene, hurt, &[name], || drop(docker(&["network", "disconnect", &network, name])));
    }
    // The operator's Pod reaches them through this network; addresses on it are not pinned.
    let management = world("NETWORK");
    for name in [&balancer, &registry] {
        heals(scene, &[], &[name], || {
            docker(&["network", "disconnect", &management, name]);
            eventually(60, "it is back on the operator's network", || {
                let networks = inspect(name).ok_or("it is gone")?["NetworkSettings"]["Networks"].clone();
                holds(networks.get(&management).is_some(), || networks.to_string())
            });
        });
    }
}

/// A node without its password is refused under its old name unless its Node is deleted first.
pub fn password_lost(scene: &Scene) {
    let agent = container(scene, "agent-1");
    scene.run(&["annotate", "lc", "c", "localcluster.dev/paused=true"]);
    scene.reason("lc/c", "Paused", "Paused");
    heals(scene, &[&agent], &["its node password is lost", &agent], || {
        docker(&["rm", "-f", &agent]);
        docker(&["volume", "rm", &format!("{agent}-etc")]);
        scene.run(&["annotate", "lc", "c", "localcluster.dev/paused-"]);
    });
}

pub fn secrets_deleted(scene: &Scene) {
    let data = |name: &str| scene.attempt(&["get", "secret", name, "-o", "jsonpath={.data}"]);
    let before = [data("c-kubeconfig"), data("c-token")];
    heals(scene, &[], &[], || {
        scene.run(&["delete", "secret", "c-kubeconfig", "c-token"]);
        eventually(60, "both Secrets are back with the same content", || {
            let after = [data("c-kubeconfig"), data("c-token")];
            holds(after == before, || format!("{:?}", after.map(|a| a.map(|_| "other content"))))
        });
    });
}

/// While an object is paused nothing is repaired; afterwards everything is.
pub fn everything_but_data_removed(scene: &Scene) {
    let network = scene.network("c");
    let registry = scene.registry("r");
    let names = ["agent-0", "agent-1", "serverlb", "server-0"].map(|n| container(scene, n));
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    scene.run(&["annotate", "lc", "c", "localcluster.dev/paused=true"]);
    scene.reason("lc/c", "Paused", "Paused");
    heals(scene, &all, &[&network, &names[0], &names[2], &names[3]], || {
        docker(&[&["rm", "-f"][..], &all].concat());
        // Another event ensures that the operator has reconciled.
        docker(&["network", "disconnect", &network, &registry]);
        docker(&["network", "rm", &network]);
        scene.run(&["annotate", "lreg", "r", "e2e=look", "--overwrite"]);
        scene.ready("lreg/r");
        assert!(inspect(&names[0]).is_none() && try_docker(&["network", "inspect", &network]).is_err());
        scene.run(&["annotate", "lc", "c", "localcluster.dev/paused-"]);
    });
}

/// A server that runs and does not respond is reported, and left unchanged.
pub fn api_hangs(scene: &Scene) {
    // PID 1 may only be the parent of the server.
    let processes = docker(&["top", &container(scene, "server-0"), "-o", "pid,args"]);
    let serving = processes.lines().filter(|l| l.contains("k3s") && l.contains("server"));
    let pids: Vec<&str> = serving.filter_map(|l| l.split_whitespace().next()).collect();
    let signal =
        |signal| command("kill", &[&[signal][..], &pids].concat(), "").unwrap_or_else(|e| panic!("{e}"));
    heals(scene, &[], &[], || {
        signal("-STOP");
        // Something changes in the meantime.
        scene.run(&["annotate", "lc", "c", &format!("e2e={}", now()), "--overwrite"]);
        let reported = || scene.reason("lc/c", "Ready", "APINotAnswering");
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(reported));
        signal("-CONT");
        waited.expect("the status reports it");
    });
}
