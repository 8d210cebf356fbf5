//! What the plans of servers rest on, for every state that three servers can be in, against a count by hand.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use localcluster_operator::{
    child::state::{Child, ChildState, Member, Node},
    docker::engine::State,
    plan::{
        containers::Site,
        desired::Desired,
        inputs::{Inputs, Request},
        management::Management,
        nodes::cluster::Cluster,
        observed::Observed,
        owner::Owner,
        refs::Refs,
        servers::{Absence, Servers},
        steps::{Plan, Record, Target},
    },
};

use super::*;

const NAMES: [&str; 3] = ["k3d-dev-server-0", "k3d-dev-server-1", "k3d-dev-server-2"];

/// What is to be seen of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It serves and votes.
    Serves,
    /// Its kubelet is not Ready, but its API has just written to its etcd.
    Writes,
    /// Neither its kubelet nor its API has reported for a minute.
    Silent,
    /// K3s was asked to remove it from etcd.
    Leaves,
    /// It runs, and has no vote yet.
    Learns,
    /// It was just made, and neither Nodes nor etcd tell of it.
    Begins,
    /// It was just made, and etcd tells that it votes before its Node exists.
    Joins,
    /// It has lost its container, and votes.
    Lost,
    /// Only its member is left.
    LeftBehind,
    /// There is nothing of it.
    Absent,
}

use Seen::*;

const ALL: [Seen; 10] = [Serves, Writes, Silent, Leaves, Learns, Begins, Joins, Lost, LeftBehind, Absent];

impl Seen {
    fn reported_as_voter(self) -> bool {
        !matches!(self, Learns | Begins | Absent)
    }

    fn works(self) -> bool {
        matches!(self, Serves | Writes)
    }

    fn exists(self) -> bool {
        !matches!(self, Lost | LeftBehind | Absent)
    }

    fn has_node(self) -> bool {
        !matches!(self, Begins | Joins | LeftBehind | Absent)
    }
}

/// Three servers that have run for an hour, as the model shows them.
struct Stage {
    observed: Observed,
    desired: Desired,
    refs: Refs,
    owner: Owner,
    now: Timestamp,
}

impl Stage {
    fn new() -> Self {
        Self::of(&mut three())
    }

    fn of(lab: &mut Lab) -> Self {
        let look = lab.look(0);
        let whole = look.whole.unwrap();
        let now = lab.world.now();
        Self { observed: look.observed, desired: whole.desired, refs: whole.refs, owner: look.owner, now }
    }

    fn before(&self, seconds: i64) -> Option<Timestamp> {
        Some(self.now - SignedDuration::from_secs(seconds))
    }

    /// What is observed of such servers.
    fn observe(&self, servers: [Seen; 3]) -> Observed {
        let mut observed = self.observed.clone();
        let Child::Reachable(mut state) = std::mem::take(&mut observed.reached.child) else {
            panic!("it is up")
        };
        (state.nodes, state.members) = (BTreeMap::new(), Some(Vec::new()));
        for (name, seen) in NAMES.into_iter().zip(servers) {
            self.show(&mut observed, &mut state, name, seen);
        }
        observed.reached.child = Child::Reachable(state);
        observed
    }

    fn show(&self, observed: &mut Observed, state: &mut ChildState, name: &str, seen: Seen) {
        let host = &mut observed.reached.host;
        if seen.exists() {
            let detail = host.own.values_mut().find(|d| d.container.name == name).unwrap();
            let age = if matches!(seen, Begins | Joins) { 60 } else { 3600 };
            (detail.created_at, detail.started_at) = (self.before(age), self.before(age));
        } else {
            host.own.retain(|_, d| d.container.name != name);
            host.volumes.retain(|v| !v.name.starts_with(name));
        }
        if seen.has_node() {
            let node = Node {
                ready: matches!(seen, Serves | Leaves | Learns),
                renewed: self.before(if seen == Silent { 60 } else { 5 }),
                api_renewed: self.before(if seen == Silent { 60 } else { 5 }),
                voter: Some(seen != Learns),
                leaving: seen == Leaves,
                // It was drained, and may go at once.
                draining_since: self.before(120),
                ..Node::default()
            };
            state.nodes.insert(name.into(), node);
        }
        if !matches!(seen, Begins | Absent) {
            let member = Member { node: name.into(), learner: seen == Learns, ..Member::default() };
            state.members.as_mut().unwrap().push(member);
        }
    }

    /// Asks the servers that are observed.
    fn ask<T>(&self, observed: &Observed, holders: &[String], ask: impl FnOnce(Servers<'_>) -> T) -> T {
        let network = observed.networks.iter().find(|n| n.name == self.desired.network.name).unwrap();
        let site = Site { owner: &self.owner, observed, network: Some(&network.id), further: &[] };
        let inputs = inputs(&self.owner, observed, &self.refs, holders, self.now);
        ask(Servers::new(Cluster { desired: &self.desired, inputs: &inputs, site: &site }))
    }
}

static NO_REPAIRS: Record = Record::new();
static NO_NODE: Management = Management::None;

/// The inputs of a plan of a cluster for which nothing is repaired or reset.
pub fn inputs<'a>(
    owner: &'a Owner,
    observed: &'a Observed,
    refs: &'a Refs,
    holders: &'a [String],
    now: Timestamp,
) -> Inputs<'a> {
    Inputs {
        owner,
        observed,
        refs,
        frozen: None,
        management: &NO_NODE,
        holders,
        reset: Request::default(),
        repairs: &NO_REPAIRS,
        repair_after: None,
        now,
    }
}

