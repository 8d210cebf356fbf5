//! Nodes that the published ports forward to.
//!
//! A new or restarted node is added once it can handle traffic: its Node is Ready, its kube-proxy has set up the
//! Services since, and it reaches the Pods of other nodes. A node that is leaving is removed first. The state is
//! stored in the configuration of the load balancer itself, and missing information changes nothing: neither an API
//! that does not respond nor a NotReady Node, where kube-proxy mostly continues to work, removes a node.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};

use super::{desired::Allocation, nodes::health::NodeHealth, observed::Reached, validate::Valid};
use crate::{
    api::names::Pool,
    docker::engine::{ContainerDetail, State},
    k3s::kube_proxy::ProbeResult,
    time,
};

/// Time after which a Ready node is added if its kube-proxy gives no information.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// State of a node in the load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Published ports forward to it.
    Placed,
    /// It is about to be added: its Node is Ready, and only the confirmation of the node itself is missing.
    Awaited,
    /// Published ports do not forward to it.
    Out,
}

/// Returns the state of a node in the load balancer.
pub fn standing(observed: &Reached, name: &str, ip: Ipv4Addr, now: Timestamp) -> Standing {
    let placed = observed.balance.placed.contains(&ip);
    let kept = |known: bool| if known { Standing::Placed } else { Standing::Out };
    let runs = |d: &&ContainerDetail| matches!(d.container.state, State::Running | State::Paused);
    let own = observed.own_named(name);
    let Some(detail) = own.filter(runs) else { return Standing::Out };
    let Some(state) = observed.child.state() else { return kept(placed) };
    // Without a Node it is not part of the cluster, and a kubelet that has been silent since the start has no
    // kube-proxy either.
    let Some(node) = state
        .nodes
        .get(name)
        .filter(|n| n.draining_since.is_none() && NodeHealth::of(detail, observed).has_reported())
    else {
        return Standing::Out;
    };
    if placed || !node.ready {
        return kept(placed);
    }
    let since = node.since.max(detail.started_at);
    match observed.balance.probed.get(name) {
        Some(ProbeResult::Answers) => Standing::Placed,
        Some(ProbeResult::Unsure) if since.is_some_and(|since| now >= time::after(since, PATIENCE)) => {
            Standing::Placed
        }
        Some(ProbeResult::Unsure | ProbeResult::Behind) | None => Standing::Awaited,
    }
}

/// Returns the desired nodes that published ports forward to, with their state.
pub fn standings<'a>(
    observed: &'a Reached,
    valid: &'a Valid,
    allocation: &'a Allocation,
    now: Timestamp,
) -> impl Iterator<Item = (String, Ipv4Addr, Standing)> + 'a {
    let led_to = |pool: &Pool| valid.ports.iter().any(|p| p.nodes.contains(pool.role()));
    valid.nodes().filter(move |(pool, _)| led_to(pool)).filter_map(move |(pool, index)| {
        let (name, ip) = (valid.names.node_of(&pool, index), allocation.node(&valid.names, &pool, index)?);
        let standing = standing(observed, &name, ip, now);
        Some((name, ip, standing))
    })
}

/// Returns the names of the nodes to query.
pub fn to_be_asked(observed: &Reached, valid: &Valid, allocation: &Allocation) -> Vec<String> {
    let all = standings(observed, valid, allocation, Timestamp::MIN);
    let awaited = all.filter(|(_, _, standing)| !valid.stopped && *standing == Standing::Awaited);
    awaited.map(|(name, _, _)| name).collect()
}

