//! `spec.agentPools`: which nodes a change concerns, and which it does not.

use std::{collections::BTreeMap, net::Ipv4Addr};

use localcluster_operator::{
    api::{
        local_cluster::{NodePhase, NodeSet, PoolStatus, PortSpec},
        names::{ClusterNames, POOL},
    },
    docker::engine::State,
};

use super::{
    support::model::{
        interfere::Outside,
        lab::{ClusterObject, pool},
        script::port,
        world::Place,
    },
    *,
};

/// A cluster with an agent and two pools.
fn settled_pools() -> Lab {
    let mut spec = spec(1);
    spec.agent_pools = vec![pool("gpu", 2), pool("big", 1)];
    let object: ClusterObject = Object::new("default", "dev", spec);
    let mut lab = Lab::new(vec![object], Vec::new());
    lab.settle(ENOUGH);
    lab.round();
    lab
}

/// ID and address of each node.
fn nodes(lab: &Lab) -> BTreeMap<String, (String, String)> {
    let names = ClusterNames::new("dev");
    let own = lab.world.containers.iter().filter(|(_, c)| names.parse_node(&c.name).is_some());
    let address =
        |places: &BTreeMap<String, Place>| format!("{:?}", places.values().next().and_then(|p| p.pinned));
    own.map(|(id, c)| (c.name.clone(), (id.clone(), address(&c.networks)))).collect()
}

fn names(lab: &Lab) -> Vec<String> {
    let short = |name: &String| name.trim_start_matches("k3d-dev-").to_owned();
    nodes(lab).keys().map(short).collect()
}

/// The nodes that differ from those before.
fn changed(lab: &Lab, before: &BTreeMap<String, (String, String)>) -> Vec<String> {
    let now = nodes(lab);
    let other = |name: &&String| now.get(*name) != before.get(*name);
    let all: std::collections::BTreeSet<&String> = now.keys().chain(before.keys()).collect();
    all.into_iter().filter(other).map(|name| name.trim_start_matches("k3d-dev-").to_owned()).collect()
}

#[test]
fn a_pool_has_nodes_of_its_own() {
    let lab = settled_pools();
    assert_eq!(names(&lab), ["agent-0", "big-0", "gpu-0", "gpu-1", "server-0"]);
    assert_eq!(lab.world.named("k3d-dev-gpu-1").unwrap().labels[POOL], "gpu");
    let status = &lab.clusters[0].status;
    let of = PoolStatus::new;
    assert_eq!(status.agents, Some(of(4, 4, 4)));
    let pools = status.agent_pools.iter();
    let pools: Vec<_> = pools.map(|p| (p.name.as_str(), p.desired, p.replicas, p.ready)).collect();
    assert_eq!(pools, [("big", 1, 1, 1), ("gpu", 2, 2, 2)]);
    assert_eq!(status.replicas, Some(1), "what `kubectl scale` sets");
    assert_eq!(status.selector.as_deref(), Some("k3d.cluster=dev,k3d.role=agent,!localcluster.dev/pool"));
    assert!(status.nodes.iter().any(|n| n.name == "k3d-dev-gpu-0" && n.pool.as_deref() == Some("gpu")));
}

