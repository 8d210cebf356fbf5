//! `localcluster up` and `down` over a fake of Docker: from every state, with a failure or an end of the process at every
//! call.

mod support;

use std::sync::{Arc, Mutex};

use localcluster_operator::{
    api::names,
    cli::hub::drive,
    docker::spec::{ContainerSpec, NetworkSpec, Role, VolumeSpec},
    plan::hub::{
        desired::{HubNames, Wanted},
        down::Clusters,
    },
};
use support::{
    fakes::{
        engine::Fake,
        faults::{FAULTS, Fault, Faults, Side},
    },
    model::world::World,
};

const SOCKET: &str = "/var/run/docker.sock";

fn wanted() -> Wanted {
    Wanted {
        names: HubNames::new("hub").unwrap(),
        image: "rancher/k3s:v1.36.2-k3s1".into(),
        api_port: None,
        operator_image: "localcluster-operator:1".into(),
        operator_args: Vec::new(),
        socket: SOCKET.into(),
    }
}

/// A host with something of another owner.
fn rig() -> Fake {
    let mut world = World { host_directories: Arc::new([SOCKET.to_owned()].into()), ..World::default() };
    world.pull("other:1").unwrap();
    let other = |name: &str| ContainerSpec::bare(name, Role::LoadBalancer, "other:1");
    world.create_container(&other("other"), None).unwrap();
    world.create_volume(&VolumeSpec { name: "other".into(), labels: [].into() }).unwrap();
    world.create_network(&NetworkSpec { name: "other".into(), addressing: None, labels: [].into() }).unwrap();
    Fake { world: Arc::new(Mutex::new(world)), faults: Arc::new(Faults::default()) }
}

async fn up(fake: &Fake) -> Result<drive::Up, String> {
    drive::up(fake, &wanted(), &|_| {}).await
}

async fn down(fake: &Fake, clusters: Clusters) -> Result<bool, String> {
    drive::down(fake, &wanted().names, clusters, &|_| {}).await
}

fn world<T>(fake: &Fake, f: impl FnOnce(&mut World) -> T) -> T {
    f(&mut fake.world.lock().unwrap())
}

/// What a user sees of Docker: containers with their states and images, networks and volumes.
fn seen(fake: &Fake) -> Vec<String> {
    world(fake, |w| {
        let containers = w.containers.values().map(|c| format!("{} {:?} {}", c.name, c.state, c.image));
        let networks = w.networks.values().map(|n| format!("network {}", n.name));
        let mut all: Vec<String> =
            containers.chain(networks).chain(w.volumes.keys().map(|name| format!("volume {name}"))).collect();
        all.sort();
        all
    })
}

const COMPLETE: [&str; 8] = [
    "hub-hub Running rancher/k3s:v1.36.2-k3s1",
    "hub-operator Running localcluster-operator:1",
    "network bridge",
    "network hub-hub",
    "network other",
    "other Created other:1",
    "volume hub-hub",
    "volume other",
];
const NOTHING: [&str; 4] = ["network bridge", "network other", "other Created other:1", "volume other"];

/// Has the process end at the call with this number, before it takes effect or after it.
fn end_at(fake: &Fake, number: usize, takes_effect: bool) {
    let mut calls = 0;
    fake.faults.follow(Some(Box::new(move |_, _, _| {
        calls += 1;
        match calls {
            _ if calls <= number => None,
            _ if calls == number + 1 && takes_effect => Some(Fault::Lost),
            _ => Some(Fault::Timeout),
        }
    })));
}

/// The numbers of the calls after the first ones: all that change something, and some that read.
fn calls(fake: &Fake, first: usize) -> Vec<usize> {
    let calls = fake.faults.calls(Side::Docker).split_off(first);
    (0..calls.len()).filter(|number| calls[*number].1 || number % 11 == 0).collect()
}

