//! A changed image, from the end of its build on the Docker host until a Pod runs it, in each way that brings it into a
//! cluster of one node. All of them get an image with the same name and other content. What others are compared with is an
//! archive that containerd imports, as `k3d image import` and `kind load` do; with K3D= and KIND=, their programs do it too.

use crate::{
    Scale,
    clock::{promptly, timed},
    figures::Report,
    live::{Kubectl, cluster::container, docker, holds, scene::Scene, try_docker},
    noise::{Built, forget},
    small_cluster,
    tools::{self, Made, Other},
};

/// How long an image may take, in seconds.
const LIMIT: u64 = 300;
/// What all others are compared with.
const BASE: &str = "docker save | ctr import";
/// Nodes get it when they ask for it. No registry has the name.
const SERVED: &str = "bench-served:1";
/// The operator imports it into the nodes. No node pulls it.
const PRELOADED: &str = "localhost/bench-preloaded:1";
/// Tools import it.
const IMPORTED: &str = "localhost/bench-imported:1";

/// Measures it.
pub fn run(scale: &Scale, report: &mut Report) {
    let name = format!("images-{:x}", std::process::id());
    let mut tools = vec![(BASE, tools::docker_run(&name))];
    tools.extend(Other::given().iter().map(|other| (other.name, other.make(&name))));
    let scene = Scene::new("images");
    scene.apply("Registry", "r", "{}");
    let uses = "images: {fromDockerHost: true}, registries: {use: [{name: r}]}";
    let preloaded = Built::new(PRELOADED, 1);
    scene.apply("LocalCluster", "c", &small_cluster(0, &format!("preloadImages: [\"{PRELOADED}\"], {uses}")));
    for object in ["lreg/r", "lc/c"] {
        scene.ready(object);
    }
    let sizes = scale.size.map_or_else(|| vec![10, 1000], |size| vec![size]);
    let bench = Images { child: scene.child("c"), node: container(&scene, "server-0"), scene: &scene };
    // What has to start or to be found out for the first image is not measured.
    for (_, made) in &tools {
        promptly(LIMIT, "the default service account", || {
            made.kubectl.attempt(&["get", "serviceaccount", "default"])
        });
        imported(made, 1);
    }
    for (_, way) in WAYS {
        way(&bench, 1);
    }
    for size in sizes {
        println!("{size} MB: {}", tools::machine());
        bench.measure(size, scale.rounds.unwrap_or(3), &tools, report);
    }
    scene.end();
    drop(preloaded);
}

/// Returns the seconds that an image of as many megabytes takes.
type Way = fn(&Images<'_>, u64) -> f64;

/// The ways of the operator.
const WAYS: [(&str, Way); 3] = [
    ("push and pull", |images, size| images.pushed(size)),
    ("preloadImages", |images, size| images.preloaded(size)),
    ("images.fromDockerHost", |images, size| images.served(size)),
];

/// The cluster, and what it is made with.
struct Images<'a> {
    scene: &'a Scene,
    child: Kubectl,
    node: String,
}

impl Images<'_> {
    fn measure(&self, size: u64, rounds: usize, tools: &[(&str, Made<'_>)], report: &mut Report) {
        let base = format!("{size} MB, {BASE}");
        for (tool, made) in tools {
            let seconds: Vec<f64> = (0..rounds).map(|_| imported(made, size)).collect();
            let case = format!("{size} MB, {tool}");
            if case == base {
                report.seconds(&case, &seconds);
            } else {
                report.compared(&case, &seconds, &base);
            }
        }
        for (name, way) in WAYS {
            let seconds: Vec<f64> = (0..rounds).map(|_| way(self, size)).collect();
            report.compared(&format!("{size} MB, {name}"), &seconds, &base);
        }
    }

    /// Through a Registry.
    fn pushed(&self, size: u64) -> f64 {
        let status = self.scene.get("lreg/r");
        let host = status["status"]["host"].as_str().expect("a registry has a host");
        let image = format!("{host}/bench/pushed:1");
        let built = Built::new(&image, size);
        let seconds = timed(|| {
            docker(&["push", "-q", built.0]);
            runs(&self.child, built.0, "Always");
        });
        ends(&self.child);
        forget(&self.node, built.0);
        seconds
    }

    /// By the operator, which sees that the image of the list has changed.
    fn preloaded(&self, size: u64) -> f64 {
        let target = || {
            let ctr = ["ctr", "-a", "/run/k3s/containerd/containerd.sock", "-n", "k8s.io", "images", "ls"];
            let list = try_docker(&[&["exec", &self.node], &ctr[..]].concat())?;
            let line = list.lines().find(|line| line.starts_with(PRELOADED)).ok_or_else(|| list.clone())?;
            Ok::<_, String>(line.split_whitespace().nth(2).unwrap_or_default().to_owned())
        };
        let before = target().unwrap_or_else(|e| panic!("{e}"));
        Built::replace(PRELOADED, size);
        let seconds = timed(|| {
            promptly(LIMIT, "the operator imports the image", || {
                let now = target()?;
                holds(now != before, || now)
            });
            runs(&self.child, PRELOADED, "Never");
        });
        ends(&self.child);
        seconds
    }

    /// By the kubelet, which asks the operator.
    fn served(&self, size: u64) -> f64 {
        let built = Built::new(SERVED, size);
        let seconds = timed(|| runs(&self.child, built.0, "Always"));
        ends(&self.child);
        forget(&self.node, built.0);
        seconds
    }
}

/// By a tool that takes the image from the Docker host. The one before, which had the same name, goes with it.
fn imported(made: &Made<'_>, size: u64) -> f64 {
    let built = Built::new(IMPORTED, size);
    let seconds = timed(|| {
        (made.bring)(built.0);
        runs(&made.kubectl, built.0, "Never");
    });
    ends(&made.kubectl);
    seconds
}

/// Runs a Pod with an image.
fn runs(kubectl: &Kubectl, image: &str, policy: &str) {
    kubectl.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: image}}, spec: {{terminationGracePeriodSeconds: 0, containers: \
         [{{name: c, image: \"{image}\", imagePullPolicy: {policy}}}]}}}}"
    ));
    kubectl.run(&["wait", "--for=condition=Ready", "pod/image", &format!("--timeout={LIMIT}s")]);
}

/// Removes that Pod.
fn ends(kubectl: &Kubectl) {
    kubectl.run(&["delete", "pod/image", "--now"]);
}
