//! Planned ends: drains and evictions, and placeholders that are deleted by hand.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    live::{
        eventually, holds, inspect_at,
        scene::{LIMIT, Scene, is_ready, name},
        try_docker_at,
    },
    rack::{self, Host, IDLE, Marked, bound, host, idle, is_nowhere_else, on, picture, runs_not_on, runs_on},
    sampler::{Sampler, nothing_was_twice},
};

pub const GROUP: crate::live::harness::Group = crate::live::harness::Group {
    name: "drain",
    setup: || {
        rack::install();
        let scene = Scene::new("drain").with(Sampler::begin());
        // A real one, with data. This test reaches its API at the address of the host, as another machine does.
        let spec = format!("{{servers: {{count: 1}}, placement: {}}}", on(host(2), ""));
        scene.apply("LocalCluster", "c", &spec);
        scene.ready("lc/c");
        let endpoint = scene.get("lc/c")["status"]["endpoint"].to_string();
        assert!(endpoint.contains(&format!("https://{}:", host(2).address)), "{endpoint}");
        scene.child("c").run(&["create", "configmap", "precious", "--from-literal=key=value"]);
        scene
    },
    tests: &[
        ("a_drained_cluster_returns_with_its_data", a_drained_cluster_returns_with_its_data),
        ("a_deleted_placeholder_is_made_anew", a_deleted_placeholder_is_made_anew),
        ("block_refuses_the_eviction", block_refuses_the_eviction),
        ("an_ephemeral_cluster_is_placed_anew", an_ephemeral_cluster_is_placed_anew),
        ("nothing_was_twice", nothing_was_twice),
    ],
};

/// Evicts the placeholders of this namespace as `kubectl drain` does with all Pods of a Node, and nothing else of it.
fn drain(scene: &Scene, host: &Host, timeout: &str) -> Result<String, String> {
    let pods = scene.run(&[
        "get",
        "pods",
        "-o",
        "name",
        "--field-selector",
        &format!("spec.nodeName={}", host.node),
    ]);
    assert!(!pods.is_empty(), "no placeholder is there");
    let args = ["drain", &host.node, "--ignore-daemonsets", "--delete-emptydir-data", timeout];
    scene.k.attempt(&args)
}

fn volumes(scene: &Scene, host: &Host) -> BTreeSet<String> {
    let all = scene.in_docker_at(&host.engine);
    all.into_iter().filter(|line| line.starts_with("volume ")).collect()
}

fn precious(scene: &Scene) -> Result<(), String> {
    let value = scene.child("c").attempt(&["get", "configmap", "precious", "-o", "jsonpath={.data.key}"])?;
    holds(value == "value", || value)
}

