//! Edits of a running cluster change what they have to, and nothing else.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    cluster::{container, nodes_are_ready, witnesses},
    live::{
        Kubectl, docker, eventually, holds, http_get, pause,
        scene::{LIMIT, Scene, is_ready},
        try_docker, world,
    },
};

fn patch(scene: &Scene, spec: &str) {
    scene.run(&["patch", "lc", "c", "--type=merge", "-p", &format!(r#"{{"spec": {spec}}}"#)]);
}

/// Returns the containers that an edit restarted or recreated.
fn restarted(scene: &Scene, edit: impl FnOnce()) -> BTreeSet<String> {
    let before = scene.picture();
    edit();
    scene.ready("lc/c");
    let after = scene.picture();
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (name, is) in &after {
        assert_eq!(is.networks, before[name].networks, "{name} has other addresses");
    }
    after.into_iter().filter(|(name, is)| is.started != before[name].started).map(|(name, _)| name).collect()
}

/// Returns everything of a node in Docker and in the cluster.
pub fn traces(scene: &Scene, child: &Kubectl, agent: &str) -> Vec<String> {
    let volumes = docker(&["volume", "ls", "-q", "--filter", &format!("name={agent}-")]);
    let containers = docker(&["ps", "-aq", "--filter", &format!("name=^{agent}$")]);
    let password = format!("secret/{agent}.node-password.k3s");
    let nodes =
        [&["get", "node", agent, "-o", "name"][..], &["-n", "kube-system", "get", &password, "-o", "name"]];
    let known = nodes.iter().filter_map(|args| child.attempt(args).ok());
    let status = scene.get("lc/c")["status"]["nodes"].as_array().cloned().unwrap_or_default();
    let listed = status.iter().filter(|n| n["name"] == agent).map(|_| "the status lists it".to_owned());
    volumes.lines().chain(containers.lines()).map(str::to_owned).chain(known).chain(listed).collect()
}

pub fn agents_up_and_down(scene: &Scene) {
    let child = scene.child("c");
    let version = scene.get("lc/c")["status"]["version"].as_str().expect("it is in the status").to_owned();
    let scale = |count: usize| {
        scene.run(&["scale", "lc", "c", &format!("--replicas={count}")]);
        scene.ready("lc/c");
        nodes_are_ready(&child, count + 1, &version).unwrap_or_else(|e| panic!("{e}"));
        let status = &scene.get("lc/c")["status"]["agents"];
        assert_eq!((&status["replicas"], &status["ready"]), (&Value::from(count), &Value::from(count)));
    };
    scale(3);
    scale(1);
    for agent in ["agent-1", "agent-2"].map(|a| container(scene, a)) {
        let left = traces(scene, &child, &agent);
        assert!(left.is_empty(), "of {agent} there is still {left:?}");
    }
    child.run(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    witnesses(scene);
    scale(3);
    scale(2);
}

pub fn labels_need_no_restart(scene: &Scene) {
    let child = scene.child("c");
    let seen = || {
        let node = child.json(&["node", &container(scene, "agent-0")]).unwrap_or_else(|e| panic!("{e}"));
        node["metadata"]["labels"]["e2e/tier"].clone()
    };
    let changed = restarted(scene, || patch(scene, r#"{"agents": {"labels": {"e2e/tier": "work"}}}"#));
    assert_eq!((changed, seen()), (BTreeSet::new(), "work".into()));
    let changed = restarted(scene, || patch(scene, r#"{"agents": {"labels": null}}"#));
    assert_eq!((changed, seen()), (BTreeSet::new(), Value::Null));
}

pub fn agents_are_replaced_one_at_a_time(scene: &Scene) {
    let agents = BTreeSet::from(["agent-0", "agent-1"].map(|a| container(scene, a)));
    let ended = AtomicBool::new(false);
    let changed = thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut fewest = usize::MAX;
            let mut available = u64::MAX;
            while !ended.load(Ordering::Relaxed) {
                let picture = scene.picture();
                fewest =
                    fewest.min(agents.iter().filter(|a| picture.get(*a).is_some_and(|s| s.running)).count());
                if let Ok(hello) = scene.child("c").json(&["deployment", "hello"]) {
                    available = available.min(hello["status"]["availableReplicas"].as_u64().unwrap_or(0));
                }
                pause(Duration::from_millis(100));
            }
            (fewest, available)
        });
        let edit = || {
            let env = r#"[{"name": "E2E", "value": "1"}]"#;
            let more = r#""memory": "1Gi", "cpus": "1.5", "taints": ["e2e=yes:PreferNoSchedule"]"#;
            patch(scene, &format!(r#"{{"agents": {{"env": {env}, {more}}}}}"#));
        };
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| restarted(scene, edit)));
        ended.store(true, Ordering::Relaxed);
        let (fewest, available) = running.join().expect("the thread does not panic");
        // Polling may miss the moment, but never sees two of them down.
        assert!(fewest >= 1, "no agent ran at the worst moment");
        assert!(available >= 1, "the PodDisruptionBudget was not kept");
        changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert_eq!(changed, agents);
    for agent in &agents {
        let config = docker(&[
            "inspect",
            "-f",
            "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.Config.Env}}",
            agent,
        ]);
        assert!(config.starts_with("1073741824 1500000000 ") && config.contains("E2E=1"), "{config}");
        let node = scene.child("c").json(&["node", agent]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(node["spec"]["unschedulable"], Value::Null, "{agent} is still closed");
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        assert!(taints.iter().any(|t| t["key"] == "e2e"), "{taints:?}");
    }
    witnesses(scene);
}

pub fn max_unavailable_agents_are_replaced_at_once(scene: &Scene) {
    let agents = ["agent-0", "agent-1"].map(|a| container(scene, a));
    let edit = || {
        patch(scene, r#"{"agents": {"maxUnavailable": 2, "env": [{"name": "E2E", "value": "2"}]}}"#);
        eventually(60, "both are closed for Pods at the same time", || {
            let nodes = scene.child("c").json(&["nodes"])?["items"].as_array().cloned().unwrap_or_default();
            let closed: BTreeSet<&str> = nodes
                .iter()
                .filter(|n| n["spec"]["unschedulable"] == true)
                .filter_map(|n| n["metadata"]["name"].as_str())
                .collect();
            holds(closed == agents.iter().map(String::as_str).collect(), || format!("{closed:?}"))
        });
    };
    assert_eq!(restarted(scene, edit), BTreeSet::from(agents.clone()));
    nodes_are_ready(&scene.child("c"), 3, &world("NODE_VERSION")).unwrap_or_else(|e| panic!("{e}"));
    let changed = restarted(scene, || patch(scene, r#"{"agents": {"maxUnavailable": null}}"#));
    assert_eq!(changed, BTreeSet::new(), "it is no part of a container");
    witnesses(scene);
}

pub fn ports_replace_the_load_balancer_only(scene: &Scene) {
    let kept = scene.get("lc/c")["status"]["ports"][0].clone();
    let balancer = BTreeSet::from([container(scene, "serverlb")]);
    let ports = |list: &str| format!(r#"{{"ports": [{{"name": "web", "port": 30080}}{list}]}}"#);
    let changed = restarted(scene, || {
        patch(scene, &ports(r#", {"name": "more", "port": 30080, "nodes": "Agents"}"#));
    });
    assert_eq!(changed, balancer);
    let published = scene.get("lc/c")["status"]["ports"].clone();
    let find = |name: &str| published.as_array().and_then(|l| l.iter().find(|p| p["name"] == name)).cloned();
    assert_eq!(find("web"), Some(kept), "a port that was not edited changed");
    let port =
        find("more").expect("the new port is in the status")["hostPort"].as_u64().expect("it has a number");
    eventually(60, "the new port leads to the application", || http_get(port, "/"));
    let changed = restarted(scene, || patch(scene, &ports("")));
    assert_eq!(changed, balancer);
    assert!(http_get(port, "/").is_err(), "the removed port still responds");
    witnesses(scene);
}

pub fn server_args_keep_the_data(scene: &Scene) {
    let server = BTreeSet::from([container(scene, "server-0")]);
    let args = r#""--disable=traefik,metrics-server,servicelb""#;
    let edit = |more: &str| patch(scene, &format!(r#"{{"servers": {{"args": [{args}{more}]}}}}"#));
    let changed = restarted(scene, || edit(r#", "--kube-apiserver-arg=event-ttl=2h""#));
    assert_eq!(changed, server);
    let args = docker(&["inspect", "-f", "{{.Args}}", &container(scene, "server-0")]);
    assert!(args.contains("event-ttl=2h"), "{args}");
    witnesses(scene);
    // Restores the spec without waiting for another start: the next test waits for what it needs.
    edit("");
    scene.ready("lc/c");
}

pub fn version_goes_up(scene: &Scene) {
    let (image, version) = (world("NODE_IMAGE_2"), world("NODE_VERSION_2"));
    let there = try_docker(&["image", "inspect", &image]);
    assert!(there.is_ok(), "Docker has no {image}: run tests/world/world images --second");
    let nodes = BTreeSet::from(["agent-0", "agent-1", "server-0"].map(|n| container(scene, n)));
    let changed = restarted(scene, || patch(scene, &format!(r#"{{"version": "{version}"}}"#)));
    assert_eq!(changed, nodes);
    nodes_are_ready(&scene.child("c"), 3, &version).unwrap_or_else(|e| panic!("{e}"));
    eventually(LIMIT, "the status has the version", || {
        let lc = scene.try_get("lc/c")?;
        is_ready(&lc)?;
        holds(lc["status"]["version"] == version.as_str(), || lc["status"]["version"].to_string())
    });
    witnesses(scene);
}
