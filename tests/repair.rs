//! Nodes whose Nodes stay NotReady, and agents that are replaced several at a time, against the model of Docker and K3s.

#[path = "repair/agents.rs"]
mod agents;
#[path = "repair/servers.rs"]
mod servers;
mod support;

use localcluster_operator::{
    api::{
        condition::{self, ConditionType},
        local_cluster::NodeRepairs,
    },
    plan::{steps::Action, turns},
};
use proptest::prelude::*;
use support::model::{
    interfere::Outside,
    lab::{Lab, Object, spec},
    world::{TICK, World},
};

const ENOUGH: usize = 60;
const AGENT: &str = "k3d-dev-agent-0";
const OTHER: &str = "k3d-dev-agent-1";
const SERVER: &str = "k3d-dev-server-0";
const SERVERS: [&str; 3] = [SERVER, "k3d-dev-server-1", "k3d-dev-server-2"];
/// How long a Node may be NotReady in the lab, in seconds.
const AFTER: i64 = 120;

fn settled(servers: i32, agents: i32) -> Lab {
    let mut spec = spec(agents);
    spec.servers.count = servers;
    let mut lab = Lab::new(vec![Object::new("default", "dev", spec)], Vec::new());
    lab.settle(ENOUGH);
    lab
}

/// One round, and the repairs that were begun in it: what was done to which node, and the number of the repair.
fn round(lab: &mut Lab) -> Vec<(String, u32)> {
    let done = lab.round();
    let steps = done.iter().filter(|s| !matches!(s.action, Action::RemoveContainer { .. }));
    let number = |why: &str| why.split_once(" (repair ")?.1.strip_suffix(" of 5)")?.parse().ok();
    steps.filter_map(|s| Some((s.action.to_string(), number(&s.why)?))).collect()
}

/// Rounds before each of which this is done to the world; the repairs, with the seconds between them.
fn harmed(lab: &mut Lab, rounds: usize, harm: impl Fn(&mut World)) -> Vec<(String, i64)> {
    let (mut told, mut last) = (Vec::new(), lab.world.clock);
    for _ in 0..rounds {
        harm(&mut lab.world);
        let now = lab.world.clock;
        for (what, _) in round(lab) {
            told.push((what, now - last));
            last = now;
        }
    }
    told
}

/// Rounds in which these nodes are spoilt whenever they are there.
fn hopeless(lab: &mut Lab, names: &[&str], rounds: usize) -> Vec<(String, i64)> {
    harmed(lab, rounds, |world| {
        for name in names {
            world.interfere(&Outside::Break((*name).into()));
        }
    })
}

/// Rounds in which these servers hang again as soon as they run.
fn hanging(lab: &mut Lab, names: &[&str], rounds: usize) -> Vec<(String, i64)> {
    harmed(lab, rounds, |world| {
        for name in names {
            if world.named(name).is_some_and(|c| c.hung.is_none()) {
                world.interfere(&Outside::Hang((*name).into()));
            }
        }
    })
}

/// A server that hung goes on by itself.
fn wake(lab: &mut Lab, name: &str) {
    let server = lab.world.container(name).unwrap();
    (server.frozen, server.hung) = (false, None);
}

fn repairs(lab: &Lab, name: &str) -> Option<NodeRepairs> {
    lab.clusters[0].status.nodes.iter().find(|n| n.name == name)?.repairs.clone()
}

fn count(lab: &Lab, name: &str) -> Option<i32> {
    repairs(lab, name).map(|r| r.count)
}

fn told(lab: &Lab, type_: ConditionType) -> (String, String) {
    let found = condition::get(&lab.clusters[0].status.conditions, type_).expect("it is there");
    (found.reason.clone(), found.message.clone())
}

fn volumes(lab: &Lab, node: &str) -> usize {
    lab.world.volumes.keys().filter(|v| v.starts_with(node)).count()
}

