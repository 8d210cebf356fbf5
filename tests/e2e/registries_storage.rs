//! The storage of a registry, and garbage collection.

use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::{
    live::{
        Answer, docker, eventually,
        harness::Group,
        holds, http, inspect, install,
        operator::{Operator, Victim},
        registries::{Dir, push, push_from},
        scene::{LIMIT, Scene},
        try_docker, world,
    },
    trouble::delete,
};

pub const GROUP: Group = Group {
    name: "storage",
    setup: || {
        install();
        Scene::new("sto")
    },
    tests: &[
        ("host_path_needs_permission", host_path_needs_permission),
        ("host_path_that_is_allowed", host_path_that_is_allowed),
        ("garbage_is_removed_and_pushes_stay", garbage_is_removed_and_pushes_stay),
        ("garbage_is_removed_by_a_schedule", garbage_is_removed_by_a_schedule),
    ],
};

fn container(scene: &Scene, registry: &str) -> String {
    scene.registry(registry)
}

fn at(path: &str) -> String {
    json!({"storage": {"hostPath": path}}).to_string()
}

/// Asserts that the path is refused and nothing is created from it.
fn refused(scene: &Scene, name: &str, path: &str) {
    scene.apply("Registry", name, &at(path));
    let message = scene.reason(&format!("lreg/{name}"), "Ready", "HostPathNotAllowed");
    println!("        {path}: {message}");
    let mounted = inspect(&container(scene, name)).map(|c| c["Mounts"].to_string());
    assert!(mounted.is_none_or(|m| !m.contains(path)), "{path} was mounted");
    delete(scene, &format!("lreg/{name}"));
}

pub fn host_path_needs_permission(scene: &Scene) {
    refused(scene, "none", "/srv/e2e-registry");
}

fn host_path_that_is_allowed(scene: &Scene) {
    let dir = Dir::new("allowed");
    let allowed = dir.path().display().to_string();
    let (inside, link) = (dir.path().join("images"), dir.path().join("link"));
    std::fs::create_dir(&inside).expect("a directory can be created");
    let outside = Dir::new("outside");
    symlink(outside.path(), &link).expect("a link can be created");
    let flag = format!("--allow-host-path={allowed}");
    let operator = Operator::new(&world("DOCKER_HOST"), &[&flag], Victim::default());
    operator.start();
    let (inside, link) = (inside.display().to_string(), link.display().to_string());
    // Beside the allowed directory, outside of it, outside of it through a link, and through a link in the middle.
    for (n, path) in
        [format!("{allowed}-beside"), format!("{allowed}/../out"), link.clone(), format!("{link}/images")]
            .iter()
            .enumerate()
    {
        match scene.k.input(&["apply", "-f", "-"], &object(scene, &format!("bad-{n}"), path)) {
            // The schema refuses `..`.
            Err(why) => assert!(why.contains("hostPath"), "{why}"),
            Ok(_) => refused(scene, &format!("bad-{n}"), path),
        }
        assert!(std::fs::read_dir(outside.path()).expect("it exists").next().is_none(), "it was written to");
    }

    scene.apply("Registry", "there", &at(&inside));
    scene.ready("lreg/there");
    let host =
        scene.get("lreg/there")["status"]["host"].as_str().expect("the status has its host").to_owned();
    // Above and below what another Registry writes to.
    refused(scene, "above", &allowed);
    refused(scene, "below", &format!("{inside}/docker"));
    let image = format!("{host}/e2e/kept:1");
    push(&image, None).unwrap_or_else(|e| panic!("{e}"));
    docker(&["rm", "-fv", &container(scene, "there")]);
    eventually(LIMIT, "it is back with its images", || try_docker(&["pull", "-q", &image]).map(drop));
    docker(&["rmi", &image]);
    delete(scene, "lreg/there");
    assert!(dir.path().join("images/docker/registry").is_dir(), "the directory is the user's, and stays");
}

fn object(scene: &Scene, name: &str, path: &str) -> String {
    json!({
        "apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": name, "namespace": scene.namespace}, "spec": {"storage": {"hostPath": path}},
    })
    .to_string()
}

/// Returns the digest of an image's manifest, and those of everything it consists of.
fn digests(port: u64, name: &str) -> (String, Vec<String>) {
    let accept = "Accept: application/vnd.docker.distribution.manifest.v2+json\r\n";
    let path = format!("/v2/e2e/{name}/manifests/1");
    let Answer { head, body, .. } = http("GET", port, &path, accept).unwrap_or_else(|e| panic!("{e}"));
    let line = head
        .lines()
        .find_map(|l| l.strip_prefix("Docker-Content-Digest: "))
        .expect("the response has its digest");
    let manifest: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let all = layers.chain([&manifest["config"]]).filter_map(|l| l["digest"].as_str());
    (line.trim().to_owned(), all.map(str::to_owned).collect())
}

