//! A large image, from `docker push` on the host to a Pod that runs, on one node and on three, pulled from a registry
//! directly, through a pull-through cache that has never seen it, and through one that has.

use serde_json::Value;

use crate::{
    Scale,
    clock::timed,
    figures::Report,
    live::{
        Kubectl,
        cluster::container,
        docker, eventually, http,
        registries::{Setup, Upstream, join_registry},
        scene::Scene,
        try_docker,
    },
    noise::{Built, forget},
    small_cluster,
};

const MANIFEST: &str = "Accept: application/vnd.docker.distribution.manifest.v2+json\r\n";

/// Measures it.
pub fn run(scale: &Scale, report: &mut Report) {
    let scene = Scene::new("pulls");
    let upstream = Upstream::start(&format!("{}-upstream", scene.namespace), &Setup::default());
    scene.apply("Registry", "r", "{}");
    let proxy = format!("{{proxy: {{remoteURL: \"http://{}\"}}}}", upstream.inside());
    scene.apply("Registry", "cache", &proxy);
    join_registry(&scene, "cache", &upstream.name);
    let uses = "registries: {use: [{name: r}, {name: cache}]}";
    scene.apply("LocalCluster", "c", &small_cluster(2, uses));
    for object in ["lreg/r", "lreg/cache", "lc/c"] {
        scene.ready(object);
    }

    let size = scale.size.unwrap_or(200);
    let bench = Pulls { scene: &scene, child: scene.child("c"), upstream: &upstream, size };
    let mut seconds = Seconds::default();
    for round in 0..scale.rounds.unwrap_or(1) {
        bench.round(round, &mut seconds);
    }
    report.seconds(&format!("push of {size} MB to the registry"), &seconds.push);
    report.compared(
        &format!("push of {size} MB to the upstream"),
        &seconds.push_upstream,
        &format!("push of {size} MB to the registry"),
    );
    for (nodes, pulls) in [("1 node", &seconds.one), ("3 nodes", &seconds.three)] {
        let direct = format!("{size} MB directly, {nodes}");
        report.seconds(&direct, &pulls.direct);
        report.compared(&format!("{size} MB through a cache without it, {nodes}"), &pulls.cold, &direct);
        report.compared(&format!("{size} MB through a cache with it, {nodes}"), &pulls.warm, &direct);
    }
    scene.end();
}

/// What all rounds took.
#[derive(Default)]
struct Seconds {
    push: Vec<f64>,
    push_upstream: Vec<f64>,
    one: OnNodes,
    three: OnNodes,
}

/// What Pods took on as many nodes.
#[derive(Default)]
struct OnNodes {
    direct: Vec<f64>,
    cold: Vec<f64>,
    warm: Vec<f64>,
}

struct Pulls<'a> {
    scene: &'a Scene,
    child: Kubectl,
    upstream: &'a Upstream,
    /// In megabytes.
    size: u64,
}

impl Pulls<'_> {
    fn round(&self, round: usize, seconds: &mut Seconds) {
        let nodes = ["server-0", "agent-0", "agent-1"].map(|short| container(self.scene, short));
        let one = &nodes[..1];
        let host =
            self.scene.get("lreg/r")["status"]["host"].as_str().expect("a registry has a host").to_owned();
        let image = format!("{host}/bench/direct:{round}");
        seconds.push.push(self.push(&image));
        seconds.one.direct.push(self.pods_run(&image, one));
        seconds.three.direct.push(self.pods_run(&image, &nodes));

        // One image each: the second pull would find the first one's in the cache.
        let path = format!("bench/one:{round}");
        seconds.push_upstream.push(self.push(&format!("{}/{path}", self.upstream.host())));
        seconds.one.cold.push(self.pods_run(&format!("{}/{path}", self.upstream.inside()), one));
        let path = format!("bench/three:{round}");
        seconds.push_upstream.push(self.push(&format!("{}/{path}", self.upstream.host())));
        let image = format!("{}/{path}", self.upstream.inside());
        seconds.three.cold.push(self.pods_run(&image, &nodes));

        self.cached("bench/three", round);
        seconds.one.warm.push(self.pods_run(&image, one));
        seconds.three.warm.push(self.pods_run(&image, &nodes));
    }

    /// Builds and pushes an image; returns the seconds of the push.
    fn push(&self, image: &str) -> f64 {
        let built = Built::new(image, self.size);
        timed(|| drop(docker(&["push", "-q", built.0])))
    }

    /// Runs a Pod on each node at once, and returns the seconds until all of them run. Nothing of it stays on the nodes.
    fn pods_run(&self, image: &str, nodes: &[String]) -> f64 {
        let pod = |(number, node): (usize, &String)| {
            format!(
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: bench-{number}}}, spec: {{nodeName: {node}, \
                 terminationGracePeriodSeconds: 0, containers: \
                 [{{name: c, image: \"{image}\", imagePullPolicy: Always}}]}}}}\n"
            )
        };
        let pods: String = nodes.iter().enumerate().map(pod).collect();
        let seconds = timed(|| {
            self.child.apply(&pods);
            self.child.run(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=300s"]);
        });
        self.child.run(&["delete", "pod", "--all", "--now"]);
        for node in nodes {
            forget(node, image);
        }
        seconds
    }

    /// Waits until the cache has an image: it answers its first client before it has written what it passes on.
    fn cached(&self, repository: &str, tag: usize) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer =
            http("GET", self.upstream.port.into(), &path, MANIFEST).unwrap_or_else(|e| panic!("{e}"));
        let manifest: Value = serde_json::from_str(&answer.body).expect("a manifest is JSON");
        let digest = manifest["layers"][0]["digest"].as_str().and_then(|d| d.strip_prefix("sha256:"));
        let digest = digest.expect("the image has a layer");
        let blob =
            format!("/var/lib/registry/docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]);
        eventually(60, &format!("the cache has {repository}"), || {
            try_docker(&["exec", &self.scene.registry("cache"), "test", "-s", &blob])
        });
    }
}
