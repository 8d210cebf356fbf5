//! Servers as members of one etcd: who joins, leaves, is replaced and let in again. Most of these were found by
//! `servers_stay_a_majority`.

#[path = "servers_in_full.rs"]
mod servers_in_full;

use localcluster_operator::child::state::Child;

use super::*;

/// What is planned until a further server votes, and until it is gone again.
/// As when the disks of two of three servers have died.
fn lose_most(lab: &mut Lab) {
    for server in ["k3d-dev-server-1", "k3d-dev-server-2"] {
        lab.world.interfere(&Outside::RemoveWithVolumes(server.into()));
    }
    lab.world.tick();
}

/// However far a server has come with joining when it is not wanted any more: etcd must not keep a member of it, which
/// nobody could take out afterwards.
#[test]
fn servers_that_join_can_be_taken_away_at_any_time() {
    for rounds in 1..15 {
        let mut lab = settled(support::model::lab::spec(0));
        lab.clusters[0].edit(|s| s.servers.count = 3);
        for _ in 0..rounds {
            lab.round();
        }
        lab.clusters[0].edit(|s| s.servers.count = 1);
        lab.settle(ENOUGH);
        assert_eq!(members(&lab), ["k3d-dev-server-0"], "after {rounds} rounds");
        lab.clusters[0].edit(|s| s.servers.count = 3);
        lab.settle(ENOUGH);
    }
}

/// Its Node stays, as it is the last one that votes.
#[test]
fn the_last_voter_is_let_in_when_its_password_is_lost() {
    let mut lab = three();
    lab.clusters[0].edit(|s| s.servers.count = 1);
    lab.settle(ENOUGH);
    assert!(lab.world.clusters.values().all(|c| c.etcd));
    let name = "k3d-dev-server-0";
    assert!(lab.world.interfere(&Outside::Remove(name.into())));
    assert!(lab.world.interfere(&Outside::RemoveVolume(format!("{name}-etc"))));
    lab.settle(ENOUGH);
}

/// A cluster of three servers, without agents.
fn three() -> Lab {
    let mut lab = settled(support::model::lab::spec(0));
    lab.clusters[0].edit(|s| s.servers.count = 3);
    lab.settle(ENOUGH);
    lab
}

/// The servers that are members of etcd.
fn members(lab: &Lab) -> Vec<&str> {
    lab.world.clusters.values().flat_map(|c| c.members.keys()).map(String::as_str).collect()
}

/// The rounds until a server that joins is a member of etcd, which it is before its Node is there.
fn rounds_until_it_votes_unseen(lab: &mut Lab, name: &str) {
    for _ in 0..ENOUGH {
        if members(lab).contains(&name) {
            break;
        }
        lab.round();
    }
    assert!(members(lab).contains(&name));
    assert!(lab.world.clusters.values().all(|c| !c.nodes.contains_key(name)));
}

/// The rounds until an act of this kind is planned for this server.
fn rounds_until(lab: &mut Lab, kind: &str, subject: &str) {
    for _ in 0..ENOUGH {
        let plan = lab.look(0).plan;
        if plan.steps.iter().any(|s| s.action.kind() == kind && s.action.subject().starts_with(subject)) {
            return;
        }
        lab.round();
    }
    panic!("{kind} {subject} is never planned");
}

/// The other one has been told to leave, and is the only one left that votes.
#[test]
fn a_server_whose_node_is_deleted_as_the_last_other_one_leaves_joins_that_one() {
    let mut lab = three();
    lab.clusters[0].edit(|s| s.servers.count = 1);
    rounds_until(&mut lab, "LeaveEtcd", "k3d-dev-server-1");
    let done = lab.pass(0, 1);
    assert!(matches!(&done[..], [Step { action: Action::SetRestart { .. }, .. }]), "{done:?}");
    assert!(lab.world.interfere(&Outside::DeleteNode("k3d-dev-server-0".into())));
    lab.settle(ENOUGH);
    assert_eq!(members(&lab), ["k3d-dev-server-0"]);
}

