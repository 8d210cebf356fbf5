//! What is in the way is reported, and once it is gone all is well.

use super::*;
use crate::support::model::world::World;

/// Has something in the way, checks what is told of it, takes it away, and checks that all is well.
pub(super) async fn bad_luck(
    settings: impl FnOnce(&mut localcluster_operator::plan::settings::Settings),
    hinder: impl FnOnce(&Rig),
    type_: &str,
    reason: Reason,
    heal: impl FnOnce(&Rig),
) {
    let mut with = lab::settings();
    settings(&mut with);
    let mut rig = Rig::new(with);
    put_registry(&rig);
    put(&rig, 1, |_| {});
    hinder(&rig);
    let strangers = rig.world(|w| w.strangers());
    for _ in 0..8 {
        rig.round().await;
    }
    assert_eq!(rig.told(type_), ("False".to_owned(), reason.to_string()), "{}", rig.world(|w| w.brief()));
    assert_eq!(rig.told("Ready"), ("False".to_owned(), reason.to_string()));
    // No hot loop: what is tried again is tried by one step a round, not by many.
    rig.faults.take_writes();
    for _ in 0..4 {
        rig.round().await;
    }
    let tried = rig.faults.take_writes();
    assert!(tried.len() <= 4 * 3, "{tried:#?}");
    assert_eq!(rig.world(|w| w.strangers()), strangers);
    heal(&rig);
    rig.settle(ENOUGH).await;
    end(&rig);
    delete(&rig);
    rig.settle(ENOUGH).await;
    assert!(rig.world(|w| w.containers.keys().all(|id| id.starts_with("foreign-"))));
}

#[tokio::test(start_paused = true)]
async fn bad_luck_is_told_and_heals() {
    let image = "rancher/k3s:v1.36.2-k3s1";
    let leave = |rig: &Rig| rig.world(|w| w.strangers_leave());
    let nothing = |_: &mut localcluster_operator::plan::settings::Settings| {};
    bad_luck(
        nothing,
        |r| assert!(r.world(|w| w.unknown_images.insert(image.into()))),
        "ControlPlaneReady",
        Reason::ImagePullFailed,
        |r| r.world(|w| w.unknown_images.clear()),
    )
    .await;
    for container in [true, false] {
        let hold = move |r: &Rig| {
            put(r, 1, |s| s["api"]["hostPort"] = json!(16443));
            r.world(|w| {
                if container {
                    w.foreign("other", &[published(16443)]);
                } else {
                    w.held_ports.insert(16443);
                }
            });
        };
        bad_luck(nothing, hold, "LoadBalancerReady", Reason::PortConflict, leave).await;
    }
    for (act, type_) in [
        (Outside::ForeignContainer("k3d-dev-server-0".into()), "ControlPlaneReady"),
        (Outside::ForeignContainer("k3d-dev-agent-0".into()), "AgentsReady"),
        (Outside::ForeignContainer("k3d-dev-serverlb".into()), "LoadBalancerReady"),
        (Outside::ForeignVolume("k3d-dev-agent-0-etc".into()), "AgentsReady"),
        (Outside::ForeignNetwork("k3d-dev".into()), "NetworkReady"),
    ] {
        let hinder = |r: &Rig| assert!(r.world(|w| w.interfere(&act)));
        bad_luck(nothing, hinder, type_, Reason::NameConflict, leave).await;
    }
    let token = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "data": {"token": "dG9rZW4="}});
    bad_luck(
        nothing,
        |r| put(r, 1, |s| s["token"] = json!({"secretName": "mine"})),
        "ResolvedRefs",
        Reason::SecretNotFound,
        |r| r.api.put(&secret("mine"), token),
    )
    .await;
    bad_luck(
        nothing,
        |r| r.api.delete(&path("registries", "images")),
        "ResolvedRefs",
        Reason::RegistryNotFound,
        put_registry,
    )
    .await;
    bad_luck(
        nothing,
        |r| r.faults.away.store(true, Ordering::Relaxed),
        "DockerReachable",
        Reason::DockerUnavailable,
        |r| r.faults.away.store(false, Ordering::Relaxed),
    )
    .await;
    bad_luck(
        |s| s.allowed_subnets = vec!["10.99.0.0/24".parse().unwrap()],
        |r| {
            put(r, 1, |s| s["network"]["subnet"] = json!("10.99.0.0/24"));
            r.world(|w| w.interfere(&Outside::ForeignNetwork("other".into())));
        },
        "NetworkReady",
        Reason::SubnetConflict,
        leave,
    )
    .await;
    bad_luck(
        nothing,
        |r| put(r, 1, |s| s["network"]["subnet"] = json!("10.98.0.0/24")),
        "NetworkReady",
        Reason::SubnetNotAllowed,
        |r| put(r, 1, |_| {}),
    )
    .await;
    bad_luck(
        |s| s.network_pool = Some("10.99.0.0/24".parse().unwrap()),
        |r| assert!(r.world(|w| w.interfere(&Outside::ForeignNetwork("other".into())))),
        "NetworkReady",
        Reason::AddressPoolExhausted,
        leave,
    )
    .await;
}

