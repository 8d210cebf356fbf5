//! Changes of registries take effect in a running cluster at once, without a restart.

use std::{collections::BTreeMap, time::Instant};

use serde_json::{Value, json};

use crate::{
    live::{
        Kubectl, docker, eventually, holds,
        pulls::{hosts_files, pulls, soon},
        registries::push,
        scene::{LIMIT, Scene},
    },
    registries::{Stage, add, cluster, push_plain, registries, set_registries},
    trouble::delete,
};

/// Returns values that change when a Pod or one of its containers is restarted.
fn life(child: &Kubectl, pod: &str) -> String {
    let path = "jsonpath={.metadata.uid} {.status.containerStatuses[0].containerID} \
                {.status.containerStatuses[0].restartCount}";
    child.run(&["get", "pod", pod, "-o", path])
}

pub fn changes_take_two_seconds(scene: &Scene) {
    let stage = scene.stage::<Stage>();
    let (child, nodes) = cluster(scene);
    scene.apply("Registry", "late", "{}");
    scene.ready("lreg/late");
    let status = scene.get("lreg/late")["status"].clone();
    let late = format!("{}/e2e/late:1", status["host"].as_str().expect("the status has its host"));
    push(&late, None).unwrap_or_else(|e| panic!("{e}"));
    let path = push_plain(scene, "live");
    // An address that does not respond, unless a mirror does.
    let registry = "127.0.0.1:9";
    let image = format!("{registry}/{path}");
    child.run(&["run", "lasting", &format!("--image={late}"), "--image-pull-policy=IfNotPresent"]);

    // A registry that the nodes do not know yet: the Pod waits for it, and then starts.
    let before = scene.picture();
    let changed = |what: &str, edit: &dyn Fn(&mut Value), image: &str, can: bool| {
        let mut edited = registries(scene);
        edit(&mut edited);
        set_registries(scene, &edited);
        let since = Instant::now();
        println!("        {what}");
        soon(since, &nodes, image, can);
    };
    let using = |r: &mut Value| add(r, "use", json!({"name": "late"}));
    changed("a registry is added", &using, &late, true);
    child.run(&["wait", "--for=condition=Ready", "pod/lasting", "--timeout=120s"]);
    let alive = life(&child, "lasting");

    let mirror = |endpoint: &str| json!({"registry": registry, "endpoints": [endpoint]});
    let good = format!("http://{}", stage.plain.inside());
    let with = |endpoint: &str, r: &mut Value| {
        using(r);
        add(r, "mirrors", mirror(endpoint));
    };
    changed("a mirror is added", &|r| with(&good, r), &image, true);
    pulls(&child, &image, &nodes[0]);
    changed("a mirror is changed for the worse", &|r| with("http://127.0.0.1:1", r), &image, false);
    changed("and for the better", &|r| with(&good, r), &image, true);
    changed("a mirror is removed", &using, &image, false);
    changed("a registry is removed", &|_| {}, &late, false);
    scene.ready("lc/c");

    let after = scene.picture();
    for (name, was) in &before {
        // The registry itself was only temporarily on the cluster's network.
        assert_eq!(after[name], *was, "{name} was touched");
    }
    assert_eq!(life(&child, "lasting"), alive, "the Pod was restarted");
    child.run(&["delete", "pod", "lasting", "--now"]);
    delete(scene, "lreg/late");
}

/// Returns the configuration of containerd by registry.
fn hosts_by_directory(node: &str) -> BTreeMap<String, String> {
    // Prefixed with mode and name. K3s writes them with another mode than the operator.
    let directory = |line: &str| {
        let (mode, path) = line.split_once(" ./")?;
        let directory = path.strip_suffix("/hosts.toml")?;
        mode.chars().all(|c| c.is_ascii_digit()).then(|| directory.to_owned())
    };
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut current = String::new();
    for line in hosts_files(node).lines() {
        match directory(line) {
            Some(next) => current = next,
            None => files.entry(current.clone()).or_default().extend([line, "\n"]),
        }
    }
    files
}

/// K3s generates its own files at start: they equal those of the operator.
pub fn a_restart_of_k3s_changes_nothing(scene: &Scene) {
    let stage = scene.stage::<Stage>();
    let (child, [_, agent]) = cluster(scene);
    let path = push_plain(scene, "restart");
    let mut edited = registries(scene);
    let endpoints = [format!("http://{}", stage.plain.inside()), "https://other.test/v2/path".to_owned()];
    add(&mut edited, "mirrors", json!({"registry": "docker.io", "endpoints": endpoints}));
    add(&mut edited, "mirrors", json!({"registry": "*", "endpoints": [endpoints[0]]}));
    add(&mut edited, "configs", json!({"host": "other.test", "tls": {"insecureSkipVerify": true}}));
    add(&mut edited, "configs", json!({"host": "strict.test:5000", "tls": {"caSecretName": "ca"}}));
    set_registries(scene, &edited);
    scene.ready("lc/c");
    eventually(LIMIT, "the node has the files", || {
        let files = hosts_files(&agent);
        holds(files.contains("/v2/path") && files.contains("_default"), || files)
    });
    let before = hosts_by_directory(&agent);
    docker(&["restart", &agent]);
    eventually(LIMIT, "the node is Ready again", || {
        let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let ready = child.attempt(&["get", "node", &agent, "-o", ready])?;
        holds(ready == "True", || ready)
    });
    pulls(&child, &path, &agent);
    let after = hosts_by_directory(&agent);
    for (directory, text) in &before {
        // Files of removed registries cannot be deleted from outside, so they have the same content as the default.
        // K3s removes them.
        let of_others = directory != "_default" && *text == before["_default"];
        match after.get(directory) {
            Some(made) => assert_eq!(made, text, "{directory}"),
            None => assert!(of_others, "{directory} is gone: {text}"),
        }
    }
    assert!(after.keys().all(|directory| before.contains_key(directory)), "{after:?}");
    set_registries(scene, &registries(scene));
    scene.ready("lc/c");
    scene.run(&["wait", "--for=condition=AgentsReady", "lc/c", "--timeout=120s"]);
}
