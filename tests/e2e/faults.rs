//! Faults that occurred in real use, each with real parts: a registry or cluster that is being deleted, steps without
//! effect, and lost data.

use std::time::{Duration, Instant};

use crate::{
    cluster::container,
    live::{
        DEPLOYMENT, Foreign, SYSTEM,
        cluster::lose,
        docker, eventually,
        harness::Group,
        holds, inspect, install, now, pause,
        scene::{LIMIT, Scene, condition, is_ready},
    },
    trouble::{becomes_true, delete, idle_cluster},
};

pub const GROUP: Group = Group {
    name: "faults",
    setup,
    tests: &[
        ("missing_gpus_cost_little", missing_gpus_cost_little),
        ("corrected_arguments_are_used_at_once", corrected_arguments_are_used_at_once),
        ("conditions_of_paused_objects_are_unknown", conditions_of_paused_objects_are_unknown),
        ("a_stopped_cluster_needs_no_port", a_stopped_cluster_needs_no_port),
        ("a_users_config_map_does_no_harm", a_users_config_map_does_no_harm),
        (
            "a_registry_in_use_serves_until_its_clusters_are_gone",
            a_registry_in_use_serves_until_its_clusters_are_gone,
        ),
        ("lost_data_waits_for_a_decision", lost_data_waits_for_a_decision),
    ],
};

/// Returns the spec of a cluster with one server that uses a registry.
fn setup() -> Scene {
    install();
    let scene = Scene::new("faults");
    scene.apply("Registry", "r", "{}");
    let servers = r#"{count: 1, args: ["--disable=traefik,metrics-server,servicelb"]}"#;
    let registries = "registries: {use: [{name: r}]}";
    scene.apply("LocalCluster", "c", &format!("{{servers: {servers}, agents: {{count: 0}}, {registries}}}"));
    scene.ready("lc/c");
    scene
}

/// Returns Docker's events about networks and containers of this name in the next seconds.
fn docker_events(of: &str, seconds: u64) -> Vec<String> {
    let since = now();
    pause(Duration::from_secs(seconds)); // how often something is done takes time to see
    let format = "{{.Type}} {{.Action}} {{json .Actor.Attributes}}";
    let happened = docker(&["events", "--since", &since, "--until", &now(), "--format", format]);
    happened.lines().filter(|l| l.contains(of) && !l.contains("archive-path")).map(str::to_owned).collect()
}

/// Each start that fails makes Docker report that a network was left, which is no reason to retry.
fn missing_gpus_cost_little(scene: &Scene) {
    let spec = idle_cluster("").replacen("servers: {count: 1", "servers: {count: 1, gpus: all", 1);
    scene.apply("LocalCluster", "gpu", &spec);
    let message = scene.reason("lc/gpu", "Ready", "GPUUnavailable");
    assert!(message.contains("remove gpus from the spec"), "{message}");
    becomes_true(scene, "lc/gpu", "Stalled");
    let events = docker_events(&scene.network("gpu"), 30);
    let tries = events.iter().filter(|l| l.starts_with("network disconnect")).count();
    assert!(tries <= 6, "{tries} starts in half a minute: {events:#?}");
    delete(scene, "lc/gpu");
}