#[test]
fn a_node_that_hangs_is_restarted_and_forgotten_when_it_was_ready_for_a_while() {
    for name in [AGENT, SERVER] {
        let mut lab = settled(1, 2);
        let id = lab.world.id(name);
        lab.world.interfere(&Outside::Freeze(name.into()));
        let mut rounds = 0;
        while round(&mut lab).is_empty() {
            rounds += 1;
        }
        assert!((AFTER..=AFTER + 2 * TICK).contains(&(rounds * TICK)), "{rounds}");
        assert_eq!(count(&lab, name), Some(1));
        lab.settle(5);
        assert_eq!(lab.world.id(name), id);
        let again = lab.look(0).plan.again.expect("somebody looks when it has been Ready for long enough");
        while lab.world.now() < again {
            assert_eq!((round(&mut lab), count(&lab, name)), (Vec::new(), Some(1)));
        }
        lab.round();
        assert_eq!(count(&lab, name), None);
        assert_eq!(lab.look(0).plan.again, None);
    }
}

#[test]
fn an_agent_is_restarted_then_replaced_with_doubled_waits_and_then_given_up() {
    let mut lab = settled(1, 2);
    let seen = hopeless(&mut lab, &[AGENT], 200);
    let kinds: Vec<&str> = seen.iter().map(|(what, _)| what.as_str()).collect();
    let away = format!("DeleteNode {AGENT}");
    assert_eq!(kinds, [format!("Start {AGENT}"), away.clone(), away.clone(), away.clone(), away]);
    for (i, (_, wait)) in seen.iter().enumerate() {
        // Beyond the wait, a node takes a few ticks to come back.
        let wanted = AFTER << i;
        assert!((wanted..wanted + 5 * TICK).contains(wait), "{seen:?}");
    }
    assert_eq!(count(&lab, AGENT), Some(5));
    let (reason, message) = told(&lab, ConditionType::AgentsReady);
    assert_eq!(reason, "RepairGivenUp");
    assert!(message.contains("replaced 4 times") && message.contains("docker restart"), "{message}");
    assert!(condition::is_true(&lab.clusters[0].status.conditions, ConditionType::Stalled));

    // Nothing is written while nothing happens.
    let status = lab.clusters[0].status.clone();
    assert_eq!(hopeless(&mut lab, &[AGENT], 100), []);
    assert_eq!(lab.clusters[0].status, status);

    // As the message says: with any change of the spec.
    let mut edited = lab.clone();
    edited.clusters[0].edit(|s| drop(s.agents.labels.insert("a".into(), "b".into())));
    let seen = hopeless(&mut edited, &[AGENT], 40);
    assert_eq!(seen.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), kinds[..seen.len()]);
    assert!(seen.len() >= 2, "{seen:?}");

    // And when it was Ready for long enough.
    lab.world.volumes.values_mut().for_each(|v| v.broken = false);
    lab.settle(5);
    for _ in 0..AFTER / TICK + 1 {
        assert_eq!(round(&mut lab), []);
    }
    assert_eq!(count(&lab, AGENT), None);
    let seen = hopeless(&mut lab, &[AGENT], 20);
    assert_eq!(seen[0].0, format!("Start {AGENT}"));
}

/// A node that was restarted and then ends by itself never runs for as long as it may be NotReady.
#[test]
fn a_node_that_ends_again_and_again_after_its_restart_is_replaced() {
    let mut lab = settled(1, 1);
    lab.world.interfere(&Outside::Freeze(AGENT.into()));
    while round(&mut lab).is_empty() {}
    let mut seen = Vec::new();
    for _ in 0..15 {
        let clock = lab.world.clock;
        // New volumes cure it.
        if seen.is_empty() {
            let agent = lab.world.container(AGENT).unwrap();
            (agent.started, agent.started_again, agent.frozen) = (Some(clock), agent.started_again + 1, true);
        }
        seen.extend(round(&mut lab));
    }
    assert_eq!(seen, [(format!("DeleteNode {AGENT}"), 2)]);
    assert!(lab.settled());
}

#[test]
fn one_at_a_time_and_a_hopeless_one_does_not_keep_the_other_waiting() {
    let mut lab = settled(1, 2);
    lab.world.interfere(&Outside::Freeze(AGENT.into()));
    lab.world.interfere(&Outside::Freeze(OTHER.into()));
    let mut seen = Vec::new();
    for _ in 0..15 {
        let begun = round(&mut lab);
        assert!(begun.len() <= 1, "{begun:?}");
        if !begun.is_empty() {
            let down =
                [AGENT, OTHER].iter().filter(|name| count(&lab, name).is_some() && !lab.world.works(name));
            assert!(down.count() <= 1);
        }
        seen.extend(begun);
    }
    assert_eq!(seen.len(), 2);
    assert!(lab.settled());

    let mut lab = settled(1, 2);
    hopeless(&mut lab, &[AGENT], 8);
    lab.world.interfere(&Outside::Freeze(OTHER.into()));
    let seen = hopeless(&mut lab, &[AGENT], 10);
    assert!(seen.iter().any(|(what, _)| *what == format!("Start {OTHER}")), "{seen:?}");
}

