//! Nodes in which nothing answers as it should (`tests/world/hostile`) cost the operator neither its process nor its
//! memory, and other clusters none of its time.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use crate::live::{
    Kubectl, SYSTEM, docker, docker_logs, eventually,
    harness::{Group, within},
    holds, inspect, install,
    scene::{LIMIT, Scene, condition, is_ready},
    world,
};

pub const GROUP: Group = Group {
    name: "hostile",
    setup,
    tests: &[
        ("others_are_repaired_as_soon", others_are_repaired_as_soon),
        ("what_ignores_signals_is_deleted", what_ignores_signals_is_deleted),
    ],
};

/// Kinds of answers of its API, and of files.
const KINDS: usize = 12 + 7;
/// Memory limit of the operator's Pod in MiB, and how much of it may be used at most.
const MEMORY: u64 = 256;
const USED: u64 = MEMORY * 3 / 4;

fn setup() -> Scene {
    install();
    let scene = Scene::new("foe");
    scene.apply("LocalCluster", "good", "{servers: {count: 1}, agents: {count: 1}}");
    scene.ready("lc/good");
    scene
}

/// One with an API that answers wrongly, and one with nodes whose files are others, and in which no command ends.
fn evil(scene: &Scene) {
    let image = world("HOSTILE_IMAGE");
    let manifest = "{name: app, inline: \"{apiVersion: v1, kind: ConfigMap, metadata: {name: app}}\"}";
    let api = "servers: {count: 1, env: [{name: HOSTILE, value: api}]}, agents: {count: 0}";
    scene.apply("LocalCluster", "api", &format!("{{image: \"{image}\", {api}, manifests: [{manifest}]}}"));
    let files = "servers: {count: 1}, agents: {count: 2, env: [{name: HOSTILE, value: files}]}";
    let more = "registries: {config: {inline: \"mirrors: {}\"}}, ports: [{name: web, port: 80}]";
    let preload = format!("preloadImages: [\"{}\"]", world("BUSYBOX_IMAGE"));
    scene.apply("LocalCluster", "files", &format!("{{image: \"{image}\", {files}, {more}, {preload}}}"));
}

/// Kills the agent, and returns the time until it runs again.
fn repair(scene: &Scene) -> Duration {
    let agent = format!("{}-agent-0", scene.network("good"));
    let started = || inspect(&agent).map(|c| c["State"].clone()).ok_or("it does not exist".to_owned());
    let before = started().expect("it runs")["StartedAt"].clone();
    docker(&["kill", &agent]);
    let killed = Instant::now();
    eventually(LIMIT, "the agent runs again", || {
        let state = started()?;
        holds(state["Running"] == true && state["StartedAt"] != before, || state.to_string())
    });
    let took = killed.elapsed();
    eventually(LIMIT, "its cluster is Ready", || is_ready(&scene.try_get("lc/good")?));
    took
}

/// Returns the operator's Pod: its UID, the number of restarts and, in MiB, the most memory that its process has had.
fn operator() -> (String, u64, u64) {
    let pods = Kubectl::management().json(&[
        "-n",
        SYSTEM,
        "pods",
        "-l",
        "app.kubernetes.io/name=localcluster-operator",
    ]);
    let pods = pods.expect("the operator runs");
    let pod = pods["items"].as_array().and_then(|pods| pods.first()).expect("it has a Pod");
    let uid = pod["metadata"]["uid"].as_str().expect("a UID").to_owned();
    let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().expect("a number");
    // In names of cgroups by systemd, dashes separate levels.
    let names = [uid.clone(), uid.replace('-', "_")];
    let processes = fs::read_dir("/proc").expect("it is readable").flatten().map(|entry| entry.path());
    let peak = processes
        .filter(|process| {
            let text = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
            let cgroup = text("cgroup");
            names.iter().any(|name| cgroup.contains(name))
                && text("cmdline").contains("localcluster-operator")
        })
        .find_map(|process| {
            let status = fs::read_to_string(process.join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().to_owned();
            line.strip_suffix(" kB")?.parse::<u64>().ok()
        });
    (uid, restarts, peak.expect("its process is one of this machine") / 1024)
}

/// Returns the kinds of answers that the operator got from its nodes.
fn answered(scene: &Scene) -> BTreeSet<String> {
    let server = format!("{}-server-0", scene.network("api"));
    let logs = [docker_logs(&server), docker_logs(&format!("{}-agent-0", scene.network("files")))];
    let kinds = logs.iter().flat_map(|log| log.lines()).filter_map(|line| line.split_once("answered: "));
    kinds.map(|(_, kind)| kind.to_owned()).collect()
}

fn others_are_repaired_as_soon(scene: &Scene) {
    let before = operator();
    let alone = repair(scene).min(repair(scene));
    evil(scene);
    eventually(LIMIT, "its API answers in a first way that is none", || {
        let kinds = answered(scene);
        holds(!kinds.is_empty(), || condition(&scene.get("lc/api"), "Ready").unwrap_or_default().to_string())
    });
    let mut beside = vec![repair(scene)];
    eventually(LIMIT, "it has answered in all ways", || {
        let kinds = answered(scene);
        holds(kinds.len() >= KINDS, || format!("{kinds:?}"))
    });
    beside.push(repair(scene));
    let after = operator();
    println!("        repairs: {alone:?} alone, {beside:?} beside; memory: {} and {} MiB", before.2, after.2);
    assert_eq!((&after.0, after.1), (&before.0, before.1), "the operator was restarted");
    assert!(after.2 < USED, "{} MiB of {MEMORY}", after.2);
    let limit = alone + within(Duration::from_secs(3));
    assert!(beside.iter().all(|took| *took < limit), "{beside:?}, and {alone:?} alone");
    // Each is told in the words of a status.
    for name in ["lc/api", "lc/files"] {
        let seen = scene.get(name);
        let ready = condition(&seen, "Ready").expect("it has a status");
        let words = ready["message"].as_str().unwrap_or_default();
        assert!(ready["status"] == "True" || (1..=1024).contains(&words.len()), "{ready}");
        assert!(seen["status"]["conditions"].as_array().is_some_and(|all| all.len() < 40), "{seen}");
    }
}

fn what_ignores_signals_is_deleted(scene: &Scene) {
    if scene.try_get("lc/api").is_err() {
        evil(scene);
        eventually(LIMIT, "it answers", || holds(!answered(scene).is_empty(), || "not yet".into()));
    }
    let began = Instant::now();
    scene.run(&["delete", "lc/api", "lc/files", "--timeout=120s"]);
    assert!(began.elapsed() < within(Duration::from_secs(60)), "{:?}", began.elapsed());
    let good = scene.network("good");
    let left: Vec<String> = scene.in_docker().into_iter().filter(|thing| !thing.contains(&good)).collect();
    assert!(left.is_empty(), "{left:?}");
    is_ready(&scene.get("lc/good")).expect("the other one is Ready");
}
