//! Tests that need an operator with other settings, or a Docker engine that becomes unreachable.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

use crate::{
    live::{
        Foreign, Kubectl, SYSTEM, docker, eventually, free_port,
        harness::Group,
        holds, http_get, install,
        operator::{Operator, Victim},
        pause,
        proxy::Proxy,
        scene::{Scene, condition},
        scratch, world,
    },
    trouble::{becomes_true, delete, idle_cluster},
};

pub const GROUP: Group = Group {
    name: "process",
    setup: || {
        install();
        Scene::new("proc").with_guest(Scene::new("proc2"))
    },
    tests: &[
        ("address_pool_exhausted", address_pool_exhausted),
        ("docker_chooses_no_subnet_with_a_route", docker_chooses_no_subnet_with_a_route),
        ("some_namespaces_need_no_rights_in_others", some_namespaces_need_no_rights_in_others),
        ("orphans_are_removed_if_that_is_wanted", orphans_are_removed_if_that_is_wanted),
        ("docker_goes_and_comes", docker_goes_and_comes),
        ("stuck_objects_cost_little", stuck_objects_cost_little),
    ],
};

fn address_pool_exhausted(scene: &Scene) {
    let victim = Victim::default();
    let proxy = Proxy::new(victim.clone());
    let operator = Operator::new(&proxy.docker_host(), &["--network-pool=10.249.3.0/24"], victim);
    operator.start();
    scene.apply("LocalCluster", "first", &idle_cluster(""));
    becomes_true(scene, "lc/first", "NetworkReady");
    scene.apply("LocalCluster", "second", &idle_cluster(""));
    let message = scene.reason("lc/second", "Ready", "AddressPoolExhausted");
    assert!(message.contains("10.249.3.0/24"), "{message}");
    becomes_true(scene, "lc/second", "Stalled");
    delete(scene, "lc/first");
    becomes_true(scene, "lc/second", "NetworkReady");
    delete(scene, "lc/second");
}

/// A network to which the host is attached, in each /16 that Docker would choose otherwise. Removed on drop.
struct Attached(&'static str);

fn ip(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).status().expect("ip can be run").success()
}

impl Attached {
    fn new(routes: &[Ipv4Net]) -> Self {
        let this = Self("e2e-attached");
        let name = this.0;
        assert!(ip(&format!("link add {name} type bridge")) && ip(&format!("link set {name} up")));
        for route in routes {
            assert!(ip(&format!("route add {route} dev {name}")), "{route}");
        }
        this
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.0));
    }
}

fn docker_chooses_no_subnet_with_a_route(scene: &Scene) {
    let victim = Victim::default();
    let proxy = Proxy::new(victim.clone());
    // In what Docker would choose next. The gateways of its own networks are outside. Not in all that it chooses from:
    // other tests make networks meanwhile.
    let routes: Vec<Ipv4Net> =
        (18..26).map(|n| Ipv4Net::new([172, n, 128, 0].into(), 24).expect("a valid prefix")).collect();
    let _attached = Attached::new(&routes);
    let operator = Operator::new(&proxy.docker_host(), &[], victim).without_pool();
    operator.start();
    scene.apply("LocalCluster", "chosen", &idle_cluster(""));
    becomes_true(scene, "lc/chosen", "NetworkReady");
    let subnet = || {
        docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", &scene.network("chosen")])
    };
    let chosen = subnet();
    let net: Ipv4Net = chosen.parse().expect("a subnet");
    // The whole choice is free of routes, and Docker's choices there are /16.
    let block = Ipv4Net::new(net.addr(), 16).expect("a valid prefix").trunc();
    assert!(!routes.iter().any(|route| block.contains(route)), "{chosen}");
    let status = scene.get("lc/chosen");
    assert_eq!(status["status"]["network"]["subnet"], chosen);
    let label = format!("label=localcluster.dev/owner={}/chosen", scene.namespace);
    let networks = || docker(&["network", "ls", "-q", "--filter", &label]).lines().count();
    assert_eq!(networks(), 1, "no choice is left");
    // It is kept, whatever Docker would choose now.
    operator.kill();
    operator.start();
    docker(&["rm", "-f", &format!("{}-serverlb", scene.network("chosen"))]);
    becomes_true(scene, "lc/chosen", "NetworkReady");
    assert_eq!((subnet(), networks()), (chosen, 1));
    delete(scene, "lc/chosen");
    assert_eq!(networks(), 0);
}

