//! A registry keeps its images, and is not removed while a cluster uses it.

use crate::{
    cluster::push,
    live::{
        Foreign, docker, eventually,
        harness::Group,
        holds, inspect, install,
        scene::{LIMIT, Scene},
        try_docker,
    },
    trouble::{delete, idle_cluster},
};

pub const GROUP: Group = Group {
    name: "registry",
    setup: || {
        install();
        Scene::new("reg")
    },
    tests: &[
        ("content_survives", content_survives),
        ("an_existing_volume_is_used_and_kept", an_existing_volume_is_used_and_kept),
        ("in_use_is_not_deleted", in_use_is_not_deleted),
    ],
};

/// Returns an error unless an image can be pulled from the registry.
fn has(scene: &Scene, name: &str) -> Result<(), String> {
    let registry = scene.try_get("lreg/r")?;
    let host = registry["status"]["host"].as_str().ok_or("the status has no host")?;
    let image = format!("{host}/e2e/{name}:1");
    let pulled = try_docker(&["pull", "-q", &image]);
    let _ = try_docker(&["rmi", &image]);
    pulled.map(drop)
}

fn content_survives(scene: &Scene) {
    let container = scene.registry("r");
    scene.apply("Registry", "r", "{storage: {retain: true}}");
    scene.ready("lreg/r");
    push(scene, "kept");
    for hurt in [&["stop", &container][..], &["rm", "-fv", &container]] {
        docker(hurt);
        eventually(LIMIT, &format!("it is back after {hurt:?}"), || has(scene, "kept"));
    }

    delete(scene, "lreg/r");
    assert!(inspect(&container).is_none());
    scene.is_gone(&[&container]).unwrap_or_else(|e| panic!("more than the volume is left: {e}"));
    docker(&["volume", "inspect", &container]);
    scene.apply("Registry", "r", "{storage: {retain: true}}");
    scene.ready("lreg/r");
    has(scene, "kept").expect("the next Registry of this name has the retained images");

    scene.apply("Registry", "r", "{storage: {retain: false}}");
    scene.ready("lreg/r");
    delete(scene, "lreg/r");
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}

fn an_existing_volume_is_used_and_kept(scene: &Scene) {
    let name = format!("e2e-volume-{}", scene.namespace);
    let spec = format!("{{storage: {{volumeName: {name}}}}}");
    scene.apply("Registry", "r", &spec);
    let missing = scene.reason("lreg/r", "Ready", "NotAllowed");
    let strange = Foreign::create("volume", &[], &name);
    let before = strange.state();
    scene.apply("Registry", "r", &spec);
    assert_eq!(scene.reason("lreg/r", "Ready", "NotAllowed"), missing);
    assert_eq!(strange.state(), before);
    drop(strange);
    let consent = format!("--label=localcluster.dev/allow-namespaces={}", scene.namespace);
    let volume = Foreign::create("volume", &[&consent], &name);
    scene.ready("lreg/r");
    push(scene, "kept");
    let before = volume.state();
    delete(scene, "lreg/r");
    assert_eq!(volume.state(), before);
    scene.apply("Registry", "r", &spec);
    scene.ready("lreg/r");
    has(scene, "kept").expect("the content of the volume exists");
    delete(scene, "lreg/r");
}

fn in_use_is_not_deleted(scene: &Scene) {
    scene.apply("Registry", "r", "{}");
    for name in ["one", "two"] {
        scene.apply("LocalCluster", name, &idle_cluster("registries: {use: [{name: r}]}"));
    }
    scene.ready("lreg/r");
    let used_by = |names: &[&str]| {
        eventually(30, &format!("the status reports that {names:?} use it"), || {
            let users = scene.try_get("lreg/r")?["status"]["usedBy"].clone();
            let wanted: Vec<String> = names.iter().map(|n| format!("{}/{n}", scene.namespace)).collect();
            holds(users == serde_json::json!(wanted), || users.to_string())
        });
    };
    used_by(&["one", "two"]);
    scene.run(&["delete", "lreg/r", "--wait=false"]);
    let message = scene.reason("lreg/r", "InUse", "InUse");
    assert!(message.contains("/one") && message.contains("/two"), "{message}");
    let container = scene.registry("r");
    delete(scene, "lc/one");
    used_by(&["two"]);
    assert_eq!(inspect(&container).expect("it is still there")["State"]["Running"], true);
    delete(scene, "lc/two");
    scene.run(&["wait", "--for=delete", "lreg/r", "--timeout=60s"]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
}
