//! Contents of a cluster: images of the Docker host, and manifests.

use crate::{
    cluster::container,
    contents_manifests,
    live::{
        Kubectl, docker, eventually,
        harness::Group,
        holds, install, now,
        operator::{Operator, Victim},
        scene::{LIMIT, Scene, condition},
        try_docker, world,
    },
};

pub const GROUP: Group = Group {
    name: "contents",
    setup,
    tests: &[
        ("images_are_in_all_nodes", images_are_in_all_nodes),
        ("an_added_agent_has_them_too", an_added_agent_has_them_too),
        ("a_node_that_lost_its_data_gets_them_again", a_node_that_lost_its_data_gets_them_again),
        ("a_rebuilt_image_is_imported_again", a_rebuilt_image_is_imported_again),
        ("a_missing_image_is_reported", a_missing_image_is_reported),
        ("an_image_that_was_pulled_by_another_name_runs", an_image_that_was_pulled_by_another_name_runs),
        ("manifests_are_applied_and_changed", contents_manifests::applied_and_changed),
        ("removed_manifests_leave_nothing", contents_manifests::taken_out),
        ("manifests_outlive_the_operator", contents_manifests::operator_killed),
        ("manifests_that_fail_are_reported", contents_manifests::failures_are_reported),
    ],
};

/// Only on the Docker host: no registry has this name.
const APP: &str = "localhost/e2e-preloaded:1";
const OTHER: &str = "localhost/e2e-preloaded-other:1";

/// Builds the image on the Docker host; its containers print `said`.
fn build(image: &str, said: &str) -> String {
    let dockerfile = format!(
        "FROM {}\nENTRYPOINT [\"sh\", \"-c\", \"echo {said}; trap 'exit 0' TERM; sleep 2147483 & wait\"]\n",
        world("BUSYBOX_IMAGE")
    );
    crate::live::build(image, "-", &dockerfile)
}

fn setup() -> Scene {
    install();
    build(APP, "first");
    build(OTHER, "other");
    let operator = Operator::new(&world("DOCKER_HOST"), &[], Victim::default());
    operator.start();
    // An operator that can be killed at a chosen moment.
    let scene = Scene::new("con").with(operator);
    apply(&scene, 1, &format!("preloadImages: [\"{APP}\"]"));
    scene
}

/// Applies the cluster with these fields in its spec, and waits until it is Ready.
pub fn apply(scene: &Scene, agents: usize, with: &str) {
    put(scene, agents, with);
    scene.ready("lc/c");
}

pub fn put(scene: &Scene, agents: usize, with: &str) {
    scene.apply(
        "LocalCluster",
        "c",
        &format!(
            "{{servers: {{count: 1, args: [\"--disable=traefik,metrics-server,servicelb\"]}}, agents: {{count: \
             {agents}}}, {with}}}"
        ),
    );
}