/// Returns a kubeconfig of a ServiceAccount that has what an operator for the namespace of the scene needs.
fn restricted(scene: &Scene) -> PathBuf {
    let (k, namespace) = (&scene.k, scene.namespace.as_str());
    let account = format!("--serviceaccount={namespace}:operator");
    scene.run(&["create", "serviceaccount", "operator"]);
    k.run(&["create", "clusterrolebinding", namespace, "--clusterrole=localcluster-operator", &account]);
    let objects = "--clusterrole=localcluster-operator-objects";
    scene.run(&["create", "rolebinding", "operator", objects, &account]);
    k.run(&["-n", SYSTEM, "create", "rolebinding", namespace, "--role=localcluster-operator", &account]);
    let token = format!("--token={}", scene.run(&["create", "token", "operator"]).trim());
    let path = scratch(&format!("{namespace}-operator.kubeconfig"));
    fs::copy(world("KUBECONFIG"), &path).expect("it can be copied");
    let own = Kubectl::new(path.clone());
    own.run(&["config", "set-credentials", "operator", &token]);
    own.run(&["config", "set-context", "--current", "--user=operator"]);
    path
}

fn some_namespaces_need_no_rights_in_others(scene: &Scene) {
    let (victim, other) = (Victim::default(), scene.guest());
    let proxy = Proxy::new(victim.clone());
    let args = ["--namespaces", scene.namespace.as_str()];
    let operator = Operator::new(&proxy.docker_host(), &args, victim).with_kubeconfig(restricted(scene));
    operator.start();
    other.apply("Registry", "theirs", "{}");
    scene.apply("Registry", "own", "{}");
    let used = format!("registries: {{use: [{{name: theirs, namespace: {}}}]}}", other.namespace);
    scene.apply("LocalCluster", "uses", &idle_cluster(&used));
    scene.ready("lreg/own");
    let message = scene.reason("lc/uses", "ResolvedRefs", "RegistryNotFound");
    let unmanaged = format!("the operator does not manage namespace {}", other.namespace);
    assert!(message.contains(&unmanaged), "{message}");
    let untouched = other.get("lreg/theirs");
    let told = [&untouched["status"]["conditions"], &untouched["metadata"]["finalizers"]];
    assert!(told.iter().all(|told| told.is_null()), "{untouched}");
    delete(scene, "lc/uses");
    delete(scene, "lreg/own");
    assert!(!operator.log().contains("forbidden"), "{}", operator.log());
    delete(other, "lreg/theirs");
    let (k, namespace) = (&scene.k, scene.namespace.as_str());
    k.run(&["delete", "clusterrolebinding", namespace]);
    k.run(&["-n", SYSTEM, "delete", "rolebinding", namespace]);
}

