//! A registry on an address of the host other than 127.0.0.1, and one that moves: the names in the status, for tools
//! and in nodes.

use serde_json::{Value, json};

use crate::{
    live::{
        command, eventually, free_port, gateway, holds, http,
        pulls::{fails, pulls},
        registries::push,
        scene::{LIMIT, Scene},
    },
    registries_shared::{GUIDE, a, status},
    trouble::delete,
};

const NAME: &str = "moves";

/// Makes cluster `a` use these registries.
fn using(scene: &Scene, names: &[&str]) {
    let names: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
    let patch = json!([{"op": "replace", "path": "/spec/registries/use", "value": names}]);
    scene.run(&["patch", "lc/a", "--type=json", "-p", &patch.to_string()]);
}

/// Waits until the status, tools and nodes have the name of the registry.
fn is_published(scene: &Scene, host: &str) {
    let (child, _) = a(scene);
    scene.ready(&format!("lreg/{NAME}"));
    eventually(LIMIT, &format!("the status shows {host}"), || {
        let own = status(scene, NAME)["host"].clone();
        let used = scene.try_get("lc/a")?["status"]["registries"].clone();
        let used = used.as_array().into_iter().flatten().find(|r| r["name"] == NAME).cloned();
        let names = used.as_ref().is_some_and(|u| {
            let mirrors = u["mirrors"].as_array().cloned().unwrap_or_default();
            u["host"] == host && mirrors.contains(&json!(host))
        });
        holds(own == host && names, || format!("{own} {used:?}"))
    });
    eventually(60, &format!("tools find {host}"), || {
        let path = r"jsonpath={.data.localRegistryHosting\.v1}";
        let get = ["-n", "kube-public", "get", "configmap", "local-registry-hosting", "-o", path];
        let said = child.attempt(&get)?;
        holds(said.lines().any(|l| l == format!("host: \"{host}\"")), || said.clone())
    });
    scene.ready("lc/a");
}

/// An image that is pushed under the name in the status can be pulled under it. The names of a registry that moves
/// change with it, and the images stay. Nodes are not restarted.
pub fn the_status_shows_the_published_address(scene: &Scene) {
    let (child, node) = a(scene);
    let inside = format!("{}:5000", scene.registry(NAME));
    let before = scene.picture()[&node].clone();
    let port = free_port();
    scene.apply("Registry", NAME, &json!({"hostIP": "127.0.0.3", "hostPort": port}).to_string());
    using(scene, &[NAME, GUIDE, "registry", "cache", "closed"]);
    let at = format!("127.0.0.3:{port}");
    is_published(scene, &at);
    let answer = http("GET", port.into(), "/v2/", "").map(|a| a.status);
    assert!(answer.is_err(), "localhost is another registry's: {answer:?}");
    push(&format!("{at}/e2e/first:1"), None).unwrap_or_else(|e| panic!("{e}"));
    pulls(&child, &format!("{at}/e2e/first:1"), &node);
    pulls(&child, &format!("{inside}/e2e/first:1"), &node);

    // To another port.
    let next = free_port();
    scene.patch(&format!("lreg/{NAME}"), &json!({"hostPort": next}).to_string());
    let moved = format!("127.0.0.3:{next}");
    is_published(scene, &moved);
    pulls(&child, &format!("{moved}/e2e/first:1"), &node);
    pulls(&child, &format!("{inside}/e2e/first:1"), &node);
    fails(&child, &format!("{at}/e2e/first:1"), &node);
    push(&format!("{moved}/e2e/second:1"), None).unwrap_or_else(|e| panic!("{e}"));
    pulls(&child, &format!("{moved}/e2e/second:1"), &node);

    // To an address that other machines reach. Docker would require HTTPS there.
    let gateway = gateway().to_string();
    scene.patch(&format!("lreg/{NAME}"), &json!({"hostIP": gateway}).to_string());
    let outside = format!("{gateway}:{next}");
    is_published(scene, &outside);
    let (from, to) = (format!("docker://{outside}/e2e/second:1"), format!("docker://{outside}/e2e/third:1"));
    let copy = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to];
    command("skopeo", &copy, "").unwrap_or_else(|e| panic!("{e}"));
    pulls(&child, &format!("{outside}/e2e/third:1"), &node);

    // To all addresses.
    scene.patch(&format!("lreg/{NAME}"), r#"{"hostIP": "0.0.0.0"}"#);
    let local = format!("localhost:{next}");
    is_published(scene, &local);
    push(&format!("{local}/e2e/fourth:1"), None).unwrap_or_else(|e| panic!("{e}"));
    for name in ["first", "third", "fourth"] {
        pulls(&child, &format!("{local}/e2e/{name}:1"), &node);
    }

    let after = scene.picture()[&node].clone();
    assert_eq!(after.started, before.started, "a node was restarted");
    assert_eq!(after.id, before.id, "a node was replaced");
    using(scene, &[GUIDE, "registry", "cache", "closed"]);
    scene.ready("lc/a");
    delete(scene, &format!("lreg/{NAME}"));
}
