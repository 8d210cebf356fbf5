//! A cluster of one server, from `kubectl apply` to Ready, next to the bare `docker run` of the same image to a usable
//! Node: the difference is the operator's own part. The images are there before, so that neither pulls them.

use serde_json::Value;

use crate::{
    Scale,
    clock::{clock, promptly, time},
    figures::Report,
    live::{cluster::container, holds, inspect, scene::Scene, try_docker},
    small_cluster, tools,
};

/// How long each phase may take, in seconds.
const LIMIT: u64 = 180;
/// The phases of a server, each from the beginning.
const PHASES: [&str; 4] = ["container runs", "API answers", "Node is Ready", "usable"];

/// Measures it.
pub fn run(scale: &Scale, report: &mut Report) {
    let scene = Scene::new("create");
    let rounds = 0..scale.rounds.unwrap_or(3);
    let (bare, applied): (Vec<_>, Vec<_>) =
        rounds.map(|_| (docker_run(&scene), kubectl_apply(&scene))).unzip();
    let phase = |rounds: &[Round], phase: usize| rounds.iter().map(|r| r.phases[phase]).collect::<Vec<_>>();
    for (index, name) in PHASES.iter().enumerate() {
        let reference = format!("docker run: {name}");
        report.seconds(&reference, &phase(&bare, index));
        report.compared(&format!("kubectl apply: {name}"), &phase(&applied, index), &reference);
    }
    let ready: Vec<f64> = applied.iter().map(|r| r.ready).collect();
    report.compared("kubectl apply: Ready", &ready, "docker run: usable");
    // Network, volumes and load balancer come before the server, and Ready comes after it is usable.
    let more: Vec<f64> = applied.iter().zip(&bare).map(|(a, b)| a.phases[0] - b.phases[0]).collect();
    let lag: Vec<f64> = applied.iter().map(|r| r.ready - r.phases[3]).collect();
    let both: Vec<f64> = more.iter().zip(&lag).map(|(more, lag)| more + lag).collect();
    report.seconds("operator: until the server runs", &more);
    report.seconds("operator: from usable to Ready", &lag);
    report.seconds("operator: both", &both);
    scene.end();
}

/// Seconds from the beginning.
struct Round {
    phases: [f64; 4],
    /// When the operator reports Ready; without it the same as usable.
    ready: f64,
}

/// Runs the bare image.
fn docker_run(scene: &Scene) -> Round {
    let name = format!("{}-bare", scene.namespace);
    let began = clock();
    let _container = tools::bare(&name, &[]);
    let phases = phases(&name, began);
    Round { phases, ready: phases[3] }
}

/// Applies a cluster, and deletes it afterwards.
fn kubectl_apply(scene: &Scene) -> Round {
    let began = clock();
    scene.apply("LocalCluster", "c", &small_cluster(0, ""));
    let phases = phases(&container(scene, "server-0"), began);
    scene.ready("lc/c");
    let ready = clock() - began;
    scene.run(&["delete", "lc/c", "--timeout=120s"]);
    Round { phases, ready }
}

/// Waits for each phase of a server, and returns how many seconds each took since then.
fn phases(server: &str, began: f64) -> [f64; 4] {
    let kubectl = |args: &[&str]| try_docker(&[&["exec", server, "kubectl"], args].concat());
    let runs = promptly(LIMIT, PHASES[0], || started(server));
    promptly(LIMIT, PHASES[1], || kubectl(&["get", "--raw", "/readyz"]));
    let api = clock();
    promptly(LIMIT, PHASES[2], || {
        let ready = r#"-ojsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        let ready = kubectl(&["get", "nodes", ready])?;
        holds(ready == "True", || format!("Ready is {ready:?}"))
    });
    let node = clock();
    // Without it no Pod can be created.
    promptly(LIMIT, PHASES[3], || kubectl(&["get", "serviceaccount", "default"]));
    [runs, api, node, clock()].map(|at| at - began)
}

/// Returns when a container was started, by the engine's time.
fn started(name: &str) -> Result<f64, String> {
    let state: Value = inspect(name).ok_or("there is no container")?["State"].take();
    holds(state["Running"] == true, || state.to_string())?;
    time(state["StartedAt"].as_str().unwrap_or_default())
}