/// Runs a Pod on a node with an image that may not be pulled, and returns its output.
fn says(child: &Kubectl, image: &str, node: &str) -> String {
    child.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: preloaded}}, spec: {{nodeName: {node}, \
         terminationGracePeriodSeconds: 1, containers: [{{name: c, image: \"{image}\", imagePullPolicy: Never}}]}}}}"
    ));
    let ready = child.attempt(&["wait", "--for=condition=Ready", "pod/preloaded", "--timeout=60s"]);
    let ready = ready.map_err(|e| format!("{e}\n{}", child.run(&["describe", "pod/preloaded"])));
    ready.unwrap_or_else(|e| panic!("{image} on {node}: {e}"));
    let said = eventually(20, "the Pod says something", || {
        let said = child.attempt(&["logs", "preloaded"])?;
        holds(!said.is_empty(), || "nothing yet".into()).map(|()| said)
    });
    child.run(&["delete", "pod/preloaded", "--now"]);
    said
}

fn images_are_in_all_nodes(scene: &Scene) {
    let child = scene.child("c");
    for short in ["server-0", "agent-0"] {
        let node = container(scene, short);
        assert_eq!(says(&child, APP, &node), "first", "{node}");
        // Pinned: the kubelet does not remove it.
        let ctr = ["ctr", "-a", "/run/k3s/containerd/containerd.sock", "-n", "k8s.io", "images", "ls"];
        let list = docker(&[&["exec", &node], &ctr[..]].concat());
        let line = list.lines().find(|l| l.starts_with(APP)).unwrap_or_else(|| panic!("{list}"));
        assert!(line.contains("io.cri-containerd.pinned=pinned"), "{line}");
    }
    // Another image, in the running nodes.
    let since = now();
    let before = scene.picture();
    apply(scene, 1, &format!("preloadImages: [\"{APP}\", \"{OTHER}\"]"));
    for short in ["server-0", "agent-0"] {
        assert_eq!(says(&child, OTHER, &container(scene, short)), "other");
    }
    assert_eq!(scene.picture(), before, "{:?}", scene.events(&since));
}

fn an_added_agent_has_them_too(scene: &Scene) {
    apply(scene, 2, &format!("preloadImages: [\"{APP}\"]"));
    assert_eq!(says(&scene.child("c"), APP, &container(scene, "agent-1")), "first");
    apply(scene, 1, &format!("preloadImages: [\"{APP}\"]"));
}

fn a_node_that_lost_its_data_gets_them_again(scene: &Scene) {
    let agent = container(scene, "agent-0");
    let id = docker(&["inspect", "-f", "{{.Id}}", &agent]);
    let mounts = docker(&["inspect", "-f", "{{range .Mounts}}{{.Name}} {{end}}", &agent]);
    docker(&["rm", "-f", &agent]);
    for volume in mounts.split_whitespace() {
        // The operator may remove the volumes first; the data is lost in any case.
        let _ = try_docker(&["volume", "rm", "-f", volume]);
    }
    eventually(LIMIT, "the agent is recreated", || {
        let now = try_docker(&["inspect", "-f", "{{.Id}}", &agent])?;
        holds(now != id, || now)?;
        crate::live::scene::is_ready(&scene.try_get("lc/c")?)
    });
    assert_eq!(says(&scene.child("c"), APP, &agent), "first");
}

fn a_rebuilt_image_is_imported_again(scene: &Scene) {
    apply(scene, 1, &format!("preloadImages: [\"{APP}\"]"));
    let target = |node: &str| {
        let ctr = ["ctr", "-a", "/run/k3s/containerd/containerd.sock", "-n", "k8s.io", "images", "ls"];
        let list = docker(&[&["exec", node], &ctr[..]].concat());
        let line = list.lines().find(|l| l.starts_with(APP)).unwrap_or_else(|| panic!("{list}"));
        line.split_whitespace().nth(2).expect("a digest").to_owned()
    };
    let nodes = ["server-0", "agent-0"].map(|short| container(scene, short));
    let before = nodes.each_ref().map(|node| target(node));
    // Nothing else tells the operator: it is reconciled every five minutes otherwise.
    build(APP, "second");
    for (node, before) in nodes.iter().zip(&before) {
        eventually(60, "the new image is in the node", || {
            let now = target(node);
            holds(now != *before, || now)
        });
    }
    for short in ["server-0", "agent-0"] {
        assert_eq!(says(&scene.child("c"), APP, &container(scene, short)), "second");
    }
    build(APP, "first");
    apply(scene, 1, &format!("preloadImages: [\"{APP}\"]"));
}

fn a_missing_image_is_reported(scene: &Scene) {
    const NONE: &str = "localhost/e2e-nobody-has:1";
    put(scene, 1, &format!("preloadImages: [\"{APP}\", \"{NONE}\"]"));
    let said = scene.reason("lc/c", "ImagesReady", "ImagePullFailed");
    assert!(said.contains(NONE), "{said}");
    let ready = condition(&scene.get("lc/c"), "Ready").expect("it is in the status");
    assert_eq!((&ready["status"], &ready["reason"]), (&"False".into(), &"ImagePullFailed".into()));
    // The image on the host is found.
    build(NONE, "here");
    scene.ready("lc/c");
    assert_eq!(says(&scene.child("c"), NONE, &container(scene, "agent-0")), "here");
    docker(&["rmi", NONE]);
    // What is in the nodes stays there.
    apply(scene, 1, &format!("preloadImages: [\"{NONE}\"]"));
    assert_eq!(says(&scene.child("c"), NONE, &container(scene, "server-0")), "here");
}

/// Kubelets of v1.35 and later refuse an image that they did not pull if it has the ID of an image that they pulled
/// under another name.
fn an_image_that_was_pulled_by_another_name_runs(scene: &Scene) {
    scene.apply("Registry", "r", "{}");
    let with = |images: &str| format!("registries: {{use: [{{name: r}}]}}, preloadImages: [{images}]");
    apply(scene, 1, &with(&format!("\"{APP}\"")));
    let host = scene.get("lreg/r")["status"]["host"].as_str().expect("the status has its host").to_owned();
    let pushed = format!("{host}/e2e/pulled:1");
    docker(&["tag", APP, &pushed]);
    docker(&["push", "-q", &pushed]);
    docker(&["rmi", &pushed]);
    let child = scene.child("c");
    for short in ["server-0", "agent-0"] {
        let node = container(scene, short);
        // The kubelet pulls it under its name in the registry.
        let name = format!("pulled-{short}");
        child.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: {node}, \
             terminationGracePeriodSeconds: 1, containers: [{{name: c, image: \"{pushed}\"}}]}}}}"
        ));
        child.run(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=90s"]);
        let records = docker(&[
            "exec",
            &node,
            "sh",
            "-c",
            "cat /var/lib/kubelet/image_manager/pulled/* 2>/dev/null || true",
        ]);
        println!("        {node} keeps {} records of pulls", records.lines().count());
        // Both before and afterwards.
        assert_eq!(says(&child, APP, &node), "first", "{node}");
    }
    // Another image that is only added now, with the same content and a third name.
    const SAME: &str = "localhost/e2e-preloaded-same:1";
    docker(&["tag", APP, SAME]);
    apply(scene, 1, &with(&format!("\"{APP}\", \"{SAME}\"")));
    for short in ["server-0", "agent-0"] {
        assert_eq!(says(&child, SAME, &container(scene, short)), "first");
    }
    child.run(&["delete", "pod", "pulled-server-0", "pulled-agent-0", "--now"]);
    docker(&["rmi", SAME]);
    apply(scene, 1, &format!("preloadImages: [\"{APP}\"]"));
    scene.run(&["delete", "lreg/r", &format!("--timeout={LIMIT}s")]);
}
