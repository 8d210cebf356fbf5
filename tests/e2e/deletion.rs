//! Deletion from any state, and names that are easily confused.

use crate::{
    cluster::nodes_are_ready,
    live::{
        docker, eventually,
        harness::Group,
        holds, install,
        scene::{Scene, name},
        try_docker, world,
    },
    trouble::{becomes_true, idle_cluster},
};

pub const GROUP: Group = Group {
    name: "deletion",
    setup: || {
        install();
        Scene::new("del")
    },
    tests: &[
        ("partly_created", partly_created),
        ("with_docker_objects_gone", with_docker_objects_gone),
        ("with_the_namespace", with_the_namespace),
        ("names_do_not_collide", names_do_not_collide),
    ],
};

const SERVER: &str = "servers: {count: 1, args: [\"--disable=traefik,metrics-server,servicelb\"]}";

fn apply_both(scene: &Scene, name: &str, spec: &str) {
    scene.apply("Registry", name, "{}");
    scene.apply("LocalCluster", name, spec);
}

fn using(name: &str) -> String {
    format!("registries: {{use: [{{name: {name}}}]}}")
}

fn delete_all(scene: &Scene) {
    scene.run(&["delete", "lc,lreg", "--all", "--timeout=120s"]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}

fn partly_created(scene: &Scene) {
    // At once, after the first containers, and later.
    for many in [0, 1, 3] {
        apply_both(scene, "half", &format!("{{{SERVER}, agents: {{count: 1}}, {}}}", using("half")));
        eventually(60, &format!("there are {many} containers"), || {
            holds(scene.containers().len() >= many, || "not yet".to_owned())
        });
        delete_all(scene);
    }
}

fn with_docker_objects_gone(scene: &Scene) {
    apply_both(scene, "gone", &idle_cluster(&using("gone")));
    scene.ready("lreg/gone");
    becomes_true(scene, "lc/gone", "LoadBalancerReady");
    for object in ["lc/gone", "lreg/gone"] {
        scene.run(&["annotate", object, "localcluster.dev/paused=true"]);
        scene.reason(object, "Paused", "Paused");
    }
    for container in scene.containers() {
        docker(&["rm", "-fv", name(&container)]);
    }
    for left in scene.in_docker() {
        let (kind, name) = left.split_once(' ').expect("a kind and a name");
        docker(&[kind, "rm", name]);
    }
    scene.run(&["delete", "lc/gone", "lreg/gone", "--wait=false"]);
    scene.run(&["annotate", "lc/gone", "lreg/gone", "localcluster.dev/paused-"]);
    delete_all(scene);
}

fn with_the_namespace(_: &Scene) {
    let scene = Scene::new("ns");
    apply_both(&scene, "whole", &idle_cluster(&using("whole")));
    scene.ready("lreg/whole");
    becomes_true(&scene, "lc/whole", "LoadBalancerReady");
    scene.containers();
    scene.k.run(&["delete", "namespace", &scene.namespace, "--timeout=120s"]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}

fn names_do_not_collide(_: &Scene) {
    let (one, two) = (Scene::new("one"), Scene::new("two"));
    let long = "n".repeat(63);
    for (scene, name) in [(&one, "same"), (&two, "same"), (&two, long.as_str())] {
        apply_both(scene, name, &format!("{{{SERVER}, {}}}", using(name)));
    }
    let mut endpoints = Vec::new();
    for (scene, name) in [(&one, "same"), (&two, "same"), (&two, long.as_str())] {
        scene.ready(&format!("lc/{name}"));
        nodes_are_ready(&scene.child(name), 1, &world("NODE_VERSION")).unwrap_or_else(|e| panic!("{e}"));
        let status = scene.get(&format!("lc/{name}"))["status"].clone();
        endpoints.extend([status["endpoint"].to_string(), status["endpoints"]["network"].to_string()]);
    }
    let count = endpoints.len();
    endpoints.sort();
    endpoints.dedup();
    assert_eq!(endpoints.len(), count, "{endpoints:?}");
    // Deleting one does not affect the other of the same name.
    let before = two.picture();
    delete_all(&one);
    assert_eq!(two.picture(), before);
    for container in two.picture().keys() {
        assert!(container.len() <= 63 && try_docker(&["inspect", container]).is_ok(), "{container}");
    }
    delete_all(&two);
}
