//! The network of a registry.

use localcluster_operator::{api::names, docker::spec::PortBinding};
use support::model::{check, interfere::Outside, world::BRIDGE};

use super::*;

const NETWORK: &str = "bridge-k3d-images";

/// Names of the networks that the registry is on.
fn places(lab: &Lab) -> Vec<String> {
    lab.world.named(NAME).unwrap().networks.values().map(|p| p.name.clone()).collect()
}

fn networks(lab: &Lab) -> Vec<String> {
    lab.world.networks.values().map(|n| n.name.clone()).collect()
}

/// A registry whose container an earlier operator created.
fn earlier() -> Lab {
    let mut lab = settled(RegistrySpec::default());
    let container = lab.world.container(NAME).unwrap();
    Arc::make_mut(&mut container.labels).remove(names::NETWORK);
    let mut place = container.networks.values().next().unwrap().clone();
    place.name = "bridge".into();
    container.networks = [(BRIDGE.to_owned(), place)].into();
    lab.world.networks.retain(|id, _| id == BRIDGE);
    lab
}

#[test]
fn each_registry_has_one_which_goes_with_it() {
    let mut lab = lab(RegistrySpec::default());
    lab.registries.push(Object::new("team-a", "images", RegistrySpec::default()));
    lab.settings.network_pool = Some("172.31.0.0/23".parse().unwrap());
    lab.settle(ENOUGH);
    check::world(&lab.world);
    assert_eq!(places(&lab), [NETWORK]);
    let mut subnets: Vec<_> = lab.world.networks.values().map(|n| n.subnet.to_string()).collect();
    subnets.sort();
    assert_eq!(subnets, ["172.17.0.0/16", "172.31.1.224/28", "172.31.1.240/28"]);
    for registry in &mut lab.registries {
        registry.deleted = true;
    }
    lab.settle(ENOUGH);
    assert_eq!(networks(&lab), ["bridge"]);
}

#[test]
fn an_operator_that_is_killed_anywhere_ends_the_same_way() {
    for cut in 0..10 {
        let mut lab = lab(RegistrySpec::default());
        lab.settings.network_pool = None;
        for _ in 0..cut {
            lab.pass_registry(0, 1);
        }
        lab.settle(ENOUGH);
        rests(&lab);
        assert_eq!(networks(&lab).len(), 2, "{cut}");
    }
}

#[test]
fn a_running_container_of_an_earlier_operator_stays_where_it_is() {
    let mut lab = earlier();
    let (id, (plan, ..)) = (lab.world.id(NAME), lab.look_registry(0).unwrap());
    assert!(plan.is_settled(), "{plan:?}");
    assert!(plan.warnings[0].contains("`docker rm -f k3d-images`"), "{:?}", plan.warnings);
    for stop in [Outside::Kill(NAME.into()), Outside::Pause(NAME.into())] {
        lab.world.interfere(&stop);
        lab.settle(ENOUGH);
        rests(&lab);
        assert_eq!((lab.world.id(NAME), places(&lab)), (id.clone(), vec!["bridge".to_owned()]));
    }
    // The advice of the warning, and another reason.
    let causes: [fn(&mut Lab); 3] = [
        |lab| drop(lab.world.remove_container(NAME)),
        |lab| lab.registries[0].edit(|s| s.delete_enabled = true),
        // As Docker 29 leaves it after a failed start.
        |lab| lab.world.container(NAME).unwrap().networks.clear(),
    ];
    for cause in causes {
        let mut lab = lab.clone();
        cause(&mut lab);
        lab.settle(ENOUGH);
        rests(&lab);
        assert_eq!(places(&lab), [NETWORK]);
        assert!(lab.look_registry(0).unwrap().0.warnings.is_empty());
    }
}

#[test]
fn without_a_free_subnet_nothing_that_runs_is_touched() {
    let mut lab = earlier();
    lab.settings.network_pool = None;
    let pools = std::mem::take(&mut lab.world.pools);
    let id = lab.world.id(NAME);
    lab.registries[0].edit(|s| s.delete_enabled = true);
    for _ in 0..ENOUGH {
        lab.round();
    }
    let (_, reason, message) = told(&lab, ConditionType::ContainerReady);
    assert_eq!(reason, Reason::AddressPoolExhausted, "{message}");
    assert!(message.contains("--network-pool"), "{message}");
    rests(&lab);
    assert_eq!(lab.world.id(NAME), id);
    lab.world.pools = pools;
    lab.settle(ENOUGH);
    assert_eq!(places(&lab), [NETWORK]);

    let mut lab = self::lab(RegistrySpec::default());
    lab.settings.network_pool = Some("172.17.4.0/24".parse().unwrap());
    lab.settings.pool_required = true;
    lab.round();
    let (_, reason, message) = told(&lab, ConditionType::ContainerReady);
    assert_eq!(reason, Reason::AddressPoolExhausted);
    assert!(message.contains("every /28 of the network pool 172.17.4.0/24 is in use"), "{message}");
}

