//! Registries that a HostPolicy names for all clusters of a namespace.

use crate::{
    live::{
        docker, eventually, holds, inspect,
        pulls::{node, pulls},
        registries::push,
        scene::{LIMIT, Scene},
    },
    policy::Policy,
    registries_shared::{host, status},
};

/// A running cluster, the spec of which does not name the Registry, pulls from it, and goes on without it.
pub fn a_policy_names_a_registry(scene: &Scene) {
    scene.apply("Registry", "all", "{}");
    scene.ready("lreg/all");
    let server = node(scene, "c", "server-0");
    let started = || inspect(&server).map(|seen| seen["State"]["StartedAt"].clone());
    let before = started();
    let named = format!("defaults: {{registries: [{{namespace: {}, name: all}}]}}", scene.namespace);
    let policy = Policy::new(scene, &named);
    let used = |used: bool| {
        eventually(LIMIT, &format!("used by default: {used}"), || {
            let all = scene.try_get("lc/c")?["status"]["registries"].clone();
            let found =
                all.as_array().into_iter().flatten().any(|r| r["name"] == "all" && r["byDefault"] == true);
            holds(found == used, || all.to_string())
        });
    };
    used(true);
    scene.ready("lc/c");
    push(&format!("{}/e2e/default:1", host(scene, "all")), None).unwrap_or_else(|e| panic!("{e}"));
    let cluster = status(scene, "all")["cluster"].as_str().expect("the status has its name").to_owned();
    pulls(&scene.child("c"), &format!("{cluster}/e2e/default:1"), &server);
    drop(policy);
    used(false);
    let container = cluster.split(':').next().unwrap_or_default();
    eventually(LIMIT, "it is not on the network of the cluster", || {
        let networks = docker(&["inspect", "-f", "{{json .NetworkSettings.Networks}}", container]);
        holds(!networks.contains(&scene.network("c")), || networks.clone())
    });
    scene.ready("lc/c");
    assert_eq!(started(), before, "the node was started again");
    scene.run(&["delete", "lreg/all", "--timeout=60s"]);
}