/// What users have of a cluster: its address, and the addresses and ports of its containers.
fn reached(scene: &Scene, host: &Host) -> Vec<(String, Value)> {
    let containers = scene.containers_at(&host.engine);
    let mut all: Vec<(String, Value)> = containers
        .iter()
        .map(|c| {
            let seen = crate::live::scene::seen(c);
            (name(c).to_owned(), serde_json::json!([seen.networks, seen.ports]))
        })
        .collect();
    all.push(("endpoint".to_owned(), scene.get("lc/c")["status"]["endpoint"].clone()));
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Waits until a new placeholder has this cluster run on its host again, Ready with its data.
fn is_back(scene: &Scene, host: &Host, old: &Value) {
    eventually(LIMIT, "there is a new placeholder", || {
        let uid = scene.try_get("pod/c-host")?["metadata"]["uid"].clone();
        holds(uid != *old, || format!("it is still {uid}"))
    });
    runs_on(scene, "c", host, 2);
    eventually(LIMIT, "it is Ready with its data", || {
        is_ready(&scene.try_get("lc/c")?)?;
        precious(scene)
    });
}

fn a_drained_cluster_returns_with_its_data(scene: &Scene) {
    let place = host(2);
    let (before, kept) = (reached(scene, place), volumes(scene, place));
    let server = format!("{}-server-0", scene.network("c"));
    let old = inspect_at(&place.engine, &server).expect("it runs");
    let uid = scene.get("pod/c-host")["metadata"]["uid"].clone();

    let cordoned = Marked::cordon(place);
    drain(scene, place, "--timeout=200s").unwrap_or_else(|e| panic!("{e}"));
    runs_not_on(scene, "c", place);
    // SIGTERM was enough: a server that is killed writes nothing down, and exits with 137.
    if let Some(stopped) = inspect_at(&place.engine, &server).filter(|now| now["Id"] == old["Id"]) {
        assert_ne!(stopped["State"]["ExitCode"], 137, "{}", stopped["State"]);
    }
    let message = scene.reason("lc/c", "Scheduled", "HostCordoned");
    assert!(message.contains(&place.node), "{message}");
    is_nowhere_else(scene, "c", place);
    assert_eq!(volumes(scene, place), kept);
    assert_eq!(scene.get("lc/c")["status"]["host"], place.node.as_str());

    drop(cordoned);
    is_back(scene, place, &uid);
    assert_eq!(reached(scene, place), before);
    assert_eq!(volumes(scene, place), kept);
}

fn a_deleted_placeholder_is_made_anew(scene: &Scene) {
    let place = host(2);
    let uid = scene.get("pod/c-host")["metadata"]["uid"].clone();
    scene.run(&["delete", "pod", "c-host", "--timeout=200s"]);
    is_back(scene, place, &uid);
}

fn block_refuses_the_eviction(scene: &Scene) {
    let place = host(3);
    scene.apply("LocalCluster", "blocked", &idle(&on(place, ", drain: Block")));
    runs_on(scene, "blocked", place, IDLE);
    let before = picture(scene, "blocked", place);
    {
        let _cordoned = Marked::cordon(place);
        let refused = drain(scene, place, "--timeout=10s").expect_err("the eviction is refused");
        assert!(refused.contains("disruption budget"), "{refused}");
        assert_eq!(picture(scene, "blocked", place), before);
        // The user may change their mind.
        scene.patch("lc/blocked", r#"{"placement": {"drain": "Stop"}}"#);
        eventually(LIMIT, "the PodDisruptionBudget is gone", || {
            let left = scene.attempt(&["get", "pdb", "-o", "name"])?;
            holds(left.is_empty(), || left)
        });
    }
    scene.run(&["delete", "lc", "blocked", "--timeout=240s"]);
}

fn an_ephemeral_cluster_is_placed_anew(scene: &Scene) {
    scene.apply("LocalCluster", "e", &idle("{data: Ephemeral}"));
    let old = bound(scene, "lc/e", &[]);
    runs_on(scene, "e", old, IDLE);
    let _cordoned = Marked::cordon(old);
    // Only this one: the other Pods of the Node are not part of this test.
    evict(scene, "e-host");
    let new = bound(scene, "lc/e", &[old]);
    runs_on(scene, "e", new, IDLE);
    let prefix = scene.network("e");
    eventually(LIMIT, "nothing is left on the old host", || {
        let kinds = [vec!["ps", "-a", "--format", "{{.Names}}"], vec!["volume", "ls", "-q"]];
        for list in kinds {
            let left = try_docker_at(&old.engine, &list)?;
            holds(!left.contains(&format!("{prefix}-")), || left)?;
        }
        Ok(())
    });
    scene.run(&["delete", "lc", "e", "--timeout=240s"]);
}

fn evict(scene: &Scene, pod: &str) {
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", scene.namespace);
    let metadata = serde_json::json!({"name": pod, "namespace": scene.namespace});
    let eviction = serde_json::json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
    scene
        .k
        .input(&["create", "--raw", &path, "-f", "-"], &eviction.to_string())
        .unwrap_or_else(|e| panic!("{e}"));
}
