//! Servers that hang or break: one at a time, and never the majority's.

use super::*;

#[test]
fn an_only_server_that_hangs_is_restarted_then_replaced_on_its_data_and_given_up() {
    let mut lab = settled(1, 1);
    let data = lab.world.volumes.keys().cloned().collect::<Vec<_>>();
    let agent = lab.world.named(AGENT).unwrap().started;
    let seen = hanging(&mut lab, &[SERVER], 200);
    let kinds: Vec<&str> = seen.iter().map(|(what, _)| what.as_str()).collect();
    let anew = format!("CreateContainer {SERVER}");
    assert_eq!(kinds, [format!("Start {SERVER}"), anew.clone(), anew.clone(), anew.clone(), anew]);
    for (i, (_, wait)) in seen.iter().enumerate() {
        let wanted = AFTER << i;
        assert!((wanted..wanted + 5 * TICK).contains(wait), "{seen:?}");
    }
    let (reason, message) = told(&lab, ConditionType::ControlPlaneReady);
    assert_eq!(reason, "RepairGivenUp");
    assert!(message.contains("its API did not respond") && message.contains("docker restart"), "{message}");
    assert_eq!(lab.world.volumes.keys().cloned().collect::<Vec<_>>(), data);
    assert_eq!(lab.world.named(AGENT).unwrap().started, agent, "the agent was disturbed");
    let status = lab.clusters[0].status.clone();
    assert_eq!(hanging(&mut lab, &[SERVER], 100), []);
    assert_eq!(lab.clusters[0].status, status);

    // One that is well again is forgotten.
    wake(&mut lab, SERVER);
    lab.settle(5);
    for _ in 0..AFTER / TICK + 1 {
        assert_eq!(round(&mut lab), []);
    }
    assert_eq!(count(&lab, SERVER), None);
}

#[test]
fn of_several_servers_that_all_hang_one_at_a_time_is_restarted_and_none_replaced() {
    let mut lab = settled(3, 0);
    let before = SERVERS.map(|s| lab.world.id(s));
    let seen = hanging(&mut lab, &SERVERS, 60);
    let starts: Vec<String> = SERVERS.iter().map(|s| format!("Start {s}")).collect();
    assert_eq!(seen.iter().take(3).map(|(what, _)| what.clone()).collect::<Vec<_>>(), starts);
    assert!(seen.iter().all(|(what, wait)| what.starts_with("Start ") && *wait >= AFTER), "{seen:?}");
    assert_eq!(SERVERS.map(|s| lab.world.id(s)), before);

    // Only what hangs is restarted: here one, and then the others answer again.
    let mut lab = settled(3, 0);
    for server in SERVERS {
        lab.world.interfere(&Outside::Hang(server.into()));
    }
    while round(&mut lab).is_empty() {}
    for other in &SERVERS[1..] {
        wake(&mut lab, other);
    }
    let started = SERVERS.map(|s| lab.world.named(s).unwrap().started);
    lab.settle(20);
    assert_eq!(SERVERS.map(|s| lab.world.named(s).unwrap().started), started);
}

#[test]
fn what_is_left_of_a_lost_majority_is_not_restarted() {
    let mut lab = settled(3, 0);
    for name in ["k3d-dev-server-1", "k3d-dev-server-2"] {
        lab.world.interfere(&Outside::RemoveWithVolumes(name.into()));
    }
    assert_eq!(hanging(&mut lab, &[SERVER], 60), []);
    assert_eq!(told(&lab, ConditionType::ControlPlaneReady).0, "QuorumLost");
}

#[test]
fn an_only_server_keeps_its_volumes() {
    let mut lab = settled(1, 1);
    let incarnations = lab.world.incarnations();
    let seen = hopeless(&mut lab, &[SERVER], 200);
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[0].0, format!("Start {SERVER}"));
    let made = seen[1..].iter().filter(|(what, _)| *what == format!("CreateContainer {SERVER}"));
    assert_eq!(made.count(), 4, "{seen:?}");
    assert_eq!(lab.world.incarnations(), incarnations);
    assert_eq!(told(&lab, ConditionType::ControlPlaneReady).0, "RepairGivenUp");
}

#[test]
fn a_server_of_three_leaves_etcd_and_joins_as_a_new_one() {
    let mut lab = settled(3, 0);
    let name = "k3d-dev-server-1";
    lab.world.interfere(&Outside::Break(name.into()));
    let mut seen = Vec::new();
    for _ in 0..30 {
        // That the others can always agree, the lab looks after.
        seen.extend(round(&mut lab));
    }
    assert_eq!(seen, [(format!("Start {name}"), 1), (format!("LeaveEtcd {name}"), 2)]);
    assert!(lab.settled());
    let cluster = lab.world.clusters.values().next().unwrap();
    assert_eq!(cluster.members.values().filter(|votes| **votes).count(), 3);
}

