//! Manifests: their objects exist in the cluster, and objects that are removed from them do not, whoever is killed in
//! between.

use serde_json::json;

use crate::{
    cluster::container,
    contents::{apply, put},
    live::{
        Kubectl, eventually, holds, now,
        operator::Operator,
        scene::{LIMIT, Scene, condition},
        try_docker,
    },
};

/// K3s reads its manifests every 15 s.
const SOON: u64 = 60;
const FILES: &str = "/var/lib/rancher/k3s/server/manifests";

fn config_map(name: &str, said: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{said: {said}}}\n")
}

/// Returns the data of a ConfigMap of the cluster; nothing if it does not exist.
fn said(child: &Kubectl, name: &str) -> Result<String, String> {
    child.attempt(&["get", "configmap", name, "--ignore-not-found", "-o", "jsonpath={.data.said}"])
}

fn says(child: &Kubectl, name: &str, want: &str) {
    eventually(SOON, &format!("the ConfigMap {name} says {want:?}"), || {
        let said = said(child, name)?;
        holds(said == want, || said.clone())
    });
}

/// Returns the operator's files in the server.
fn files(scene: &Scene) -> Result<String, String> {
    let script = format!("cd {FILES} && ls -l localcluster-* 2>/dev/null || true");
    try_docker(&["exec", &container(scene, "server-0"), "sh", "-c", &script])
}

fn inventory(child: &Kubectl) -> Result<String, String> {
    let map = ["-n", "kube-system", "get", "configmap", "localcluster-manifests", "--ignore-not-found"];
    child.attempt(&[&map[..], &["-o", "jsonpath={.data}"]].concat())
}

fn manifests(list: &serde_json::Value) -> String {
    format!("manifests: {list}")
}

pub fn applied_and_changed(scene: &Scene) {
    let child = scene.child("c");
    let two = format!("{}---\n{}", config_map("m-a", "one"), config_map("m-b", "one"));
    scene.config_map("m", &[("all.yaml", &two)]);
    scene.secret("s", "Opaque", &[("s.yaml", "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"m-s\"}, \"stringData\": {\"k\": \"very-secret\"}}")]);
    let since = now();
    let before = scene.picture();
    let all = json!([
        {"name": "maps", "configMap": {"name": "m", "key": "all.yaml"}},
        {"name": "secrets", "secret": {"name": "s", "key": "s.yaml"}},
    ]);
    apply(scene, 0, &manifests(&all));
    // Ready means that they exist, without further waiting.
    assert_eq!(said(&child, "m-a").as_deref(), Ok("one"));
    assert_eq!(said(&child, "m-b").as_deref(), Ok("one"));
    child.run(&["get", "secret", "m-s"]);
    let listed = files(scene).expect("the server lists its files");
    assert!(listed.lines().count() == 2 && listed.lines().all(|l| l.starts_with("-rw-------")), "{listed}");
    assert!(!inventory(&child).expect("it exists").contains("very-secret"));

    // A change, and one object less.
    scene.config_map("m", &[("all.yaml", &config_map("m-a", "two"))]);
    says(&child, "m-a", "two");
    says(&child, "m-b", "");
    scene.ready("lc/c");
    // An object that is deleted by hand is applied again.
    child.run(&["delete", "configmap", "m-a"]);
    // No watch reports it; the next reconcile finds it.
    scene.run(&["annotate", "lc/c", "e2e/look=now", "--overwrite"]);
    scene.reason("lc/c", "ManifestsReady", "ManifestNotApplied");
    let mut server = scene.picture();
    let mut known = before;
    for picture in [&mut server, &mut known] {
        picture.retain(|name, _| name.ends_with("-server-0") || name.ends_with("-serverlb"));
    }
    assert_eq!(server, known, "{:?}", scene.events(&since));
    let events = scene.events(&since).join("\n");
    assert!(!events.contains("very-secret"), "{events}");
    scene.ready("lc/c");
    says(&child, "m-a", "two");
    apply(scene, 0, "manifests: []");
}

