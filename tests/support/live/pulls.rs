//! Pulling images in clusters: by Pods, and by a node's containerd alone where time is measured.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Kubectl, docker, eventually, holds, pause, scene::Scene, try_docker};

/// How soon a change of registries takes effect in a running cluster at the latest. Two seconds are promised, and what
/// is measured is printed; here there is room for a machine that has other things to do.
pub const SOON: Duration = Duration::from_secs(10);

/// The folder of containerd's files, one for each registry.
const CERTS_D: &str = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d";

/// The name of a node's container, and of its Node.
pub fn node(scene: &Scene, cluster: &str, short: &str) -> String {
    format!("{}-{short}", scene.network(cluster))
}

/// The name of a cluster's Docker network.
pub fn network(scene: &Scene, cluster: &str) -> String {
    scene.network(cluster)
}

fn start(child: &Kubectl, image: &str, node: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("pull-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    child.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: {node}, \
         terminationGracePeriodSeconds: 0, containers: [{{name: c, image: \"{image}\", imagePullPolicy: Always}}]}}}}"
    ));
    name
}

/// What the Events of a Pod tell.
fn told(child: &Kubectl, pod: &str) -> String {
    let field = format!("--field-selector=involvedObject.name={pod}");
    let path = r#"jsonpath={range .items[*]}{.reason} {.message}{"\n"}{end}"#;
    child.attempt(&["get", "events", &field, "-o", path]).unwrap_or_else(|e| e)
}

/// Runs a Pod of an image on a node, which pulls it anew.
pub fn pulls(child: &Kubectl, image: &str, node: &str) {
    let pod = start(child, image, node);
    let waited = child.attempt(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=90s"]);
    waited.unwrap_or_else(|e| panic!("{image} on {node}: {e}\n{}", told(child, &pod)));
    child.run(&["delete", "pod", &pod, "--wait=false"]);
}

/// Has a Pod of an image fail on a node, and answers the reason that its Events give.
pub fn fails(child: &Kubectl, image: &str, node: &str) -> String {
    let pod = start(child, image, node);
    let why = eventually(90, &format!("the Pod of {image} fails"), || {
        let told = told(child, &pod);
        holds(told.contains("Failed to pull image"), || told.clone())?;
        Ok(told)
    });
    child.run(&["delete", "pod", &pod, "--wait=false"]);
    why
}

/// Pulls an image on a node without Kubernetes, by the files that its containerd goes by.
pub fn node_pulls(node: &str, image: &str) -> Result<(), String> {
    let ctr = ["ctr", "-a", "/run/k3s/containerd/containerd.sock", "-n", "e2e", "images"];
    let pull = ["pull", "--hosts-dir", CERTS_D, image];
    try_docker(&[&["exec", node], &ctr[..], &pull[..]].concat()).map(drop)
}

/// Waits until all nodes can pull an image, or no longer can, and fails if that was not so soon after `since`. A pull
/// that was begun later than [`SOON`] has to be right. Where it can't, it must fail at once: names that nobody knows are looked
/// for in vain for seconds.
pub fn soon(since: Instant, nodes: &[String], image: &str, can: bool) {
    let told = |node: &String| loop {
        let begun = since.elapsed();
        let answer = node_pulls(node, image);
        // A pull that works takes a second or two itself: what counts is that none begun after that time is wrong.
        if answer.is_ok() == can || begun > SOON {
            return (begun, answer);
        }
        pause(Duration::from_millis(50));
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = nodes.iter().map(|node| scope.spawn(|| told(node))).collect();
        asking.into_iter().map(|a| a.join().expect("it only asks")).collect()
    });
    for (node, (begun, answer)) in nodes.iter().zip(answers) {
        println!("        {node} {}: {:.2} s", if can { "pulls" } else { "refuses" }, begun.as_secs_f32());
        assert!(answer.is_ok() == can, "{image} on {node} after {begun:?}: {answer:?}");
    }
}

/// All files of a node that tell its containerd where to pull, with their modes.
pub fn hosts_files(node: &str) -> String {
    let script =
        format!("cd {CERTS_D} && find . -type f | sort | while read f; do stat -c '%a %n' $f; cat $f; done");
    docker(&["exec", node, "sh", "-c", &script])
}

/// K3s's registries file on a node, as it is read.
pub fn registries_file(node: &str) -> serde_json::Value {
    let text = docker(&["exec", node, "cat", "/etc/rancher/k3s/registries.yaml"]);
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}
