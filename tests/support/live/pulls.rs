//! Pulls of images in clusters: by Pods, and by a node's containerd alone to measure durations.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Kubectl, docker, eventually, holds, pause, scene::Scene, try_docker};

/// Time within which a change of registries takes effect in a running cluster. The documented value is two seconds,
/// and the measured value is printed; this limit has room for a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Directory of containerd's files, one for each registry.
const CERTS_D: &str = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d";

/// Returns the name of a node's container and Node.
pub fn node(scene: &Scene, cluster: &str, short: &str) -> String {
    format!("{}-{short}", scene.network(cluster))
}

/// Returns the name of a cluster's Docker network.
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

/// Returns the messages of a Pod's Events.
fn events(child: &Kubectl, pod: &str) -> String {
    let field = format!("--field-selector=involvedObject.name={pod}");
    let path = r#"jsonpath={range .items[*]}{.reason} {.message}{"\n"}{end}"#;
    child.attempt(&["get", "events", &field, "-o", path]).unwrap_or_else(|e| e)
}

/// Runs a Pod with an image on a node, and pulls it again.
pub fn pulls(child: &Kubectl, image: &str, node: &str) {
    let pod = start(child, image, node);
    let waited = child.attempt(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=90s"]);
    waited.unwrap_or_else(|e| panic!("{image} on {node}: {e}\n{}", events(child, &pod)));
    child.run(&["delete", "pod", &pod, "--wait=false"]);
}

/// Runs a Pod whose image cannot be pulled on a node, and returns the reason from its Events.
pub fn fails(child: &Kubectl, image: &str, node: &str) -> String {
    let pod = start(child, image, node);
    let why = eventually(90, &format!("the Pod of {image} fails"), || {
        let events = events(child, &pod);
        holds(events.contains("Failed to pull image"), || events.clone())?;
        Ok(events)
    });
    child.run(&["delete", "pod", &pod, "--wait=false"]);
    why
}

/// Pulls an image on a node without Kubernetes, with the configuration of its containerd.
pub fn node_pulls(node: &str, image: &str) -> Result<(), String> {
    let ctr = ["ctr", "-a", "/run/k3s/containerd/containerd.sock", "-n", "e2e", "images"];
    let pull = ["pull", "--hosts-dir", CERTS_D, image];
    try_docker(&[&["exec", node], &ctr[..], &pull[..]].concat()).map(drop)
}

/// Waits until all nodes can pull an image, or no longer can. Fails if a pull that began later than [`SOON`] after
/// `since` had another result. A pull that cannot succeed must fail at once, so its host must resolve: resolving
/// an unknown name takes seconds.
pub fn soon(since: Instant, nodes: &[String], image: &str, can: bool) {
    let pull = |node: &String| loop {
        let begun = since.elapsed();
        let answer = node_pulls(node, image);
        // A successful pull takes a second or two itself: the time of its begin is decisive.
        if answer.is_ok() == can || begun > SOON {
            return (begun, answer);
        }
        pause(Duration::from_millis(50));
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = nodes.iter().map(|node| scope.spawn(|| pull(node))).collect();
        asking.into_iter().map(|a| a.join().expect("the thread does not panic")).collect()
    });
    for (node, (begun, answer)) in nodes.iter().zip(answers) {
        println!("        {node} {}: {:.2} s", if can { "pulls" } else { "refuses" }, begun.as_secs_f32());
        assert!(answer.is_ok() == can, "{image} on {node} after {begun:?}: {answer:?}");
    }
}

/// Returns all files of a node that configure where its containerd pulls from, with their modes.
pub fn hosts_files(node: &str) -> String {
    let script =
        format!("cd {CERTS_D} && find . -type f | sort | while read f; do stat -c '%a %n' $f; cat $f; done");
    docker(&["exec", node, "sh", "-c", &script])
}

/// Returns the parsed registries file of K3s on a node.
pub fn registries_file(node: &str) -> serde_json::Value {
    let text = docker(&["exec", node, "cat", "/etc/rancher/k3s/registries.yaml"]);
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}