pub fn taken_out(scene: &Scene) {
    let child = scene.child("c");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: m-team}\n---\napiVersion: apps/v1\nkind: \
                     Deployment\nmetadata: {name: app, namespace: m-team}\nspec: {replicas: 0, selector: \
                     {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, \
                     image: none}]}}}\n";
    let team = json!({"name": "team", "inline": namespace});
    let kept = json!({"name": "kept", "inline": config_map("m-kept", "here")});
    apply(scene, 0, &manifests(&json!([team, kept])));
    child.run(&["-n", "m-team", "get", "deployment", "app"]);
    // It moves to another manifest and stays the same object.
    let uid = |child: &Kubectl| child.run(&["get", "configmap", "m-kept", "-o", "jsonpath={.metadata.uid}"]);
    let before = uid(&child);
    let moved = json!({"name": "moved", "inline": config_map("m-kept", "here")});
    apply(scene, 0, &manifests(&json!([moved])));
    assert_eq!(uid(&child), before);
    let gone = child.attempt(&["get", "namespace", "m-team", "--ignore-not-found", "-o", "name"]);
    assert_eq!(gone.as_deref(), Ok(""), "Ready means that it is gone");
    apply(scene, 0, "manifests: []");
    nothing_is_left(scene, &["m-kept"]);
}

fn nothing_is_left(scene: &Scene, maps: &[&str]) {
    let child = scene.child("c");
    for name in maps {
        assert_eq!(said(&child, name).as_deref(), Ok(""), "{name}");
    }
    assert_eq!(files(scene).as_deref(), Ok(""));
    assert_eq!(inventory(&child).as_deref(), Ok(""));
}

pub fn operator_killed(scene: &Scene) {
    let child = scene.child("c");
    type Moment = fn(&Scene, &Kubectl) -> Result<(), String>;
    let moments: [(&str, Moment); 2] = [
        ("the list says what is to go", |_, child| {
            let list = inventory(child)?;
            holds(list.contains("dropping"), || list)
        }),
        ("the file is gone", |scene, _| {
            let left = files(scene)?;
            holds(left.is_empty(), || left)
        }),
    ];
    for (what, moment) in moments {
        let maps = format!("{}---\n{}", config_map("m-x", "first"), config_map("m-y", "second"));
        apply(scene, 0, &manifests(&json!([{"name": "killed", "inline": maps}])));
        assert_eq!(said(&child, "m-y").as_deref(), Ok("second"));
        put(scene, 0, "manifests: []");
        eventually(SOON, what, || moment(scene, &child));
        let operator = scene.stage::<Operator>();
        assert!(operator.kill(), "it runs");
        operator.start();
        eventually(LIMIT, "the cluster is Ready again", || {
            crate::live::scene::is_ready(&scene.try_get("lc/c")?)
        });
        nothing_is_left(scene, &["m-x", "m-y"]);
    }
}

pub fn failures_are_reported(scene: &Scene) {
    let child = scene.child("c");
    apply(scene, 0, &manifests(&json!([{"name": "m", "inline": config_map("m-w", "good")}])));
    // A manifest that cannot be parsed changes nothing.
    put(scene, 0, &manifests(&json!([{"name": "m", "inline": "apiVersion: v1\nkind: ConfigMap\n"}])));
    let message = scene.reason("lc/c", "ManifestsReady", "ManifestInvalid");
    assert!(message.contains("the manifest m") && message.contains("metadata.name is missing"), "{message}");
    assert_eq!(condition(&scene.get("lc/c"), "Stalled").expect("it is in the status")["status"], "True");
    assert_eq!(said(&child, "m-w").as_deref(), Ok("good"));
    // A manifest that K3s refuses is reported, and the others are applied.
    let unknown = "apiVersion: e2e.test/v1\nkind: Unheard\nmetadata: {name: u}\n";
    put(
        scene,
        0,
        &manifests(&json!([
            {"name": "m", "inline": config_map("m-w", "good")},
            {"name": "u", "inline": unknown},
        ])),
    );
    let message = scene.reason("lc/c", "ManifestsReady", "ManifestNotApplied");
    assert!(message.contains("missing Unheard u"), "{message}");
    assert_eq!(said(&child, "m-w").as_deref(), Ok("good"));
    apply(scene, 0, "manifests: []");
    nothing_is_left(scene, &["m-w"]);
}
