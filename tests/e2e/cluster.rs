//! The main use case: a cluster and a registry by `kubectl apply`, and what users do with them. All other tests that
//! need a whole cluster share this one.

use std::{collections::BTreeSet, time::Duration};

pub use crate::live::cluster::{container, nodes_are_ready, push};
use crate::{
    changes, drift,
    hardening::table,
    host_images, idle,
    live::{
        Kubectl, command, eventually,
        harness::Group,
        holds, http_get, install, pause,
        scene::{LIMIT, Scene, is_ready},
        world,
    },
    secrets,
};

pub const GROUP: Group = Group {
    name: "cluster",
    setup,
    tests: &[
        ("both_kubeconfigs_answer", both_kubeconfigs_answer),
        ("containers_have_the_documented_settings", containers_have_the_documented_settings),
        ("image_runs_by_each_of_its_names", image_runs_by_each_of_its_names),
        ("images_of_the_docker_host", host_images::images_of_the_docker_host),
        ("wait_after_an_edit_waits", wait_after_an_edit_waits),
        ("second_apply_writes_nothing", idle::second_apply_writes_nothing),
        ("two_idle_minutes", idle::two_idle_minutes),
        ("drift_agent_removed", drift::agent_removed),
        ("drift_load_balancer_removed", drift::load_balancer_removed),
        ("drift_registry_removed", drift::registry_removed),
        ("drift_server_removed", drift::server_removed),
        ("drift_stopped", drift::stopped),
        ("drift_killed", drift::killed),
        ("drift_paused", drift::paused),
        ("drift_disconnected", drift::disconnected),
        ("drift_password_lost", drift::password_lost),
        ("drift_secrets_deleted", drift::secrets_deleted),
        ("drift_network_and_containers_removed_while_paused", drift::everything_but_data_removed),
        ("drift_api_hangs", drift::api_hangs),
        ("agents_up_and_down", changes::agents_up_and_down),
        ("labels_need_no_restart", changes::labels_need_no_restart),
        ("agents_are_replaced_one_at_a_time", changes::agents_are_replaced_one_at_a_time),
        ("max_unavailable_agents_are_replaced_at_once", changes::max_unavailable_agents_are_replaced_at_once),
        ("ports_replace_the_load_balancer_only", changes::ports_replace_the_load_balancer_only),
        ("server_args_keep_the_data", changes::server_args_keep_the_data),
        ("secrets_are_nowhere_else", secrets::nowhere_else),
        ("version_goes_up", changes::version_goes_up),
    ],
};

/// Published port of the nodes.
const NODE_PORT: u16 = 30080;

/// The objects that a user applies. The cluster comes first, so that it has to wait for its registry.
pub fn objects(namespace: &str) -> String {
    format!(
        r#"
apiVersion: localcluster.dev/v1alpha1
kind: LocalCluster
metadata: {{name: c, namespace: {namespace}}}
spec:
  servers: {{count: 1, args: ["--disable=traefik,metrics-server,servicelb"]}}
  agents: {{count: 2}}
  ports: [{{name: web, port: {NODE_PORT}}}]
  registries: {{use: [{{name: r}}]}}
---
apiVersion: localcluster.dev/v1alpha1
kind: Registry
metadata: {{name: r, namespace: {namespace}}}
spec: {{}}
"#
    )
}

/// Creates a cluster that is Ready, and an application in it from an image of its registry.
fn setup() -> Scene {
    install();
    let scene = Scene::new("dev");
    scene.k.apply(&objects(&scene.namespace));
    scene.ready("lc/c");
    // What Ready promises holds at this moment, without further waiting.
    is_ready(&scene.get("lreg/r")).expect("a cluster is not Ready before its registry is");
    let child = scene.child("c");
    nodes_are_ready(&child, 3, &world("NODE_VERSION")).expect("the Nodes are Ready");
    child.run(&["create", "configmap", "witness", "--from-literal=said=before"]);

    application(&scene, &child);
    child.apply(
        "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: hello}, \
         spec: {minAvailable: 1, selector: {matchLabels: {app: hello}}}}",
    );
    child.run(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    witnesses(&scene);
    scene
}

/// Runs a small web server with two Pods behind the published port, from an image of the registry.
pub fn application(scene: &Scene, child: &Kubectl) {
    let image = push(scene, "hello");
    // Its shell ignores SIGTERM, and the default grace period is half a minute.
    child.apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: hello}}, spec: {{replicas: 2, selector: \
         {{matchLabels: {{app: hello}}}}, template: {{metadata: {{labels: {{app: hello}}}}, spec: \
         {{terminationGracePeriodSeconds: 1, containers: [{{name: hello, image: \"{image}\"}}]}}}}}}}}"
    ));
    child.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: hello}}, spec: {{type: NodePort, \
         selector: {{app: hello}}, ports: [{{port: 80, nodePort: {NODE_PORT}}}]}}}}"
    ));
}

