//! A cluster behind a proxy: it reaches hosts outside through the proxy, and requests nothing inside from it.

use serde_json::{Value, json};

use crate::{
    cluster::{container, nodes_are_ready, push},
    live::{
        docker, eventually,
        harness::Group,
        holds,
        http_proxy::HttpProxy,
        install,
        registries::{Setup, Upstream},
        scene::{LIMIT, Scene, condition, is_ready},
        world,
    },
};

pub const GROUP: Group = Group {
    name: "proxy",
    setup,
    tests: &[
        ("outside_images_are_pulled_through_it", outside_images_are_pulled_through_it),
        ("inside_hosts_bypass_it", inside_hosts_bypass_it),
        ("later_agents_and_registries_replace_nothing", later_ones_replace_nothing),
    ],
};

/// A registry outside, which is only reachable through the proxy.
const OUTSIDE: &str = "outside.e2e.test:5000";

struct Stage {
    proxy: HttpProxy,
    upstream: Upstream,
}

/// Applies the cluster with this many agents, these registries, and these entries in NO_PROXY of its pools.
fn apply(scene: &Scene, agents: usize, registries: &[&str], past: Option<&str>) {
    // The Docker host, under its name in nodes.
    let proxy = format!("http://host.k3d.internal:{}", scene.stage::<Stage>().proxy.port);
    let mut env =
        vec![json!({"name": "HTTP_PROXY", "value": proxy}), json!({"name": "https_proxy", "value": proxy})];
    env.extend(past.map(|past| json!({"name": "NO_PROXY", "value": past})));
    let used: Vec<Value> = registries.iter().map(|name| json!({"name": name})).collect();
    let spec = json!({
        "servers": {"count": 1, "args": ["--disable=traefik,metrics-server,servicelb"], "env": env},
        "agents": {"count": agents, "env": env},
        "registries": {
            "use": used, "mirrors": [{"registry": OUTSIDE, "endpoints": [format!("http://{OUTSIDE}")]}],
        },
    });
    scene.apply("LocalCluster", "c", &spec.to_string());
}

fn setup() -> Scene {
    install();
    let scene = Scene::new("proxy");
    let upstream = Upstream::start(&format!("{}-outside", scene.namespace), &Setup::default());
    let proxy = HttpProxy::start(&[(OUTSIDE, upstream.port)]);
    let scene = scene.with(Stage { proxy, upstream });
    scene.apply("Registry", "r", "{}");
    apply(&scene, 1, &["r"], None);
    scene.ready("lc/c");
    scene
}

/// Runs a Pod with an image on a node, reads its log and executes a command in it.
fn runs(scene: &Scene, name: &str, image: &str, node: &str) {
    let child = scene.child("c");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": image, "command": ["sh", "-c", "echo said; sleep 3600"]}],
        },
    });
    child.apply(&pod.to_string());
    let ready = child.attempt(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=90s"]);
    ready.unwrap_or_else(|e| panic!("{e} {}", child.run(&["describe", "pod", name])));
    // The path from the API server to the kubelet.
    assert_eq!(child.run(&["logs", name]), "said");
    assert_eq!(child.run(&["exec", name, "--", "echo", "executed"]), "executed");
    child.run(&["delete", "pod", name, "--now"]);
}

fn outside_images_are_pulled_through_it(scene: &Scene) {
    let Stage { proxy, upstream } = scene.stage();
    let image = format!("{}/e2e/outside:1", upstream.host());
    docker(&["tag", &world("HTTP_IMAGE"), &image]);
    docker(&["push", "-q", &image]);
    docker(&["rmi", &image]);
    for node in ["server-0", "agent-0"] {
        runs(scene, &format!("outside-{node}"), &format!("{OUTSIDE}/e2e/outside:1"), &container(scene, node));
    }
    assert!(proxy.asked().iter().any(|place| place == OUTSIDE), "{:?}", proxy.asked());
}

/// Asserts that the proxy received requests for hosts outside only.
fn nothing_inside_was_asked(scene: &Scene) {
    let mut asked = scene.stage::<Stage>().proxy.asked();
    asked.sort();
    asked.dedup();
    println!("        the proxy was asked for {asked:?}");
    let network =
        docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", &scene.network("c")]);
    let prefix = network.rsplit_once('.').expect("it is an address").0.to_owned();
    let inside = |place: &&String| {
        ["k3d-", "10.42.", "10.43.", "127.", "localhost", "kubernetes", "host.k3d.internal", prefix.as_str()]
            .iter()
            .any(|begin| place.starts_with(begin))
            || place.contains(".svc")
    };
    let inside: Vec<_> = asked.iter().filter(inside).collect();
    assert!(inside.is_empty(), "{inside:?}");
}

fn inside_hosts_bypass_it(scene: &Scene) {
    let image = push(scene, "inside");
    for node in ["server-0", "agent-0"] {
        runs(scene, &format!("inside-{node}"), &image, &container(scene, node));
    }
    // The agent joins again and the server starts again.
    for node in ["agent-0", "server-0"] {
        docker(&["restart", &container(scene, node)]);
        eventually(LIMIT, "it works again", || {
            nodes_are_ready(&scene.child("c"), 2, &world("NODE_VERSION"))?;
            is_ready(&scene.try_get("lc/c")?)
        });
    }
    runs(scene, "again", &image, &container(scene, "agent-0"));
    nothing_inside_was_asked(scene);
}

fn later_ones_replace_nothing(scene: &Scene) {
    let ids = || -> Vec<(String, String)> {
        let picture = scene.picture();
        ["server-0", "agent-0"]
            .map(|n| container(scene, n))
            .map(|n| (n.clone(), picture[&n].id.clone()))
            .into()
    };
    let before = ids();
    apply(scene, 2, &["r"], None);
    scene.ready("lc/c");
    assert_eq!(ids(), before, "an agent more");
    scene.apply("Registry", "later", "{}");
    apply(scene, 2, &["r", "later"], None);
    let said = scene.reason("lc/c", "RegistriesReady", "RegistryBehindProxy");
    println!("        {said}");
    let hostname =
        scene.get("lreg/later")["status"]["cluster"].as_str().expect("it is in the status").to_owned();
    let (hostname, _) = hostname.split_once(':').expect("it has a port");
    assert!(said.contains(hostname) && said.contains("NO_PROXY"), "{said}");
    assert_eq!(ids(), before, "a registry more");
    assert!(condition(&scene.get("lc/c"), "Ready").is_ok_and(|c| c["reason"] == "RegistryBehindProxy"));
    // As its message says.
    apply(scene, 2, &["r", "later"], Some(hostname));
    scene.ready("lc/c");
    assert!(ids().iter().zip(&before).all(|(now, before)| now != before), "they were replaced");
    for node in ["server-0", "agent-0", "agent-1"] {
        let env = docker(&["inspect", "-f", "{{join .Config.Env \" \"}}", &container(scene, node)]);
        assert!(env.contains(&format!("NO_PROXY={hostname},localhost,")), "{env}");
    }
    nothing_inside_was_asked(scene);
    apply(scene, 1, &["r"], None);
    scene.ready("lc/c");
    scene.run(&["delete", "lreg/later", &format!("--timeout={LIMIT}s")]);
    eventually(60, "it is gone", || holds(scene.try_get("lreg/later").is_err(), || "still there".to_owned()));
}