fn three() -> Lab {
    let mut spec = support::model::lab::spec(0);
    spec.servers.count = 3;
    settled(spec)
}

/// Every three of these.
fn triples<T: Copy>(all: &[T]) -> impl Iterator<Item = [T; 3]> {
    let third = move |a, b| all.iter().map(move |c| [a, b, *c]);
    all.iter().flat_map(move |a| all.iter().flat_map(move |b| third(*a, *b)))
}

#[test]
fn no_server_is_spared_that_the_majority_needs() {
    let stage = Stage::new();
    for seen in triples(&ALL) {
        let observed = stage.observe(seen);
        let reported: Vec<&str> = NAMES
            .into_iter()
            .zip(seen)
            .filter(|(_, s)| s.reported_as_voter())
            .map(|(name, _)| name)
            .collect();
        stage.ask(&observed, &[], |servers| {
            for name in NAMES {
                let others =
                    || NAMES.into_iter().zip(seen).filter(|(other, _)| *other != name).map(|(_, s)| s);
                let work = others().filter(|s| s.works()).count();
                let votes = usize::from(reported.contains(&name));
                let unseen = others().filter(|s| *s == Begins).count();
                for (absence, voters) in [
                    (Absence::Stopped, reported.len() + unseen),
                    (Absence::Removed, reported.len() - votes),
                    (Absence::Unregistered, reported.len() + 1 - votes),
                ] {
                    let spared = servers.has_quorum_without(&Plan::default(), name, absence);
                    assert_eq!(spared, work > voters / 2, "{name} {absence:?} of {seen:?}");
                }
                let own = seen[NAMES.iter().position(|n| *n == name).unwrap()];
                let several = own.has_node() && reported.len() > usize::from(own != Learns);
                assert_eq!(servers.is_one_of_several(name), several, "{name} of {seen:?}");
            }
            let names: Vec<String> = servers.names().collect();
            let exist: Vec<&str> =
                NAMES.into_iter().zip(seen).filter(|(_, s)| s.exists()).map(|(name, _)| name).collect();
            assert_eq!(names, exist);
            assert_eq!(servers.are_several(), exist.len() > 1);
        });
    }
    // What the plan takes away already does not count any more.
    let observed = stage.observe([Serves; 3]);
    let target = Target { name: NAMES[1].into(), id: None };
    for (action, absence, spared) in [
        (Action::Stop { container: target.clone(), grace: 0 }, Absence::Stopped, false),
        (Action::LeaveEtcd { node: NAMES[1].into() }, Absence::Removed, false),
        (Action::Start { container: target.clone() }, Absence::Stopped, true),
        (Action::Drain { node: NAMES[1].into() }, Absence::Removed, true),
    ] {
        let mut plan = Plan::default();
        plan.step(action, &[], "");
        stage.ask(&observed, &[], |servers| {
            assert_eq!(servers.has_quorum_without(&plan, NAMES[0], absence), spared);
            assert!(servers.has_quorum_without(&plan, NAMES[1], absence), "it is the one that is asked for");
        });
    }
    // Nobody knows.
    let mut observed = stage.observe([Serves; 3]);
    for child in [Child::Unknown, Child::Unreachable("no route".into())] {
        observed.reached.child = child;
        stage.ask(&observed, &[], |servers| {
            for absence in [Absence::Stopped, Absence::Removed, Absence::Unregistered] {
                assert!(!servers.has_quorum_without(&Plan::default(), NAMES[0], absence));
            }
            assert!(!servers.is_one_of_several(NAMES[0]));
        });
    }
}

/// The servers that a plan stops, or removes from etcd or from the cluster.
fn taken(plan: &Plan) -> BTreeSet<&str> {
    let of = |step: &Step| match &step.action {
        Action::Stop { container, .. } | Action::RemoveContainer { container } => {
            Some(container.name.clone())
        }
        Action::LeaveEtcd { node } | Action::DeleteNode { node } => Some(node.clone()),
        _ => None,
    };
    let all: BTreeSet<String> = plan.steps.iter().filter_map(of).collect();
    NAMES.into_iter().filter(|name| all.contains(*name)).collect()
}

/// A server that was made from another spec.
fn outdated(observed: &mut Observed, name: &str) {
    let own = observed.reached.host.own.values_mut().find(|d| d.container.name == name);
    own.into_iter().for_each(|detail| drop(detail.container.labels.remove(names::SPEC_HASH)));
}