/// Reports whether a blob is on the registry's disk.
fn on_disk(container: &str, digest: &str) -> bool {
    let hex = digest.trim_start_matches("sha256:");
    let dir = "/var/lib/registry/docker/registry/v2/blobs/sha256";
    try_docker(&["exec", container, "test", "-e", &format!("{dir}/{}/{hex}/data", &hex[..2])]).is_ok()
}

pub fn garbage_is_removed_and_pushes_stay(scene: &Scene) {
    // The retention keeps the only tag of each repository, of pushes meanwhile too.
    scene.apply("Registry", "g", "{deleteEnabled: true, retention: {keepTags: 1}}");
    scene.ready("lreg/g");
    let status = scene.get("lreg/g")["status"].clone();
    let (host, container) = (status["host"].as_str().expect("host"), container(scene, "g"));
    let port = status["hostPort"].as_u64().expect("the status has its port");
    for name in ["stays", "goes"] {
        push(&format!("{host}/e2e/{name}:1"), None).unwrap_or_else(|e| panic!("{e}"));
    }
    let (goes, gone) = digests(port, "goes");
    let (_, kept) = digests(port, "stays");
    let answer =
        http("DELETE", port, &format!("/v2/e2e/goes/manifests/{goes}"), "").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(answer.status, 202, "{}", answer.head);
    assert!(gone.iter().all(|d| on_disk(&container, d)), "a deletion alone frees nothing");

    // Pushes continue all the time. A push may fail; a successful one must be kept.
    let ended = AtomicBool::new(false);
    let (pushed, failed) = thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            let (mut pushed, mut failed) = (Vec::new(), 0);
            for n in 0.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let dir = Dir::new("concurrent");
                dir.write("Dockerfile", "FROM scratch\nCOPY content /\n");
                dir.write("content", &format!("{n} {}", scene.namespace).repeat(20_000));
                let image = format!("{host}/e2e/concurrent-{n}:1");
                match push_from(&dir, &image, None) {
                    Ok(()) => pushed.push(image),
                    Err(_) => failed += 1,
                }
            }
            (pushed, failed)
        });
        let collected = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for request in ["first", "second"] {
                scene.run(&[
                    "annotate",
                    "lreg/g",
                    &format!("localcluster.dev/garbage-collect={request}"),
                    "--overwrite",
                ]);
                let done = eventually(LIMIT, "the status reports the result", || {
                    let done = scene.try_get("lreg/g")?["status"]["garbageCollection"].clone();
                    holds(done["request"] == request, || done.to_string())?;
                    Ok(done)
                });
                println!("        {}", done["message"]);
                assert_eq!(done["succeeded"], true, "{done}");
            }
            scene.ready("lreg/g");
        }));
        ended.store(true, Ordering::Relaxed);
        let pushes = pushing.join().expect("the thread does not panic");
        collected.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        pushes
    });
    println!("        {} pushes meanwhile, {failed} that failed", pushed.len());
    assert!(!pushed.is_empty(), "nothing was pushed meanwhile");
    // Blobs of both images are still referenced.
    for digest in gone.iter().filter(|d| !kept.contains(d)) {
        assert!(!on_disk(&container, digest), "{digest} is still there");
    }
    let stays = format!("{host}/e2e/stays:1");
    for image in pushed.iter().chain([&stays]) {
        docker(&["pull", "-q", image]);
        docker(&["rmi", image]);
    }
    delete(scene, "lreg/g");
}

fn garbage_is_removed_by_a_schedule(scene: &Scene) {
    scene.apply("Registry", "s", "{}");
    scene.ready("lreg/s");
    let host = scene.get("lreg/s")["status"]["host"].as_str().expect("the status has its host").to_owned();
    // A third one would be kept with the second one if both were pushed in the same second.
    let [old, new] = ["old", "new"].map(|tag| {
        let image = format!("{host}/e2e/retained:{tag}");
        push(&image, None).unwrap_or_else(|e| panic!("{e}"));
        image
    });
    let links = "/var/lib/registry/docker/registry/v2/repositories/e2e/retained/_manifests";
    let old_link = format!("{links}/tags/old/current/link");
    docker(&["exec", &container(scene, "s"), "touch", "-d", "2020-01-01 00:00", &old_link]);
    scene.apply("Registry", "s", "{garbageCollection: {schedule: \"* * * * *\"}, retention: {keepTags: 1}}");
    let id = inspect(&container(scene, "s")).expect("it exists")["Id"].clone();
    let done = eventually(LIMIT, "the next minute begins", || {
        let done = scene.try_get("lreg/s")?["status"]["garbageCollection"].clone();
        holds(done["succeeded"] == true, || done.to_string()).map(|()| done)
    });
    assert_eq!(done["request"], "", "{done}");
    println!("        {}", done["message"]);
    scene.apply("Registry", "s", "{}");
    scene.ready("lreg/s");
    assert_eq!(
        inspect(&container(scene, "s")).expect("it exists")["Id"],
        id,
        "it is stopped and started, not replaced"
    );
    assert!(try_docker(&["pull", "-q", &old]).is_err(), "the retention does not keep it");
    docker(&["pull", "-q", &new]);
    docker(&["rmi", &new]);
    delete(scene, "lreg/s");
}
