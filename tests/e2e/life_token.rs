//! The credentials of a running cluster change: the certificate of its admin, and the token with which nodes join.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use crate::{
    cluster::{container, nodes_are_ready},
    life::TOKENS,
    live::{
        command, docker, docker_logs, eventually, holds,
        scene::{LIMIT, Scene, is_ready},
        world,
    },
};

pub fn the_kubeconfig_follows_the_server(scene: &Scene) {
    let certificate = || {
        let file = scene.kubeconfig("c", "kubeconfig");
        let line = file.lines().find(|l| l.contains("client-certificate-data")).map(str::to_owned);
        line.expect("a kubeconfig has a certificate")
    };
    let before = certificate();
    // When it starts, K3s renews certificates that expire soon or are missing.
    let server = container(scene, "server-0");
    docker(&["exec", &server, "rm", "/var/lib/rancher/k3s/server/tls/client-admin.crt"]);
    docker(&["restart", &server]);
    eventually(LIMIT, "the Secret has the certificate that the server wrote last", || {
        holds(certificate() != before, || "the old one".to_owned())
    });
    eventually(LIMIT, "it works", || scene.child("c").attempt(&["get", "--raw", "/readyz"]));
    eventually(LIMIT, "the cluster is Ready", || is_ready(&scene.try_get("lc/c")?));
}

/// Returns an error if a node cannot join the cluster with this token, in an unmanaged container. Each node has a
/// name of its own: K3s deletes the password of a deleted node a moment later, and rejects another node with its name
/// until then.
fn joins(scene: &Scene, attempt: &str, token: &str) -> Result<(), String> {
    let name = format!("e2e-joiner-{attempt}-{}", scene.namespace);
    let (host, image) = (world("DOCKER_HOST"), world("NODE_IMAGE"));
    let status = &scene.get("lc/c")["status"];
    let network = status["network"]["name"].as_str().expect("the network is in the status");
    let server = status["endpoints"]["network"].as_str().expect("the endpoint is in the status");
    let cgroup = if docker(&["info", "-f", "{{.CgroupVersion}}"]) == "1" {
        &["--kubelet-arg=fail-cgroupv1=false"][..]
    } else {
        &[]
    };
    let run = ["--host", &host, "run", "-d", "--privileged", "--name", &name, "--hostname", &name];
    let place = ["--network", network, "--tmpfs", "/run", "--tmpfs", "/var/run", &image];
    let agent = ["agent", "--server", server, "--token", token];
    command("docker", &[&run[..], &place, &agent, cgroup].concat(), "")?;
    let child = scene.child("c");
    let joined = catch_unwind(AssertUnwindSafe(|| {
        eventually(90, "it is let in or refused", || {
            if child.attempt(&["get", "node", &name]).is_ok() {
                return Ok(Ok(()));
            }
            let log = docker_logs(&name);
            // By the words, which differ between versions: the number 401 can be part of a timestamp.
            let refusal = |line: &&str| line.contains("Unauthorized") || line.contains("not authorized");
            let refused = log.lines().rev().find(refusal);
            holds(refused.is_some(), || log.lines().last().unwrap_or_default().to_owned())?;
            Ok(Err(refused.unwrap_or_default().to_owned()))
        })
    }));
    docker(&["rm", "-fv", &name]);
    let _ = child.attempt(&["delete", "node", &name, "--ignore-not-found"]);
    joined.unwrap_or_else(|panic| resume_unwind(panic))
}

pub fn the_token_is_rotated(scene: &Scene) {
    let [old, new] = TOKENS;
    let child = scene.child("c");
    child.run(&["create", "configmap", "witness", "--from-literal=said=before"]);
    joins(scene, "before", old).expect("before, a node joins by the first token");
    let ids = || -> BTreeSet<String> {
        ["server-0", "agent-0"].iter().map(|n| scene.picture()[&container(scene, n)].id.clone()).collect()
    };
    let before = ids();
    scene.secret("join", "Opaque", &[("token", new)]);
    eventually(2 * LIMIT, "all nodes are other containers and the cluster is Ready", || {
        is_ready(&scene.try_get("lc/c")?)?;
        let picture = scene.picture();
        let now: BTreeSet<String> = ["server-0", "agent-0"]
            .iter()
            .filter_map(|n| picture.get(&container(scene, n)).map(|c| c.id.clone()))
            .collect();
        holds(now.len() == 2 && now.is_disjoint(&before), || format!("{now:?}"))
    });
    nodes_are_ready(&scene.child("c"), 2, &world("NODE_VERSION")).unwrap_or_else(|e| panic!("{e}"));
    let said = scene.child("c").run(&["get", "configmap", "witness", "-o", "jsonpath={.data.said}"]);
    assert_eq!(said, "before", "the data of the cluster is lost");
    joins(scene, "new", new).expect("a node joins by the new token");
    let refused = joins(scene, "old", old).expect_err("the old token must not let anybody in");
    println!("  of the old token: {}", refused.chars().take(200).collect::<String>());

    // A node that the operator adds joins too.
    scene.run(&["scale", "lc", "c", "--replicas=2"]);
    scene.ready("lc/c");
    nodes_are_ready(&scene.child("c"), 3, &world("NODE_VERSION")).unwrap_or_else(|e| panic!("{e}"));
    scene.run(&["scale", "lc", "c", "--replicas=1"]);
    scene.ready("lc/c");

    // Both tokens are only in files of the nodes and in their Secret.
    let mut texts = vec![
        scene.run(&["get", "lc,lreg,events", "-o", "yaml"]),
        scene.k.run(&["-n", crate::live::SYSTEM, "logs", crate::live::DEPLOYMENT]),
    ];
    for one in scene.containers() {
        texts.push(one.to_string());
        texts.push(docker_logs(crate::live::scene::name(&one)));
    }
    for token in TOKENS {
        assert!(!texts.iter().any(|text| text.contains(token)), "{token} is readable by everyone");
    }
}