/// Docker waits up to a minute between restarts of a container that keeps exiting. A user who corrects the spec does
/// not have to wait for that. The corrected arguments have a kubelet that is short of disk: its Node is Ready, and
/// its cluster is not.
fn corrected_arguments_are_used_at_once(scene: &Scene) {
    let spec = |args: &str| format!("{{servers: {{count: 1, args: [{args}]}}, agents: {{count: 0}}}}");
    scene.apply("LocalCluster", "args", &spec("\"--no-such-flag\""));
    let message = scene.reason("lc/args", "Ready", "ArgumentsRefused");
    assert!(message.contains("no-such-flag") && message.contains("spec.servers.args"), "{message}");
    becomes_true(scene, "lc/args", "Stalled");
    let server = format!("{}-server-0", scene.network("args"));
    let before = eventually(LIMIT, "Docker waits long between two starts", || {
        let found = inspect(&server).ok_or("there is no server")?;
        let state = &found["State"];
        let waits = state["Status"] == "restarting" && found["RestartCount"].as_u64() >= Some(7);
        holds(waits, || format!("{} {state}", found["RestartCount"]))?;
        Ok(found["Id"].clone())
    });
    let events = docker_events(&server, 10);
    let steps = ["stop", "kill", "connect", "disconnect", "create", "rename"];
    let steps = events.iter().filter(|l| steps.iter().any(|s| l.split(' ').nth(1) == Some(s))).count();
    assert!(steps <= 2, "the operator changed a container that Docker restarts: {events:#?}");

    let pressed = "\"--disable=traefik,metrics-server,servicelb\", \"--kubelet-arg=eviction-hard=nodefs.available<99%\"";
    let began = Instant::now();
    scene.apply("LocalCluster", "args", &spec(pressed));
    eventually(15, "the server runs with the corrected arguments", || {
        let found = inspect(&server).ok_or("there is no server")?;
        let runs = found["Id"] != before && found["State"]["Running"] == true;
        holds(runs, || found["State"].to_string())
    });
    println!("        started after {:.1} s", began.elapsed().as_secs_f64());
    let message = scene.reason("lc/args", "Ready", "NodePressure");
    assert!(message.contains("DiskPressure") && message.contains(&server), "{message}");
    let started = || inspect(&server).expect("it exists")["State"]["StartedAt"].clone();
    let at = started();
    let events = docker_events(&server, 20);
    assert_eq!(started(), at, "no restart ends a shortage of disk: {events:#?}");
    delete(scene, "lc/args");
}

fn conditions_of_paused_objects_are_unknown(scene: &Scene) {
    scene.run(&["annotate", "lc", "c", "localcluster.dev/paused=true"]);
    scene.reason("lc/c", "Paused", "Paused");
    scene.reason("lc/c", "Ready", "Paused");
    let server = container(scene, "server-0");
    docker(&["kill", &server]);
    scene.run(&["annotate", "lc", "c", &format!("e2e={}", now()), "--overwrite"]);
    let ready = condition(&scene.get("lc/c"), "Ready").expect("there is one");
    assert_eq!(ready["status"], "Unknown", "{ready}");
    scene.run(&["annotate", "lc", "c", "localcluster.dev/paused-"]);
    eventually(LIMIT, "it is repaired", || {
        let runs = inspect(&server).is_some_and(|c| c["State"]["Running"] == true);
        holds(runs, || format!("{server} does not run"))?;
        is_ready(&scene.try_get("lc/c")?)
    });
}