/// The engine has no subnet, none that is large enough, or none besides that of Pods.
#[tokio::test(start_paused = true)]
async fn an_engine_without_a_subnet_is_told_and_heals() {
    for pools in [&[][..], &["10.9.0.0/26"], &["10.42.0.0/16"]] {
        bad_luck(
            |s| s.network_pool = None,
            |r| {
                r.world(|w| w.pools = std::sync::Arc::new(pools.iter().map(|p| p.parse().unwrap()).collect()))
            },
            "NetworkReady",
            Reason::AddressPoolExhausted,
            |r| {
                assert!(r.world(|w| w.networks.values().all(|n| !n.name.starts_with("k3d-"))), "{pools:?}");
                let enough = ["172.18.0.0/16", "172.19.0.0/16"].map(|pool| pool.parse().unwrap());
                r.world(|w| w.pools = std::sync::Arc::new(enough.into()));
            },
        )
        .await;
    }
}

/// A cluster costs a network more that is created, and removed: nothing else.
#[tokio::test(start_paused = true)]
async fn a_choice_costs_two_calls() {
    let mut writes = Vec::new();
    for pool in [lab::settings().network_pool, None] {
        let mut rig = Rig::new(localcluster_operator::plan::settings::Settings {
            network_pool: pool,
            ..lab::settings()
        });
        put_registry(&rig);
        put(&rig, 1, |_| {});
        rig.settle(ENOUGH).await;
        let all = rig.faults.take_writes();
        let of_cluster = |call: &String| call.contains(" network ") && !call.contains("bridge-");
        writes.push(all.into_iter().filter(of_cluster).collect::<Vec<_>>());
        let object = rig.api.get(&path("localclusters", "dev")).unwrap();
        let subnet = if pool.is_some() { "172.31.0.0/24" } else { "172.19.0.0/24" };
        assert_eq!(object["status"]["network"]["subnet"], subnet);
    }
    assert_eq!((writes[0].len(), writes[1].len()), (1, 3), "{writes:?}");
}

/// Others may be faster again and again, and by as much as a busy engine takes: that is nobody's mistake.
#[tokio::test(start_paused = true)]
async fn a_subnet_that_others_were_faster_with_is_exchanged() {
    let mut rig = Rig::new(lab::settings());
    let pool: Vec<_> = lab::settings().network_pool.unwrap().subnets(24).unwrap().collect();
    // One for the cluster, one for its registry.
    let (others, last) = pool.split_at(pool.len() - 2);
    rig.world(|w| w.unseen.extend(others));
    put_registry(&rig);
    put(&rig, 1, |_| {});
    for _ in 0..others.len() {
        if rig.told("Ready").0 == "True" {
            break;
        }
        rig.round().await;
        assert_ne!(rig.told("NetworkReady").1, Reason::SubnetConflict);
    }
    rig.settle(ENOUGH).await;
    let object = rig.api.get(&path("localclusters", "dev")).unwrap();
    let subnet = object["status"]["network"]["subnet"].as_str().unwrap().parse().unwrap();
    assert!(last.contains(&subnet), "{subnet}");
}

/// While Docker is away a deletion waits, says so, and finishes by itself.
#[tokio::test(start_paused = true)]
async fn deletion_waits_for_docker() {
    let mut rig = applied(1);
    rig.settle(ENOUGH).await;
    rig.faults.away.store(true, Ordering::Relaxed);
    delete(&rig);
    for _ in 0..3 {
        rig.round().await;
    }
    assert_eq!(rig.told("DockerReachable").1, Reason::DockerUnavailable);
    rig.faults.away.store(false, Ordering::Relaxed);
    rig.settle(ENOUGH).await;
    assert!(end(&rig).keys().all(|k| !k.starts_with("object")));
}

