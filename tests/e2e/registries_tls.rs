//! Registries with certificates of private authorities, which require client certificates.

use std::time::Instant;

use serde_json::json;

use crate::{
    live::{
        eventually, holds, inspect,
        pulls::{fails, node_pulls, pulls, registries_file, soon},
        registries::{Authority, FIRST, push},
        scene::{LIMIT, Scene},
    },
    registries::{Stage, add, certificate, cluster, own_tls, push_plain, trust, with},
};

pub fn private_authority(scene: &Scene) {
    let safe = &scene.stage::<Stage>().safe;
    push(&format!("{}/e2e/tls:1", safe.host()), Some(&FIRST)).unwrap_or_else(|e| panic!("{e}"));
    let (child, [server, agent]) = cluster(scene);
    // Its own name has no entry, so no client trusts it.
    let why = fails(&child, &format!("{}/e2e/tls:1", safe.inside()), &server);
    assert!(why.contains("x509") || why.contains("certificate"), "{why}");
    let file = registries_file(&agent);
    for (name, node) in [("user", &server), ("basic", &agent)] {
        assert!(file["configs"][format!("{name}.test:5000")]["tls"]["ca_file"].is_string(), "{name}");
        pulls(&child, &format!("{name}.test:5000/e2e/tls:1"), node);
    }
}

pub fn authority_changes_without_a_restart(scene: &Scene) {
    let stage = scene.stage::<Stage>();
    let (child, nodes) = cluster(scene);
    let path = push_plain(scene, "authority");
    // With a certificate alone, since containerd's files contain no password.
    let entry =
        json!({"host": "strict.test:5000", "tls": {"caSecretName": "ca", "clientSecretName": "client"}});
    let client = stage.authority.issue(&["client"]);
    scene.secret("client", "kubernetes.io/tls", &[("tls.crt", &client.crt), ("tls.key", &client.key)]);
    let image = format!("strict.test:5000/{path}");
    let before = scene.picture();
    with(
        scene,
        |r| add(r, "configs", entry),
        || {
            scene.ready("lc/c");
            pulls(&child, &image, &nodes[0]);
            let other = Authority::new("other");
            let serve = |authority: &Authority| {
                stage.strict.serve(&certificate(scene, authority));
                stage.strict.control("restart");
            };
            serve(&other);
            eventually(30, "the new certificate is not trusted", || {
                let why = node_pulls(&nodes[0], &image).err().unwrap_or_default();
                holds(why.contains("x509") || why.contains("certificate"), || why)
            });
            for authority in [&other, &stage.authority] {
                serve(authority);
                trust(scene, authority);
                let since = Instant::now();
                soon(since, &nodes, &image, true);
            }
            pulls(&child, &image, &nodes[1]);
        },
    );
    assert_eq!(scene.picture(), before, "a container was touched");
}

pub fn client_certificate(scene: &Scene) {
    let stage = scene.stage::<Stage>();
    let (child, [server, agent]) = cluster(scene);
    let path = push_plain(scene, "strict");
    let image = format!("strict.test:5000/{path}");
    let before = scene.picture();
    let entry = json!({"host": "strict.test:5000", "tls": {"caConfigMapName": "ca"}});
    with(
        scene,
        |r| add(r, "configs", entry),
        || {
            scene.ready("lc/c");
            let why = fails(&child, &image, &server);
            assert!(why.contains("certificate"), "{why}");
        },
    );
    let client = stage.authority.issue(&["client"]);
    scene.secret("client", "kubernetes.io/tls", &[("tls.crt", &client.crt), ("tls.key", &client.key)]);
    let tls = json!({"caConfigMapName": "ca", "clientSecretName": "client"});
    with(
        scene,
        |r| add(r, "configs", json!({"host": "strict.test:5000", "tls": tls})),
        || {
            scene.ready("lc/c");
            pulls(&child, &image, &server);
            pulls(&child, &image, &agent);
        },
    );
    assert_eq!(scene.picture(), before, "a container was touched");
}

/// Pushes to the operator's own registry that requires a password, and returns its status and the image's path.
fn push_own(scene: &Scene, name: &str) -> (serde_json::Value, String) {
    let status = scene.get("lreg/own")["status"].clone();
    let path = format!("e2e/{name}:1");
    let image = format!("{}/{path}", status["host"].as_str().expect("the status has its host"));
    push(&image, None).expect_err("a push needs a login");
    push(&image, Some(&FIRST)).unwrap_or_else(|e| panic!("{e}"));
    (status, path)
}

/// The cluster only refers to it in `use`.
pub fn own_registry_with_all_of_it(scene: &Scene) {
    let (child, [server, agent]) = cluster(scene);
    let (status, path) = push_own(scene, "own");
    let cluster = status["cluster"].as_str().expect("the status has its name in clusters");
    let hostname = cluster.split(':').next().expect("it has a port");
    for (registry, node) in [
        (status["host"].as_str().expect("host"), &server),
        (cluster, &agent),
        (&format!("{hostname}:{}", status["hostPort"]), &agent),
    ] {
        pulls(&child, &format!("{registry}/{path}"), node);
    }
}

pub fn own_certificate_changes_without_a_restart(scene: &Scene) {
    let (child, nodes) = cluster(scene);
    let (status, path) = push_own(scene, "renewed");
    let image = format!("{}/{path}", status["host"].as_str().expect("host"));
    let container = status["cluster"].as_str().and_then(|c| c.split(':').next()).expect("it has a name");
    let served = || inspect(container).map(|c| (c["Id"].clone(), c["State"]["StartedAt"].clone()));
    let (before, was) = (scene.picture(), served());
    own_tls(scene);
    eventually(LIMIT, "the registry serves the new certificate", || {
        holds(served().is_some() && served() != was, || "it was not restarted".to_owned())
    });
    scene.ready("lreg/own");
    scene.ready("lc/c");
    nodes.iter().for_each(|node| pulls(&child, &image, node));
    let after = scene.picture();
    for name in after.keys().filter(|n| *n != container) {
        assert_eq!(after[name], before[name], "{name} was touched");
    }
}