/// Whether the servers are as they should be, of another spec, or too many: of those that work one is taken at a time, and
/// only if the others are a majority of the voters without it.
#[test]
fn no_plan_takes_a_server_that_the_majority_needs() {
    let mut before = three();
    let stage = Stage::of(&mut before);
    for (wanted, old) in [3, 1].into_iter().flat_map(|wanted| (0..8_u8).map(move |old| (wanted, old))) {
        let mut lab = before.clone();
        lab.clusters[0].edit(|s| s.servers.count = wanted);
        let mut met = 0;
        for seen in triples(&[Serves, Writes, Silent, Lost]) {
            let working = seen.iter().filter(|s| s.works()).count();
            let voters = seen.iter().filter(|s| s.reported_as_voter()).count();
            // Otherwise the API does not respond, by which they are seen.
            if working <= voters / 2 {
                continue;
            }
            let mut observed = stage.observe(seen);
            let is_old = |index: &usize| old & (1 << index) != 0;
            (0..3).filter(is_old).for_each(|index| outdated(&mut observed, NAMES[index]));
            let plan = lab.look_at(0, observed).plan;
            let taken = taken(&plan);
            let need = NAMES.into_iter().zip(seen).filter(|(name, s)| s.works() && taken.contains(name));
            let need = need.count();
            assert!(need < 2, "{wanted} {old:b} {seen:?}: {:#?}", plan.steps);
            if need == 1 {
                met += 1;
                assert!((working - 1) * 2 > voters - 1, "{wanted} {old:b} {seen:?}: {:#?}", plan.steps);
            }
        }
        assert!(met > 0, "{wanted} {old:b}");
    }
}

/// What has become of a voter while no API responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voter {
    /// It has run with its data for an hour, and does not tell whether it has a leader.
    Quiet,
    /// It has run for an hour, and has no leader.
    Leaderless,
    /// It has no leader, and was started a moment ago.
    Young,
    /// It has a leader.
    Led,
    /// It does not run.
    Stopped,
    /// Its container and its volumes are gone.
    Gone,
    /// It was started with an empty volume, and has no leader.
    Empty,
}

use Voter::*;

fn remain(stage: &Stage, voters: [Voter; 3]) -> Observed {
    let mut observed = stage.observe([Serves; 3]);
    let reached = &mut observed.reached;
    reached.child = Child::Unreachable("timeout".into());
    for (name, voter) in NAMES.into_iter().zip(voters) {
        if voter == Gone {
            reached.host.own.retain(|_, d| d.container.name != name);
            reached.host.volumes.retain(|v| !v.name.starts_with(name));
            continue;
        }
        let detail = reached.host.own.values_mut().find(|d| d.container.name == name).unwrap();
        // As long as a server may take to tell of itself.
        detail.started_at = stage.before(if voter == Young { 179 } else { 180 });
        if voter == Stopped {
            detail.container.state = State::Exited;
        }
        match voter {
            Leaderless | Young | Empty => drop(reached.leaders.insert(name.into(), false)),
            Led => drop(reached.leaders.insert(name.into(), true)),
            Quiet | Stopped | Gone => {}
        }
        if voter == Empty {
            reached.without_data.insert(name.into());
        }
    }
    observed
}

#[test]
fn the_data_of_a_majority_is_told_to_be_lost_when_it_is() {
    let stage = Stage::new();
    let all = [Quiet, Leaderless, Young, Led, Stopped, Gone, Empty];
    let holders = NAMES.map(String::from);
    for voters in triples(&all) {
        let observed = remain(&stage, voters);
        let named = |is: &dyn Fn(Voter) -> bool| -> BTreeSet<&str> {
            NAMES.into_iter().zip(voters).filter(|(_, v)| is(*v)).map(|(name, _)| name).collect()
        };
        let (with_volume, with_data) = (named(&|v| v != Gone), named(&|v| v != Gone && v != Empty));
        let lost = |left: &BTreeSet<&str>| !left.is_empty() && left.len() < 2;
        let hopeless =
            NAMES.into_iter().zip(voters).all(|(name, v)| !with_data.contains(name) || v == Leaderless);
        let expected = if lost(&with_volume) {
            Some(with_volume)
        } else {
            Some(with_data).filter(|left| lost(left) && hopeless)
        };
        stage.ask(&observed, &holders, |servers| {
            let loss = servers.quorum_loss();
            let left: Option<BTreeSet<&str>> = loss.as_ref().map(|loss| loss.left.iter().copied().collect());
            assert_eq!(left, expected, "{voters:?}");
            let told = loss.map_or(3, |loss| loss.left.len() + loss.gone.len());
            assert_eq!(told, 3);
        });
    }
    // One voter of one has no others, and while the API responds, there is a majority.
    let observed = remain(&stage, [Leaderless, Gone, Gone]);
    for (holders, is_lost) in [(&holders[..], true), (&holders[..2], true), (&holders[..1], false)] {
        stage.ask(&observed, holders, |servers| assert_eq!(servers.quorum_loss().is_some(), is_lost));
    }
    let mut observed = stage.observe([Serves, Lost, Lost]);
    stage.ask(&observed, &holders, |servers| assert!(servers.quorum_loss().is_none()));
    observed.reached.child = Child::Unknown;
    stage.ask(&observed, &holders, |servers| assert!(servers.quorum_loss().is_some()));
}
