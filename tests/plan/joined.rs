//! Networks of the user that a cluster joins: those that allow it, as long as the spec names them, and nothing else of them is
//! changed.

use localcluster_operator::{
    api::{
        condition::{self, ConditionType},
        names,
        reason::Reason,
    },
    docker::{engine::State, spec::NetworkSpec},
};

use super::*;

const SHARED: &str = "shared";
const BALANCER: &str = "k3d-dev-serverlb";
const AGENT: &str = "k3d-dev-agent-0";

fn add(lab: &mut Lab, name: &str, labels: &[(&str, &str)]) -> String {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    lab.world.create_network(&NetworkSpec { name: name.into(), addressing: None, labels }).unwrap();
    id(lab, name)
}

fn id(lab: &Lab, name: &str) -> String {
    lab.world.networks.iter().find(|(_, n)| n.name == name).expect("it exists").0.clone()
}

/// A cluster with an agent that has settled, and a network that allows it.
fn made() -> Lab {
    let mut lab = script::lab(support::model::lab::spec(1), 0);
    lab.registries.clear();
    lab.knows_ca = true;
    add(&mut lab, SHARED, &[(names::ALLOW_NAMESPACES, "default")]);
    lab.settle(ENOUGH);
    lab
}

fn join(lab: &mut Lab, all: &[&str]) {
    lab.clusters[0].edit(|s| s.network.join = all.iter().map(|name| (*name).to_owned()).collect());
}

/// The containers on a network.
fn on(lab: &Lab, name: &str) -> Vec<String> {
    let mut all: Vec<String> = lab
        .world
        .containers
        .values()
        .filter(|c| c.networks.values().any(|place| place.name == name))
        .map(|c| c.name.clone())
        .collect();
    all.sort();
    all
}

fn told(lab: &Lab) -> (String, String) {
    let found = condition::get(&lab.clusters[0].status.conditions, ConditionType::NetworkReady);
    found.map(|c| (c.reason.clone(), c.message.clone())).unwrap_or_default()
}

fn rounds(lab: &mut Lab) {
    (0..6).for_each(|_| drop(lab.round()));
}

fn ids(lab: &Lab) -> Vec<String> {
    lab.world.containers.keys().cloned().collect()
}

#[test]
fn running_containers_join_and_leave_without_a_restart() {
    let mut lab = made();
    let (before, started) = (ids(&lab), lab.world.named(AGENT).unwrap().started);
    let network = lab.world.networks[&id(&lab, SHARED)].clone();
    join(&mut lab, &[SHARED]);
    lab.settle(ENOUGH);
    assert_eq!(on(&lab, SHARED), [AGENT, "k3d-dev-server-0", BALANCER]);
    // A user's own connection is the user's.
    let theirs = add(&mut lab, "theirs", &[]);
    lab.world.connect(&theirs, AGENT, &Default::default()).unwrap();
    join(&mut lab, &[]);
    lab.settle(ENOUGH);
    assert_eq!((on(&lab, SHARED), on(&lab, "theirs")), (Vec::new(), vec![AGENT.to_owned()]));
    assert_eq!((ids(&lab), lab.world.named(AGENT).unwrap().started), (before, started));
    assert_eq!(lab.world.networks[&id(&lab, SHARED)], network);
}

#[test]
fn what_does_not_allow_it_is_not_joined_and_the_cluster_goes_on() {
    let mut lab = made();
    add(&mut lab, "silent", &[]);
    add(&mut lab, "of-team-b", &[(names::ALLOW_NAMESPACES, "team-b")]);
    let theirs = [(names::UID, "u"), (names::MANAGER, "m"), (names::ALLOW_NAMESPACES, "*")];
    add(&mut lab, "k3d-other", &theirs);
    for name in ["silent", "of-team-b", "k3d-other", "k3d-dev", "missing"] {
        let before = lab.world.containers.clone();
        join(&mut lab, &[name]);
        rounds(&mut lab);
        let (reason, message) = told(&lab);
        let expected = format!(
            "spec.network.join: no Docker network {name} with the driver bridge allows the namespace default"
        );
        assert!(reason == Reason::NotAllowed && message.contains(&expected), "{message}");
        assert_eq!(lab.world.containers, before, "{name}");
    }
    // A lost node comes back meanwhile, and the network is joined once it is there.
    lab.world.remove_container(AGENT).unwrap();
    rounds(&mut lab);
    assert_eq!(lab.world.named(AGENT).unwrap().state, State::Running);
    add(&mut lab, "missing", &[(names::ALLOW_NAMESPACES, "*")]);
    lab.settle(ENOUGH);
    assert_eq!(on(&lab, "missing").len(), 3);
}