#[test]
fn a_change_of_a_pool_concerns_its_nodes_only() {
    let mut lab = settled_pools();
    let mut before = nodes(&lab);
    let mut after = |lab: &mut Lab, expected: &[&str]| {
        lab.settle(ENOUGH);
        assert_eq!(changed(lab, &before), expected);
        before = nodes(lab);
    };
    lab.clusters[0].edit(|s| s.agent_pools.reverse());
    after(&mut lab, &[]);
    lab.clusters[0].edit(|s| s.agent_pools[0].pool.args = vec!["--kubelet-arg=max-pods=50".into()]);
    after(&mut lab, &["big-0"]);
    lab.clusters[0].edit(|s| drop(s.agent_pools[1].pool.labels.insert("tier".into(), "a".into())));
    after(&mut lab, &[]);
    assert_eq!(lab.look(0).whole.unwrap().desired.agents[2].config.labels["tier"], "a");
    lab.clusters[0].edit(|s| s.agents.count = 3);
    after(&mut lab, &["agent-1", "agent-2"]);
    lab.clusters[0].edit(|s| s.agent_pools[1].pool.count = 4);
    after(&mut lab, &["gpu-2", "gpu-3"]);
    lab.clusters[0].edit(|s| s.agent_pools[1].pool.count = 1);
    after(&mut lab, &["gpu-1", "gpu-2", "gpu-3"]);
    // A pool that comes first by name and in the list takes no address that another one has.
    lab.clusters[0].edit(|s| s.agent_pools.insert(0, pool("a", 20)));
    let new: Vec<String> = (0..20).map(|i| format!("a-{i}")).collect();
    let mut new: Vec<&str> = new.iter().map(String::as_str).collect();
    new.sort_unstable();
    after(&mut lab, &new);
    let addresses: std::collections::BTreeSet<String> = nodes(&lab).into_values().map(|(_, ip)| ip).collect();
    assert_eq!(addresses.len(), nodes(&lab).len());
    lab.clusters[0].edit(|s| s.agent_pools.retain(|p| p.name == "big"));
    after(&mut lab, &[new.as_slice(), &["gpu-0"]].concat());
    lab.clusters[0].edit(|s| s.agent_pools.clear());
    after(&mut lab, &["big-0"]);
}

#[test]
fn a_pool_that_is_removed_is_drained_first_and_stays_while_the_api_does_not_answer() {
    let mut lab = settled_pools();
    lab.world.interfere(&Outside::Pause("k3d-dev-server-0".into()));
    lab.clusters[0].edit(|s| s.agent_pools.retain(|p| p.name == "big"));
    let before = nodes(&lab);
    let plan = lab.look(0).plan;
    let touches = plan.steps.iter().any(|s| s.action.to_string().contains("k3d-dev-gpu"));
    assert!(!touches, "{:?}", plan.steps);
    assert_eq!(changed(&lab, &before), [] as [&str; 0]);
    let said =
        |lab: &Lab| lab.clusters[0].status.nodes.iter().filter(|n| n.phase == NodePhase::Removing).count();
    let mut drained = false;
    for _ in 0..ENOUGH {
        let steps = lab.round();
        drained |= steps.iter().any(|s| s.action.kind() == "Drain");
        if lab.settled() {
            break;
        }
    }
    assert!(drained && lab.settled());
    lab.round();
    assert_eq!(said(&lab), 0);
    assert_eq!(names(&lab), ["agent-0", "big-0", "server-0"]);
    assert!(!lab.world.volumes.keys().any(|name| name.contains("-gpu-")));
    let pools: Vec<&str> = lab.clusters[0].status.agent_pools.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(pools, ["big"]);
}

#[test]
fn pools_are_updated_independently_of_each_other() {
    let mut lab = settled_pools();
    lab.clusters[0].edit(|s| {
        s.agent_pools[0].pool.count = 3;
        s.agents.count = 2;
    });
    lab.settle(ENOUGH);
    lab.clusters[0].edit(|s| {
        s.agents.args = vec!["--kubelet-arg=max-pods=50".into()];
        s.agent_pools[0].pool.args = vec!["--kubelet-arg=max-pods=50".into()];
        s.agent_pools[0].pool.max_unavailable = Some(2);
    });
    let (mut down, mut most) = (BTreeMap::new(), 0);
    for _ in 0..ENOUGH {
        lab.round();
        most = most.max(lab.disturbed.len());
        for pool in ["agent", "gpu", "big"] {
            let now = lab.disturbed.iter().filter(|n| n.contains(&format!("-{pool}-"))).count();
            let highest: &mut usize = down.entry(pool).or_default();
            *highest = now.max(*highest);
        }
        if lab.settled() {
            break;
        }
    }
    assert!(lab.settled());
    assert_eq!(down, BTreeMap::from([("agent", 1), ("gpu", 2), ("big", 0)]));
    assert_eq!(most, 3);
}

