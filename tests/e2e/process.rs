//! Tests that need an operator with other settings, or a Docker engine that becomes unreachable.

use std::time::{Duration, Instant};

use crate::{
    live::{
        Foreign, eventually,
        harness::Group,
        holds, install,
        operator::{Operator, Victim},
        pause,
        proxy::Proxy,
        scene::{Scene, condition},
    },
    trouble::{becomes_true, delete, idle_cluster},
};

pub const GROUP: Group = Group {
    name: "process",
    setup: || {
        install();
        Scene::new("proc")
    },
    tests: &[
        ("address_pool_exhausted", address_pool_exhausted),
        ("docker_goes_and_comes", docker_goes_and_comes),
        ("stuck_objects_cost_little", stuck_objects_cost_little),
    ],
};

fn address_pool_exhausted(scene: &Scene) {
    let victim = Victim::default();
    let proxy = Proxy::new(victim.clone());
    let operator = Operator::new(&proxy.docker_host(), &["--network-pool=10.249.3.0/24"], victim);
    operator.start();
    scene.apply("LocalCluster", "first", &idle_cluster(""));
    becomes_true(scene, "lc/first", "NetworkReady");
    scene.apply("LocalCluster", "second", &idle_cluster(""));
    let message = scene.reason("lc/second", "Ready", "AddressPoolExhausted");
    assert!(message.contains("10.249.3.0/24"), "{message}");
    becomes_true(scene, "lc/second", "Stalled");
    delete(scene, "lc/first");
    becomes_true(scene, "lc/second", "NetworkReady");
    delete(scene, "lc/second");
}

fn docker_goes_and_comes(scene: &Scene) {
    let victim = Victim::default();
    let mut proxy = Proxy::new(victim.clone());
    let operator = Operator::new(&proxy.docker_host(), &[], victim);
    operator.start();
    scene.apply("Registry", "stays", "{}");
    scene.apply("Registry", "goes", "{}");
    scene.ready("lreg/stays");
    scene.ready("lreg/goes");
    let before = scene.picture();

    proxy.close();
    let message = scene.reason("lreg/stays", "Ready", "DockerUnavailable");
    assert!(!message.is_empty());
    scene.run(&["delete", "lreg/goes", "--wait=false"]);
    eventually(60, "the deletion says what it waits for", || {
        let ready = condition(&scene.try_get("lreg/goes")?, "Ready")?;
        let message = ready["message"].as_str().unwrap_or_default();
        holds(message.contains("the deletion waits for Docker"), || ready.to_string())
    });
    scene.apply("Registry", "comes", "{}");
    scene.reason("lreg/comes", "Ready", "DockerUnavailable");

    proxy.open();
    scene.ready("lreg/stays");
    scene.ready("lreg/comes");
    scene.run(&["wait", "--for=delete", "lreg/goes", "--timeout=60s"]);
    let after = scene.picture();
    let stays = scene.registry("stays");
    assert_eq!(after[&stays], before[&stays]);
    scene.run(&["delete", "lreg", "--all", "--timeout=120s"]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}

/// An object that is stuck is reconciled often at first, since a user may be waiting, and then less and less,
/// regardless of other changes on the host.
fn stuck_objects_cost_little(scene: &Scene) {
    const WINDOW: Duration = Duration::from_secs(20);
    let victim = Victim::default();
    let proxy = Proxy::new(victim.clone());
    let operator = Operator::new(&proxy.docker_host(), &[], victim);
    operator.start();
    scene.apply("LocalCluster", "image", "{image: \"localhost:1/e2e/none:1\"}");
    scene.apply("LocalCluster", "secret", &idle_cluster("token: {secretName: never}"));
    // Containers that run without K3s: the operator waits for the API.
    scene.apply("LocalCluster", "silent", &idle_cluster(""));
    scene.reason("lc/image", "Ready", "ImagePullFailed");
    scene.reason("lc/secret", "Ready", "SecretNotFound");
    scene.reason("lc/silent", "Ready", "APINotAnswering");
    // This measures a rate.
    let passes = format!("{}-passes", scene.namespace);
    let calls = [false, false, true].map(|busy| {
        let (before, start) = (proxy.calls(), Instant::now());
        while start.elapsed() < WINDOW {
            if busy {
                drop(Foreign::container(&[], &passes));
            }
            pause(Duration::from_secs(1));
        }
        proxy.calls() - before
    });
    println!("three stuck objects: Docker calls in {} s each: {calls:?}", WINDOW.as_secs());
    // How long the objects were stuck before the first window depends on the load of the machine.
    assert!(calls[2] < calls[0] && calls[2] < 250, "{calls:?}");
    scene.run(&["delete", "lc", "--all", "--timeout=120s"]);
}
