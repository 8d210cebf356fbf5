//! Invalid specs and faults: each has a condition that says what to do, and recovers when the cause is gone.

use std::net::TcpListener;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    live::{
        Foreign, docker, eventually, free_port,
        harness::Group,
        holds, idle_image, inspect, install,
        registries::{Dir, FIRST, Login, NOBODY, Setup, Upstream, push_from},
        scene::{LIMIT, Scene, condition},
    },
    secrets,
};

pub const GROUP: Group = Group {
    name: "trouble",
    setup,
    tests: &[
        ("image_unknown", image_unknown),
        ("host_port_held_by_a_process", host_port_held_by_a_process),
        ("host_port_held_by_a_container", host_port_held_by_a_container),
        ("name_held_by_a_container", name_held_by_a_container),
        ("name_held_by_a_network", name_held_by_a_network),
        ("subnet_held_by_a_network", subnet_held_by_a_network),
        ("secret_missing", secret_missing),
        ("node_image_behind_a_password", node_image_behind_a_password),
        ("wrong_pull_credentials_delay_nobody_else", wrong_pull_credentials_delay_nobody_else),
        ("registry_missing", registry_missing),
    ],
};

fn setup() -> Scene {
    install();
    Scene::new("bad")
}

/// Returns a cluster whose nodes are containers that only wait, for everything that fails before K3s runs.
pub fn idle_cluster(more: &str) -> String {
    format!("{{image: \"{}\", servers: {{count: 1}}, agents: {{count: 0}}, {more}}}", idle_image())
}

/// Waits until a condition is True.
pub fn becomes_true(scene: &Scene, object: &str, type_: &str) {
    eventually(LIMIT, &format!("{type_} of {object} becomes True"), || {
        let condition = condition(&scene.try_get(object)?, type_)?;
        holds(condition["status"] == "True", || condition.to_string())
    });
}

pub fn delete(scene: &Scene, object: &str) {
    scene.run(&["delete", object, "--timeout=120s"]);
}

/// Asserts that the object is Stalled with this reason and message.
fn stalls(scene: &Scene, object: &str, reason: &str, words: &str) {
    let message = scene.reason(object, "Ready", reason);
    assert!(message.contains(words), "{message}");
    becomes_true(scene, object, "Stalled");
    let warned = || {
        scene.run(&["get", "events", "--field-selector=type=Warning", "-o", "jsonpath={.items[*].reason}"])
    };
    eventually(30, "an Event warns", || holds(warned().contains(reason), warned));
}

fn image_unknown(scene: &Scene) {
    const PASSWORD: &str = "the-pull-secrets-own-password";
    let image = "localhost:1/e2e/none:1";
    let auths = format!(r#"{{"auths": {{"localhost:1": {{"username": "me", "password": "{PASSWORD}"}}}}}}"#);
    let literal = format!("--from-literal=.dockerconfigjson={auths}");
    scene.run(&["create", "secret", "generic", "pull", "--type=kubernetes.io/dockerconfigjson", &literal]);
    let spec = format!("{{image: \"{image}\", imagePullSecret: {{name: pull}}}}");
    scene.apply("LocalCluster", "image", &spec);
    let message = scene.reason("lc/image", "Ready", "ImagePullFailed");
    assert!(message.contains(image), "{message}");
    // Nothing responds there, which may pass without intervention.
    becomes_true(scene, "lc/image", "Reconciling");
    for (place, text) in secrets::places(scene) {
        assert!(!text.contains(PASSWORD), "the pull secret's password is in {place}");
    }
    docker(&["tag", idle_image(), image]);
    let healed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let server = format!("{}-server-0", scene.network("image"));
        eventually(LIMIT, "the server runs once the image is there", || {
            let server = inspect(&server).ok_or("it does not exist")?;
            holds(server["State"]["Running"] == true, || server["State"].to_string())
        });
        delete(scene, "lc/image");
    }));
    docker(&["rmi", image]);
    healed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn host_port_held_by_a_process(scene: &Scene) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = listener.local_addr().expect("it listens").port();
    scene.apply("Registry", "port", &format!("{{hostPort: {port}}}"));
    stalls(scene, "lreg/port", "PortConflict", &port.to_string());
    drop(listener);
    scene.ready("lreg/port");
    delete(scene, "lreg/port");
}

fn host_port_held_by_a_container(scene: &Scene) {
    let port = free_port();
    let name = format!("e2e-holder-{}", scene.namespace);
    let holder = Foreign::container(&["-p", &format!("127.0.0.1:{port}:80")], &name);
    let before = holder.state();
    let ports = format!("ports: [{{name: web, port: 80, hostPort: {port}}}]");
    scene.apply("LocalCluster", "port", &idle_cluster(&ports));
    stalls(scene, "lc/port", "PortConflict", &port.to_string());
    assert_eq!(holder.state(), before);
    drop(holder);
    becomes_true(scene, "lc/port", "LoadBalancerReady");
    delete(scene, "lc/port");
}

fn name_held_by_a_container(scene: &Scene) {
    let name = scene.registry("held");
    let holder = Foreign::container(&[], &name);
    let before = holder.state();
    scene.apply("Registry", "held", "{}");
    stalls(scene, "lreg/held", "NameConflict", &name);
    assert_eq!(holder.state(), before);
    // Deleting the object does not touch it either.
    delete(scene, "lreg/held");
    assert_eq!(holder.state(), before);
    scene.apply("Registry", "held", "{}");
    scene.reason("lreg/held", "Ready", "NameConflict");
    drop(holder);
    scene.ready("lreg/held");
    delete(scene, "lreg/held");
}