#[test]
fn a_pool_with_room_for_one_cluster_is_left_to_it() {
    let mut lab = Lab::new(
        vec![Object::new("default", "dev", support::model::lab::spec(0))],
        vec![Object::new("default", "images", RegistrySpec::default())],
    );
    lab.settings.network_pool = Some("172.31.0.0/24".parse().unwrap());
    lab.settle(2 * ENOUGH);
    check::world(&lab.world);
    let subnet = |name: &str| lab.world.networks.values().find(|n| n.name == name).unwrap().subnet;
    assert_eq!(subnet("k3d-dev").to_string(), "172.31.0.0/24");
    assert_eq!(subnet(NETWORK).to_string(), "172.18.0.0/16");
}

/// Docker does not know all that it has routes to.
#[test]
fn a_subnet_that_docker_refuses_is_not_chosen_again() {
    let mut lab = lab(RegistrySpec::default());
    lab.settings.network_pool = Some("172.31.0.0/23".parse().unwrap());
    lab.world.unseen.insert("172.31.1.240/28".parse().unwrap());
    lab.settle(ENOUGH);
    rests(&lab);
    assert_eq!(places(&lab), [NETWORK]);
}

#[test]
fn another_network_with_its_name_is_left_alone() {
    let mut lab = lab(RegistrySpec::default());
    lab.world.interfere(&Outside::ForeignNetwork(NETWORK.into()));
    lab.round();
    let (_, reason, message) = told(&lab, ConditionType::ContainerReady);
    assert_eq!(reason, Reason::NameConflict);
    assert!(message.contains("a network named bridge-k3d-images"), "{message}");
    assert!(lab.world.containers.is_empty());
    lab.world.strangers_leave();
    lab.settle(ENOUGH);
    rests(&lab);
}

#[test]
fn whoever_takes_it_away_the_same_container_gets_it_back() {
    for act in [Outside::RemoveNetwork(NETWORK.into()), Outside::Disconnect(NAME.into())] {
        for stopped in [false, true] {
            let mut lab = settled(RegistrySpec::default());
            let id = lab.world.id(NAME);
            if stopped {
                lab.world.interfere(&Outside::Stop(NAME.into()));
            }
            lab.world.interfere(&act);
            if act == Outside::Disconnect(NAME.into()) {
                lab.world.container(NAME).unwrap().networks.clear();
            }
            lab.settle(ENOUGH);
            rests(&lab);
            assert_eq!((places(&lab), lab.world.id(NAME)), (vec![NETWORK.to_owned()], id), "{act:?}");
        }
    }
    // What somebody else connects to it does not hold up a deletion.
    let mut lab = settled(RegistrySpec::default());
    lab.world.interfere(&Outside::Visitor(NETWORK.into()));
    lab.registries[0].deleted = true;
    lab.settle(ENOUGH);
    assert_eq!(networks(&lab), ["bridge"]);
}

#[test]
fn a_second_network_of_the_same_name_is_removed() {
    let mut lab = settled(RegistrySpec::default());
    lab.world.duplicates = true;
    let spec = localcluster_operator::docker::spec::NetworkSpec {
        name: NETWORK.into(),
        addressing: None,
        labels: lab.registries[0].owner("registry").labels(),
    };
    lab.world.create_network(&spec).unwrap();
    lab.settle(ENOUGH);
    rests(&lab);
    assert_eq!(networks(&lab).len(), 2);
}

#[test]
fn helpers_are_on_no_network() {
    let mut lab = settled(on_host("/srv/images"));
    ask(&mut lab, Some("1"));
    for _ in 0..4 {
        for helper in lab.world.containers.values().filter(|c| c.name != NAME) {
            assert!(helper.networks.is_empty(), "{}", helper.name);
            assert_eq!(helper.wanted_ports[..], [] as [PortBinding; 0]);
        }
        lab.pass_registry(0, usize::MAX);
    }
}
