//! Leases that K3s uses to run controllers on one server at a time. Only their holders remove a server from etcd and
//! finalize the deletion of a Node. K3s does not release a Lease when it exits: a Node would remain, and a member
//! would stay a voter, until 45 seconds after the exit of the holder. The operator releases the Lease of a holder
//! with an exited container, and another server acquires it a moment later.

use jiff::{SignedDuration, Timestamp};

use crate::{
    child::state::Lease,
    docker::engine::State,
    plan::{
        inputs::Inputs,
        observed::Reached,
        steps::{Action, Plan},
    },
    time::after,
};

/// Time without renewal after which a holder without a container is considered to have exited. A running holder
/// renews its Lease every two seconds.
const HOLDER_SILENCE: SignedDuration = SignedDuration::from_secs(10);

/// Reports whether a server holds one of the Leases.
pub fn holds(observed: &Reached, server: &str) -> bool {
    observed.child.state().is_some_and(|state| state.leases.values().any(|lease| lease.holder == server))
}

/// Plans the release of Leases with exited holders, and returns the steps.
pub fn release(plan: &mut Plan, inputs: &Inputs<'_>) -> Vec<usize> {
    let leases = inputs.observed.child.state().into_iter().flat_map(|state| &state.leases);
    let lost = leases.filter(|(_, lease)| has_exited(inputs.observed, lease, inputs.now));
    lost.map(|(name, lease)| {
        let release = Action::ReleaseLease {
            name: name.clone(),
            holder: lease.holder.clone(),
            version: lease.version.clone(),
        };
        let planned = plan.steps.iter().position(|step| step.action == release);
        planned.unwrap_or_else(|| plan.step(release, &[], "its holder has exited"))
    })
    .collect()
}

/// Plans the deletion of a Node, after the steps `after`, and returns the step.
pub fn delete_node(plan: &mut Plan, node: &str, after: &[usize], why: &str, inputs: &Inputs<'_>) -> usize {
    let mut before = release(plan, inputs);
    before.extend(after);
    plan.step(Action::DeleteNode { node: node.to_owned() }, &before, why)
}

/// Reports whether the process that holds a Lease has certainly exited: a running holder would lose its Lease, and
/// K3s exits when it notices. Its container must have exited after the last renewal, so that no later process has
/// renewed the Lease.
fn has_exited(observed: &Reached, lease: &Lease, now: Timestamp) -> bool {
    let Some(renewed) = lease.renewed.filter(|_| !lease.holder.is_empty()) else { return false };
    // A holder is identified by its host name, which a container keeps when it is renamed.
    let mut containers = observed.own.values().filter(|d| d.hostname == lease.holder).peekable();
    if containers.peek().is_none() {
        return now >= after(renewed, HOLDER_SILENCE);
    }
    containers.all(|detail| match detail.container.state {
        State::Exited => detail.ended_at.is_some_and(|ended| renewed <= ended),
        // Recreated: the previous process exited before.
        State::Created => detail.created_at.is_some_and(|created| renewed <= created),
        State::Running | State::Paused | State::Restarting | State::Removing | State::Dead => false,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::observed::Host;
    use crate::{
        child::state::{Child, ChildState},
        docker::engine::{Container, ContainerDetail},
    };

    fn second(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    /// Reports whether the holder of a Lease that was renewed at second 100 has exited, by the state of its container
    /// at second 105.
    fn ended(detail: Option<ContainerDetail>) -> bool {
        let own = detail.map(|d| ("id".to_owned(), d)).into_iter().collect();
        let lease = Lease { holder: "s".into(), renewed: Some(second(100)), version: "1".into() };
        has_exited(&Host { own, ..Host::default() }.into(), &lease, second(105))
    }

    fn container(state: State) -> ContainerDetail {
        ContainerDetail {
            container: Container { name: "s".into(), state, ..Container::default() },
            hostname: "s".into(),
            created_at: Some(second(10)),
            ended_at: Some(second(101)),
            ..ContainerDetail::default()
        }
    }

    #[test]
    fn only_who_has_certainly_ended_loses_a_lease() {
        assert!(ended(Some(container(State::Exited))));
        for state in [State::Running, State::Paused, State::Restarting, State::Removing, State::Dead] {
            assert!(!ended(Some(container(state))), "{state:?}");
        }
        let before = |at| ContainerDetail { ended_at: at, ..container(State::Exited) };
        assert!(!ended(Some(before(Some(second(99))))), "it was started since, and has renewed it");
        assert!(!ended(Some(before(None))), "the engine does not report when it ended");

        let made = |at| ContainerDetail { created_at: Some(second(at)), ..container(State::Created) };
        assert!(ended(Some(made(101))), "it was recreated");
        assert!(!ended(Some(made(99))), "another process of that name has renewed it since");

        let renamed = container(State::Running);
        let container = Container { name: "other".into(), ..renamed.container };
        assert!(!ended(Some(ContainerDetail { container, ..renamed })), "it runs under another name");
    }

    #[test]
    fn one_without_a_container_must_have_been_silent() {
        let lease =
            |renewed| Lease { holder: "s".into(), renewed: Some(second(renewed)), version: "1".into() };
        let gone = |renewed| has_exited(&Reached::default(), &lease(renewed), second(100));
        assert!(gone(90) && !gone(91));
        let free = Lease { holder: String::new(), ..lease(0) };
        assert!(!has_exited(&Reached::default(), &free, second(100)), "nobody holds it");
        let new = Lease { renewed: None, ..lease(0) };
        assert!(!has_exited(&Reached::default(), &new, second(100)));
    }

    #[test]
    fn who_holds_one_is_known() {
        let lease = Lease { holder: "s".into(), ..Lease::default() };
        let state = ChildState { leases: BTreeMap::from([("k3s".into(), lease)]), ..ChildState::default() };
        let observed = Reached { child: Child::Reachable(state), ..Reached::default() };
        assert!(holds(&observed, "s") && !holds(&observed, "t") && !holds(&Reached::default(), "s"));
    }
}
