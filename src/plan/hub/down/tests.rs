use jiff::Timestamp;

use super::*;
use crate::docker::engine::{Container, Network, Volume};

fn names() -> HubNames {
    HubNames::new("hub").unwrap()
}

fn container(name: &str, names: &HubNames) -> ContainerDetail {
    ContainerDetail {
        container: Container {
            id: format!("id-of-{name}"),
            name: name.into(),
            labels: names.labels(),
            state: State::Running,
            ..Container::default()
        },
        started_at: Some(Timestamp::UNIX_EPOCH),
        ..ContainerDetail::default()
    }
}

fn host() -> Host {
    let network =
        Network { id: "net".into(), name: "hub-hub".into(), labels: names().labels(), ..Network::default() };
    Host {
        networks: vec![network],
        volume: Some(Volume { name: "hub-hub".into(), labels: names().labels() }),
        server: Some(container("hub-hub", &names())),
        operator: Some(container("hub-operator", &names())),
        ..Host::default()
    }
}

fn object(name: &str, deleting: bool) -> Object {
    Object { kind: "LocalCluster".into(), name: format!("default/{name}"), deleting, paused: false }
}

fn told(clusters: Clusters, host: &Host, objects: &Objects) -> String {
    match next(&names(), clusters, host, objects) {
        Next::Step(step) => step.to_string(),
        Next::Wait(what) => what,
        Next::Done => "done".to_owned(),
        Next::Refused(why) => format!("refused: {why}"),
    }
}

#[test]
fn everything_goes_in_an_order_that_can_be_interrupted() {
    let none = Objects::Known(BTreeSet::new());
    let mut host = host();
    let why = "the hub is taken down";
    assert_eq!(told(Clusters::Refuse, &host, &none), format!("removing container hub-operator: {why}"));
    host.operator = None;
    assert_eq!(told(Clusters::Refuse, &host, &none), format!("removing container hub-hub: {why}"));
    host.server = None;
    assert_eq!(told(Clusters::Refuse, &host, &Objects::Unknown), "removing volume hub-hub");
    host.volume = None;
    assert_eq!(told(Clusters::Refuse, &host, &Objects::Unknown), "removing network hub-hub");
    host.networks.clear();
    assert_eq!(told(Clusters::Refuse, &host, &Objects::Unknown), "done");
}

#[test]
fn a_hub_with_objects_stays_unless_they_may_go_or_be_kept() {
    let objects = Objects::Known([object("a", false), object("b", true)].into());
    let refused = told(Clusters::Refuse, &host(), &objects);
    for words in ["LocalCluster default/a, LocalCluster default/b", "--delete-clusters", "--keep-clusters"] {
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(told(Clusters::Delete, &host(), &objects), "deleting 2 LocalClusters and Registries");
    let kept = told(Clusters::Keep, &host(), &Objects::Unknown);
    assert_eq!(kept, "removing container hub-operator: the hub is taken down");

    let mut paused = object("b", true);
    paused.paused = true;
    let waits = told(Clusters::Delete, &host(), &Objects::Known([object("a", true), paused].into()));
    assert!(waits.starts_with("waiting until the operator has removed LocalCluster default/a"), "{waits}");
    assert!(waits.contains("remove its annotation localcluster.dev/paused"), "{waits}");

    let mut without = host();
    without.operator.as_mut().unwrap().container.state = State::Exited;
    let refused = told(Clusters::Delete, &without, &objects);
    assert!(refused.starts_with("refused: the operator does not run"), "{refused}");
    without.operator = None;
    assert_eq!(told(Clusters::Delete, &without, &objects), refused);
}

#[test]
fn unknown_objects_are_not_removed_by_chance() {
    let mut host = host();
    host.server.as_mut().unwrap().container.state = State::Exited;
    for clusters in [Clusters::Refuse, Clusters::Delete] {
        let refused = told(clusters, &host, &Objects::Unknown);
        assert!(refused.starts_with("refused: the hub does not run"), "{refused}");
        let waits = told(clusters, &host, &Objects::Silent("starting".into()));
        assert_eq!(waits, "waiting for the API of the hub");
    }
    // Somebody removed the container, and something of a cluster is there: maybe of this hub.
    host.server = None;
    host.managed.insert("k3d-dev-server-0".into());
    assert!(told(Clusters::Refuse, &host, &Objects::Unknown).starts_with("refused: "));
    let removes = "removing container hub-operator: the hub is taken down";
    assert_eq!(told(Clusters::Keep, &host, &Objects::Unknown), removes);
    host.managed.clear();
    assert_eq!(told(Clusters::Refuse, &host, &Objects::Unknown), removes);
    // One that `up` created and did not start.
    host.server = Some(ContainerDetail { started_at: None, ..container("hub-hub", &names()) });
    assert_eq!(told(Clusters::Refuse, &host, &Objects::Unknown), removes);
}

#[test]
fn what_is_somebody_elses_stays() {
    let other = HubNames::new("other").unwrap();
    let mut host = host();
    host.server = Some(container("hub-hub", &other));
    host.operator = Some(container("hub-operator", &other));
    host.volume.as_mut().unwrap().labels.clear();
    host.networks[0].labels = other.labels();
    assert_eq!(told(Clusters::Refuse, &host, &Objects::Unknown), "done");
    assert_eq!(told(Clusters::Keep, &host, &Objects::Unknown), "done");
}

#[test]
fn a_long_list_is_cut() {
    let many: BTreeSet<Object> = (10..30).map(|n| object(&n.to_string(), false)).collect();
    let refused = told(Clusters::Refuse, &host(), &Objects::Known(many));
    assert!(refused.contains("default/19, 10 more;"), "{refused}");
    let ten: BTreeSet<Object> = (10..20).map(|n| object(&n.to_string(), false)).collect();
    let refused = told(Clusters::Refuse, &host(), &Objects::Known(ten));
    assert!(refused.contains("default/19;"), "{refused}");
}
