//! What is secret is in Secrets and in files of nodes, and nowhere that people look.

use crate::{
    live::{DEPLOYMENT, Kubectl, SYSTEM, docker},
    live_scene::Scene,
};

pub fn nowhere_else(scene: &Scene) {
    let token = scene.run(&["get", "secret", "c-token", "-o", "go-template={{.data.token | base64decode}}"]);
    let kubeconfig = scene.kubeconfig("c", "kubeconfig");
    let key = kubeconfig.lines().find_map(|l| l.trim().strip_prefix("client-key-data: "));
    let secrets = [("the join token", token.as_str()), ("the admin's key", key.expect("it has a key"))];
    for (what, secret) in secrets {
        assert!(secret.len() > 20, "{what} is too short to be looked for");
    }

    for (place, text) in places(scene) {
        for (what, secret) in secrets {
            assert!(!text.contains(secret), "{what} is in {place}");
        }
    }
}

/// Everything that can be read without the right to read Secrets.
pub fn places(scene: &Scene) -> Vec<(&'static str, String)> {
    let management = Kubectl::management();
    let containers: Vec<String> = scene.containers().iter().map(ToString::to_string).collect();
    let inside = scene.containers().into_iter().map(|c| {
        let name = c["Name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
        docker(&["top", &name])
    });
    vec![
        ("docker inspect", containers.join("\n")),
        ("docker top", inside.collect::<Vec<_>>().join("\n")),
        ("the objects", scene.run(&["get", "lc,lreg", "-o", "yaml"])),
        ("Events", scene.run(&["get", "events", "-o", "yaml"])),
        ("the operator's log", management.run(&["-n", SYSTEM, "logs", DEPLOYMENT])),
    ]
}
