//! What a status says is so: of objects that are stopped, paused, or look after something that does not answer, and of
//! clusters whose registries are in a bad moment.

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use localcluster_operator::{
    controller::{
        host_limits::Limits,
        probe::{Probe, Question, Target, Trouble},
    },
    docker::engine::State,
    plan::{host_limits::HostLimits, settings::Settings},
};
use serde_json::{Value, json};
use support::{
    fakes::{
        api::path,
        faults::Fault,
        rig::{Rig, condition, message},
    },
    model::{interfere::Outside, lab, world::TICK},
};

const ENOUGH: usize = 40;
const PAUSED: &str = "localcluster.dev/paused";

fn put(rig: &Rig, annotations: Value, more: Value) {
    let mut spec = json!({"servers": {"count": 1}, "agents": {"count": 0}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rig.api.put(
        &path("localclusters", "dev"),
        json!({
            "apiVersion": "localcluster.dev/v1alpha1", "kind": "LocalCluster",
            "metadata": {"name": "dev", "annotations": annotations}, "spec": spec,
        }),
    );
}

fn put_registry(rig: &Rig, annotations: Value, spec: Value) {
    rig.api.put(
        &path("registries", "images"),
        json!({
            "apiVersion": "localcluster.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": "images", "annotations": annotations}, "spec": spec,
        }),
    );
}

fn registry(rig: &Rig) -> Value {
    rig.api.get(&path("registries", "images")).unwrap()
}

fn status(rig: &Rig, type_: &str) -> String {
    rig.told(type_).0
}

/// Two minutes in which nothing is written, to Docker, the cluster or the status.
async fn is_quiet(rig: &mut Rig) {
    rig.faults.take_writes();
    for _ in 0..=(120 / TICK) {
        rig.round().await;
    }
    assert_eq!(rig.faults.take_writes(), [] as [String; 0]);
}

async fn rounds(rig: &mut Rig, n: usize) {
    for _ in 0..n {
        rig.round().await;
    }
}

/// The cluster `dev` that uses the registry `images`, Ready.
async fn with_registry(more: Value) -> Rig {
    let mut rig = Rig::new(lab::settings());
    put_registry(&rig, json!({}), json!({}));
    let mut spec = json!({"registries": {"use": [{"name": "images"}]}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    put(&rig, json!({}), spec);
    rig.settle(ENOUGH).await;
    rig
}

fn running(rig: &Rig, name: &str) -> bool {
    rig.world(|w| w.named(name).is_some_and(|c| c.state == State::Running))
}

#[tokio::test(start_paused = true)]
async fn a_stopped_cluster_is_stopped_whoever_has_its_ports() {
    let mut rig = Rig::new(lab::settings());
    let web = json!([{"name": "web", "port": 80, "hostPort": 9090}]);
    put(&rig, json!({}), json!({"ports": web}));
    rig.settle(ENOUGH).await;
    put(&rig, json!({}), json!({"ports": web, "state": "Stopped"}));
    rounds(&mut rig, 5).await;
    rig.world(|w| w.held_ports.insert(9090));
    let at_rest = |rig: &Rig| {
        assert_eq!(rig.told("Stopped"), ("True".into(), "Stopped".into()));
        assert_eq!((status(rig, "Stalled"), status(rig, "Reconciling")), ("False".into(), "False".into()));
        for type_ in ["ControlPlaneReady", "AgentsReady", "LoadBalancerReady"] {
            assert_eq!(rig.told(type_), ("False".into(), "Stopped".into()), "{type_}");
        }
        assert_eq!(rig.told("Ready").0, "", "there is none while it is stopped");
        assert_eq!(
            (status(rig, "NetworkReady"), status(rig, "KubeconfigReady")),
            ("True".into(), "Unknown".into())
        );
    };
    is_quiet(&mut rig).await;
    at_rest(&rig);
    let mut rig = rig.restart();
    is_quiet(&mut rig).await;
    at_rest(&rig);

    // When it runs again, they are judged.
    put(&rig, json!({}), json!({"ports": web}));
    rounds(&mut rig, 10).await;
    assert_eq!(rig.told("Ready"), ("False".into(), "PortConflict".into()));
    assert_eq!(status(&rig, "Stopped"), "False");
    rig.world(|w| w.held_ports.clear());
    rig.settle(ENOUGH).await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_stopped_whatever_its_spec_refers_to() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, json!({}), json!({}));
    rig.settle(ENOUGH).await;
    let files = json!([{"path": "/etc/x", "secret": {"name": "none", "key": "k"}}]);
    put(
        &rig,
        json!({}),
        json!({"state": "Stopped", "files": files, "token": {"secretName": "none", "key": "k"}}),
    );
    rounds(&mut rig, 5).await;
    assert_eq!(status(&rig, "Stopped"), "True");
    assert!(!running(&rig, "k3d-dev-server-0"));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_born_stopped_has_nothing() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, json!({}), json!({"state": "Stopped"}));
    rig.round().await;
    is_quiet(&mut rig).await;
    assert_eq!(rig.told("Stopped"), ("True".into(), "Stopped".into()));
    for type_ in ["NetworkReady", "KubeconfigReady", "LoadBalancerReady", "ControlPlaneReady", "AgentsReady"]
    {
        assert_eq!(rig.told(type_), ("False".into(), "Stopped".into()), "{type_}");
    }
    for type_ in ["ResolvedRefs", "RegistriesReady", "ImagesReady", "ManifestsReady"] {
        assert_eq!(rig.told(type_), ("Unknown".into(), "Stopped".into()), "{type_}");
    }
    put(&rig, json!({}), json!({}));
    rig.settle(ENOUGH).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_never_ran_is_not_reachable() {
    let mut rig = Rig::new(lab::settings());
    rig.world(|w| w.held_ports.insert(9005));
    put_registry(&rig, json!({}), json!({"hostPort": 9005}));
    rounds(&mut rig, 5).await;
    assert_eq!(condition(&registry(&rig), "ContainerReady"), ("False".into(), "PortConflict".into()));
    assert_eq!(condition(&registry(&rig), "Reachable"), ("Unknown".into(), "Pending".into()));
    rig.world(|w| w.held_ports.clear());
    rig.settle(ENOUGH).await;
    assert_eq!(condition(&registry(&rig), "Reachable").0, "True");
}

/// Docker 29 would run it without a network, and publish nothing.
#[tokio::test(start_paused = true)]
async fn a_container_that_a_failed_start_disconnected_does_not_run_without_its_network() {
    let mut rig = Rig::new(lab::settings());
    rig.world(|w| {
        w.failed_starts_disconnect = true;
        w.held_ports.extend([9005, 9090]);
    });
    put_registry(&rig, json!({}), json!({"hostPort": 9005}));
    put(&rig, json!({}), json!({"ports": [{"name": "web", "port": 80, "hostPort": 9090}]}));
    rounds(&mut rig, 5).await;
    assert_eq!(condition(&registry(&rig), "ContainerReady"), ("False".into(), "PortConflict".into()));
    rig.world(|w| w.held_ports.clear());
    rig.settle(2 * ENOUGH).await;
    // Somebody takes what is stopped off its networks in the same way.
    let names = ["k3d-images", "k3d-dev-serverlb", "k3d-dev-server-0"];
    for name in names {
        rig.world(|w| {
            assert!(w.interfere(&Outside::Kill(name.into())));
            w.container(name).unwrap().networks.clear();
        });
        rig.settle_after_a_round(ENOUGH).await;
    }
    for name in names {
        let networks = rig.world(|w| w.named(name).unwrap().networks.keys().cloned().collect::<Vec<_>>());
        assert_eq!(networks.len(), 1, "{name}: {networks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_to_hold_of_what_is_paused() {
    let mut rig = with_registry(json!({"agents": {"count": 1}})).await;
    put(
        &rig,
        json!({PAUSED: "true"}),
        json!({"registries": {"use": [{"name": "images"}]}, "agents": {"count": 1}}),
    );
    put_registry(&rig, json!({PAUSED: "true"}), json!({}));
    rig.world(|w| w.interfere(&Outside::Kill("k3d-dev-agent-0".into())));
    rig.world(|w| w.interfere(&Outside::Kill("k3d-images".into())));
    rig.round().await;
    is_quiet(&mut rig).await;
    for object in [rig.api.get(&path("localclusters", "dev")).unwrap(), registry(&rig)] {
        let conditions = object["status"]["conditions"].as_array().unwrap().clone();
        for c in conditions.iter().filter(|c| c["status"] == "True") {
            assert_eq!(c["type"], if c["reason"] == "InUse" { "InUse" } else { "Paused" }, "{object}");
        }
        assert_eq!(condition(&object, "Ready"), ("Unknown".into(), "Paused".into()));
        assert_eq!(condition(&object, "Stalled").0, "False");
    }

    // And not a moment after it goes on, before it was looked at.
    put(&rig, json!({}), json!({"registries": {"use": [{"name": "images"}]}, "agents": {"count": 1}}));
    put_registry(&rig, json!({}), json!({}));
    rig.reconcile().await;
    assert_ne!(rig.told("Ready").0, "True");
    rig.settle(ENOUGH).await;
}

#[tokio::test(start_paused = true)]
async fn whether_agents_are_ready_is_unknown_while_the_api_does_not_answer() {
    let mut rig = with_registry(json!({"agents": {"count": 2}})).await;
    rig.faults.unreachable.store(true, Ordering::Relaxed);
    rig.round().await;
    assert_eq!(rig.told("ControlPlaneReady"), ("False".into(), "APINotAnswering".into()));
    assert_eq!(rig.told("AgentsReady"), ("Unknown".into(), "APINotAnswering".into()));
    // One of which is known that it does not run is not Ready.
    rig.world(|w| w.interfere(&Outside::Pause("k3d-dev-agent-0".into())));
    rig.world(|w| w.held_ports.insert(1));
    rig.reconcile().await;
    rig.faults.unreachable.store(false, Ordering::Relaxed);
    rig.settle(ENOUGH).await;
    put(&rig, json!({}), json!({"registries": {"use": [{"name": "images"}]}}));
    rig.settle(ENOUGH).await;
    rig.faults.unreachable.store(true, Ordering::Relaxed);
    rig.round().await;
    assert_eq!(status(&rig, "AgentsReady"), "True", "of no agents all are Ready");
}

/// A Registry that is deleted while it is used stays, and serves.
#[tokio::test(start_paused = true)]
async fn a_registry_that_is_to_be_deleted_serves_as_before() {
    let mut rig = with_registry(json!({})).await;
    rig.api.delete(&path("registries", "images"));
    rounds(&mut rig, 3).await;
    assert_eq!(rig.told("Ready").0, "True", "{}", message(&rig, "Ready"));
    // New agents start, and a server whose container was removed comes back.
    put(&rig, json!({}), json!({"registries": {"use": [{"name": "images"}]}, "agents": {"count": 1}}));
    rig.world(|w| w.interfere(&Outside::Remove("k3d-dev-server-0".into())));
    rounds(&mut rig, 12).await;
    assert!(running(&rig, "k3d-dev-server-0") && running(&rig, "k3d-dev-agent-0"));
    assert_eq!(rig.told("Ready").0, "True", "{}", message(&rig, "Ready"));
}

/// One that is edited while it is paused is of another generation than what its status speaks of.
#[tokio::test(start_paused = true)]
async fn a_registry_that_is_paused_serves_as_before() {
    let mut rig = with_registry(json!({})).await;
    put_registry(&rig, json!({PAUSED: "true"}), json!({"deleteEnabled": true}));
    rounds(&mut rig, 3).await;
    assert_eq!(rig.told("Ready").0, "True", "{}", message(&rig, "Ready"));
    // Whether it runs is seen all the same.
    rig.world(|w| w.interfere(&Outside::Kill("k3d-images".into())));
    rounds(&mut rig, 2).await;
    assert_eq!(rig.told("Ready"), ("False".into(), "RegistryNotReady".into()));
    assert!(message(&rig, "Ready").contains("k3d-images of the Registry images is not running"));
    // It holds nobody up.
    rig.world(|w| w.interfere(&Outside::Remove("k3d-dev-server-0".into())));
    put(&rig, json!({}), json!({"registries": {"use": [{"name": "images"}]}, "agents": {"count": 1}}));
    rounds(&mut rig, 12).await;
    assert!(running(&rig, "k3d-dev-server-0") && running(&rig, "k3d-dev-agent-0"));
    assert_eq!(
        (status(&rig, "ControlPlaneReady"), status(&rig, "AgentsReady")),
        ("True".into(), "True".into())
    );
}

/// Its status is lost, as when objects are restored from a backup, while nobody looks after it.
#[tokio::test(start_paused = true)]
async fn what_is_unknown_of_a_registry_is_not_taken_out_of_running_nodes() {
    for container_is_gone in [false, true] {
        let mut rig = with_registry(json!({"agents": {"count": 1}})).await;
        let told = |rig: &Rig| {
            rig.world(|w| {
                let id = w.id("k3d-dev-agent-0").unwrap();
                let started = w.containers[&id].started;
                (w.read(&id, "/etc/rancher/k3s/registries.yaml"), w.registries_of(&id), started)
            })
        };
        let before = told(&rig);
        put_registry(&rig, json!({PAUSED: "true"}), json!({}));
        if container_is_gone {
            rig.world(|w| w.interfere(&Outside::Remove("k3d-images".into())));
        }
        rig.api.lose_status(&path("registries", "images"));
        for _ in 0..6 {
            rig.round().await;
            assert_eq!(told(&rig), before);
        }
        put_registry(&rig, json!({}), json!({}));
        rig.settle(ENOUGH).await;
        assert_eq!(told(&rig), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_to_be_replaced_is_counted_while_it_serves() {
    let mut rig = Rig::new(lab::settings());
    put(&rig, json!({}), json!({}));
    rig.settle(ENOUGH).await;
    let ready =
        |rig: &Rig| rig.api.get(&path("localclusters", "dev")).unwrap()["status"]["servers"]["ready"].clone();
    assert_eq!(ready(&rig), 1);
    // An upgrade to an image that nobody has.
    rig.faults.every(Some(("pull rancher/k3s:v1.36.9-k3s1", Fault::Refused)));
    put(&rig, json!({}), json!({"version": "v1.36.9-k3s1"}));
    rounds(&mut rig, ENOUGH).await;
    assert_eq!(status(&rig, "Ready"), "False");
    assert!(running(&rig, "k3d-dev-server-0"));
    assert_eq!(ready(&rig), 1);
}

/// Limits of the host are reported before nodes fail by them, and hold nothing back.
#[tokio::test(start_paused = true)]
async fn a_host_with_low_limits_is_named_and_used() {
    let mut rig = Rig::new(lab::settings());
    let engine = rig.ctx.engine.clone();
    let low = HostLimits { inotify_instances: 8, free: 50 };
    let ctx = Arc::get_mut(&mut rig.ctx).unwrap();
    ctx.limits = Limits::new(engine, Duration::MAX).observed(low);
    put(&rig, json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert_eq!(rig.told("HostReady"), ("False".to_owned(), "InotifyLimitLow".to_owned()));
    let told = message(&rig, "HostReady");
    assert!(told.contains("permits 8 inotify instances") && told.contains("sysctl -w"), "{told}");
    assert_eq!(status(&rig, "Ready"), "True");
    is_quiet(&mut rig).await;

    // Nothing waits for what cannot be observed.
    let mut rig = Rig::new(lab::settings());
    let engine = rig.ctx.engine.clone();
    Arc::get_mut(&mut rig.ctx).unwrap().limits = Limits::new(engine, Duration::MAX);
    put(&rig, json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert_eq!(rig.told("HostReady"), ("Unknown".to_owned(), "Pending".to_owned()));
    assert_eq!(status(&rig, "Ready"), "True");
}

/// The operator's Pod has no route to an engine on another machine, until a port is published there.
#[tokio::test(start_paused = true)]
async fn whether_pods_reach_a_cluster_is_what_the_operator_sees() {
    let remote = Settings { engine_host: Some("192.0.2.5".into()), ..lab::settings() };
    let mut rig = Rig::new(remote);
    put(&rig, json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert_eq!(rig.told("ReachableFromPods"), ("False".to_owned(), "NoRoute".to_owned()));
    let told = message(&rig, "ReachableFromPods");
    assert!(
        told.contains("Secret dev-kubeconfig") && told.contains("set spec.api.hostIP to 0.0.0.0"),
        "{told}"
    );
    assert_eq!(status(&rig, "Ready"), "True");

    put(&rig, json!({}), json!({"api": {"hostIP": "0.0.0.0"}}));
    rig.settle(ENOUGH).await;
    assert_eq!(status(&rig, "ReachableFromPods"), "True");
    put(&rig, json!({PAUSED: "true"}), json!({"api": {"hostIP": "0.0.0.0"}}));
    rig.round().await;
    assert_eq!(rig.told("ReachableFromPods"), ("Unknown".to_owned(), "Paused".to_owned()));
    put(&rig, json!({}), json!({"api": {"hostIP": "0.0.0.0"}, "state": "Stopped"}));
    for _ in 0..ENOUGH {
        rig.round().await;
    }
    assert_eq!(rig.told("ReachableFromPods"), ("Unknown".to_owned(), "Stopped".to_owned()));
    put(&rig, json!({}), json!({"api": {"hostIP": "0.0.0.0"}}));
    rig.settle(ENOUGH).await;
    assert_eq!(status(&rig, "ReachableFromPods"), "True");
}

/// No route to the container, and another program at the published port on this machine's own loopback address.
struct Elsewhere;

#[async_trait]
impl Probe for Elsewhere {
    async fn ask(&self, question: &Question<'_>) -> Result<u16, Trouble> {
        match &question.to {
            Target::Address(address) if address.ip().is_loopback() => Ok(404),
            Target::Address(_) => Err(Trouble::Silent("timed out".into())),
            Target::Tunnel(_) => Ok(200),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_program_on_a_loopback_port_is_not_taken_for_the_registry() {
    let mut rig = Rig::new(lab::settings());
    Arc::get_mut(&mut rig.ctx).unwrap().probe = Arc::new(Elsewhere);
    put_registry(&rig, json!({}), json!({}));
    rig.settle(ENOUGH).await;
    assert_eq!(condition(&registry(&rig), "Reachable").0, "True");
}
