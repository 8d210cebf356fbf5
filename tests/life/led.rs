//! The nodes that published ports lead to.

use super::*;

/// The nodes that published ports lead to, by what the load balancer has loaded.
pub(super) fn led_to(rig: &Rig) -> BTreeSet<String> {
    rig.world(|w| {
        let Some(file) = w.named("k3d-dev-serverlb").and_then(|b| b.loaded.clone()) else {
            return BTreeSet::new();
        };
        let placed = load_balancer::placed(&String::from_utf8_lossy(&file));
        let here =
            |c: &&Container| c.networks.values().any(|p| p.pinned.is_some_and(|ip| placed.contains(&ip)));
        w.containers.values().filter(here).map(|c| c.name.clone()).collect()
    })
}

pub(super) fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|short| format!("k3d-dev-{short}")).collect()
}

pub(super) fn with_agents(count: i32) -> Value {
    json!({"agents": {"count": count}, "ports": [{"name": "dns", "port": 30053, "hostPort": 5353, "protocol": "UDP"}]})
}

#[tokio::test(start_paused = true)]
async fn published_ports_lead_to_nodes_that_answer() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), with_agents(0));
    rig.settle(ENOUGH).await;
    assert_eq!(led_to(&rig), names(&["server-0"]));
    for count in [2, 1, 3, 0] {
        put(&rig, "dev", json!({}), with_agents(count));
        for _ in 0..ENOUGH {
            rig.reconcile().await;
            // As it is at the moment, before anything else happens.
            for node in led_to(&rig) {
                assert_eq!(
                    rig.world(|w| w.kube_proxy(&node)),
                    Report::Answers,
                    "{node}, on the way to {count}"
                );
            }
            assert!(led_to(&rig).contains("k3d-dev-server-0"));
            // Ready means that all of them are led to.
            let wanted =
                (0..count).map(|i| format!("k3d-dev-agent-{i}")).chain(names(&["server-0"])).collect();
            assert!(!rig.settled() || led_to(&rig) == wanted, "{:?} of {count}", led_to(&rig));
            rig.pass().await;
        }
        assert!(rig.settled(), "{count}");
    }
}

#[tokio::test(start_paused = true)]
async fn published_ports_lead_where_they_led_while_the_api_is_away() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, "dev", json!({}), with_agents(2));
    rig.settle(ENOUGH).await;
    let all = names(&["server-0", "agent-0", "agent-1"]);
    assert_eq!(led_to(&rig), all);
    rig.faults.unreachable.store(true, Ordering::Relaxed);
    // Another operator remembers it too.
    let mut rig = rig.restart();
    rig.faults.take_writes();
    for _ in 0..4 {
        rig.round().await;
        assert_eq!(led_to(&rig), all);
    }
    let docker: Vec<_> = rig.faults.take_writes().into_iter().filter(|w| w.starts_with("Docker")).collect();
    assert_eq!(docker, [] as [String; 0]);
    // What Docker says of a node is known all the same.
    rig.world(|w| w.end("k3d-dev-agent-1", 1).unwrap());
    rig.reconcile().await;
    assert_eq!(led_to(&rig), names(&["server-0", "agent-0"]));
    rig.faults.unreachable.store(false, Ordering::Relaxed);
    rig.settle_after_a_round(ENOUGH).await;
    assert_eq!(led_to(&rig), all);
    // A load balancer that is lost is made with all that answer.
    rig.world(|w| w.remove_container("k3d-dev-serverlb").unwrap());
    rig.reconcile().await;
    assert_eq!(led_to(&rig), all);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_whom_no_published_port_leads_to() {
    let mut rig = Rig::new(lab::settings());
    let ports = json!([{"name": "web", "port": 80, "nodes": "Agents"}]);
    put(&rig, "dev", json!({}), json!({"agents": {"count": 1}, "ports": ports}));
    rig.settle(ENOUGH).await;
    assert_eq!(led_to(&rig), names(&["agent-0"]));
    rig.faults.take_writes();
    for _ in 0..2 * ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
}
