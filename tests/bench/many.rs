//! Many clusters at once, from one file: how long each takes from `kubectl apply` to Ready, created and run again after
//! a stop, next to one alone. No name, subnet or port is given twice, and nothing of them is left.

use std::{collections::BTreeSet, env};

use serde_json::Value;

use crate::{
    Scale,
    clock::{clock, time},
    figures::Report,
    live::{
        docker, ids,
        scene::{Scene, condition},
    },
    small_cluster,
};

/// Measures it.
pub fn run(scale: &Scale, report: &mut Report) {
    let before = engine();
    {
        let scene = Scene::new("many");
        for count in BTreeSet::from([1, scale.many]) {
            measure(&scene, count, report);
        }
    }
    // Where others use the engine too, what it has changes without the operator.
    if env::var("SHARED").is_ok_and(|v| v == "1") {
        return;
    }
    assert_eq!(engine(), before, "Docker has something else than before");
}

fn measure(scene: &Scene, count: usize, report: &mut Report) {
    let mut add = |what: &str, seconds: &[f64]| {
        let case = |count: usize| format!("{count} {what}");
        if count == 1 {
            report.seconds(&case(1), seconds);
        } else {
            report.compared(&case(count), seconds, &case(1));
        }
    };
    apply(scene, count, "Running");
    wait(scene, "Ready", "1800s");
    let clusters = clusters(scene);
    add("at once", &ready_after(&clusters, count, None));
    given_once(&clusters);

    apply(scene, count, "Stopped");
    wait(scene, "Stopped", "600s");
    // The operator's times are whole seconds.
    let since = clock().floor();
    apply(scene, count, "Running");
    wait(scene, "Ready", "1800s");
    add("run again at once", &ready_after(&self::clusters(scene), count, Some(since)));
    scene.run(&["delete", "lc", "--all", "--timeout=600s"]);
    scene.end();
}

fn apply(scene: &Scene, count: usize, state: &str) {
    let spec = small_cluster(0, &format!("state: {state}, ports: [{{name: web, port: 30080}}]"));
    let cluster = |number: usize| {
        format!(
            "---\n{{apiVersion: localcluster.dev/v1alpha1, kind: LocalCluster, metadata: {{name: c{number}, \
             namespace: {}}}, spec: {spec}}}\n",
            scene.namespace
        )
    };
    scene.k.apply(&(1..=count).map(cluster).collect::<String>());
}

fn wait(scene: &Scene, condition: &str, limit: &str) {
    let (condition, limit) = (format!("--for=condition={condition}"), format!("--timeout={limit}"));
    scene.run(&["wait", &condition, "lc", "--all", &limit]);
}

fn clusters(scene: &Scene) -> Vec<Value> {
    scene.get("lc")["items"].as_array().cloned().unwrap_or_default()
}

/// Returns in how many seconds each became Ready, by the operator's times, since then or since its creation.
fn ready_after(clusters: &[Value], count: usize, since: Option<f64>) -> Vec<f64> {
    let at = |text: &Value| time(text.as_str().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}"));
    let seconds: Vec<f64> = clusters
        .iter()
        .filter_map(|c| condition(c, "Ready").ok().filter(|ready| ready["status"] == "True").map(|r| (c, r)))
        .map(|(c, ready)| {
            let begin = since.unwrap_or_else(|| at(&c["metadata"]["creationTimestamp"]));
            at(&ready["lastTransitionTime"]) - begin
        })
        .collect();
    assert_eq!(seconds.len(), count, "not all clusters are Ready");
    seconds
}

/// Fails if two clusters have the same subnet or port of the host, or two containers the same name.
fn given_once(clusters: &[Value]) {
    let status = || clusters.iter().map(|c| &c["status"]);
    let subnets = status().map(|s| s["network"]["subnet"].to_string()).collect();
    let api_ports = status().map(|s| s["apiPort"]["hostPort"].to_string());
    let ports = status().flat_map(|s| s["ports"].as_array().into_iter().flatten());
    let ports = api_ports.chain(ports.map(|p| p["hostPort"].to_string())).collect();
    let names = docker(&["ps", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
    for (what, all) in [("subnet", subnets), ("host port", ports), ("name", names)] {
        let all: Vec<String> = all;
        let mut seen = BTreeSet::new();
        let twice: Vec<&String> = all.iter().filter(|one| !seen.insert(*one)).collect();
        assert!(twice.is_empty(), "a {what} was given twice: {twice:?}");
    }
}

/// Returns what Docker has.
fn engine() -> Vec<String> {
    let mut all: Vec<String> = ["container", "network", "volume"].into_iter().flat_map(ids).collect();
    all.sort();
    all
}