#[test]
fn a_server_that_joins_anew_can_be_left_with_half_of_its_data() {
    for (limit, chance) in (0..10).flat_map(|limit| (0..4).map(move |chance| (limit, chance))) {
        let mut lab = three();
        let name = "k3d-dev-server-0";
        assert!(lab.world.interfere(&Outside::DeleteNode(name.into())));
        rounds_until(&mut lab, "RemoveVolume", name);
        lab.chance.0 = chance;
        lab.pass(0, limit);
        lab.settle(ENOUGH);
    }
}

/// K3s's own controllers run on this server.
fn led_by(lab: &mut Lab, server: &str) {
    let clock = lab.world.clock;
    lab.world.clusters.values_mut().for_each(|c| c.lead = Some((server.to_owned(), clock)));
}

/// What is done until all is settled. Nothing of it waits for a server that has ended.
fn done_without_a_wait(lab: &mut Lab) -> Vec<String> {
    let mut done = Vec::new();
    for _ in 0..ENOUGH {
        if lab.settled() {
            return done;
        }
        let steps = lab.round();
        done.extend(steps.iter().map(|s| s.action.to_string()));
        let status = &lab.clusters[0].status;
        let waits = status.conditions.iter().find(|c| c.message.contains("it waits for"));
        assert_eq!(waits, None, "{done:#?}");
    }
    panic!("not settled: {done:#?}");
}

#[test]
fn of_a_server_that_goes_what_only_it_may_do_is_given_to_another() {
    let name = "k3d-dev-server-2";
    let mut lab = three();
    led_by(&mut lab, name);
    lab.clusters[0].edit(|s| s.servers.count = 1);
    let done = done_without_a_wait(&mut lab);
    let at = |step: &str| done.iter().position(|done| *done == format!("{step} {name}")).expect(step);
    let order = ["LeaveEtcd", "Stop", "ReleaseLease", "DeleteNode", "RemoveContainer"].map(at);
    assert!(order.is_sorted(), "{done:#?}");
    assert_eq!(done.iter().filter(|step| step.starts_with("ReleaseLease")).count(), 2, "{done:#?}");

    // Another one keeps them.
    let mut lab = three();
    led_by(&mut lab, "k3d-dev-server-0");
    lab.clusters[0].edit(|s| s.servers.count = 1);
    let done = done_without_a_wait(&mut lab);
    assert!(!done.iter().any(|step| step.starts_with("ReleaseLease")), "{done:#?}");
}

#[test]
fn of_a_server_that_is_lost_what_only_it_may_do_is_given_to_another() {
    for name in ["k3d-dev-server-0", "k3d-dev-server-2"] {
        let mut lab = three();
        led_by(&mut lab, name);
        assert!(lab.world.interfere(&Outside::RemoveWithVolumes(name.into())));
        lab.world.tick();
        let done = done_without_a_wait(&mut lab);
        assert!(done.contains(&format!("ReleaseLease {name}")), "{done:#?}");
    }
}

/// However far it came, the next plan ends it; and what a server does that runs is never taken from it, which the
/// model asserts.
#[test]
fn leases_are_given_back_whatever_happens_meanwhile() {
    let name = "k3d-dev-server-2";
    for (limit, again) in (0..5).flat_map(|limit| [(limit, false), (limit, true)]) {
        for kind in ["Stop", "ReleaseLease"] {
            let mut lab = three();
            led_by(&mut lab, name);
            lab.clusters[0].edit(|s| s.servers.count = 1);
            rounds_until(&mut lab, kind, name);
            lab.pass(0, limit);
            if again && let Ok(id) = lab.world.container(name).map(|c| c.name.clone()) {
                // Somebody starts it again.
                drop(lab.world.start(&id));
            }
            lab.settle(ENOUGH);
            assert_eq!(members(&lab), ["k3d-dev-server-0"]);
        }
    }
}

