//! Host ports that are held by others, are published, or are left out.

use super::*;

pub(super) fn ports(names: &[(&str, i32)]) -> Value {
    let ports: Vec<_> = names
        .iter()
        .map(|(name, host_port)| json!({"name": name, "port": 80, "hostPort": host_port}))
        .collect();
    json!({"ports": ports})
}

/// The host ports of the load balancer, while it runs.
pub(super) fn published(rig: &Rig) -> Vec<u16> {
    rig.world(|w| {
        let Some(balancer) = w.named("k3d-dev-serverlb").filter(|c| c.is_up()) else { return Vec::new() };
        balancer.wanted_ports.iter().map(|p| p.host_port).collect()
    })
}

pub(super) fn problem(rig: &Rig, name: &str) -> Value {
    let status = object(rig).unwrap()["status"].clone();
    let ports = status["ports"].as_array().cloned().unwrap_or_default();
    ports.into_iter().find(|p| p["name"] == name).unwrap()["problem"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_port_of_another_container_is_left_out_without_a_try() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), ports(&[("web", 8080)]));
    rig.settle(ENOUGH).await;
    let other = PortBinding { host_ip: "0.0.0.0".into(), host_port: 9090, port: 1, protocol: "tcp".into() };
    rig.world(|w| w.foreign("other", std::slice::from_ref(&other)));
    put(&rig, "dev", json!({}), ports(&[("web", 8080), ("more", 8081), ("held", 9090)]));
    for _ in 0..3 {
        rig.round().await;
        let published = published(&rig);
        assert!(published.contains(&8080) && !published.contains(&9090), "{published:?}");
    }
    assert!(published(&rig).contains(&8081));
    assert_eq!(rig.told("LoadBalancerReady"), ("False".into(), "PortConflict".into()));
    assert_eq!(rig.told("Stalled").0, "True");
    let held = problem(&rig, "held").to_string();
    assert!(held.contains("9090") && held.contains("other"), "{held}");
    assert_eq!(problem(&rig, "more"), Value::Null);

    rig.world(|w| w.strangers_leave());
    rig.settle(ENOUGH).await;
    assert!(published(&rig).contains(&9090));
    assert_eq!(problem(&rig, "held"), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_port_of_a_process_is_left_out_and_taken_back_without_risk() {
    let mut rig = Rig::new(lab::settings());
    rig.world(|w| w.held_ports.insert(9090));
    put(&rig, "dev", json!({}), ports(&[("web", 8080), ("held", 9090)]));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.told("LoadBalancerReady"), ("False".into(), "PortConflict".into()));
    assert_eq!(rig.told("KubeconfigReady").0, "True");
    assert_eq!(rig.told("ControlPlaneReady").0, "True");
    assert!(problem(&rig, "held").to_string().contains("9090"));

    // It is tried again, for ever, by another container than the load balancer, after a restart too.
    let balancer = |rig: &Rig| {
        rig.world(|w| w.containers.iter().find(|(_, c)| c.name == "k3d-dev-serverlb").unwrap().0.clone())
    };
    let before = balancer(&rig);
    let mut rig = rig.restart();
    for _ in 0..ENOUGH {
        rig.round().await;
        assert_eq!(published(&rig).len(), 2);
    }
    assert_eq!(balancer(&rig), before);
    assert!(rig.world(|w| w.named("k3d-dev-serverlb-ports").is_none()));

    // One that nobody wants any more is not tried.
    put(&rig, "dev", json!({}), ports(&[("web", 8080)]));
    rig.settle(ENOUGH).await;
    rig.faults.take_writes();
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    let writes = rig.faults.take_writes();
    assert!(!writes.iter().any(|w| w.starts_with("Docker")), "{writes:?}");

    put(&rig, "dev", json!({}), ports(&[("web", 8080), ("held", 9090)]));
    rig.round().await;
    rig.round().await;
    assert_eq!(published(&rig).len(), 2);
    rig.world(|w| w.held_ports.clear());
    rig.settle(ENOUGH).await;
    assert!(published(&rig).contains(&9090));
}

#[tokio::test(start_paused = true)]
async fn an_api_whose_port_is_held_is_reached_by_the_network() {
    let mut rig = Rig::new(lab::settings());
    rig.world(|w| w.held_ports.insert(6550));
    let mut spec = ports(&[("web", 8080)]);
    spec["api"] = json!({"hostPort": 6550});
    put(&rig, "dev", json!({}), spec);
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(published(&rig), [8080]);
    assert_eq!(rig.told("ControlPlaneReady").0, "True");
    assert_eq!(rig.told("Ready"), ("False".into(), "PortConflict".into()));
    rig.world(|w| w.held_ports.clear());
    rig.settle(ENOUGH).await;
    assert_eq!(published(&rig), [6550, 8080]);
}

#[tokio::test(start_paused = true)]
async fn ranges_are_published_but_for_what_is_held() {
    let mut rig = Rig::new(lab::settings());
    rig.world(|w| w.held_ports.insert(9002));
    let range = |first: i32| json!({"name": format!("r{first}"), "port": 8000, "endPort": 8003, "hostPort": first, "protocol": "UDP"});
    put(&rig, "dev", json!({}), json!({"ports": [range(9000), range(9100)]}));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    let udp = |rig: &Rig| {
        rig.world(|w| {
            let balancer = w.named("k3d-dev-serverlb").unwrap();
            let udp = balancer.wanted_ports.iter().filter(|p| p.protocol == "udp");
            udp.map(|p| (p.host_port, p.port)).collect::<BTreeMap<_, _>>()
        })
    };
    let mut want: BTreeMap<u16, u16> =
        (0..4).flat_map(|i| [(9000 + i, 8000 + i), (9100 + i, 9100 + i)]).collect();
    want.remove(&9002);
    assert_eq!(udp(&rig), want);
    let held = "127.0.0.1:9002 is in use by another process on the Docker host";
    assert_eq!(problem(&rig, "r9000"), held);
    assert_eq!(problem(&rig, "r9100"), Value::Null);
    assert_eq!(
        message(&rig, "LoadBalancerReady"),
        format!(
            "port range r9000 is published without 9002: {held}; free it, or change its hostPort. All other ports are \
             published"
        )
    );
    rig.world(|w| w.held_ports.clear());
    rig.settle(ENOUGH).await;
    want.insert(9002, 8002);
    assert_eq!(udp(&rig), want);
}