fn a_stopped_cluster_needs_no_port(scene: &Scene) {
    let port = scene.get("lc/c")["status"]["apiPort"]["hostPort"].as_u64().expect("it has one");
    let port = port.to_string();
    scene.patch("lc/c", r#"{"state": "Stopped"}"#);
    becomes_true(scene, "lc/c", "Stopped");
    let holder = Foreign::container(
        &["-p", &format!("127.0.0.1:{port}:80")],
        &format!("e2e-holder-{}", scene.namespace),
    );
    // The operator reconciles again.
    scene.run(&["annotate", "lc", "c", &format!("e2e={}", now()), "--overwrite"]);
    pause(Duration::from_secs(5)); // that nothing happens takes time to see
    let lc = scene.get("lc/c");
    let row = scene.run(&["get", "lc", "c", "--no-headers"]);
    assert!(row.split_whitespace().any(|column| column == "Stopped"), "{row}");
    for (type_, status) in [("Stopped", "True"), ("Stalled", "False"), ("Reconciling", "False")] {
        assert_eq!(condition(&lc, type_).expect("there is one")["status"], status, "{type_}");
    }
    scene.patch("lc/c", r#"{"state": "Running"}"#);
    let message = scene.reason("lc/c", "Ready", "PortConflict");
    assert!(message.contains(&port) && message.contains("e2e-holder"), "{message}");
    drop(holder);
    scene.ready("lc/c");
}

/// Nothing that a user writes into a created cluster makes the operator exit.
fn a_users_config_map_does_no_harm(scene: &Scene) {
    let restarts = || {
        let pods = scene.k.json(&["-n", SYSTEM, "pods"]).expect("the operator exists");
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let containers = pods
            .iter()
            .flat_map(|p| p["status"]["containerStatuses"].as_array().cloned().unwrap_or_default());
        containers.map(|c| c["restartCount"].as_u64().unwrap_or_default()).sum::<u64>()
    };
    let before = restarts();
    let child = scene.child("c");
    let content = r#"{\"dropping\":\"9999-12-30T22:00:00Z\",\"objects\":[]}"#;
    child.apply(&format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: localcluster-manifests, namespace: kube-system}}, \
         data: {{inventory.json: \"{content}\"}}}}"
    ));
    // Two successful reconciles follow, also of another object.
    for round in ["1", "2"] {
        scene.apply("Registry", &format!("other-{round}"), "{}");
        scene.ready(&format!("lreg/other-{round}"));
        scene.patch("lc/c", &format!("{{\"agents\": {{\"labels\": {{\"e2e/round\": \"{round}\"}}}}}}"));
        eventually(60, "the cluster is looked at", || is_ready(&scene.try_get("lc/c")?));
        delete(scene, &format!("lreg/other-{round}"));
    }
    assert_eq!(restarts(), before, "the operator ended: {DEPLOYMENT}");
    child.run(&["-n", "kube-system", "delete", "configmap", "localcluster-manifests", "--ignore-not-found"]);
}

/// A registry in use is not removed; until its clusters are deleted, they stay as they are and are repaired.
fn a_registry_in_use_serves_until_its_clusters_are_gone(scene: &Scene) {
    scene.run(&["delete", "lreg", "r", "--wait=false"]);
    scene.reason("lreg/r", "InUse", "InUse");
    let server = container(scene, "server-0");
    let before = inspect(&server).expect("it exists")["Id"].clone();
    docker(&["rm", "-f", &server]);
    eventually(LIMIT, "the server is made again and serves", || {
        let found = inspect(&server).ok_or("there is no server")?;
        holds(found["Id"] != before, || "it is the old one".into())?;
        is_ready(&scene.try_get("lc/c")?)
    });
    let registry = inspect(&scene.registry("r")).expect("the registry exists");
    assert_eq!(registry["State"]["Running"], true);
    scene.patch("lc/c", r#"{"registries": {"use": []}}"#);
    scene.run(&["wait", "--for=delete", "lreg/r", "--timeout=120s"]);
    scene.ready("lc/c");
}

fn lost_data_waits_for_a_decision(scene: &Scene) {
    let child = scene.child("c");
    child.run(&["create", "configmap", "witness", "--from-literal=said=before"]);
    let server = container(scene, "server-0");
    lose(&server);
    let message = scene.reason("lc/c", "Ready", "DataLost");
    let words = [format!("{server}-state"), "set spec.onDataLoss to Recreate".into()];
    assert!(words.iter().all(|w| message.contains(w)), "{message}");
    becomes_true(scene, "lc/c", "Stalled");
    let warned = || {
        scene.run(&["get", "events", "--field-selector=type=Warning", "-o", "jsonpath={.items[*].reason}"])
    };
    eventually(30, "an Event warns", || holds(warned().contains("DataLost"), warned));
    let events = docker_events(&server, 10);
    // A container that was created before its volumes were lost is not started.
    let state = inspect(&server).map(|c| c["State"]["Status"].clone());
    assert!(state.is_none_or(|s| s == "created") && events.is_empty(), "something was created: {events:#?}");

    scene.patch("lc/c", r#"{"onDataLoss": "Recreate"}"#);
    scene.ready("lc/c");
    let found = scene.child("c").attempt(&["get", "configmap", "witness"]);
    assert!(found.is_err(), "it is a new cluster: {found:?}");
    scene.patch("lc/c", r#"{"onDataLoss": "Stop"}"#);
    eventually(60, "it stays Ready", || is_ready(&scene.try_get("lc/c")?));
}
