//! Caches of other registries. The log of the upstream shows its requests.

use std::time::Instant;

use serde_json::Value;

use crate::{
    live::{
        Answer, docker, eventually, holds, http,
        pulls::pulls,
        registries::{Upstream, push},
        scene::{LIMIT, Scene},
        try_docker,
    },
    registries_shared::{Stage, a, b, host, status},
};

/// Returns the digests of everything that an image consists of, from the registry it was pushed to.
fn blobs(registry: &Upstream, name: &str) -> Vec<String> {
    let accept = "Accept: application/vnd.docker.distribution.manifest.v2+json, \
                  application/vnd.oci.image.manifest.v1+json\r\n";
    let path = format!("/v2/e2e/{name}/manifests/1");
    let Answer { body, .. } =
        http("GET", u64::from(registry.port), &path, accept).unwrap_or_else(|e| panic!("{e}"));
    let manifest: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let all = layers.chain([&manifest["config"]]).filter_map(|l| l["digest"].as_str());
    all.map(str::to_owned).collect()
}

/// Waits until a cache has all blobs: it responds to its first client before it has written them.
fn has(container: &str, blobs: &[String]) {
    eventually(60, "the cache has written the image", || {
        for blob in blobs {
            let hex = blob.trim_start_matches("sha256:");
            let dir = "/var/lib/registry/docker/registry/v2/blobs/sha256";
            let file = format!("{dir}/{}/{hex}/data", hex.get(..2).unwrap_or_default());
            try_docker(&["exec", container, "test", "-s", &file])?;
        }
        Ok(())
    });
}

/// Returns the container of a Registry.
fn container(scene: &Scene, registry: &str) -> String {
    let cluster = status(scene, registry)["cluster"].as_str().expect("the status has its name").to_owned();
    cluster.split(':').next().unwrap_or_default().to_owned()
}

/// Pushes to the upstream from this machine, pulls in one cluster, and waits until the cache has the image.
fn cached(scene: &Scene, name: &str) -> String {
    let upstream = &scene.stage::<Stage>().upstream;
    push(&format!("{}/e2e/{name}:1", upstream.host()), None).unwrap_or_else(|e| panic!("{e}"));
    let image = format!("{}/e2e/{name}:1", upstream.inside());
    let (child, node) = a(scene);
    pulls(&child, &image, &node);
    assert!(upstream.requests(&[&format!("/e2e/{name}/blobs/")]) > 0, "the upstream's log is empty");
    has(&container(scene, "cache"), &blobs(upstream, name));
    image
}

pub fn second_cluster_hits_the_cache(scene: &Scene) {
    let upstream = &scene.stage::<Stage>().upstream;
    let image = cached(scene, "cached");
    let used = scene.get("lc/a")["status"]["registries"].clone();
    assert!(used.to_string().contains(&upstream.inside()), "the status has no mirror for it: {used}");

    // The images are in a volume, so another container of the cache has them.
    docker(&["rm", "-f", &container(scene, "cache")]);
    let port = status(scene, "cache")["hostPort"].as_u64().expect("the status has its port");
    eventually(LIMIT, "the cache is back", || http("GET", port, "/v2/", "").map(drop));
    scene.ready("lreg/cache");

    let blobs = ["/e2e/cached/blobs/"];
    let before = upstream.requests(&blobs);
    let (child, node) = b(scene);
    let began = Instant::now();
    pulls(&child, &image, &node);
    println!("        the second cluster's Pod ran after {:.2} s", began.elapsed().as_secs_f32());
    assert_eq!(upstream.requests(&blobs) - before, 0, "the upstream was asked for blobs again");
}

pub fn upstream_down(scene: &Scene) {
    let upstream = &scene.stage::<Stage>().upstream;
    let image = cached(scene, "gone");
    upstream.control("stop");
    // As when a host starts that is offline.
    let cache = container(scene, "cache");
    docker(&["restart", &cache]);
    let why = scene.reason("lreg/cache", "UpstreamReady", "UpstreamUnreachable");
    assert!(why.starts_with("only cached images can be pulled: "), "{why}");
    scene.ready("lreg/cache");
    let (child, node) = b(scene);
    pulls(&child, &image, &node);
    upstream.control("start");
    eventually(30, "the upstream is back", || http("GET", u64::from(upstream.port), "/v2/", "").map(drop));
    eventually(30, "the cache goes back to it", || {
        let log = try_docker(&["logs", "--tail=20", &cache])?;
        holds(log.contains("localcluster: the upstream registry answers again"), || log)
    });
    let port = status(scene, "cache")["hostPort"].as_u64().expect("the status has its port");
    eventually(LIMIT, "the cache answers", || http("GET", port, "/v2/", "").map(drop));
}

pub fn push_to_a_cache_is_refused(scene: &Scene) {
    let port = status(scene, "cache")["hostPort"].as_u64().expect("the status has its port");
    let answer = http("POST", port, "/v2/e2e/pushed/blobs/uploads/", "").unwrap_or_else(|e| panic!("{e}"));
    assert!(answer.status == 405 && answer.body.contains("unsupported"), "{} {}", answer.head, answer.body);
    // `docker push` only fails after a minute of retries; this client fails at once.
    let image = format!("docker://{}/e2e/pushed:1", host(scene, "cache"));
    let tar = format!("docker-archive:{}", crate::live::world("HTTP_TAR"));
    let copy = ["copy", "-q", "--retry-times=0", "--dest-tls-verify=false", &tar, &image];
    let why = crate::live::command("skopeo", &copy, "").expect_err("a cache takes nothing");
    assert!(why.contains("unsupported"), "{why}");
}

pub fn cache_logs_in(scene: &Scene) {
    let Stage { closed, door, tokens, .. } = scene.stage();
    let path = "e2e/closed:1";
    let answer = http("GET", u64::from(closed.port), "/v2/", "").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(answer.status, 401, "it lets in everyone");
    push(&format!("{}/{path}", door.host()), None).unwrap_or_else(|e| panic!("{e}"));
    let image = format!("{}/{path}", closed.inside());
    let blobs = ["/e2e/closed/blobs/"];
    let (child, node) = a(scene);
    pulls(&child, &image, &node);
    let asked = tokens.log();
    assert!(asked.lines().any(|l| l.contains("known=true") && l.contains("e2e/closed:pull")), "{asked}");
    has(&container(scene, "closed"), &self::blobs(door, "closed"));
    let before = closed.requests(&blobs);
    assert!(before > 0, "the upstream's log is empty");
    let (child, node) = b(scene);
    pulls(&child, &image, &node);
    let again = closed.requests(&blobs) - before;
    holds(again == 0, || format!("{again} requests for blobs")).unwrap_or_else(|e| panic!("{e}"));
}
