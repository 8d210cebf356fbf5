//! Nodes and Pods resolve the host aliases of the spec, as long as they are in the spec.

use crate::{
    cluster::{container, nodes_are_ready},
    dns::{ASKER, RELOAD, resolves},
    live::{
        docker, eventually, holds,
        scene::{LIMIT, Scene, is_ready},
        try_docker, world,
    },
};

const NAME: &str = "db.e2e.test";
const ADDRESS: &str = "192.0.2.77";
/// The Docker host.
const HOST: &str = "host.e2e.test";
const SIX: (&str, &str) = ("six.e2e.test", "2001:db8::77");

fn aliases(address: &str) -> String {
    format!(
        r#"{{"hostAliases": [{{"ip": "{address}", "hostnames": ["{NAME}", "short"]}},
            {{"ip": "{}", "hostnames": ["{}"]}}, {{"ip": "host-gateway", "hostnames": ["{HOST}"]}}]}}"#,
        SIX.1, SIX.0
    )
}

/// Returns the address that programs in the node resolve a name to. The address itself is unused and does not
/// respond.
fn node_takes(scene: &Scene, name: &str) -> String {
    let ping = ["exec", &container(scene, "server-0"), "ping", "-c", "1", "-W", "1", name];
    try_docker(&ping).unwrap_or_else(|said| said)
}

fn node_finds(scene: &Scene, name: &str, address: &str) {
    let said = node_takes(scene, name);
    assert!(said.contains(&format!("({address})")), "{said}");
}

/// All of it, at once in the node and soon in Pods.
fn found(scene: &Scene, address: &str) {
    let child = scene.child("c");
    for name in [NAME, "short"] {
        node_finds(scene, name, address);
        resolves(&child, ASKER, &format!("{name}."), address);
    }
    let hosts = docker(&["exec", &container(scene, "server-0"), "cat", "/etc/hosts"]);
    assert!(hosts.lines().any(|l| l.split_whitespace().eq([SIX.1, SIX.0])), "{hosts}");
    resolves(&child, ASKER, &format!("{}.", SIX.0), SIX.1);
    // The Docker host, which has the gateway of the cluster's network.
    let network = scene.get("lc/c")["status"]["network"]["name"].as_str().unwrap_or_default().to_owned();
    let gateway = docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", &network]);
    node_finds(scene, HOST, &gateway);
    resolves(&child, ASKER, &format!("{HOST}."), &gateway);
    // Through the search path, as programs do it.
    resolves(&child, ASKER, NAME, address);
}

/// Sets them, and waits until Pods know them.
pub fn set(scene: &Scene) {
    scene.patch("lc/c", &aliases(ADDRESS));
    scene.ready("lc/c");
    resolves(&scene.child("c"), ASKER, &format!("{NAME}."), ADDRESS);
}

/// Removes them.
pub fn remove(scene: &Scene) {
    scene.patch("lc/c", r#"{"hostAliases": null}"#);
    scene.ready("lc/c");
}

pub fn host_aliases_reach_nodes_and_pods(scene: &Scene) {
    scene.patch("lc/c", &aliases("192.0.2.76"));
    scene.ready("lc/c");
    found(scene, "192.0.2.76");
    set(scene);
    found(scene, ADDRESS);

    docker(&["restart", &container(scene, "server-0")]);
    eventually(LIMIT, "the server works again", || {
        nodes_are_ready(&scene.child("c"), 1, &world("NODE_VERSION"))?;
        is_ready(&scene.try_get("lc/c")?)
    });
    found(scene, ADDRESS);

    remove(scene);
    let said = node_takes(scene, NAME);
    assert!(!said.contains(ADDRESS), "{said}");
    let child = scene.child("c");
    for name in [NAME, "short", SIX.0] {
        eventually(RELOAD, &format!("{name} is gone"), || {
            let said = child.attempt(&["exec", ASKER, "--", "nslookup", &format!("{name}.")]);
            holds(said.is_err(), || format!("{said:?}"))
        });
    }
}

/// The name of a registry in use resolves to the registry.
pub fn a_registrys_name_is_refused(scene: &Scene) {
    let name = scene.registry("r");
    let alias = format!(r#"{{"hostAliases": [{{"ip": "{ADDRESS}", "hostnames": ["{name}"]}}]}}"#);
    let before = scene.picture();
    scene.patch("lc/c", &alias);
    let message = scene.reason("lc/c", "Accepted", "InvalidSpec");
    assert!(message.contains(&name) && message.contains("remove it"), "{message}");
    assert_eq!(scene.picture(), before, "nothing was changed for it");
    scene.patch("lc/c", r#"{"hostAliases": null}"#);
    scene.ready("lc/c");
}