fn orphans_are_removed_if_that_is_wanted(scene: &Scene) {
    let victim = Victim::default();
    let proxy = Proxy::new(victim.clone());
    // They serve the metrics at an address of their own.
    let port = free_port();
    let metrics = format!("--metrics-listen=127.0.0.1:{port}");
    let args = ["--remove-orphans-after=1m", "--resync=10s", &metrics];
    let operator = Operator::new(&proxy.docker_host(), &args, victim);
    operator.start();
    scene.apply("LocalCluster", "gone", &idle_cluster(""));
    scene.apply("Registry", "images", "{}");
    scene.apply("Registry", "stays", "{}");
    becomes_true(scene, "lc/gone", "NetworkReady");
    scene.ready("lreg/images");
    scene.ready("lreg/stays");
    let before = scene.picture();
    let (images, stays) = (scene.registry("images"), scene.registry("stays"));
    // It would add the finalizers again.
    assert!(operator.kill());
    for object in ["lc/gone", "lreg/images"] {
        scene.run(&["patch", object, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
        scene.run(&["delete", object]);
    }
    operator.start();
    eventually(180, "what nobody owns is removed, except for images", || {
        let mut left = scene.in_docker();
        left.retain(|line| !line.contains(&stays));
        holds(left == [format!("volume {images}")], || format!("{left:?}"))
    });
    assert_eq!(scene.picture().get(&stays), before.get(&stays), "{}", operator.log());
    let told = http_get(port.into(), "/metrics").expect("they are served");
    assert!(told.contains("localcluster_orphans"), "{told}");
    let of = format!("{{kind=\"Registry\",namespace=\"{}\",name=\"stays\",", scene.namespace);
    let ready = format!("localcluster_status_condition{of}type=\"Ready\",status=\"true\"}} 1");
    assert!(told.lines().any(|line| line.starts_with(&ready)), "{ready} in {told}");
    let gone = format!("namespace=\"{}\",name=\"gone\"", scene.namespace);
    assert!(!told.contains(&gone), "the series of an object end with it: {told}");
    assert!(told.contains("process_resident_memory_bytes "), "{told}");
    assert!(http_get(port.into(), "/healthz").is_err(), "probes are elsewhere");
    docker(&["volume", "rm", &images]);
    delete(scene, "lreg/stays");
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}

fn docker_goes_and_comes(scene: &Scene) {
    let victim = Victim::default();
    let mut proxy = Proxy::new(victim.clone());
    let operator = Operator::new(&proxy.docker_host(), &[], victim);
    operator.start();
    scene.apply("Registry", "stays", "{}");
    scene.apply("Registry", "goes", "{}");
    scene.ready("lreg/stays");
    scene.ready("lreg/goes");
    let before = scene.picture();

    proxy.close();
    let message = scene.reason("lreg/stays", "Ready", "DockerUnavailable");
    assert!(!message.is_empty());
    scene.run(&["delete", "lreg/goes", "--wait=false"]);
    eventually(60, "the deletion says what it waits for", || {
        let ready = condition(&scene.try_get("lreg/goes")?, "Ready")?;
        let message = ready["message"].as_str().unwrap_or_default();
        holds(message.contains("the deletion waits for Docker"), || ready.to_string())
    });
    scene.apply("Registry", "comes", "{}");
    scene.reason("lreg/comes", "Ready", "DockerUnavailable");

    proxy.open();
    scene.ready("lreg/stays");
    scene.ready("lreg/comes");
    scene.run(&["wait", "--for=delete", "lreg/goes", "--timeout=60s"]);
    let after = scene.picture();
    let stays = scene.registry("stays");
    assert_eq!(after[&stays], before[&stays]);
    scene.run(&["delete", "lreg", "--all", "--timeout=120s"]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}

/// An object that is stuck is reconciled often at first, since a user may be waiting, and then less and less,
/// regardless of other changes on the host.
fn stuck_objects_cost_little(scene: &Scene) {
    const WINDOW: Duration = Duration::from_secs(20);
    let victim = Victim::default();
    let proxy = Proxy::new(victim.clone());
    let operator = Operator::new(&proxy.docker_host(), &[], victim);
    operator.start();
    scene.apply("LocalCluster", "image", "{image: \"localhost:1/e2e/none:1\"}");
    scene.apply("LocalCluster", "secret", &idle_cluster("token: {secretName: never}"));
    // Containers that run without K3s: the operator waits for the API.
    scene.apply("LocalCluster", "silent", &idle_cluster(""));
    scene.reason("lc/image", "Ready", "ImagePullFailed");
    scene.reason("lc/secret", "Ready", "SecretNotFound");
    scene.reason("lc/silent", "Ready", "APINotAnswering");
    // This measures a rate.
    let passes = format!("{}-passes", scene.namespace);
    let calls = [false, false, true].map(|busy| {
        let (before, start) = (proxy.calls(), Instant::now());
        while start.elapsed() < WINDOW {
            if busy {
                drop(Foreign::container(&[], &passes));
            }
            pause(Duration::from_secs(1));
        }
        proxy.calls() - before
    });
    println!("three stuck objects: Docker calls in {} s each: {calls:?}", WINDOW.as_secs());
    // Containers of others lead to few calls more. What the first window has depends on how long the objects were stuck
    // before, so on the load of the machine.
    assert!(calls[2] < 250 && calls[2] < calls[1] * 2, "{calls:?}");
    scene.run(&["delete", "lc", "--all", "--timeout=120s"]);
}