/// It may vote, and its Node, by which it leaves, is made when it runs.
#[test]
fn a_server_that_stopped_while_it_joined_leaves_etcd_before_it_goes() {
    let name = "k3d-dev-server-2";
    for rests in [Outside::Stop(name.into()), Outside::Pause(name.into())] {
        let mut lab = settled(support::model::lab::spec(0));
        lab.clusters[0].edit(|s| s.servers.count = 3);
        rounds_until_it_votes_unseen(&mut lab, name);
        assert!(lab.world.interfere(&rests));
        lab.clusters[0].edit(|s| s.servers.count = 1);
        lab.settle(ENOUGH);
        assert_eq!(members(&lab), ["k3d-dev-server-0"]);
    }
}

/// It becomes a voter, and is gone with its volumes before its kubelet registers it.
#[test]
fn the_member_of_a_server_that_was_lost_while_it_joined_is_taken_out() {
    let name = "k3d-dev-server-2";
    for (wanted, left) in [(1, 1), (3, 3), (5, 5)] {
        let mut lab = settled(support::model::lab::spec(0));
        lab.clusters[0].edit(|s| s.servers.count = 3);
        rounds_until_it_votes_unseen(&mut lab, name);
        assert!(lab.world.interfere(&Outside::RemoveWithVolumes(name.into())));
        lab.clusters[0].edit(|s| s.servers.count = wanted);
        rounds_until(&mut lab, "RemoveMember", name);
        lab.settle(ENOUGH);
        assert_eq!(members(&lab).len(), left);
    }
}

/// A member that was left behind long ago, by a server that is not wanted any more.
#[test]
fn a_member_that_was_left_behind_is_taken_out_by_a_node() {
    let mut lab = three();
    let name = "k3d-dev-server-3";
    leave_behind(&mut lab, name);
    assert_eq!(lab.look(0).plan.problems[0].message, format!("removing {name}"));
    let kinds = |lab: &mut Lab| -> Vec<String> {
        lab.look(0).plan.steps.iter().map(|s| format!("{} ({})", s.action, s.why)).collect()
    };
    let why = "its server is a surplus server without a Node";
    assert_eq!(kinds(&mut lab), [format!("RemoveMember {name} ({why})")]);
    lab.pass(0, usize::MAX);
    // Before K3s has seen the Node, its deletion would not take the member with it.
    assert_eq!(kinds(&mut lab), [] as [String; 0]);
    lab.world.tick();
    assert_eq!(kinds(&mut lab), [format!("DeleteNode {name} (it is a surplus server)")]);
    lab.settle(ENOUGH);
    assert_eq!(members(&lab).len(), 3);
}

/// Two members are left behind, and one of the three that are wanted does not show that it votes.
#[test]
fn no_member_is_taken_out_while_the_others_may_lack_a_majority() {
    let mut lab = three();
    for name in ["k3d-dev-server-3", "k3d-dev-server-4"] {
        leave_behind(&mut lab, name);
    }
    let mut observed = lab.look(0).observed;
    let Child::Reachable(state) = &mut observed.reached.child else { panic!("it is up") };
    let node = state.nodes.get_mut("k3d-dev-server-1").unwrap();
    (node.ready, node.api_renewed) = (false, None);
    let plan = lab.look_at(0, observed.clone()).plan;
    let kinds: Vec<&str> = plan.steps.iter().map(|s| s.action.kind()).collect();
    assert!(!kinds.contains(&"RemoveMember"), "{kinds:?}");
    let waits = "waiting for etcd quorum without k3d-dev-server-4 before removing its etcd member";
    assert!(plan.problems.iter().any(|p| p.message == waits), "{:#?}", plan.problems);
    // Nothing is done about members that are unknown.
    let Child::Reachable(state) = &mut observed.reached.child else { panic!("it is up") };
    state.members = None;
    let plan = lab.look_at(0, observed).plan;
    assert!(plan.steps.iter().all(|s| s.action.kind() != "RemoveMember"));
}

