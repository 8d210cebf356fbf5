//! A registry keeps its images, and is not removed while a cluster uses it.

use crate::{
    cluster::push,
    live::{
        Foreign, docker, eventually,
        harness::Group,
        holds, inspect, install,
        scene::{LIMIT, Scene},
        try_docker, world,
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
        ("each_has_a_network_of_its_own", each_has_a_network_of_its_own),
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

/// Returns the networks of a container.
fn networks(container: &str) -> Result<Vec<String>, String> {
    let shown = inspect(container).ok_or("it does not exist")?;
    let all = shown["NetworkSettings"]["Networks"].as_object().ok_or("it has no networks")?;
    Ok(all.keys().cloned().collect())
}

/// Returns an error unless a program on the network of `container` reaches the registry at this IP address.
fn reaches(container: &str, ip: &str) -> Result<(), String> {
    let network = format!("container:{container}");
    let run = ["run", "--rm", "--network", &network, &world("BUSYBOX_IMAGE"), "nc", "-w", "3", ip, "5000"];
    try_docker(&run).map(drop)
}

fn each_has_a_network_of_its_own(scene: &Scene) {
    for name in ["r", "other"] {
        scene.apply("Registry", name, "{}");
    }
    scene.ready("lreg/r");
    scene.ready("lreg/other");
    let (own, other) = (scene.registry("r"), scene.registry("other"));
    let network = format!("bridge-{own}");
    assert_eq!(networks(&own).unwrap(), std::slice::from_ref(&network));
    let places = inspect(&other).expect("it runs")["NetworkSettings"]["Networks"].clone();
    let place = places.as_object().and_then(|places| places.values().next()).expect("it is on a network");
    let ip = place["IPAddress"].as_str().expect("it has an address");
    reaches(&other, ip).expect("it listens");
    assert!(reaches(&own, ip).is_err(), "one registry reaches another");
    // Its port is published from there.
    push(scene, "kept");
    has(scene, "kept").expect("it was pushed");

    // Whatever happens to the network, the same container gets it back.
    let id = inspect(&own).expect("it runs")["Id"].clone();
    let disconnect: &[&[&str]] = &[&["network", "disconnect", "-f", &network, &own]];
    let remove: &[&[&str]] = &[&["stop", &own], &["network", "rm", &network]];
    for commands in [disconnect, remove] {
        for command in commands {
            // The operator may be faster than the second one.
            let _ = try_docker(command);
        }
        eventually(LIMIT, &format!("it is back after {commands:?}"), || {
            has(scene, "kept")?;
            holds(networks(&own)? == [network.clone()], || format!("{:?}", networks(&own)))
        });
        assert_eq!(inspect(&own).expect("it runs")["Id"], id);
    }
    scene.run(&["delete", "lreg/r", "lreg/other", "--timeout=120s"]);
    scene.is_gone(&[]).unwrap_or_else(|e| panic!("{e}"));
    assert!(try_docker(&["network", "inspect", &network]).is_err());
}