#[test]
fn a_repair_that_was_counted_and_not_begun_is_carried_out_and_not_counted_twice() {
    let mut lab = settled(1, 1);
    lab.world.interfere(&Outside::Break(AGENT.into()));
    while lab.look(0).plan.repairs.is_empty() {
        lab.round();
    }
    // The process dies when it has written the status.
    assert_eq!(lab.pass(0, 0), []);
    assert_eq!(count(&lab, AGENT), Some(1));
    lab.world.tick();
    assert_eq!(round(&mut lab), [(format!("Start {AGENT}"), 1)]);
    assert_eq!(count(&lab, AGENT), Some(1));
    while lab.look(0).plan.repairs[AGENT].count == 1 {
        lab.round();
    }
    lab.pass(0, 0);
    lab.world.tick();
    assert_eq!(round(&mut lab), [(format!("DeleteNode {AGENT}"), 2)]);
    lab.settle(10);
    assert_eq!((count(&lab, AGENT), volumes(&lab, AGENT)), (Some(2), 5));
}

#[test]
fn nothing_is_repaired_while_it_is_turned_off_stopped_or_unknown() {
    let mut off = settled(1, 1);
    off.settings.node_repair_after = None;
    assert_eq!(hopeless(&mut off, &[AGENT], 40), []);
    assert_eq!(told(&off, ConditionType::AgentsReady).0, "NodeNotReady");

    // Without an API nobody knows, and what starts has its whole time.
    let mut lab = settled(1, 1);
    lab.world.interfere(&Outside::Break(AGENT.into()));
    lab.round();
    lab.settings.node_repair_after = None;
    for _ in 0..10 {
        lab.round();
    }
    for node in [AGENT, SERVER] {
        lab.world.interfere(&Outside::Stop(node.into()));
    }
    lab.settings.node_repair_after = settled(1, 0).settings.node_repair_after;
    let began = lab.world.clock;
    while round(&mut lab).is_empty() {}
    assert!(lab.world.clock - began >= AFTER);

    lab.clusters[0].edit(|s| s.state = localcluster_operator::api::local_cluster::ClusterState::Stopped);
    lab.settle(5);
    assert_eq!(repairs(&lab, AGENT), None);
}

#[test]
fn repairs_come_before_what_waits_for_them() {
    let mut lab = settled(1, 2);
    lab.world.interfere(&Outside::Freeze(OTHER.into()));
    lab.round();
    lab.round();
    // An agent of another spec that does not work is replaced at once, and that is all that it needs.
    lab.clusters[0].edit(|s| s.agents.args = vec!["--kubelet-arg=max-pods=50".into()]);
    for _ in 0..20 {
        assert_eq!(round(&mut lab), []);
    }
    assert!(lab.settled());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever hangs or is spoilt, in whatever order: all of it heals, with the servers always a majority, which the
    /// lab looks at in each step.
    #[test]
    fn all_of_it_heals(
        servers in prop_oneof![Just(1), Just(3), Just(5)],
        agents in 0..4i32,
        hurt in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0..12usize), 1..5),
        chance in any::<u64>(),
    ) {
        let mut lab = settled(servers, agents);
        lab.chance.0 = chance;
        let names: Vec<String> = lab.clusters[0].status.nodes.iter().map(|n| n.name.clone()).collect();
        let only = servers == 1;
        for (pick, spoilt, rounds) in hurt {
            let name = pick.get(&names).clone();
            let is_server = name.contains("-server-");
            // New volumes are what an only one never gets.
            let act = if spoilt && !(is_server && only) { Outside::Break(name) } else { Outside::Freeze(name) };
            lab.world.interfere(&act);
            for _ in 0..rounds {
                lab.round();
            }
        }
        for _ in 0..2 * ENOUGH {
            lab.round();
        }
        lab.settle(ENOUGH);
    }
}