fn name_held_by_a_network(scene: &Scene) {
    let name = scene.network("net");
    let holder = Foreign::create("network", &["--subnet", "10.249.1.0/24"], &name);
    let before = holder.state();
    scene.apply("LocalCluster", "net", &idle_cluster(""));
    stalls(scene, "lc/net", "NameConflict", &name);
    assert_eq!(holder.state(), before);
    drop(holder);
    becomes_true(scene, "lc/net", "NetworkReady");
    delete(scene, "lc/net");
}

fn subnet_held_by_a_network(scene: &Scene) {
    let name = format!("e2e-holder-{}", scene.namespace);
    let holder = Foreign::create("network", &["--subnet", "10.231.249.0/24"], &name);
    let before = holder.state();
    scene.apply("LocalCluster", "subnet", &idle_cluster("network: {subnet: 10.231.249.0/24}"));
    stalls(scene, "lc/subnet", "SubnetConflict", &name);
    assert_eq!(holder.state(), before);
    drop(holder);
    becomes_true(scene, "lc/subnet", "NetworkReady");
    delete(scene, "lc/subnet");
}

fn secret_missing(scene: &Scene) {
    scene.apply("LocalCluster", "secret", &idle_cluster("token: {secretName: later}"));
    let message = scene.reason("lc/secret", "Ready", "SecretNotFound");
    assert!(message.contains("later"), "{message}");
    scene.run(&["create", "secret", "generic", "later", "--from-literal=token=0123456789abcdef"]);
    becomes_true(scene, "lc/secret", "ResolvedRefs");
    delete(scene, "lc/secret");
    scene.run(&["get", "secret", "later"]);
}

fn node_image_behind_a_password(scene: &Scene) {
    let private = Upstream::start(
        &format!("{}-private", scene.namespace),
        &Setup { users: &[FIRST], ..Setup::default() },
    );
    let registry = private.host();
    let image = format!("{registry}/e2e/node:1");
    let dir = Dir::new("node");
    dir.write("Dockerfile", &format!("FROM {}\n", idle_image()));
    push_from(&dir, &image, Some(&FIRST)).unwrap_or_else(|e| panic!("{e}"));

    let spec = format!("{{image: \"{image}\", servers: {{count: 1}}, imagePullSecret: {{name: login}}}}");
    scene.apply("LocalCluster", "private", &spec);
    scene.reason("lc/private", "Ready", "SecretNotFound");
    let secret = |login: Login| {
        let login = BASE64_STANDARD.encode(login.docker_config(&registry));
        let name = format!("{{name: login, namespace: {}}}", scene.namespace);
        scene.k.apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {name}, type: kubernetes.io/dockerconfigjson, \
             data: {{.dockerconfigjson: {login}}}}}"
        ));
    };
    secret(NOBODY);
    let message = scene.reason("lc/private", "Ready", "ImagePullFailed");
    assert!(message.contains(&image) && !message.contains(NOBODY.password()), "{message}");
    becomes_true(scene, "lc/private", "Stalled");
    secret(FIRST);
    let server = format!("{}-server-0", scene.network("private"));
    eventually(LIMIT, "the server is made of the image", || {
        let found = inspect(&server).ok_or("no container")?;
        holds(found["Config"]["Image"] == *image, || found["Config"]["Image"].to_string())
    });
    delete(scene, "lc/private");
    docker(&["rmi", &image]);
}

/// The image is the same, and so is the registry.
fn wrong_pull_credentials_delay_nobody_else(scene: &Scene) {
    let private = Upstream::start(
        &format!("{}-theirs", scene.namespace),
        &Setup { users: &[FIRST], ..Setup::default() },
    );
    let registry = private.host();
    let image = format!("{registry}/e2e/theirs:1");
    let dir = Dir::new("theirs");
    dir.write("Dockerfile", &format!("FROM {}\n", idle_image()));
    push_from(&dir, &image, Some(&FIRST)).unwrap_or_else(|e| panic!("{e}"));
    let apply = |name: &str, login: Login| {
        let login = BASE64_STANDARD.encode(login.docker_config(&registry));
        let secret = format!("{{name: {name}-login, namespace: {}}}", scene.namespace);
        scene.k.apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {secret}, type: kubernetes.io/dockerconfigjson, \
             data: {{.dockerconfigjson: {login}}}}}"
        ));
        let spec = format!(
            "{{image: \"{image}\", servers: {{count: 1}}, agents: {{count: 0}}, imagePullSecret: {{name: {name}-login}}}}"
        );
        scene.apply("LocalCluster", name, &spec);
    };
    apply("wrong", NOBODY);
    scene.reason("lc/wrong", "Ready", "ImagePullFailed");
    becomes_true(scene, "lc/wrong", "Stalled");
    apply("right", FIRST);
    let server = format!("{}-server-0", scene.network("right"));
    eventually(LIMIT, "the server is made of the image", || {
        let found = inspect(&server).ok_or("no container")?;
        holds(found["Config"]["Image"] == *image, || found["Config"]["Image"].to_string())
    });
    scene.run(&["delete", "lc/wrong", "lc/right", "--timeout=120s"]);
    docker(&["rmi", &image]);
}

fn registry_missing(scene: &Scene) {
    scene.apply("LocalCluster", "registry", &idle_cluster("registries: {use: [{name: later}]}"));
    let message = scene.reason("lc/registry", "Ready", "RegistryNotFound");
    assert!(message.contains("later"), "{message}");
    scene.apply("Registry", "later", "{}");
    becomes_true(scene, "lc/registry", "ResolvedRefs");
    becomes_true(scene, "lc/registry", "RegistriesReady");
    scene.run(&["delete", "lc/registry", "lreg/later", "--timeout=120s"]);
}
