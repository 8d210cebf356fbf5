//! Images of the Docker host for nodes that ask for them.

use super::*;

const NODE: &str = "k3d-dev-server-0";
const FILE: &str = "/etc/rancher/k3s/registries.yaml";

/// When each container was created and started.
fn containers(rig: &Rig) -> BTreeMap<String, (String, Option<i64>)> {
    rig.world(|w| {
        let ids = w.containers.iter();
        ids.map(|(id, c)| (c.name.clone(), (id.clone(), c.started))).collect()
    })
}

fn asks(rig: &Rig) -> bool {
    let file = rig.world(|w| String::from_utf8(w.read(NODE, FILE).unwrap().to_vec()).unwrap());
    file.contains("\"*\":\n    endpoint:\n      - \"http://172.31.0.2:6444\"\n")
}

/// The program of the tests does not run in other containers, so that there is nobody to ask; the cluster works.
#[tokio::test(start_paused = true)]
async fn nodes_ask_the_operator_first_and_nothing_is_restarted_for_it() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    let before = containers(&rig);
    assert!(!asks(&rig));
    put(&rig, "dev", json!({}), json!({"images": {"fromDockerHost": true}}));
    // The program is read from the disk, which takes no virtual time.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while rig.told("ImagesReady").0 != "False" && std::time::Instant::now() < until {
        rig.round().await;
    }
    assert!(asks(&rig));
    assert_eq!(rig.told("ImagesReady"), ("False".into(), "HostImagesUnavailable".into()));
    let words = message(&rig, "ImagesReady");
    assert!(words.contains("linked dynamically") && words.ends_with("; retrying"), "{words}");
    assert_eq!(rig.told("ControlPlaneReady").0, "True");
    put(&rig, "dev", json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert!(!asks(&rig));
    assert_eq!(rig.told("ImagesReady").0, "True");
    assert_eq!(containers(&rig), before);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_cannot_ask_says_so_and_runs() {
    for (more, words) in [
        (json!({"version": "v1.29.2+k3s1"}), "K3s v1.29.2+k3s1 has no mirrors of all registries"),
        (
            json!({"servers": {"count": 1, "args": ["--embedded-registry"]}}),
            "with --embedded-registry ask each other",
        ),
    ] {
        let mut rig = Rig::new(lab::settings());
        let mut spec = json!({"images": {"fromDockerHost": true}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        put(&rig, "dev", json!({}), spec);
        for _ in 0..ENOUGH {
            rig.round().await;
        }
        let said = message(&rig, "ImagesReady");
        assert!(said.contains(words), "{said}");
        assert_eq!(rig.told("ImagesReady").1, "HostImagesUnsupported");
        assert!(!asks(&rig));
        assert_eq!(rig.told("ControlPlaneReady").0, "True");
    }
}

/// The load balancer listens there for nodes.
#[tokio::test(start_paused = true)]
async fn its_port_is_nobody_elses() {
    for (images, port) in [(false, 6444), (true, 17_000)] {
        let mut rig = Rig::new(lab::settings());
        let ports = json!([{"name": "x", "port": 6444, "hostPort": 17_000}]);
        put(&rig, "dev", json!({}), json!({"images": {"fromDockerHost": images}, "ports": ports}));
        for _ in 0..ENOUGH {
            rig.round().await;
        }
        let published = rig.world(|w| w.named("k3d-dev-serverlb").unwrap().wanted_ports.clone());
        let listens = published.iter().find(|p| p.host_port == 17_000).unwrap().port;
        assert_eq!(listens, port, "{images}");
    }
}
