//! The acts of a soak, as people and accidents do them.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    time::Duration,
};

use crate::{
    live::{
        DEPLOYMENT, Kubectl, SYSTEM,
        cluster::{container, lose},
        command, docker, docker_logs, pause,
        scene::{Scene, name},
        shared_file, try_docker, world,
    },
    plan::{Act, Target},
};

/// Does it. An error is that of whoever did it, who was too late or too early.
pub fn perform(scene: &Scene, seed: u64, act: &Act) -> Result<(), String> {
    match act {
        Act::Docker(verb, target) => in_time(&[verb, &[full(scene, *target).as_str()][..]].concat()),
        Act::Disconnect(target) => {
            let network = scene.network("c");
            in_time(&["network", "disconnect", &network, &full(scene, *target)])
        }
        Act::Lose(target) => {
            lose(&full(scene, *target));
            Ok(())
        }
        Act::Edit(spec) => {
            scene.patch("lc/c", spec);
            Ok(())
        }
        Act::Upgrade => {
            scene.patch("lc/c", &format!(r#"{{"version": "{}"}}"#, world("NODE_VERSION_2")));
            Ok(())
        }
        Act::KillOperator => {
            keep_log(scene, seed);
            kill_operator(scene)
        }
        Act::RestartDocker => {
            keep_log(scene, seed);
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/world");
            // A world that does not come back is no finding about the operator, and nothing can be found without it.
            command(script, &["restart-docker"], "").unwrap_or_else(|e| panic!("{e}"));
            Ok(())
        }
    }
}

fn full(scene: &Scene, target: Target) -> String {
    match target {
        Target::Registry => scene.registry("r"),
        node => container(scene, &node.to_string()),
    }
}

/// docker, which may not hang for ever.
fn in_time(args: &[&str]) -> Result<(), String> {
    let host = world("DOCKER_HOST");
    let args = [&["60", "docker", "--host", &host], args].concat();
    let said = command("timeout", &args, "");
    said.map(drop).map_err(|e| e.lines().next_back().unwrap_or_default().to_owned())
}

/// As the kernel does when memory runs out.
fn kill_operator(scene: &Scene) -> Result<(), String> {
    // The kernel keeps the first 15 characters of a name.
    let script = r#"for p in /proc/[0-9]*; do
        [ "$(cat "$p/comm" 2>/dev/null)" != localcluster-op ] || { kill -9 "${p#/proc/}" && echo "${p#/proc/}"; }
    done"#;
    let killed = try_docker(&["exec", &world("MGMT_NODE"), "sh", "-c", script])?;
    // The kubelet starts it anew at once, and makes each further time wait longer, up to five minutes. Another Pod does
    // not wait, as one on another node would not.
    pause(Duration::from_secs(3));
    let reasons = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
    let waits = scene.k.attempt(&["-n", SYSTEM, "get", "pods", "-o", reasons])?;
    if waits.contains("CrashLoopBackOff") {
        scene.k.attempt(&["-n", SYSTEM, "delete", "pods", "--all", "--force", "--grace-period=0"])?;
    }
    if killed.is_empty() { Err("it was not running".into()) } else { Ok(()) }
}

/// Where the evidence of a seed is.
fn folder(seed: u64) -> PathBuf {
    let folder = shared_file(&format!("soak-{seed}"));
    fs::create_dir_all(&folder).expect("cargo's directory for temporary files is ours");
    folder
}

/// Takes away what an earlier run of a seed left.
pub fn no_evidence(seed: u64) {
    fs::remove_dir_all(folder(seed)).expect("it was made by this");
}

/// Adds what the operator has logged to a file: its Pod takes the log with it.
fn keep_log(scene: &Scene, seed: u64) {
    let said = scene.k.attempt(&["-n", SYSTEM, "logs", "--tail=-1", DEPLOYMENT]).unwrap_or_else(|e| e);
    let file = File::options().create(true).append(true).open(folder(seed).join("operator.log"));
    let kept =
        file.and_then(|mut file| writeln!(file, "{said}\n--- a restart, and the log may say it again"));
    kept.unwrap_or_else(|e| panic!("operator.log: {e}"));
}

/// Keeps all that may explain a failure, and answers where.
pub fn evidence(scene: &Scene, seed: u64) -> PathBuf {
    keep_log(scene, seed);
    let folder = folder(seed);
    let keep = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap_or_else(|e| eprintln!("{name}: {e}"));
    };
    let told = |k: &Kubectl, args: &[&str]| k.attempt(args).unwrap_or_else(|e| e);
    keep("objects.yaml", &told(&scene.k, &["-n", &scene.namespace, "get", "lc,lreg", "-o", "yaml"]));
    keep("events", &told(&scene.k, &["-n", &scene.namespace, "get", "events"]));
    keep("docker-ps", &try_docker(&["ps", "-a"]).unwrap_or_else(|e| e));
    // Without a kubeconfig there is none to ask, and that is the explanation.
    if scene.attempt(&["get", "secret", "c-kubeconfig"]).is_ok() {
        keep(
            "nodes.yaml",
            &told(&scene.child("c"), &["get", "nodes", "-o", "yaml", "--request-timeout=10s"]),
        );
    }
    for container in scene.containers() {
        keep(&format!("{}.json", name(&container)), &format!("{container:#}"));
        keep(&format!("{}.log", name(&container)), &docker_logs(name(&container)));
    }
    folder
}

/// All that Docker has, a line each.
pub fn engine() -> Vec<String> {
    let mut all = Vec::new();
    for args in [
        &["ps", "-a", "--no-trunc", "--format", "container {{.ID}} {{.Names}}"][..],
        &["volume", "ls", "--format", "volume {{.Name}}"],
        // Docker's own three get new ids whenever it starts.
        &["network", "ls", "--no-trunc", "--filter", "type=custom", "--format", "network {{.ID}} {{.Name}}"],
    ] {
        all.extend(docker(args).lines().map(str::to_owned));
    }
    all.sort();
    all
}