/// A server that has just become a voter registers its Node a moment later.
#[test]
fn the_member_of_a_server_that_joins_is_left_alone() {
    let mut lab = settled(support::model::lab::spec(0));
    lab.clusters[0].edit(|s| s.servers.count = 3);
    rounds_until_it_votes_unseen(&mut lab, "k3d-dev-server-1");
    for wanted in [3, 1] {
        lab.clusters[0].edit(|s| s.servers.count = wanted);
        let plan = lab.look(0).plan;
        assert!(plan.steps.iter().all(|s| s.action.kind() != "RemoveMember"), "{:#?}", plan.steps);
    }
}

fn leave_behind(lab: &mut Lab, name: &str) {
    for cluster in lab.world.clusters.values_mut() {
        cluster.members.insert(name.into(), true);
    }
}

/// What is told of three servers of which these things have happened to some.
fn told_of_quorum(acts: &[Outside]) -> Option<String> {
    let mut lab = three();
    acts.iter().for_each(|act| assert!(lab.world.interfere(act)));
    lab.world.tick();
    let look = lab.look(0);
    let told = look.plan.problems.iter().find(|p| p.reason == Reason::NoQuorum);
    assert!(told.is_none_or(|_| look.observed.child.state().is_none()));
    told.map(|p| p.message.clone())
}

#[test]
fn a_lack_of_quorum_is_told_with_the_servers_that_run() {
    let [first, second, third] = [0, 1, 2].map(|i| format!("k3d-dev-server-{i}"));
    let told = told_of_quorum(&[Outside::Pause(second.clone()), Outside::Kill(third.clone())]);
    let message = "etcd has no quorum, so the API of the cluster does not respond: 2 of 3 servers do not run \
                   (k3d-dev-server-1 is paused, k3d-dev-server-2 has exited with code 137), only k3d-dev-server-0; the \
                   operator starts them, and if they do not keep running, check their `docker logs`";
    assert_eq!(told.as_deref(), Some(message));
    assert_eq!(told_of_quorum(&[Outside::Kill(third.clone())]), None, "the others agree");
    // Nobody is left to tell, or those that do not tell may agree.
    assert_eq!(told_of_quorum(&[&first, &second, &third].map(|s| Outside::Kill(s.clone()))), None);
    assert_eq!(told_of_quorum(&[Outside::Hang(first), Outside::Hang(second.clone())]), None);
    // Of lost data more is told.
    let lost = [second, third].map(Outside::RemoveWithVolumes);
    assert_eq!(told_of_quorum(&lost), None);
}

/// It votes without a Node, is replaced for another spec, and not started again before fewer are wanted.
#[test]
fn a_server_that_joins_is_not_replaced_before_it_tells_that_it_votes() {
    let mut lab = three();
    lab.clusters[0].edit(|s| s.servers.count = 5);
    let name = "k3d-dev-server-4";
    rounds_until_it_votes_unseen(&mut lab, name);
    script::happen(&mut lab, &Event::Inputs(2));
    // As far as a replacement would be made, and not started.
    lab.pass(0, 3);
    lab.clusters[0].edit(|s| s.servers.count = 3);
    lab.settle(ENOUGH);
    assert!(!members(&lab).contains(&name));
}

/// What the nodes are replaced for is taken back while servers join.
#[test]
fn servers_that_join_are_replaced_when_they_have_joined() {
    for rounds in 1..15 {
        let mut lab = script::lab(support::model::lab::spec(1), 0);
        lab.round();
        lab.round();
        script::happen(&mut lab, &Event::Inputs(2));
        lab.clusters[0].edit(|s| s.servers.count = 3);
        for _ in 0..rounds {
            lab.round();
        }
        script::happen(&mut lab, &Event::Inputs(0));
        // That the others agree without it is looked at in each step.
        lab.settle(ENOUGH);
    }
}

/// Two of three agree, of which the one that stays could not be repaired while the other was waited for, and the other
/// could not go before it was.
#[test]
fn a_server_that_takes_no_part_goes_before_those_that_agree() {
    let mut lab = three();
    lab.clusters[0].edit(|s| s.servers.count = 1);
    for harm in [Outside::Freeze("k3d-dev-server-0".into()), Outside::Disconnect("k3d-dev-server-1".into())] {
        lab.world.interfere(&harm);
    }
    rounds_until(&mut lab, "LeaveEtcd", "k3d-dev-server-1");
    rounds_until(&mut lab, "LeaveEtcd", "k3d-dev-server-2");
    lab.settle(ENOUGH);
    assert_eq!(members(&lab), ["k3d-dev-server-0"]);
}