#[test]
fn a_certain_agent_is_removed_and_the_others_stay() {
    let mut spec = spec(3);
    spec.agent_pools = vec![pool("gpu", 2)];
    let mut lab = Lab::new(vec![Object::new("default", "dev", spec)], Vec::new());
    lab.settle(ENOUGH);
    let first = nodes(&lab);
    let mut before = first.clone();
    let mut after = |lab: &mut Lab, expected: &[&str]| {
        lab.settle(ENOUGH);
        assert_eq!(changed(lab, &before), expected);
        before = nodes(lab);
    };
    lab.clusters[0].edit(|s| (s.agents.count, s.agents.excluded_indexes) = (2, vec![0]));
    after(&mut lab, &["agent-0"]);
    assert_eq!(names(&lab), ["agent-1", "agent-2", "gpu-0", "gpu-1", "server-0"]);
    lab.round();
    assert_eq!(lab.clusters[0].status.replicas, Some(2));
    // It stays so, whatever happens.
    lab.world.interfere(&Outside::RemoveWithVolumes("k3d-dev-agent-1".into()));
    after(&mut lab, &["agent-1"]);
    lab.clusters[0].edit(|s| s.agents.count = 3);
    after(&mut lab, &["agent-3"]);
    lab.clusters[0].edit(|s| s.agents.count = 2);
    after(&mut lab, &["agent-3"]);
    // Another one instead.
    lab.clusters[0].edit(|s| s.agent_pools[0].pool.excluded_indexes = vec![0]);
    after(&mut lab, &["gpu-0", "gpu-2"]);
    lab.clusters[0].edit(|s| s.agents.excluded_indexes.clear());
    after(&mut lab, &["agent-0", "agent-2"]);
    let now = nodes(&lab);
    assert_eq!(now["k3d-dev-agent-0"].1, first["k3d-dev-agent-0"].1, "its address follows from its index");
}

/// One of another pool that does not work takes no place.
#[test]
fn a_pool_is_updated_while_another_one_does_not_work() {
    let mut lab = settled_pools();
    lab.settings.node_repair_after = None;
    lab.world.interfere(&Outside::Break("k3d-dev-big-0".into()));
    lab.round();
    lab.round();
    let before = nodes(&lab);
    lab.clusters[0].edit(|s| s.agent_pools[0].pool.args = vec!["--kubelet-arg=max-pods=50".into()]);
    (0..ENOUGH).for_each(|_| drop(lab.round()));
    assert_eq!(changed(&lab, &before), ["gpu-0", "gpu-1"]);
}

#[test]
fn a_container_that_is_removed_comes_back_with_its_address() {
    for outside in [Outside::Remove as fn(String) -> Outside, Outside::RemoveWithVolumes] {
        let mut lab = settled_pools();
        let before = nodes(&lab);
        lab.world.interfere(&outside("k3d-dev-gpu-0".into()));
        // Another pool wants an address meanwhile.
        lab.clusters[0].edit(|s| s.agent_pools.insert(0, pool("a", 8)));
        lab.settle(ENOUGH);
        assert_eq!(nodes(&lab)["k3d-dev-gpu-0"].1, before["k3d-dev-gpu-0"].1);
    }
}

/// Without containers and status the addresses are as they were.
#[test]
fn what_is_made_again_has_the_same_addresses() {
    let mut lab = settled_pools();
    let address =
        |lab: &Lab| nodes(lab).into_iter().map(|(name, (_, ip))| (name, ip)).collect::<BTreeMap<_, _>>();
    let before = address(&lab);
    lab.clusters[0].edit(|s| s.agent_pools.clear());
    lab.settle(ENOUGH);
    lab.clusters[0].edit(|s| s.agent_pools = vec![pool("big", 1), pool("gpu", 2)]);
    lab.settle(ENOUGH);
    assert_eq!(address(&lab), before);
}