/// A server that does not answer from inside either is restarted. One that does is left alone, however long the
/// operator can't reach it.
#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_told_from_one_that_is_not_reached() {
    let server = "k3d-dev-server-0";
    let mut rig = applied(1);
    rig.settle(ENOUGH).await;
    let started = |r: &Rig| r.world(|w| w.named(server).unwrap().started);
    let before = started(&rig);

    rig.faults.unreachable.store(true, Ordering::Relaxed);
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.told("ControlPlaneReady").1, Reason::ApiNotAnswering);
    assert_eq!(started(&rig), before, "it was restarted");
    rig.faults.unreachable.store(false, Ordering::Relaxed);
    rig.settle(ENOUGH).await;

    rig.world(|w| w.interfere(&Outside::Hang(server.into())));
    let mut rounds = 0;
    while started(&rig) == before {
        rig.round().await;
        rounds += 1;
        assert!(rounds < 40, "it was not restarted");
    }
    // The time of before counts no longer: it answered in between.
    let after = lab::settings().node_repair_after.unwrap().as_secs();
    assert!(rounds * TICK > after, "after {rounds} rounds");
    rig.settle(ENOUGH).await;
    assert_eq!(
        rig.events("StartedContainer").iter().filter(|e| e.contains("its API does not respond")).count(),
        1
    );
}

/// Most of three servers are paused, and Docker says that it unpauses them and does not.
#[tokio::test(start_paused = true)]
async fn a_lack_of_quorum_is_told_until_it_is_over() {
    let mut rig = applied(0);
    put(&rig, 0, |spec| spec["servers"]["count"] = json!(3));
    rig.settle(2 * ENOUGH).await;
    let stuck = ["k3d-dev-server-1", "k3d-dev-server-2"];
    rig.faults.every(Some(("unpause *", Fault::Void)));
    rig.world(|w| stuck.iter().for_each(|name| assert!(w.interfere(&Outside::Pause((*name).into())))));
    // The first look asks, and its answer wakes the object.
    rig.reconcile().await;
    rig.reconcile().await;
    assert_eq!(rig.told("ControlPlaneReady"), ("False".to_owned(), Reason::NoQuorum.to_string()));
    assert_eq!(rig.told("Ready").1, Reason::NoQuorum);
    assert_eq!(rig.told("Stalled").0, "False");
    rig.faults.every(None);
    rig.settle(ENOUGH).await;
    assert_eq!(rig.told("ControlPlaneReady").0, "True");
}

/// One of three servers reaches no other one, so it fails each request that the load balancer forwards to it.
#[tokio::test(start_paused = true)]
async fn a_server_without_quorum_gets_no_requests_until_it_has_it_again() {
    let mut rig = applied(0);
    put(&rig, 0, |spec| spec["servers"]["count"] = json!(3));
    rig.settle(2 * ENOUGH).await;
    let cut_off = "k3d-dev-server-2";
    let is_led_to = |rig: &Rig| {
        rig.world(|w| {
            let config = w.named("k3d-dev-serverlb").unwrap().loaded.clone().unwrap();
            let mut ips = w.named(cut_off).unwrap().networks.values().filter_map(|p| p.ip);
            ips.any(|ip| String::from_utf8_lossy(&config).contains(&format!("server {ip}:6443 ")))
        })
    };
    assert!(is_led_to(&rig));
    rig.world(|w| assert!(w.interfere(&Outside::CutOff(cut_off.into()))));
    // The first pass asks the servers, and their responses wake the object.
    rig.reconcile().await;
    assert_eq!(rig.told("ControlPlaneReady").1, Reason::ApiNotAnswering.to_string());
    rig.reconcile().await;
    assert!(!is_led_to(&rig));
    rig.reconcile().await;
    assert_ne!(rig.told("ControlPlaneReady").1, Reason::ApiNotAnswering.to_string());
    let started = |rig: &Rig| rig.world(|w| w.named(cut_off).unwrap().started);
    let before = started(&rig);
    // Its kubelet reports to its own API only.
    let mut told = false;
    for rounds in 0.. {
        assert!(rounds < 40, "it was not restarted");
        assert_ne!(rig.told("ControlPlaneReady").1, Reason::ApiNotAnswering.to_string());
        if started(&rig) > before {
            break;
        }
        assert!(!is_led_to(&rig));
        rig.round().await;
        told |= message(&rig, "ControlPlaneReady").contains("its etcd does not reach most of the others");
    }
    assert!(told);
    rig.settle_after_a_round(ENOUGH).await;
    assert!(is_led_to(&rig));
}

