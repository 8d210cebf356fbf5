//! Registries that the operator creates, alone or with a cluster, and how long their names and images last.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    live::{
        DEPLOYMENT, Kubectl, SYSTEM, command, docker, eventually, holds, http, inspect,
        pulls::pulls,
        registries::push,
        scene::{LIMIT, Scene, condition},
        try_docker, world,
    },
    registries_shared::{GUIDE, GUIDE_PORT, a, b, host, status},
    trouble::{becomes_true, delete, idle_cluster},
};

pub fn created_with_the_cluster(scene: &Scene) {
    let (child, node) = a(scene);
    let host = host(scene, "a-registry");
    push(&format!("{host}/e2e/made:1"), None).unwrap_or_else(|e| panic!("{e}"));
    let cluster = status(scene, "a-registry")["cluster"].as_str().expect("the status has it").to_owned();
    for registry in [&host, &cluster] {
        pulls(&child, &format!("{registry}/e2e/made:1"), &node);
    }
    let used = scene.get("lc/a")["status"]["registries"].clone();
    let find = |l: &serde_json::Value| l.as_array().into_iter().flatten().any(|r| r["host"] == host.as_str());
    assert!(find(&used), "{used}");
    let owner = scene.get("lreg/a-registry")["metadata"]["ownerReferences"][0]["name"].clone();
    assert_eq!(owner, "a");
}

pub fn deleted_with_the_cluster(scene: &Scene) {
    let volume = scene.registry("brief-registry");
    for retain in [true, false] {
        let create = json!({"create": {"storage": {"retain": retain}}});
        scene.apply("LocalCluster", "brief", &idle_cluster(&format!("registries: {create}")));
        eventually(LIMIT, "the registry is there", || scene.try_get("lreg/brief-registry").map(drop));
        scene.ready("lreg/brief-registry");
        let host = host(scene, "brief-registry");
        if retain {
            push(&format!("{host}/e2e/retained:1"), None).unwrap_or_else(|e| panic!("{e}"));
        } else {
            let image = format!("{host}/e2e/retained:1");
            docker(&["pull", "-q", &image]);
            docker(&["rmi", &image]);
        }
        delete(scene, "lc/brief");
        scene.run(&["wait", "--for=delete", "lreg/brief-registry", "--timeout=60s"]);
        assert!(inspect(&volume).is_none(), "its container is left");
        assert_eq!(try_docker(&["volume", "inspect", &volume]).is_ok(), retain, "its volume");
    }
}

/// A line in this machine's hosts file, which k3d's guide requires. Removed on drop.
struct Hosts(String);

impl Hosts {
    const FILE: &'static str = "/etc/hosts";

    fn add(names: &[&str]) -> Self {
        let line = format!("127.0.0.1 {} # localcluster-operator e2e\n", names.join(" "));
        let text = fs::read_to_string(Self::FILE).expect("this machine has a hosts file");
        fs::write(Self::FILE, text + &line).expect("only root can write it");
        Self(line)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if let Ok(text) = fs::read_to_string(Self::FILE) {
            let _ = fs::write(Self::FILE, text.replace(&self.0, ""));
        }
    }
}

pub fn own_name_and_port(scene: &Scene) {
    let name = format!("k3d-{GUIDE}");
    let status = status(scene, GUIDE);
    assert_eq!(status["host"], format!("localhost:{GUIDE_PORT}"));
    assert_eq!(status["cluster"], format!("{name}:5000"));
    assert!(inspect(&name).is_some(), "the container has another name");
    let _hosts = Hosts::add(&[&name, GUIDE]);
    // An image that was pushed under any of its names can be pulled under every other, in both clusters.
    for (n, pushed) in ["localhost", &name, GUIDE].iter().enumerate() {
        let image = format!("{pushed}:{GUIDE_PORT}/e2e/guide-{n}:1");
        // Docker reads the hosts file every five seconds.
        eventually(15, &format!("{image} is pushed"), || push(&image, None));
    }
    for (child, node) in [a(scene), b(scene)] {
        pulls(&child, &format!("{name}:{GUIDE_PORT}/e2e/guide-0:1"), &node);
        pulls(&child, &format!("localhost:{GUIDE_PORT}/e2e/guide-1:1"), &node);
        pulls(&child, &format!("{name}:5000/e2e/guide-2:1"), &node);
    }
}

