//! Agents that are replaced several at a time.

use super::*;

#[test]
fn as_many_agents_as_allowed_are_replaced_together() {
    let mut lab = settled(1, 4);
    for (most, arg) in [(2, 50), (1, 51), (3, 52), (32, 53)] {
        lab.clusters[0].edit(|s| {
            s.agents.max_unavailable = Some(most);
            s.agents.args = vec![format!("--kubelet-arg=max-pods={arg}")];
        });
        let mut down = 0;
        for _ in 0..ENOUGH {
            if lab.settled() {
                break;
            }
            // That there are no more, the lab itself looks after.
            lab.round();
            down = down.max(lab.disturbed.len());
        }
        assert!(lab.settled());
        assert_eq!(down, usize::try_from(most).unwrap().min(4));
    }
}

#[test]
fn one_that_does_not_work_takes_a_place() {
    let mut lab = settled(1, 4);
    lab.settings.node_repair_after = None;
    lab.world.interfere(&Outside::Break("k3d-dev-agent-3".into()));
    lab.round();
    lab.round();
    lab.clusters[0].edit(|s| {
        s.agents.max_unavailable = Some(2);
        s.agents.args = vec!["--kubelet-arg=max-pods=50".into()];
    });
    let mut down = 0;
    for _ in 0..ENOUGH {
        lab.round();
        down = down.max(lab.disturbed.len());
    }
    assert_eq!(down, 1);
    let outdated =
        lab.look(0).plan.problems.iter().filter(|p| p.message.contains("its spec changed")).count();
    assert_eq!(outdated, 0);
}

/// A part of the agents is closed for Pods when fewer may be: none is left behind.
#[test]
fn a_lower_limit_in_the_middle_leaves_nothing_half_done() {
    let mut lab = settled(1, 3);
    lab.clusters[0].edit(|s| {
        s.agents.max_unavailable = Some(3);
        s.agents.args = vec!["--kubelet-arg=max-pods=50".into()];
    });
    lab.round();
    lab.clusters[0].edit(|s| s.agents.max_unavailable = None);
    lab.settle(ENOUGH);
}