/// It dies while the operator waits for a response through it, which will never come.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_load_balancer_that_died() {
    let mut rig = applied(0);
    rig.settle(ENOUGH).await;
    let (id, labels) = rig.world(|w| {
        let id = w.id("k3d-dev-serverlb").unwrap();
        (id.clone(), (*w.containers[&id].labels).clone())
    });
    let (ctx, world, faults) = (rig.ctx.clone(), rig.world.clone(), rig.faults.clone());
    faults.silent.store(true, Ordering::Relaxed);
    let dies = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(world.lock().unwrap().interfere(&Outside::Kill(id.clone())));
        faults.silent.store(false, Ordering::Relaxed);
        let subject = Subject::Container(id.clone());
        triggers::event(&ctx, Event { subject, action: "die".into(), labels }).await;
    };
    let both = async { tokio::join!(rig.reconcile(), dies) };
    tokio::time::timeout(Duration::from_secs(2), both).await.expect("the reconciliation ends");
    assert_eq!(rig.world(|w| w.containers[&id].state), State::Running);
}

/// As desired in between, each start had its effect.
#[tokio::test(start_paused = true)]
async fn what_is_killed_again_and_again_is_started_at_once() {
    let mut rig = applied(0);
    rig.settle(ENOUGH).await;
    for number in 0..6 {
        for name in ["k3d-dev-serverlb", "k3d-images"] {
            rig.world(|w| assert!(w.interfere(&Outside::Kill(name.into()))));
            rig.reconcile().await;
            assert_eq!(rig.world(|w| w.named(name).unwrap().state), State::Running, "{name}, {number}");
        }
        assert_eq!(rig.told("Ready").0, "True");
    }
}

/// Its nodes count as made for another network, and what new ones would contain is unknown.
#[tokio::test(start_paused = true)]
async fn without_a_network_and_a_registry_the_nodes_run_again_as_they_were_made() {
    for spec in [json!({}), secured()] {
        let mut rig = Rig::new(lab::settings());
        put_secrets(&rig, "sesame");
        put_registry_with(&rig, json!({}), spec);
        put(&rig, 1, |s| s["agents"]["args"] = json!(["--kubelet-arg=max-pods=50"]));
        rig.settle(ENOUGH).await;
        rig.settle(ENOUGH).await;
        let ids = |rig: &Rig| rig.world(|w| nodes(w).keys().cloned().collect::<Vec<_>>());
        let before = ids(&rig);
        let at = path("registries", "images");
        let registry = rig.api.get(&at).unwrap();
        rig.api.remove(&at);
        rig.round().await;
        assert!(rig.world(|w| w.interfere(&Outside::RemoveNetwork("k3d-dev".into()))));
        assert!(rig.world(|w| nodes(w).values().all(|state| *state == State::Exited)));
        for _ in 0..8 {
            rig.round().await;
        }
        assert_eq!(rig.told("ResolvedRefs"), ("False".to_owned(), Reason::RegistryNotFound.to_string()));
        assert!(
            rig.world(|w| nodes(w).values().all(|state| *state == State::Running)),
            "{}",
            rig.world(|w| w.brief())
        );
        assert_eq!(ids(&rig), before, "they are what they were");
        assert!(rig.world(|w| ["server-0", "agent-0"].iter().all(|n| w.works(&format!("k3d-dev-{n}")))));
        // Nor does one stay stopped, or paused, that is to be replaced for another reason.
        put(&rig, 1, |_| {});
        for act in [Outside::Stop("k3d-dev-agent-0".into()), Outside::Pause("k3d-dev-server-0".into())] {
            rig.round().await;
            assert!(rig.world(|w| w.interfere(&act)));
            for _ in 0..3 {
                rig.round().await;
            }
            assert!(rig.world(|w| nodes(w).values().all(|state| *state == State::Running)), "{act:?}");
        }
        rig.faults.take_writes();
        for _ in 0..4 {
            rig.round().await;
        }
        let is_change = |w: &String| w.starts_with("Docker") && !w.contains("kubeproxy_sync");
        let writes: Vec<_> = rig.faults.take_writes().into_iter().filter(is_change).collect();
        assert!(writes.is_empty(), "{writes:?}");
        assert_eq!(ids(&rig), before);
        rig.api.store(&at, registry);
        rig.settle(ENOUGH).await;
        rig.settle(ENOUGH).await;
        assert!(ids(&rig).iter().all(|id| !before.contains(id)), "they are replaced once all is known");
    }
}

/// The states of the nodes by their containers' ids.
fn nodes(world: &World) -> BTreeMap<String, State> {
    let is_node = |name: &str| name.contains("-server-") || name.contains("-agent-");
    world.containers.iter().filter(|(_, c)| is_node(&c.name)).map(|(id, c)| (id.clone(), c.state)).collect()
}