/// The guide's two tests of a registry: a web server and a container that waits, with images that were pushed.
pub fn samples_run(scene: &Scene) {
    let (child, _) = a(scene);
    let host = host(scene, "registry");
    for (from, image) in [("LB_IMAGE", "nginx:latest"), ("BUSYBOX_IMAGE", "busybox:latest")] {
        let image = format!("{host}/{image}");
        docker(&["tag", &world(from), &image]);
        let pushed = try_docker(&["push", "-q", &image]);
        docker(&["rmi", &image]);
        pushed.unwrap_or_else(|e| panic!("{e}"));
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples/pods");
    let file = |name: &str| samples.join(name).display().to_string();
    for name in ["nginx.yaml", "tail.yaml"] {
        child.run(&["apply", "-f", &file(name)]);
    }
    child.run(&["rollout", "status", "deployment/nginx-test-registry", "--timeout=120s"]);
    child.run(&["wait", "--for=condition=Ready", "pod/tail", "--timeout=120s"]);
    let exec = ["exec", "tail", "--", "wget", "-qO-", "http://nginx-test-registry"];
    let page = eventually(60, "the web server responds to the other Pod", || child.attempt(&exec));
    println!("        nginx: {:?}", page.lines().next());
    for name in ["nginx.yaml", "tail.yaml"] {
        child.run(&["delete", "-f", &file(name), "--wait=false"]);
    }
}

pub fn consent(scene: &Scene) {
    let other = scene.guest();
    scene.apply("Registry", "ours", "{}");
    scene.ready("lreg/ours");
    let used = json!({"use": [{"name": "ours", "namespace": scene.namespace}]});
    other.apply("LocalCluster", "guest", &idle_cluster(&format!("registries: {used}")));
    let refused = || {
        eventually(LIMIT, "the status reports that it is not allowed", || {
            let refs = condition(&other.try_get("lc/guest")?, "ResolvedRefs")?;
            let names_field = refs["message"].as_str().is_some_and(|m| m.contains("allowedNamespaces"));
            holds(refs["status"] == "False" && names_field, || refs.to_string())
        });
    };
    refused();
    let allow = |who: &str| scene.patch("lreg/ours", &format!("{{\"allowedNamespaces\": [{who}]}}"));
    allow(&format!("\"{}\"", other.namespace));
    becomes_true(other, "lc/guest", "ResolvedRefs");
    becomes_true(other, "lc/guest", "RegistriesReady");
    let guest = format!("{}/guest", other.namespace);
    eventually(30, "the Registry lists its users", || {
        let users = status(scene, "ours")["usedBy"].clone();
        holds(users == json!([guest]), || users.to_string())
    });
    allow("");
    refused();
    allow("\"*\"");
    becomes_true(other, "lc/guest", "ResolvedRefs");
    delete(other, "lc/guest");
    delete(scene, "lreg/ours");
}

const ALL: [&str; 5] = [GUIDE, "registry", "cache", "closed", "a-registry"];

/// Returns the names and images of the registries.
fn known(scene: &Scene) -> Vec<serde_json::Value> {
    ALL.iter()
        .map(|name| {
            let status = status(scene, name);
            json!([status["host"], status["cluster"], status["hostPort"], status["volume"]])
        })
        .collect()
}

/// Waits until every registry responds on its previous port.
fn answer(scene: &Scene) {
    for name in ALL {
        let port = status(scene, name)["hostPort"].as_u64().expect("the status has its port");
        eventually(LIMIT, &format!("{name} responds"), || http("GET", port, "/v2/", "").map(drop));
        scene.ready(&format!("lreg/{name}"));
    }
}

pub fn ports_and_names_are_for_life(scene: &Scene) {
    let before = (known(scene), scene.picture());
    let containers: Vec<String> =
        before.0.iter().map(|k| k[3].as_str().unwrap_or_default().to_owned()).collect();
    let all: Vec<&str> = containers.iter().map(String::as_str).collect();
    docker(&[&["rm", "-f"], &all[..]].concat());
    answer(scene);
    let management = Kubectl::management();
    management.run(&["-n", SYSTEM, "rollout", "restart", DEPLOYMENT]);
    management.run(&["-n", SYSTEM, "rollout", "status", DEPLOYMENT, "--timeout=120s"]);
    answer(scene);
    scene.ready("lc/a");
    assert_eq!(known(scene), before.0);
    for (name, was) in &before.1 {
        let is = &scene.picture()[name];
        assert_eq!((&is.networks, &is.ports), (&was.networks, &was.ports), "{name} moved");
    }
}

/// Creating and deleting clusters and registries does not affect others that share them.
pub fn none_disturbs_another(scene: &Scene) {
    let other = scene.guest();
    let image = format!("localhost:{GUIDE_PORT}/e2e/kept:1");
    push(&image, None).unwrap_or_else(|e| panic!("{e}"));
    let before = (scene.picture(), other.picture());
    scene.apply("Registry", "extra", "{}");
    let used: Vec<_> = ALL.iter().chain(&["extra"]).map(|n| json!({"name": n})).collect();
    scene.apply("LocalCluster", "third", &idle_cluster(&format!("registries: {}", json!({"use": used}))));
    becomes_true(scene, "lc/third", "RegistriesReady");
    scene.run(&["delete", "lreg/extra", "--wait=false"]);
    scene.reason("lreg/extra", "InUse", "InUse");
    eventually(30, "an Event says what the deletion waits for", || {
        let told =
            scene.attempt(&["get", "events", "--field-selector=reason=DeletionWaits", "-o", "name"])?;
        holds(!told.is_empty(), String::new)
    });
    let row = scene.run(&["get", "lreg", "extra", "--no-headers"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert!(row[..3] == ["extra", "True", "Ready"] && row.contains(&"1"), "{row:?}");
    delete(scene, "lc/third");
    scene.run(&["wait", "--for=delete", "lreg/extra", "--timeout=60s"]);
    eventually(60, "everything else is as it was", || {
        let after = (scene.picture(), other.picture());
        holds(after == before, || format!("{after:#?} and not {before:#?}"))
    });
    for (child, node) in [a(scene), b(scene)] {
        pulls(&child, &image, &node);
    }
    // Others have the same content.
    let said = command("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{image}")], "");
    said.unwrap_or_else(|e| panic!("{e}"));
}