/// Nobody answered since one was down that was started by the same plan, and both others were replaced at once.
#[test]
fn no_server_is_replaced_while_another_is_about_to_be_started() {
    let mut lab = three();
    // All have run for long.
    for _ in 0..10 {
        lab.round();
    }
    lab.world.interfere(&Outside::Stop("k3d-dev-server-2".into()));
    lab.inputs = script::inputs(2);
    // The last of them is made and not started yet, when another one is taken out of etcd.
    let cut = (1..12).map(|limit| {
        let mut cut = lab.clone();
        cut.pass(0, limit);
        cut
    });
    let made = |lab: &Lab| lab.world.named("k3d-dev-server-2").is_some_and(|c| c.started.is_none());
    let mut lab = cut.into_iter().find(made).expect("it is replaced");
    lab.world.interfere(&Outside::DeleteNode("k3d-dev-server-1".into()));
    // In whatever order its steps are done.
    for chance in 0..20 {
        let mut lab = lab.clone();
        lab.chance = Chance(chance);
        lab.settle(ENOUGH);
        assert_eq!(members(&lab).len(), 3);
    }
}

/// The second one joined while the first was about to be started again, which then took the majority away.
#[test]
fn nobody_joins_while_the_only_voter_is_not_let_in() {
    let mut lab = settled(support::model::lab::spec(0));
    lab.world.interfere(&Outside::Remove("k3d-dev-server-0".into()));
    lab.world.interfere(&Outside::RemoveVolume("k3d-dev-server-0-etc".into()));
    lab.clusters[0].edit(|s| s.servers.count = 3);
    lab.settle(ENOUGH);
    assert_eq!(members(&lab).len(), 3);
}

/// The first server was being replaced when the second one's container went, which then began a cluster of its own
/// beside the data.
#[test]
fn no_other_server_begins_a_cluster_beside_the_data_of_the_first() {
    let mut lab = settled(support::model::lab::spec(0));
    lab.clusters[0].edit(|s| s.servers.count = 3);
    let cluster = lab.world.clusters.keys().copied().next();
    let unstarted = |lab: &Lab, name: &str| lab.world.named(name).is_some_and(|c| c.started.is_none());
    let mut met = 0;
    for (before, limit, chance) in (0..4).flat_map(|b| (1..160).map(move |n| (b, 1 + n % 20, n as u64))) {
        let mut lab = lab.clone();
        (0..before).for_each(|_| drop(lab.round()));
        lab.inputs = script::inputs(2);
        lab.chance = Chance(chance);
        lab.pass(0, limit);
        if !unstarted(&lab, "k3d-dev-server-0") || lab.world.named("k3d-dev-server-1").is_none() {
            continue;
        }
        met += 1;
        lab.world.interfere(&Outside::Remove("k3d-dev-server-1".into()));
        lab.settle(ENOUGH);
        assert_eq!(lab.world.clusters.keys().copied().next(), cluster, "it is another cluster");
        assert_eq!(members(&lab).len(), 3);
    }
    assert!(met > 0, "it does not come to that");
}

/// The API does not answer then, and the servers may serve all the same.
#[test]
fn no_server_is_replaced_because_the_load_balancer_is_off_its_network() {
    let mut spec = support::model::lab::spec(0);
    spec.servers.count = 3;
    let mut lab = settled(spec);
    for _ in 0..10 {
        lab.round();
    }
    lab.inputs = script::inputs(4);
    lab.world.interfere(&Outside::Disconnect("k3d-dev-serverlb".into()));
    let plan = lab.look(0).plan;
    let subjects = plan.steps.iter().map(|s| s.action.subject()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(subjects, ["k3d-dev-serverlb"].into(), "{:#?}", plan.steps);
    lab.settle(ENOUGH);
}
