//! Subnets that the engine chooses: none that the host has a route to, pinned for the life of the cluster.

use ipnet::Ipv4Net;
use localcluster_operator::{
    api::condition::{self, ConditionType},
    docker::spec::{Addressing, NetworkSpec},
};
use support::model::lab::ClusterObject;

use super::*;

fn nets(all: &[&str]) -> Arc<Vec<Ipv4Net>> {
    Arc::new(all.iter().map(|net| net.parse().unwrap()).collect())
}

fn lab(args: &[&str]) -> Lab {
    let mut spec = support::model::lab::spec(1);
    spec.servers.args = args.iter().map(|a| (*a).to_owned()).collect();
    let mut lab = script::lab(spec, 0);
    lab.settings.network_pool = None;
    // Its network would be one more of Docker's choices.
    lab.registries.clear();
    lab
}

/// The networks besides Docker's own, by name.
fn networks(lab: &Lab) -> BTreeMap<String, String> {
    let all = lab.world.networks.values().filter(|n| n.name != "bridge");
    all.map(|n| (n.name.clone(), n.subnet.to_string())).collect()
}

fn settled(mut lab: Lab) -> String {
    lab.settle(ENOUGH);
    check::world(&lab.world);
    let all = networks(&lab);
    assert_eq!(all.len(), 1, "{all:?}");
    all["k3d-dev"].clone()
}

/// What is told about the network.
fn told(lab: &Lab) -> (String, String) {
    let condition = condition::get(&lab.clusters[0].status.conditions, ConditionType::NetworkReady);
    condition.map(|c| (c.reason.clone(), c.message.clone())).unwrap_or_default()
}

fn take(lab: &mut Lab, subnet: &str) {
    let subnet: Ipv4Net = subnet.parse().unwrap();
    let addressing = Addressing { subnet, gateway: subnet.addr(), ip_range: subnet };
    let spec =
        NetworkSpec { name: "others".into(), addressing: Some(addressing), labels: BTreeMap::default() };
    lab.world.create_network(&spec).unwrap();
}

#[test]
fn no_subnet_overlaps_a_route_of_the_host() {
    assert_eq!(settled(lab(&[])), "172.18.0.0/24");
    let mut routed = lab(&[]);
    routed.world.routes = nets(&["172.18.200.0/24", "172.19.0.0/16", "172.20.0.0/14"]);
    assert_eq!(settled(routed), "172.24.0.0/24");
}

#[test]
fn pods_and_services_and_what_the_host_needs_are_avoided() {
    assert_eq!(settled(lab(&["--cluster-cidr=172.18.0.0/17"])), "172.18.128.0/24");
    let mut resolver = lab(&[]);
    resolver.settings.node_dns.push("172.18.0.2".into());
    assert_eq!(settled(resolver), "172.18.1.0/24");
    // The engine chooses a subnet again as soon as it is free.
    let mut others = lab(&["--service-cidr=10.96.0.0/12"]);
    others.world.pools = nets(&["10.42.0.0/16", "10.96.0.0/16", "10.97.0.0/16", "192.168.0.0/25"]);
    assert_eq!(settled(others), "192.168.0.0/25");
}

#[test]
fn an_operator_that_is_killed_anywhere_ends_the_same_way() {
    for before in 0..6 {
        let mut lab = lab(&[]);
        lab.world.pools = nets(&["10.42.0.0/16", "172.18.0.0/16"]);
        for _ in 0..before {
            lab.pass(0, 1);
        }
        assert_eq!(settled(lab), "172.18.0.0/24", "{before}");
    }
}

#[test]
fn a_deleted_cluster_leaves_no_choice() {
    let mut lab = lab(&[]);
    lab.pass(0, 1);
    assert_eq!(networks(&lab).into_keys().collect::<Vec<_>>(), ["k3d-dev.subnet-0"]);
    lab.clusters[0].deleted = true;
    lab.settle(ENOUGH);
    assert!(networks(&lab).is_empty());
}

#[test]
fn clusters_that_start_together_have_different_subnets() {
    let mut lab = lab(&[]);
    lab.clusters.push(ClusterObject::new("default", "other", support::model::lab::spec(0)));
    lab.settle(ENOUGH);
    check::world(&lab.world);
    let all = networks(&lab);
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn a_choice_that_others_took_is_made_again() {
    let mut lab = lab(&[]);
    lab.pass(0, 1);
    lab.world.unseen.insert("172.18.0.0/16".parse().unwrap());
    assert_eq!(settled(lab), "172.19.0.0/24");
}

#[test]
fn a_cluster_keeps_its_subnet() {
    let mut lab = lab(&[]);
    lab.settle(ENOUGH);
    lab.world.routes = nets(&["172.18.0.0/16"]);
    assert!(lab.settled());
    lab.world.interfere(&Outside::RemoveNetwork("k3d-dev".into()));
    assert_eq!(settled(lab.clone()), "172.18.0.0/24");
    take(&mut lab, "172.18.0.0/16");
    lab.round();
    lab.round();
    assert_eq!(told(&lab).0, Reason::SubnetConflict.as_ref());
    assert_eq!(networks(&lab).into_keys().collect::<Vec<_>>(), ["others"]);

    // One of an operator with a pool too.
    let mut lab = script::lab(support::model::lab::spec(1), 0);
    lab.settle(ENOUGH);
    let before = networks(&lab);
    lab.settings.network_pool = None;
    assert!(lab.settled());
    lab.world.interfere(&Outside::RemoveNetwork("k3d-dev".into()));
    lab.settle(ENOUGH);
    assert_eq!(networks(&lab), before);
}

#[test]
fn an_engine_without_a_subnet_is_told_of_with_what_to_do() {
    let mut none = lab(&[]);
    none.world.pools = Arc::default();
    none.round();
    let (reason, message) = told(&none);
    assert_eq!(reason, Reason::AddressPoolExhausted.as_ref());
    assert!(message.contains("default-address-pools") && message.contains("--network-pool"), "{message}");
    none.world.pools = nets(&["172.18.0.0/16"]);
    assert_eq!(settled(none), "172.18.0.0/24");

    let mut small = lab(&[]);
    small.world.pools = nets(&["10.9.0.0/26"]);
    small.round();
    small.round();
    let (reason, message) = told(&small);
    assert_eq!(reason, Reason::AddressPoolExhausted.as_ref());
    assert!(message.contains("10.9.0.0/26") && message.contains("/25 or larger"), "{message}");
    assert!(networks(&small).is_empty(), "it is given back");
    small.world.pools = nets(&["10.9.0.0/24"]);
    assert_eq!(settled(small), "10.9.0.0/24");
}