/// A cluster with a network plugin of the user's, who installs it minutes after the nodes are there.
#[test]
fn nodes_that_wait_for_a_network_plugin_are_left_alone() {
    let mut spec = spec(2);
    spec.servers.args = vec!["--flannel-backend=none".into()];
    let mut lab = Lab::new(vec![Object::new("default", "dev", spec)], Vec::new());
    lab.world.no_network_plugin = true;
    for _ in 0..(1200 / TICK) {
        assert_eq!(round(&mut lab), []);
    }
    assert_eq!(told(&lab, ConditionType::ControlPlaneReady).0, "NodeNotReady");
    assert!(lab.world.containers.values().all(|c| c.started.is_some() && c.started_again == 0));
    assert!(turns::works(&lab.look(0).observed), "others may start meanwhile");
    lab.world.no_network_plugin = false;
    assert!(lab.settle(ENOUGH) <= 3);
}

/// Kubernetes has taints for it, so that no Pod can be placed there; the kubelet is Ready all the same.
#[test]
fn nodes_under_pressure_are_told_of_and_nothing_is_done_about_them() {
    let mut lab = settled(1, 1);
    let full = |lab: &mut Lab, full: bool| {
        for cluster in lab.world.clusters.values_mut() {
            cluster.nodes.values_mut().for_each(|node| node.full = full);
        }
    };
    full(&mut lab, true);
    for _ in 0..20 {
        assert_eq!(lab.round(), []);
    }
    for type_ in [ConditionType::ControlPlaneReady, ConditionType::AgentsReady] {
        let (reason, message) = told(&lab, type_);
        assert!(reason == "NodePressure" && message.contains("reports DiskPressure"), "{message}");
    }
    let conditions = &lab.clusters[0].status.conditions;
    assert!(
        !condition::is_true(conditions, ConditionType::Ready)
            && !condition::is_true(conditions, ConditionType::Stalled)
    );

    // Another spec, which may be what ends it, is taken up.
    let args = vec!["--kubelet-arg=eviction-hard=nodefs.available<1%".to_owned()];
    lab.clusters[0].edit(|s| (s.servers.args, s.agents.args) = (args.clone(), args));
    let replaced = |lab: &Lab| {
        lab.world
            .containers
            .values()
            .filter(|c| c.command.iter().any(|a| a.contains("eviction-hard")))
            .count()
    };
    for _ in 0..12 {
        lab.round();
    }
    assert_eq!(replaced(&lab), 2);
    full(&mut lab, false);
    lab.settle(ENOUGH);
}

/// Somebody has joined another machine to the cluster under the name of an agent.
#[test]
fn a_node_of_another_machine_is_not_fought_for() {
    let mut lab = settled(1, 1);
    lab.world.interfere(&Outside::RemoveWithVolumes(AGENT.into()));
    let strange = std::net::Ipv4Addr::new(192, 0, 2, 7);
    let settle = |lab: &mut Lab, address: Option<std::net::Ipv4Addr>| {
        for cluster in lab.world.clusters.values_mut() {
            cluster.passwords.insert(AGENT.into(), 3);
            let node = cluster.nodes.get_mut(AGENT).unwrap();
            (node.address, node.ready, node.renewed) = (address, true, lab.world.clock);
        }
    };
    // The agent comes back, and the other one is there before it.
    lab.round();
    for _ in 0..20 {
        for cluster in lab.world.clusters.values_mut() {
            cluster.nodes.entry(AGENT.into()).or_default();
        }
        settle(&mut lab, Some(strange));
        let done = lab.round();
        assert!(done.iter().all(|s| s.action.kind() != "DeleteNode"), "{done:?}");
    }
    let (reason, message) = told(&lab, ConditionType::AgentsReady);
    assert!(reason == "NameConflict" && message.contains("192.0.2.7"), "{message}");
    assert!(condition::is_true(&lab.clusters[0].status.conditions, ConditionType::Stalled));
    // It is gone.
    for cluster in lab.world.clusters.values_mut() {
        cluster.nodes.remove(AGENT);
        cluster.passwords.remove(AGENT);
    }
    lab.settle(ENOUGH);
}