/// Asserts that earlier data of the cluster exists and that the application responds on the published port.
pub fn witnesses(scene: &Scene) {
    let child = scene.child("c");
    let said = child.run(&["get", "configmap", "witness", "-o", "jsonpath={.data.said}"]);
    assert_eq!(said, "before", "the data of the cluster is lost");
    let port =
        scene.get("lc/c")["status"]["ports"][0]["hostPort"].as_u64().expect("the port is in the status");
    let pod = eventually(120, "the application responds on the published port", || http_get(port, "/"));
    assert!(pod.starts_with("hello-"), "{pod}");
}

/// As docs/security.md lists them.
fn containers_have_the_documented_settings(scene: &Scene) {
    let rows = table();
    let mut seen = BTreeSet::new();
    for container in scene.containers() {
        let role = container["Config"]["Labels"]["k3d.role"].as_str().expect("it has a role").to_owned();
        let row = rows.iter().find(|row| row.role == role).expect("the role is documented");
        row.check(&container, None);
        seen.insert(role);
    }
    let running = ["agent", "loadbalancer", "registry", "server"].map(str::to_owned);
    assert!(running.iter().all(|role| seen.contains(role)), "{seen:?}");
}

fn both_kubeconfigs_answer(scene: &Scene) {
    let child = scene.child("c");
    assert_eq!(child.run(&["get", "--raw", "/readyz"]), "ok");
    let status = &scene.get("lc/c")["status"];
    let text = scene.kubeconfig("c", "kubeconfig");
    assert!(text.contains(status["endpoint"].as_str().expect("the endpoint is in the status")), "{status}");

    // Both keys work from containers on the cluster's network, with the load balancer's name.
    let value = scene.kubeconfig("c", "value");
    let server = format!("--server=https://{}:6443", container(scene, "serverlb"));
    let address = format!(
        "--server={}",
        status["endpoints"]["network"].as_str().expect("the endpoint is in the status")
    );
    let network = status["network"]["name"].as_str().expect("the network is in the status");
    let (host, image) = (world("DOCKER_HOST"), world("NODE_IMAGE"));
    let args = ["--host", &host, "run", "--rm", "-i", "--network", network, "--entrypoint", "sh", &image];
    for server in [server, address] {
        let script = format!(
            "cat >/tmp/kubeconfig && kubectl --kubeconfig /tmp/kubeconfig {server} get --raw /readyz"
        );
        let answer = command("docker", &[&args[..], &["-c", &script]].concat(), &value);
        assert_eq!(answer.as_deref(), Ok("ok"), "from a container on the cluster's network, {server}");
    }
}

fn image_runs_by_each_of_its_names(scene: &Scene) {
    let child = scene.child("c");
    let status = &scene.get("lreg/r")["status"];
    let (host, cluster) =
        (status["host"].as_str().expect("host"), status["cluster"].as_str().expect("cluster"));
    assert!(host.starts_with("localhost:"), "{host}");
    let (hostname, _) = cluster.split_once(':').expect("it has a port");
    let by_port = format!("{hostname}:{}", status["hostPort"]);
    push(scene, "named");
    let names = [("a", host), ("b", cluster), ("c", by_port.as_str())];
    for (name, registry) in names {
        let image = format!("--image={registry}/e2e/named:1");
        // On a node of its own each, so that no node has the image already.
        let pod = format!("named-{name}");
        let node =
            container(scene, ["agent-0", "agent-1", "server-0"][usize::from(name.as_bytes()[0] - b'a')]);
        let on = format!(r#"{{"apiVersion": "v1", "spec": {{"nodeName": "{node}"}}}}"#);
        child.run(&["run", &pod, &image, &format!("--overrides={on}")]);
    }
    for (name, _) in names {
        child.run(&["wait", "--for=condition=Ready", &format!("pod/named-{name}"), "--timeout=120s"]);
    }
    child.run(&["delete", "pod", "named-a", "named-b", "named-c", "--now"]);
}

fn wait_after_an_edit_waits(scene: &Scene) {
    let child = scene.child("c");
    let node = container(scene, "agent-0");
    for value in ["first", "second"] {
        let patch = format!(r#"{{"spec": {{"agents": {{"labels": {{"e2e/edit": "{value}"}}}}}}}}"#);
        scene.run(&["patch", "lc", "c", "--type=merge", "-p", &patch]);
        scene.ready("lc/c");
        let seen = child.run(&["get", "node", &node, "-o", r"jsonpath={.metadata.labels.e2e/edit}"]);
        assert_eq!(seen, value, "kubectl wait came back before the edit was done");
    }
    scene.run(&[
        "patch",
        "lc",
        "c",
        "--type=json",
        "-p",
        r#"[{"op": "remove", "path": "/spec/agents/labels"}]"#,
    ]);
    scene.ready("lc/c");
}

/// Waits until nothing changes any more: an Event or a last status may follow a moment after Ready.
pub fn settle(scene: &Scene) {
    let version = || scene.get("lc/c")["metadata"]["resourceVersion"].clone();
    let mut before = version();
    eventually(LIMIT, "the status no longer changes", || {
        pause(Duration::from_secs(3));
        let now = version();
        let same = now == before;
        before = now;
        holds(same, || "it changed".to_owned())
    });
}