#[test]
fn servers_whose_kubelets_hang_agree_all_the_same_and_are_repaired_one_at_a_time() {
    let mut lab = settled(3, 0);
    for name in SERVERS {
        lab.world.interfere(&Outside::Freeze(name.into()));
    }
    let mut seen = Vec::new();
    for _ in 0..60 {
        seen.extend(round(&mut lab).into_iter().map(|(what, _)| what));
    }
    let starts = SERVERS.map(|name| format!("Start {name}"));
    assert_eq!(seen, starts);
    lab.settle(10);
}

#[test]
fn most_servers_can_be_replaced_one_after_the_other() {
    let mut lab = settled(3, 0);
    for name in &SERVERS[1..] {
        lab.world.interfere(&Outside::Break((*name).into()));
    }
    let mut seen = Vec::new();
    for _ in 0..4 * ENOUGH {
        seen.extend(round(&mut lab).into_iter().map(|(what, _)| what));
    }
    let left: Vec<&String> = seen.iter().filter(|what| what.starts_with("LeaveEtcd")).collect();
    assert_eq!(left, ["LeaveEtcd k3d-dev-server-1", "LeaveEtcd k3d-dev-server-2"], "{seen:#?}");
    lab.settle(10);
}

#[test]
fn a_server_waits_for_the_others_to_agree_without_it() {
    let mut lab = settled(3, 0);
    // They run, and their own API does not: who of them is in the majority that the first one needs, nobody can tell.
    let both = ["k3d-dev-server-1", "k3d-dev-server-2"];
    for name in both {
        lab.world.interfere(&Outside::Hang(name.into()));
    }
    for _ in 0..20 {
        assert_eq!(round(&mut lab), []);
    }
    let plan = lab.look(0).plan;
    let waits = plan.problems.iter().filter(|p| p.message.contains("waiting for etcd quorum without"));
    assert_eq!(waits.count(), 2, "{:#?}", plan.problems);
    // One comes back by itself, and the other's turn has come.
    wake(&mut lab, both[0]);
    lab.settle(10);
}

/// A server that joined etcd and whose Node nobody has seen yet: without it the first one has no majority, and nobody
/// answers the question whether it may go.
/// Docker does not start it again, and the one that stays has no majority without it.
#[test]
fn a_surplus_server_that_dies_while_it_leaves_etcd_is_started_to_leave() {
    let mut lab = Lab::new(vec![Object::new("default", "dev", spec(0))], Vec::new());
    lab.clusters[0].edit(|s| s.servers.count = 3);
    lab.settle(ENOUGH);
    lab.clusters[0].edit(|s| s.servers.count = 1);
    let leaves = |lab: &Lab| {
        let last = lab.world.named("k3d-dev-server-1").expect("it has not left");
        last.restart_policy == localcluster_operator::docker::spec::RestartPolicy::No
            && lab.world.named("k3d-dev-server-2").is_none()
    };
    // Until the moment after it was asked to leave.
    for _ in 0..ENOUGH {
        lab.pass(0, usize::MAX);
        if leaves(&lab) {
            break;
        }
        lab.world.tick();
    }
    assert!(leaves(&lab));
    lab.world.interfere(&Outside::Kill("k3d-dev-server-1".into()));
    lab.settle(ENOUGH);
    assert!(lab.world.named("k3d-dev-server-1").is_none());
    assert!(lab.world.works(SERVER));
}

#[test]
fn a_surplus_server_gives_its_vote_before_it_goes() {
    for hindrance in [
        Outside::Disconnect("k3d-dev-server-1".into()),
        Outside::Stop("k3d-dev-server-1".into()),
        Outside::Pause("k3d-dev-server-1".into()),
    ] {
        let mut lab = Lab::new(vec![Object::new("default", "dev", spec(0))], Vec::new());
        lab.clusters[0].edit(|s| s.servers.count = 3);
        let joins = |lab: &Lab| lab.world.named("k3d-dev-server-1").is_some_and(|c| c.started.is_some());
        while !joins(&lab) {
            lab.round();
        }
        lab.clusters[0].edit(|s| s.servers.count = 1);
        lab.world.interfere(&hindrance);
        lab.world.interfere(&Outside::Stop(SERVER.into()));
        lab.settle(ENOUGH);
        assert!(lab.world.named("k3d-dev-server-1").is_none(), "{hindrance:?}");
    }
}
