//! A registry in an unmanaged container: used, and never owned.

use serde_json::{Value, json};

use crate::{
    live::{
        Foreign, docker, eventually, holds, inspect,
        pulls::{network, pulls},
        registries::{Setup, Upstream, push},
        scene::{LIMIT, Scene, condition},
    },
    registries::{add, cluster, with},
    trouble::{becomes_true, delete, idle_cluster},
};

/// Returns the networks of a container.
fn networks(name: &str) -> Vec<String> {
    let networks = inspect(name).expect("it exists")["NetworkSettings"]["Networks"].clone();
    networks.as_object().expect("they are a map").keys().cloned().collect()
}

/// Waits until a condition of the cluster is False and names the container.
fn misses(scene: &Scene, object: &str, name: &str) {
    eventually(LIMIT, "the status reports that it is missing", || {
        let seen = scene.try_get(object)?;
        let all = ["RegistriesReady", "ResolvedRefs"].map(|t| condition(&seen, t));
        let names_it =
            |c: &Value| c["status"] == "False" && c["message"].as_str().unwrap_or_default().contains(name);
        holds(all.iter().flatten().any(names_it), || format!("{all:?}"))
    });
}

pub fn an_unmanaged_container(scene: &Scene) {
    let (child, [server, agent]) = cluster(scene);
    let name = format!("{}-else", scene.namespace);
    let before = scene.picture();
    let start = || Some(Upstream::start(&name, &Setup::default()));
    let pushed = |other: &Option<Upstream>, image: &str| {
        let other = other.as_ref().expect("it runs");
        push(&format!("{}/{image}", other.host()), None).unwrap_or_else(|e| panic!("{e}"));
        [other.host(), other.inside(), format!("{name}:{}", other.port)].map(|r| format!("{r}/{image}"))
    };
    let state = |other: &Option<Upstream>| other.as_ref().expect("it runs").state();
    // Without consent it stays where it is.
    let closed = Foreign::container(&[], &name);
    let apart = (closed.state(), networks(&name));
    scene.apply(
        "LocalCluster",
        "idle",
        &idle_cluster(&format!("registries: {{containers: [{{name: {name}}}]}}")),
    );
    scene.reason("lc/idle", "RegistriesReady", "NotAllowed");
    assert_eq!((closed.state(), networks(&name)), apart);
    delete(scene, "lc/idle");
    drop(closed);

    let mut other = start();
    let alone = networks(&name);
    let port = other.as_ref().map_or(0, |o| o.port);
    let entry = json!({"name": name, "hostPort": port});
    with(
        scene,
        |r| add(r, "containers", entry.clone()),
        || {
            let before = state(&other);
            scene.ready("lc/c");
            pushed(&other, "e2e/else:1").iter().for_each(|image| pulls(&child, image, &server));
            assert_eq!(state(&other), before, "it was touched");

            // It is disconnected from outside.
            docker(&["network", "disconnect", &network(scene, "c"), &name]);
            eventually(LIMIT, "it is on the cluster's network again", || {
                let now = networks(&name);
                holds(now.contains(&network(scene, "c")), || format!("{now:?}"))
            });

            // It is removed, and recreated under its name.
            drop(other.take());
            misses(scene, "lc/c", &name);
            other = start();
            becomes_true(scene, "lc/c", "RegistriesReady");
            let [_, inside, _] = pushed(&other, "e2e/again:1");
            pulls(&child, &inside, &agent);
        },
    );
    let untouched = || {
        eventually(LIMIT, "it is off the cluster's network", || {
            let now = networks(&name);
            holds(now == alone, || format!("{now:?}"))
        });
    };
    untouched();
    let left = state(&other);
    assert_eq!(scene.picture(), before, "a container of the cluster was touched");

    // Deleting a cluster leaves it unchanged, and removes the network.
    let containers = format!("registries: {{containers: [{entry}]}}");
    scene.apply("LocalCluster", "idle", &idle_cluster(&containers));
    eventually(LIMIT, "it is on the other cluster's network", || {
        let now = networks(&name);
        holds(now.contains(&network(scene, "idle")), || format!("{now:?}"))
    });
    delete(scene, "lc/idle");
    untouched();
    assert_eq!(state(&other), left);
}