#[tokio::test(start_paused = true)]
async fn it_comes_up_once() {
    let fake = rig();
    let first = up(&fake).await.unwrap();
    assert!(first.changed && first.kubeconfig.contains("server: https://127.0.0.1:16443"));
    assert_eq!(seen(&fake), COMPLETE);
    fake.faults.take_writes();
    let again = up(&fake).await.unwrap();
    assert!(!again.changed && again.kubeconfig == first.kubeconfig);
    let writes = fake.faults.take_writes();
    assert!(writes.iter().all(|call| call.contains("/readyz")), "{writes:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_at_any_call_is_completed_by_the_next_up() {
    let plain = rig();
    up(&plain).await.unwrap();
    for number in calls(&plain, 0) {
        for takes_effect in [false, true] {
            let fake = rig();
            end_at(&fake, number, takes_effect);
            up(&fake).await.unwrap_err();
            fake.faults.follow(None);
            up(&fake).await.unwrap_or_else(|e| panic!("after an end at call {number}: {e}"));
            assert_eq!(seen(&fake), COMPLETE, "after an end at call {number}");
            assert!(!up(&fake).await.unwrap().changed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_repeated_by_the_next_up() {
    let plain = rig();
    up(&plain).await.unwrap();
    for number in calls(&plain, 0) {
        for fault in FAULTS {
            let fake = rig();
            fake.faults.plan(Side::Docker, number, fault);
            if up(&fake).await.is_err() {
                up(&fake).await.unwrap_or_else(|e| panic!("after {fault:?} of call {number}: {e}"));
            }
            assert_eq!(seen(&fake), COMPLETE, "after {fault:?} of call {number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_done_to_it_is_repaired() {
    type Harm = fn(&mut World);
    let network = |w: &World| w.networks.iter().find(|(_, n)| n.name == "hub-hub").unwrap().0.clone();
    let harms: [(&str, Harm); 9] = [
        ("the hub is stopped", |w| w.end("hub-hub", 0).unwrap()),
        ("the hub is killed", |w| w.end("hub-hub", 137).unwrap()),
        ("the operator is killed", |w| w.end("hub-operator", 137).unwrap()),
        ("the hub is paused", |w| w.pause("hub-hub").unwrap()),
        ("the operator is paused", |w| w.pause("hub-operator").unwrap()),
        ("the hub is removed", |w| w.remove_container("hub-hub").unwrap()),
        ("the operator is removed", |w| w.remove_container("hub-operator").unwrap()),
        ("the hub is disconnected", |w| w.disconnect("hub-hub", "hub-hub").unwrap()),
        ("everything but the volume is gone", |w| {
            w.remove_container("hub-hub").unwrap();
            w.remove_container("hub-operator").unwrap();
            let id = w.networks.iter().find(|(_, n)| n.name == "hub-hub").unwrap().0.clone();
            w.remove_network(&id).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let fake = rig();
        up(&fake).await.unwrap();
        world(&fake, |w| {
            w.create_in_hub("hub-hub", "LocalCluster default/dev");
            harm(w);
        });
        assert!(up(&fake).await.unwrap_or_else(|e| panic!("{what}: {e}")).changed, "{what}");
        assert_eq!(seen(&fake), COMPLETE, "{what}");
        let refused = down(&fake, Clusters::Refuse).await.unwrap_err();
        assert!(refused.contains("LocalCluster default/dev"), "{what}: {refused}");
    }
    // With the volume all of its credentials are gone, and the operator gets the new ones.
    let fake = rig();
    up(&fake).await.unwrap();
    world(&fake, |w| {
        w.remove_container("hub-hub").unwrap();
        w.remove_volume("hub-hub").unwrap();
        assert!(w.networks.contains_key(&network(w)));
    });
    up(&fake).await.unwrap();
    assert_eq!(seen(&fake), COMPLETE);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_keeps_the_data() {
    let fake = rig();
    up(&fake).await.unwrap();
    world(&fake, |w| w.create_in_hub("hub-hub", "Registry default/r"));
    let newer = Wanted {
        image: "rancher/k3s:v1.37.0-k3s1".into(),
        operator_image: "localcluster-operator:2".into(),
        ..wanted()
    };
    assert!(drive::up(&fake, &newer, &|_| {}).await.unwrap().changed);
    let all = seen(&fake).join("\n");
    assert!(all.contains("hub-hub Running rancher/k3s:v1.37.0-k3s1"), "{all}");
    assert!(all.contains("hub-operator Running localcluster-operator:2"), "{all}");
    assert!(down(&fake, Clusters::Refuse).await.unwrap_err().contains("Registry default/r"));
    // Back is refused, and changes nothing.
    assert!(up(&fake).await.unwrap_err().contains("cannot go back"));
    assert_eq!(seen(&fake).join("\n"), all);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_in_use_is_passed_over() {
    let fake = rig();
    world(&fake, |w| w.held_ports = [16443, 16444].into());
    assert!(up(&fake).await.unwrap().kubeconfig.contains("127.0.0.1:16445"));
    assert_eq!(seen(&fake), COMPLETE);
    let fake = rig();
    world(&fake, |w| w.held_ports = [7443].into());
    let given = Wanted { api_port: Some(7443), ..wanted() };
    let told = drive::up(&fake, &given, &|_| {}).await.unwrap_err();
    assert!(told.contains("port 7443 of 127.0.0.1 is in use") && told.contains("--api-port"), "{told}");
    // Another port continues what was begun.
    up(&fake).await.unwrap();
    assert_eq!(seen(&fake), COMPLETE);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_does_not_exist_leaves_nothing() {
    let fake = rig();
    world(&fake, |w| w.unknown_images = ["localcluster-operator:1".to_owned()].into());
    let told = up(&fake).await.unwrap_err();
    assert!(
        told.starts_with("pulling localcluster-operator:1: ") && told.contains("--operator-image"),
        "{told}"
    );
    assert_eq!(seen(&fake), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_shown() {
    let fake = rig();
    let lines = Mutex::new(Vec::new());
    drive::up(&fake, &wanted(), &|line| lines.lock().unwrap().push(line.to_owned())).await.unwrap();
    let shown = world(&fake, |w| {
        let of = |c: &support::model::world::Container| {
            format!("{:?} {:?} {:?}", c.labels, c.command, c.past_proxy)
        };
        w.containers.values().map(of).collect::<String>()
    });
    let told = lines.into_inner().unwrap().join("\n");
    for text in [shown, told] {
        assert!(!text.contains("token-") && !text.contains("S0VZ"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn down_leaves_what_was_there_before() {
    let fake = rig();
    assert!(!down(&fake, Clusters::Refuse).await.unwrap());
    // Another management cluster has something here too.
    world(&fake, |w| {
        let other = w.containers.values_mut().find(|c| c.name == "other").unwrap();
        other.labels = Arc::new([(names::MANAGER.to_owned(), "another".to_owned())].into());
    });
    up(&fake).await.unwrap();
    assert!(down(&fake, Clusters::Refuse).await.unwrap());
    assert_eq!(seen(&fake), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn down_deletes_or_keeps_clusters_when_told_to() {
    for clusters in [Clusters::Delete, Clusters::Keep] {
        let fake = rig();
        up(&fake).await.unwrap();
        world(&fake, |w| {
            w.create_in_hub("hub-hub", "LocalCluster default/dev");
            w.create_in_hub("hub-hub", "Registry default/r");
        });
        let refused = down(&fake, Clusters::Refuse).await.unwrap_err();
        assert!(refused.contains("LocalCluster default/dev, Registry default/r"), "{refused}");
        assert_eq!(seen(&fake), COMPLETE);
        assert!(down(&fake, clusters).await.unwrap());
        assert_eq!(seen(&fake), NOTHING);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_does_not_answer_is_not_removed_by_chance() {
    let fake = rig();
    up(&fake).await.unwrap();
    world(&fake, |w| w.end("hub-hub", 1).unwrap());
    for clusters in [Clusters::Refuse, Clusters::Delete] {
        let told = down(&fake, clusters).await.unwrap_err();
        assert!(told.contains("localcluster up") && told.contains("--keep-clusters"), "{told}");
    }
    world(&fake, |w| w.start("hub-hub").unwrap());
    fake.faults.every(Some(("exec*", Fault::Timeout)));
    let told = down(&fake, Clusters::Refuse).await.unwrap_err();
    assert!(told.contains("waiting for the API of the hub") && told.contains("--keep-clusters"), "{told}");
    let told = up(&fake).await.unwrap_err();
    assert!(told.starts_with("waiting for the API of the hub: nothing has changed for 5 minutes"), "{told}");
    assert!(down(&fake, Clusters::Keep).await.unwrap());
    assert_eq!(seen(&fake), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn an_end_of_down_at_any_call_is_completed_by_the_next() {
    let plain = rig();
    up(&plain).await.unwrap();
    let before = plain.faults.calls(Side::Docker).len();
    down(&plain, Clusters::Refuse).await.unwrap();
    for number in calls(&plain, before) {
        for takes_effect in [false, true] {
            let fake = rig();
            up(&fake).await.unwrap();
            end_at(&fake, number, takes_effect);
            down(&fake, Clusters::Refuse).await.unwrap_err();
            fake.faults.follow(None);
            down(&fake, Clusters::Refuse)
                .await
                .unwrap_or_else(|e| panic!("after an end at call {number}: {e}"));
            assert_eq!(seen(&fake), NOTHING, "after an end at call {number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_somebody_elses_is_never_touched() {
    let fake = rig();
    world(&fake, |w| {
        w.create_volume(&VolumeSpec { name: "hub-hub".into(), labels: [].into() }).unwrap();
        w.create_container(&ContainerSpec::bare("hub-operator", Role::LoadBalancer, "other:1"), None)
            .unwrap();
    });
    let before = world(&fake, |w| w.clone());
    let told = up(&fake).await.unwrap_err();
    assert!(told.starts_with("a container named hub-operator exists") && told.contains("--name"), "{told}");
    for clusters in [Clusters::Refuse, Clusters::Keep] {
        assert!(!down(&fake, clusters).await.unwrap());
    }
    assert_eq!(world(&fake, |w| w.clone()), before);
}

/// Two hubs of one engine do not know each other.
#[tokio::test(start_paused = true)]
async fn hubs_of_other_names_stay() {
    let fake = rig();
    up(&fake).await.unwrap();
    let second = Wanted { names: HubNames::new("second").unwrap(), ..wanted() };
    let told = drive::up(&fake, &second, &|_| {}).await.unwrap();
    assert!(told.kubeconfig.contains("127.0.0.1:16444"), "{}", told.kubeconfig);
    assert!(!up(&fake).await.unwrap().changed);
    drive::down(&fake, &second.names, Clusters::Refuse, &|_| {}).await.unwrap();
    assert_eq!(seen(&fake), COMPLETE);
}