#[test]
fn the_containers_of_others_stay() {
    let mut lab = settled_pools();
    lab.world.interfere(&Outside::ForeignContainer("k3d-dev-new-0".into()));
    lab.settle(ENOUGH);
    assert!(lab.world.named("k3d-dev-new-0").is_some(), "it looks like a node of a pool that does not exist");
    lab.clusters[0].edit(|s| s.agent_pools.push(pool("new", 2)));
    (0..10).for_each(|_| drop(lab.round()));
    let (reason, message) = told(&lab, ConditionType::AgentsReady);
    assert_eq!(reason, Reason::NameConflict.as_str(), "{message}");
    assert!(message.contains("k3d-dev-new-0"), "{message}");
    assert_eq!(
        lab.world.named("k3d-dev-new-1").unwrap().state,
        State::Running,
        "the others do not wait for it"
    );
    lab.clusters[0].edit(|s| s.agent_pools.retain(|p| p.name != "new"));
    lab.settle(ENOUGH);
    assert!(lab.world.named("k3d-dev-new-0").is_some());
}

/// Users join machines of their own under any name; a surplus node of ours has an address of the cluster's range.
#[test]
fn the_nodes_of_others_stay() {
    let mut lab = settled_pools();
    let child = lab.world.clusters.values_mut().next().unwrap();
    let node = child.nodes["k3d-dev-agent-0"].clone();
    for (name, ip) in [("k3d-dev-theirs-0", [10, 0, 0, 9]), ("k3d-dev-big-7", [172, 31, 0, 100])] {
        let mut node = node.clone();
        node.address = Some(Ipv4Addr::from(ip));
        child.nodes.insert(name.to_owned(), node);
    }
    (0..10).for_each(|_| drop(lab.round()));
    let nodes = &lab.world.clusters.values().next().unwrap().nodes;
    assert!(nodes.contains_key("k3d-dev-theirs-0") && !nodes.contains_key("k3d-dev-big-7"));
}

#[test]
fn published_ports_lead_to_the_agents_of_all_pools() {
    let mut lab = settled_pools();
    let agents = PortSpec {
        nodes: NodeSet::Agents,
        ..port("web", 80, Some(8080), localcluster_operator::api::local_cluster::Protocol::Tcp)
    };
    lab.clusters[0].edit(|s| s.ports = vec![agents]);
    lab.settle(ENOUGH);
    let look = lab.look(0);
    let balancer = &look.whole.unwrap().desired.load_balancer;
    let config = String::from_utf8_lossy(&balancer.files[0].content).into_owned();
    for (name, (_, ip)) in nodes(&lab) {
        let ip = ip.trim_start_matches("Some(").trim_end_matches(')');
        let agent = !name.contains("server");
        assert_eq!(config.contains(&format!("{ip}:80")), agent, "{name} {ip}\n{config}");
    }
}

/// A /25 has room for 12 agents and registries.
#[test]
fn agents_without_an_address_are_not_created_and_the_others_are() {
    let mut spec = spec(1);
    spec.network.subnet = Some("172.31.9.0/25".into());
    spec.agent_pools = vec![pool("gpu", 14)];
    let mut lab = Lab::new(vec![Object::new("default", "dev", spec)], Vec::new());
    (0..ENOUGH).for_each(|_| drop(lab.round()));
    assert_eq!(names(&lab).len(), 1 + 1 + 12);
    let (reason, message) = told(&lab, ConditionType::AgentsReady);
    assert_eq!(reason, Reason::AddressPoolExhausted.as_str());
    assert!(message.contains("no address of 172.31.9.0/25 is free"), "{message}");
    let before = nodes(&lab);
    (0..5).for_each(|_| drop(lab.round()));
    assert_eq!(changed(&lab, &before), [] as [&str; 0]);
    assert_eq!(lab.clusters[0].status.agents.as_ref().unwrap().desired, 15);
    lab.clusters[0].edit(|s| s.agent_pools[0].pool.count = 12);
    lab.settle(ENOUGH);
    assert_eq!(changed(&lab, &before), [] as [&str; 0]);
}