/// Returns the first addresses of the Pod networks of all other Ready nodes, which the node must reach.
pub fn beyond(observed: &Reached, name: &str) -> Vec<Ipv4Addr> {
    let nodes = observed.child.state().into_iter().flat_map(|state| &state.nodes);
    let up = |other: &str| {
        let own = observed.own_named(other);
        own.is_some_and(|d| d.container.state == State::Running)
    };
    let others = nodes.filter(|(other, node)| *other != name && node.ready && up(other));
    others.filter_map(|(_, node)| Some(node.pods?.network())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::observed::Balance;
    use crate::plan::observed::Host;
    use crate::{
        child::state::{Child, ChildState, Node},
        docker::engine::Container,
    };

    const IP: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 20);

    fn second(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    /// Returns an agent that was started at 100 and has been Ready since 110.
    fn observed(placed: bool, probed: Option<ProbeResult>) -> Reached {
        let name = "k3d-dev-agent-0".to_owned();
        let container = Container { name: name.clone(), state: State::Running, ..Container::default() };
        let started_at = Some(second(100));
        let detail = ContainerDetail { container, started_at, ..ContainerDetail::default() };
        let node =
            Node { ready: true, since: Some(second(110)), renewed: Some(second(115)), ..Node::default() };
        let state = ChildState { nodes: [(name.clone(), node)].into(), ..ChildState::default() };
        let balance = Balance {
            placed: placed.then_some(IP).into_iter().collect(),
            probed: probed.map(|probed| (name, probed)).into_iter().collect(),
        };
        let host = Host { own: [("1".to_owned(), detail)].into(), ..Host::default() };
        Reached { child: Child::Reachable(state), balance, ..host.into() }
    }

    fn stands(observed: &Reached, now: i64) -> Standing {
        standing(observed, "k3d-dev-agent-0", IP, second(now))
    }

    fn node(observed: &mut Reached) -> &mut Node {
        let Child::Reachable(state) = &mut observed.child else { panic!("it answers") };
        state.nodes.get_mut("k3d-dev-agent-0").unwrap()
    }

    #[test]
    fn a_new_node_gets_a_place_when_its_kube_proxy_says_so() {
        assert_eq!(stands(&observed(false, None), 120), Standing::Awaited);
        assert_eq!(stands(&observed(false, Some(ProbeResult::Behind)), 9999), Standing::Awaited);
        assert_eq!(stands(&observed(false, Some(ProbeResult::Answers)), 120), Standing::Placed);
        // One that can't be asked has its place a while after it is Ready.
        assert_eq!(stands(&observed(false, Some(ProbeResult::Unsure)), 139), Standing::Awaited);
        assert_eq!(stands(&observed(false, Some(ProbeResult::Unsure)), 140), Standing::Placed);
        for change in [
            |n: &mut Node| n.ready = false,
            |n: &mut Node| n.renewed = Some(second(99)),
            |n: &mut Node| n.draining_since = Some(second(120)),
        ] {
            let mut seen = observed(false, Some(ProbeResult::Answers));
            change(node(&mut seen));
            assert_eq!(stands(&seen, 120), Standing::Out);
        }
    }

    #[test]
    fn what_is_not_known_takes_no_place_away_and_gives_none() {
        for child in [Child::Unknown, Child::Unreachable("no answer".into())] {
            for (placed, wanted) in [(true, Standing::Placed), (false, Standing::Out)] {
                let seen = Reached { child: child.clone(), ..observed(placed, Some(ProbeResult::Answers)) };
                assert_eq!(stands(&seen, 120), wanted);
            }
        }
        // A kubelet that hangs, or a disk that is full, is not its kube-proxy's business.
        let mut seen = observed(true, None);
        node(&mut seen).ready = false;
        assert_eq!(stands(&seen, 120), Standing::Placed);
    }

    #[test]
    fn who_goes_is_known_to_go() {
        assert_eq!(stands(&observed(true, None), 120), Standing::Placed);
        for change in [
            |o: &mut Reached| node(o).draining_since = Some(second(120)),
            // It was restarted and has not reported since.
            |o: &mut Reached| node(o).renewed = Some(second(99)),
            |o: &mut Reached| o.child = Child::Reachable(ChildState::default()),
            |o: &mut Reached| o.host.own.values_mut().for_each(|d| d.container.state = State::Exited),
            |o: &mut Reached| o.host.own.clear(),
        ] {
            let mut seen = observed(true, Some(ProbeResult::Answers));
            change(&mut seen);
            assert_eq!(stands(&seen, 120), Standing::Out);
        }
    }

    #[test]
    fn the_others_that_are_up_are_to_be_reached() {
        let mut seen = observed(false, None);
        node(&mut seen).pods = Some("10.42.1.0/24".parse().unwrap());
        assert_eq!(beyond(&seen, "k3d-dev-agent-0"), [Ipv4Addr::UNSPECIFIED; 0]);
        assert_eq!(beyond(&seen, "k3d-dev-agent-1"), [Ipv4Addr::new(10, 42, 1, 0)]);
        node(&mut seen).ready = false;
        assert_eq!(beyond(&seen, "k3d-dev-agent-1"), [Ipv4Addr::UNSPECIFIED; 0]);
    }
}