/// A container on the network could answer for the load balancer, and would be sent the token.
#[test]
fn a_new_cluster_joins_nothing_before_its_ca_is_known() {
    let mut lab = script::lab(support::model::lab::spec(1), 0);
    lab.registries.clear();
    add(&mut lab, SHARED, &[(names::ALLOW_NAMESPACES, "*")]);
    join(&mut lab, &[SHARED]);
    for _ in 0..20 {
        lab.round();
        assert_eq!(on(&lab, SHARED), [""; 0]);
    }
    assert!(told(&lab).1.contains("waiting for the first server before joining shared"), "{:?}", told(&lab));
    assert_eq!(lab.world.named(AGENT).unwrap().state, State::Running);
    lab.knows_ca = true;
    lab.settle(ENOUGH);
    assert_eq!(on(&lab, SHARED).len(), 3);
    // For a moment the file of the server cannot be read.
    lab.knows_ca = false;
    let before = lab.world.containers.clone();
    rounds(&mut lab);
    assert_eq!((on(&lab, SHARED).len(), told(&lab).0.as_str()), (3, "Ready"));
    assert_eq!(lab.world.containers.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

/// The nodes could not reach its containers: K3s routes their addresses to Pods.
#[test]
fn a_network_where_pods_are_is_refused() {
    let mut lab = script::lab(support::model::lab::spec(0), 0);
    lab.registries.clear();
    lab.knows_ca = true;
    let shared = add(&mut lab, SHARED, &[(names::ALLOW_NAMESPACES, "*")]);
    lab.world.networks.get_mut(&shared).unwrap().subnet = "10.42.3.0/24".parse().unwrap();
    join(&mut lab, &[SHARED]);
    (0..40).for_each(|_| drop(lab.round()));
    let (_, message) = told(&lab);
    assert!(message.contains("the subnet 10.42.3.0/24 of shared overlaps 10.42.0.0/16"), "{message}");
    assert_eq!(on(&lab, SHARED), [""; 0]);
    assert_eq!(lab.world.named("k3d-dev-server-0").unwrap().state, State::Running);
}

#[test]
fn what_comes_back_is_joined_again() {
    let mut lab = made();
    join(&mut lab, &[SHARED]);
    lab.settle(ENOUGH);
    // Disconnected, recreated, and stopped while the network is made anew.
    lab.world.disconnect(&id(&lab, SHARED), AGENT).unwrap();
    lab.settle(ENOUGH);
    assert_eq!(on(&lab, SHARED).len(), 3);
    lab.world.remove_container(BALANCER).unwrap();
    lab.settle(ENOUGH);
    assert_eq!(on(&lab, SHARED).len(), 3);
    lab.clusters[0].edit(|s| s.state = localcluster_operator::api::local_cluster::ClusterState::Stopped);
    lab.settle(ENOUGH);
    let old = id(&lab, SHARED);
    lab.world.remove_network(&old).unwrap();
    let new = add(&mut lab, SHARED, &[(names::ALLOW_NAMESPACES, "default")]);
    lab.clusters[0].edit(|s| s.state = localcluster_operator::api::local_cluster::ClusterState::Running);
    lab.settle(ENOUGH);
    for name in [AGENT, BALANCER, "k3d-dev-server-0"] {
        let networks = &lab.world.named(name).unwrap().networks;
        assert!(networks.contains_key(&new) && !networks.contains_key(&old), "{name}");
    }
    lab.clusters[0].deleted = true;
    lab.settle(ENOUGH);
    assert!(lab.world.networks.contains_key(&new) && on(&lab, SHARED).is_empty());
}

/// In whatever pass and after whatever step the operator dies.
#[test]
fn it_goes_on_where_it_was_killed_with_a_joined_network() {
    for (passes, cut) in (0..4).flat_map(|passes| (0..5).map(move |cut| (passes, cut))) {
        let mut lab = made();
        for (wanted, count) in [(&[SHARED][..], 3), (&[], 0)] {
            join(&mut lab, wanted);
            (0..passes).for_each(|_| drop(lab.pass(0, usize::MAX)));
            lab.pass(0, cut);
            lab.settle(ENOUGH);
            assert_eq!(on(&lab, SHARED).len(), count, "{passes} passes, {cut} steps");
        }
    }
}
