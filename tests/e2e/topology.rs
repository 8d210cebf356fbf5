//! The operator where it has no route to what it creates: as a plain container on another network than the clusters.
//! Docker isolates networks from each other, and the published ports on 127.0.0.1 are those of the host.

use std::fs;

use crate::{
    cluster::container,
    live::{
        Foreign, docker, docker_logs, eventually,
        harness::Group,
        holds, inspect, install,
        operator::{Absence, settings},
        scene::Scene,
        scratch, world,
    },
};

pub const GROUP: Group = Group {
    name: "topology",
    setup: || {
        install();
        Scene::new("topo")
    },
    tests: &[("operator_without_a_route", operator_without_a_route)],
};

/// Path of the forwarder in containers.
const FORWARDER: &str = "localcluster-forward";

/// Returns the number of forwarders in a container.
fn forwarders(container: &str) -> usize {
    docker(&["top", container, "-eo", "pid,args"]).lines().filter(|l| l.contains(FORWARDER)).count()
}

/// Starts the operator as a container, with more arguments of `docker run`. It reaches the API of the management cluster
/// at `server`.
pub fn start(name: &str, server: &str, more: &[String]) -> Foreign {
    let kubeconfig = fs::read_to_string(world("KUBECONFIG")).expect("it can be read");
    let lines = kubeconfig.lines().map(|line| match line.trim_start().strip_prefix("server:") {
        Some(_) => format!("{}server: {server}", &line[..line.len() - line.trim_start().len()]),
        None => line.to_owned(),
    });
    let file = scratch(&format!("{name}.kubeconfig"));
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("it can be written");
    let mount = format!("{}:/kubeconfig:ro", file.display());
    let env = settings().map(|(name, value)| format!("{name}={value}"));
    let mut args = vec!["--user", "0:0", "-e", "KUBECONFIG=/kubeconfig", "-v", &mount];
    args.extend(env.iter().flat_map(|setting| ["-e", setting]));
    args.extend(more.iter().map(String::as_str));
    Foreign::of_image(&world("OPERATOR_IMAGE"), &args, name)
}

/// Starts the operator beside the Node of the management cluster. It does not know that it could be on that Node.
fn beside(name: &str) -> Foreign {
    let management = inspect(&world("MGMT_NODE")).expect("the management cluster runs");
    let networks = management["NetworkSettings"]["Networks"].as_object().expect("it is on a network");
    let (network, endpoint) = networks.iter().next().expect("it is on a network");
    let server = format!("https://{}:6443", endpoint["IPAddress"].as_str().expect("it has an address"));
    let socket = world("DOCKER_HOST").trim_start_matches("unix://").to_owned();
    let more =
        ["--network".to_owned(), network.clone(), "-v".to_owned(), format!("{socket}:/var/run/docker.sock")];
    start(name, &server, &more)
}

fn operator_without_a_route(scene: &Scene) {
    let _absence = Absence::begin();
    let name = format!("{}-operator", scene.namespace);
    let _operator = beside(&name);
    scene.apply("Registry", "r", "{}");
    let spec = "{servers: {count: 1, args: [\"--disable=traefik,metrics-server,servicelb\"]}, \
                registries: {use: [{name: r}]}}";
    scene.apply("LocalCluster", "c", spec);
    scene.ready("lreg/r");
    scene.ready("lc/c");
    let log = docker_logs(&name);
    for connected in ["connected to the API of the cluster", "connected to the registry"] {
        assert!(log.contains(connected), "{log}");
    }
    let balancer = container(scene, "serverlb");
    let registry = scene.registry("r");
    assert_eq!((forwarders(&balancer), forwarders(&registry)), (1, 1), "{log}");

    // Nothing runs on in the containers without the operator.
    docker(&["kill", &name]);
    eventually(90, "the forwarders have ended", || {
        let left = forwarders(&balancer) + forwarders(&registry);
        holds(left == 0, || left.to_string())
    });
    docker(&["start", &name]);
    scene.patch("lc/c", r#"{"agents": {"count": 1}}"#);
    scene.ready("lc/c");
    docker(&["restart", "-t", "0", &balancer]);
    scene.patch("lc/c", r#"{"agents": {"count": 0}}"#);
    scene.ready("lc/c");

    scene.run(&["delete", "lc/c", "lreg/r", "--timeout=120s"]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}
