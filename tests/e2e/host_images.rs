//! Images of the Docker host that nodes get when they ask for them. The operator is the Pod: its program has to run in the
//! load balancer.

use crate::{
    cluster::{container, push},
    live::{Kubectl, docker, eventually, holds, now, operator::Absence, scene::Scene, world},
};

/// No registry has this name, and no list.
const APP: &str = "e2e-host-image:1";

fn build(said: &str) {
    let dockerfile = format!(
        "FROM {}\nENTRYPOINT [\"sh\", \"-c\", \"echo {said}; trap 'exit 0' TERM; sleep 2147483 & wait\"]\n",
        world("BUSYBOX_IMAGE")
    );
    crate::live::build(APP, "-", &dockerfile);
}

/// Runs a Pod on a node, and returns what it says.
fn says(child: &Kubectl, node: &str, policy: &str) -> String {
    child.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: from-host}}, spec: {{nodeName: {node}, \
         terminationGracePeriodSeconds: 1, containers: [{{name: c, image: \"{APP}\", imagePullPolicy: {policy}}}]}}}}"
    ));
    let ready = child.attempt(&["wait", "--for=condition=Ready", "pod/from-host", "--timeout=60s"]);
    let ready = ready.map_err(|e| format!("{e}\n{}", child.run(&["describe", "pod/from-host"])));
    ready.unwrap_or_else(|e| panic!("{APP} on {node}: {e}"));
    let said = eventually(20, "the Pod says something", || {
        let said = child.attempt(&["logs", "from-host"])?;
        holds(!said.is_empty(), || "nothing yet".into()).map(|()| said)
    });
    child.run(&["delete", "pod/from-host", "--now"]);
    said
}

pub fn images_of_the_docker_host(scene: &Scene) {
    let child = scene.child("c");
    let nodes = ["server-0", "agent-0"].map(|short| container(scene, short));
    build("first");
    let (since, before) = (now(), scene.picture());
    scene.patch("lc/c", "{\"images\": {\"fromDockerHost\": true}}");
    scene.ready("lc/c");
    eventually(30, "the nodes ask the operator first", || {
        let file = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d/_default/hosts.toml";
        nodes.iter().try_for_each(|node| {
            let text = crate::live::try_docker(&["exec", node, "cat", file])?;
            holds(text.contains(":6444/v2\"]"), || text)
        })
    });
    for node in &nodes {
        assert_eq!(says(&child, node, "IfNotPresent"), "first", "{node}");
    }
    build("second");
    for node in &nodes {
        assert_eq!(says(&child, node, "Always"), "second", "{node}");
    }
    // A registry in use, which the host has nothing of.
    let run = |name: &str| {
        let image = push(scene, name);
        let on = format!(r#"{{"apiVersion": "v1", "spec": {{"nodeName": "{}"}}}}"#, nodes[1]);
        child.run(&["run", name, &format!("--image={image}"), &format!("--overrides={on}")]);
        child.run(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=120s"]);
        child.run(&["delete", "pod", name, "--now"]);
    };
    run("with-operator");
    let absence = Absence::begin();
    run("without-operator");
    drop(absence);
    // The next operator listens again.
    build("third");
    eventually(60, "the image is imported by the next operator", || {
        let said = says(&child, &nodes[0], "Always");
        holds(said == "third", || said)
    });
    assert_eq!(scene.picture(), before, "{:?}", scene.events(&since));
    scene.patch("lc/c", "{\"images\": null}");
    scene.ready("lc/c");
    docker(&["rmi", APP]);
}
