//! The servers of a cluster as members of one etcd: who may join and when, who is replaced, who goes, and what there is
//! to say when too few are left.
//!
//! One server alone keeps its data in SQLite. As soon as there is to be a second one, the first moves its data to etcd,
//! and the others join one at a time: etcd has one learner at most, and its majority counts from the moment that a
//! member is added. Nothing here ever takes a voter away while those that are left could not agree.

mod members;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub use members::{
    NOT_JOINING, Server, existing, holders, in_etcd, is_known, is_made_for_etcd, join_file, serving,
};
use members::{answers, tells, votes, works};

use super::{
    containers::{GRACE, Site},
    desired::Endpoint,
    leases,
    local_cluster::Inputs,
    nodes::{self, NOT_JOINED, REPORT_LIMIT, drained},
    observed::Node,
    steps::{Action, Plan, Target},
};
use crate::{
    api::{
        condition::{reasons, types},
        local_cluster::NodeRole,
    },
    docker::engine::{ContainerDetail, State},
    k3s::versions,
    plan::cluster::{Desired, NodeSpec},
    time::after,
};

/// The voters of a cluster of which most have lost their data.
#[derive(Clone, Debug)]
pub struct Lost<'a> {
    /// Those whose data is left.
    pub left: Vec<&'a str>,
    /// The others.
    pub gone: Vec<&'a str>,
}

/// What has a server run that rests and is to run; `None` where it runs, or K3s was asked to take it out of etcd.
fn wakes(detail: &ContainerDetail) -> Option<Action> {
    let container = Target::of(&detail.container);
    match detail.container.state {
        State::Exited if detail.restarts => Some(Action::Start { container }),
        State::Paused => Some(Action::Unpause { container }),
        _ => None,
    }
}

/// What is planned of servers.
pub struct Servers<'a> {
    desired: &'a Desired,
    inputs: &'a Inputs<'a>,
    site: &'a Site<'a>,
    existing: BTreeMap<usize, Server<'a>>,
    etcd: bool,
    /// The server that joins now, of which there can be one at a time.
    joining: Option<String>,
}

impl<'a> Servers<'a> {
    /// Of a cluster.
    pub fn new(desired: &'a Desired, inputs: &'a Inputs<'a>, site: &'a Site<'a>) -> Self {
        let existing = existing(&desired.names, inputs.owner, inputs.observed, inputs.holders);
        let etcd = in_etcd(desired.servers.len(), &existing);
        Self { desired, inputs, site, existing, etcd, joining: None }
    }

    fn name(&self, index: usize) -> String {
        self.desired.names.node(NodeRole::Server, index)
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.desired.names.parse_server(name)
    }

    fn node(&self, name: &str) -> Option<&'a Node> {
        self.inputs.observed.node(name)
    }

    fn reachable(&self) -> bool {
        self.inputs.observed.child.state().is_some()
    }

    /// Whether a server serves the cluster: its Node is Ready and, in etcd, it votes.
    pub fn works(&self, name: &str) -> bool {
        // A Node stays Ready for a while after its container lost its network.
        let works = |d: &ContainerDetail| self.site.is_placed(d) && works(self.inputs.observed, d, self.etcd);
        self.site.own(name).is_some_and(works)
    }

    /// Whether a server can agree with others: it works, or votes and has just written to etcd, whatever its kubelet does.
    fn agrees(&self, name: &str) -> bool {
        let tells = |d: &ContainerDetail| {
            let node = self.node(name).filter(|n| self.etcd && votes(n));
            self.site.is_placed(d) && node.is_some_and(|n| tells(n, d, self.inputs.now))
        };
        self.works(name) || self.site.own(name).is_some_and(tells)
    }

    /// Whether the others need not wait for a server: it works, or it agrees and has not been Ready for long. One that
    /// has just come up is about to be, and one whose kubelet has not reported since is about to be started again.
    fn is_counted_on(&self, name: &str) -> bool {
        let repaired = self.inputs.repairs.contains_key(name);
        let old = |d: &ContainerDetail| {
            d.created_at.is_some_and(|at| self.inputs.now >= after(at, REPORT_LIMIT))
                && (repaired || self.node(name).is_some_and(|n| nodes::reports(n, d)))
        };
        self.works(name) || self.site.own(name).is_some_and(old) && self.agrees(name)
    }

    /// Whether a server that has no data may be made and started now; plans what has to be done before, and says what
    /// it waits for.
    pub fn may_begin(&mut self, plan: &mut Plan, name: &str) -> bool {
        let Some(index) = self.index(name).filter(|_| self.etcd) else { return true };
        if self.existing.get(&index).is_some_and(|s| s.data) {
            return true;
        }
        let waits = |plan: &mut Plan, message: String| {
            plan.waits(types::CONTROL_PLANE_READY, reasons::JOINING, message);
            false
        };
        let others: Vec<String> = self
            .existing
            .iter()
            .filter(|(i, s)| **i != index && s.data)
            .map(|(i, _)| self.name(*i))
            .collect();
        if others.is_empty() {
            // Whoever comes first begins the cluster: always the same one.
            return index == 0 || waits(plan, format!("{name} joins when {} votes in etcd", self.name(0)));
        }
        if !self.reachable() {
            return waits(plan, format!("{name} joins when the cluster's API answers"));
        }
        if self.node(name).is_some() {
            // Its member of etcd goes with its Node. Until then its name is taken there.
            let message = format!("the data of {name} is lost: what etcd knows of it is being removed");
            leases::delete_node(plan, name, &[], "its data is lost", self.inputs);
            return waits(plan, message);
        }
        let missing = |other: &String| !self.is_counted_on(other);
        let waiting = self.joining.clone().or_else(|| others.into_iter().find(missing));
        if let Some(other) = waiting {
            return waits(plan, format!("{name} joins when {other} votes in etcd"));
        }
        self.joining = Some(name.to_owned());
        true
    }

    /// Says what is missing for a Ready server to be a member.
    pub fn judge(&self, plan: &mut Plan, node: &Node, name: &str) {
        if self.etcd && !votes(node) {
            let message = format!("{name} does not vote in etcd yet");
            plan.waits(types::CONTROL_PLANE_READY, reasons::JOINING, message);
        } else if self.etcd && self.site.own(name).is_some_and(|d| !answers(self.inputs.observed, node, d)) {
            let message = format!("the API of {name} is not up yet");
            plan.waits(types::CONTROL_PLANE_READY, reasons::NODE_STARTING, message);
        }
    }

    /// Plans the removal of a wanted server that was taken out of etcd, as when servers were taken away and are wanted
    /// again, or somebody deleted its Node: with its data K3s would not start. It comes back as a new one. Whether that
    /// is under way.
    pub fn is_expelled(&self, plan: &mut Plan, node: &NodeSpec) -> bool {
        let name = &node.container.name;
        if self.is_forgotten(name) {
            let message = format!("{name} is unknown to the cluster and joins anew");
            plan.waits(types::CONTROL_PLANE_READY, reasons::JOINING, message);
            match self.site.own(name).filter(|d| d.container.state == State::Running) {
                // The only one that voted when its Node was deleted votes still, and the others may need it. Started
                // again, it tells: it makes its Node, or K3s ends, since it was taken out of etcd.
                Some(detail) if !self.majority_beside_unknown(name) => {
                    nodes::restart(plan, detail, &[], NOT_JOINED)
                }
                _ => self.take_away(plan, name, "the cluster does not know it any more"),
            }
            return true;
        }
        let Some(seen) = self.node(name).filter(|n| self.etcd && (n.leaving || n.left)) else { return false };
        let done = if seen.left { "was" } else { "is being" };
        let message = format!("{name} {done} taken out of etcd and joins anew");
        plan.waits(types::CONTROL_PLANE_READY, reasons::JOINING, message);
        if seen.left {
            self.take_away(plan, name, "it was taken out of etcd");
        }
        true
    }

    /// Whether a server that has been there for a while has no Node, while others serve the cluster. Somebody has
    /// deleted it: K3s takes a server out of etcd with its Node.
    fn is_forgotten(&self, name: &str) -> bool {
        let own = self.index(name);
        let others = || self.existing.keys().filter(|i| Some(**i) != own).any(|i| self.works(&self.name(*i)));
        let old = |at: Timestamp| self.inputs.now >= after(at, REPORT_LIMIT);
        let there = self.site.own(name).is_some_and(|d| {
            d.started_at.is_some_and(|at| old(at) || d.container.state != State::Running)
                && d.created_at.is_some_and(old)
        });
        self.etcd && self.reachable() && there && self.node(name).is_none() && others()
    }

    /// The names of those of which there is something.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.existing.keys().map(|index| self.name(*index))
    }

    /// Whose data is lost, when it is that of most.
    pub fn lost(&self) -> Option<Lost<'a>> {
        let voters = self.inputs.holders;
        if !self.etcd || self.reachable() || voters.len() < 2 {
            return None;
        }
        let has_data =
            |name: &&str| self.index(name).and_then(|i| self.existing.get(&i)).is_some_and(|s| s.data);
        let (left, gone): (Vec<&str>, Vec<&str>) = voters.iter().map(String::as_str).partition(has_data);
        (!left.is_empty() && left.len() <= voters.len() / 2).then_some(Lost { left, gone })
    }

    /// Plans the replacement of servers that were made from another spec: one at a time, and one that works only while
    /// all others do. `after` are the steps that tell the load balancer. Whether servers are still to be replaced.
    pub fn roll(
        &self,
        plan: &mut Plan,
        outdated: &[&NodeSpec],
        after: &[usize],
        blocked: impl Fn(&mut Plan, &NodeSpec) -> bool,
    ) -> bool {
        let servers: Vec<&NodeSpec> =
            outdated.iter().copied().filter(|n| self.index(&n.container.name).is_some()).collect();
        if servers.is_empty() {
            return false;
        }
        // Those that do not work first: the others wait for them.
        let (working, idle): (Vec<&NodeSpec>, Vec<&NodeSpec>) =
            servers.iter().copied().partition(|s| self.works(&s.container.name));
        for server in idle.into_iter().chain(working) {
            let name = &server.container.name;
            if self.wake(plan, &servers, name) || blocked(plan, server) {
                continue;
            }
            let why = "its spec changed";
            if self.existing.len() < 2 {
                self.site.replace(plan, &server.container, &[], &[], why);
                return true;
            }
            if !self.works(name) {
                if self.may_be_replaced_unseen(name) {
                    self.site.replace(plan, &server.container, &[], &[], why);
                    return true;
                }
                continue;
            }
            let idle =
                self.existing.keys().map(|i| self.name(*i)).find(|other| other != name && !self.works(other));
            if idle.is_none() && !self.majority_without(name) {
                let message = format!("{name} is to be replaced, once the others can agree without it");
                plan.waits(types::CONTROL_PLANE_READY, reasons::UPDATING, message);
                return true;
            }
            if let Some(other) = idle {
                let message = format!("{name} is to be replaced, once {other} works");
                plan.waits(types::CONTROL_PLANE_READY, reasons::UPDATING, message);
                return true;
            }
            if drained(plan, name, types::CONTROL_PLANE_READY, self.inputs) {
                let mut before = after.to_vec();
                before.extend(self.snapshot(plan, server));
                self.site.replace(plan, &server.container, &[], &before, why);
            }
            return true;
        }
        true
    }

    /// Plans the start of a server of another spec, when all of them were stopped together: they come back as they
    /// were, and then they are replaced one at a time. Whether it did.
    fn wake(&self, plan: &mut Plan, outdated: &[&NodeSpec], name: &str) -> bool {
        let asleep =
            |s: &Server<'_>| s.detail.is_some_and(|d| d.container.state == State::Exited && d.restarts);
        let together = self.existing.len() > 1
            && self.existing.values().all(asleep)
            && outdated.len() == self.existing.len();
        let Some(detail) = self.site.own(name).filter(|_| together) else { return false };
        if !self.site.is_placed(detail) {
            return false;
        }
        let container = Target::of(&detail.container);
        plan.step(Action::Start { container }, &[], "it had stopped");
        true
    }

    /// Whether a server that does not work, as far as can be seen, may be replaced. One that runs may vote all the same,
    /// so the others have to be a majority without it. While the API does not answer, nobody knows of one that runs: it
    /// may be the others' turn to come up, or the load balancer's.
    fn may_be_replaced_unseen(&self, name: &str) -> bool {
        let Some(detail) = self.site.own(name) else { return true };
        let runs = detail.container.state == State::Running && self.site.is_placed(detail);
        let balancer = self.site.own(&self.desired.load_balancer.name);
        // Off its network it is what keeps the API from answering, however long it runs.
        let leads = |d: &&ContainerDetail| d.container.state == State::Running && self.site.is_placed(d);
        let balancer = balancer.filter(leads).and_then(|d| d.started_at);
        let started = self.existing.values().filter_map(|s| s.detail?.started_at).max();
        let given_up = |at: Timestamp| self.inputs.now >= after(at.max(started.unwrap_or(at)), REPORT_LIMIT);
        // One that is about to be started may be all that the others miss.
        let rests = |d: &ContainerDetail| {
            matches!(d.container.state, State::Created | State::Exited) && self.site.is_placed(d)
        };
        let comes = self.existing.values().filter_map(|s| s.detail).any(rests);
        let enough = if self.reachable() {
            // Of one that is stopped then, nothing would tell any more that it votes.
            !self.may_vote_unseen(name) && self.majority_without(name)
        } else {
            !comes && balancer.is_some_and(given_up)
        };
        !runs || enough
    }

    /// Whether a Node's server is a member of an etcd in which others vote too. The last voter stays one without its
    /// Node.
    pub fn is_one_of_several(&self, node: &Node) -> bool {
        node.voter.is_some() && self.voters().is_some_and(|v| v > usize::from(node.voter == Some(true)))
    }

    /// Plans that a server whose kubelet never reported leaves etcd, when the others can agree afterwards. It is taken
    /// away then, and comes back as a new one.
    pub fn expel(&self, plan: &mut Plan, name: &str, detail: &ContainerDetail) {
        if self.may_leave(name) {
            self.leave(plan, detail, &[], NOT_JOINED);
        }
    }

    /// Whether the other servers that can agree are most of those that vote without this one.
    fn may_leave(&self, name: &str) -> bool {
        let own = usize::from(self.node(name).is_some_and(|n| n.voter == Some(true)));
        self.voters().is_some_and(|voters| self.others_are_most(name, voters - own))
    }

    /// Whether a server joins etcd, and may vote there already: K3s makes it a voter before its Node is there, which
    /// alone tells of it, and by which alone it can leave again. One that ends and is started again has its time only
    /// once.
    fn may_vote_unseen(&self, name: &str) -> bool {
        let silent = self.node(name).is_none_or(|n| n.voter.is_none());
        let young = |at: Timestamp| self.inputs.now < after(at, REPORT_LIMIT);
        let joins = |d: &ContainerDetail| d.started_at.is_some() && d.created_at.is_some_and(young);
        self.etcd && silent && self.site.own(name).is_some_and(joins)
    }

    /// Whether there is another one.
    pub fn are_several(&self) -> bool {
        self.existing.len() > 1
    }

    /// How many vote in etcd, by what the cluster tells. One that is lost with its data counts until its Node is gone.
    fn voters(&self) -> Option<usize> {
        let state = self.inputs.observed.child.state()?;
        Some(state.nodes.values().filter(|n| n.voter == Some(true)).count())
    }

    /// Whether the other servers that can agree are most of so many voters.
    fn others_are_most(&self, name: &str, voters: usize) -> bool {
        let others = self.names().filter(|other| other != name);
        others.filter(|other| self.agrees(other)).count() * 2 > voters
    }

    /// Whether the other servers that can agree are most of all that vote, also if this one does, of which there is no Node.
    fn majority_beside_unknown(&self, name: &str) -> bool {
        self.voters().is_some_and(|voters| self.others_are_most(name, voters + 1))
    }

    /// Whether the other servers that can agree are most of all that vote, or may.
    pub fn majority_without(&self, name: &str) -> bool {
        let unseen = self.names().filter(|other| other != name && self.may_vote_unseen(other)).count();
        self.voters().is_some_and(|voters| self.others_are_most(name, voters + unseen))
    }

    /// Plans a snapshot of etcd before the first server gets another image.
    fn snapshot(&self, plan: &mut Plan, server: &NodeSpec) -> Option<usize> {
        let image = &server.container.image;
        let first = self.existing.values().all(|s| s.detail.is_none_or(|d| d.container.image != *image));
        let detail = self.site.own(&server.container.name).filter(|_| first && self.etcd)?;
        let to = versions::of_image(image).map_or_else(|| "another-image".into(), |v| versions::tag(&v));
        let container = Target::of(&detail.container);
        let command = ["k3s", "etcd-snapshot", "save", &format!("--name=before-{to}")].map(String::from);
        Some(plan.step(Action::Exec { container, command: command.into() }, &[], "before the upgrade"))
    }

    /// Plans the removal of servers that are no longer wanted, the newest first, one at a time: drained, taken out of
    /// etcd while it runs (two members can't agree on anything when one of them is stopped first), then stopped.
    pub fn shrink(&self, plan: &mut Plan, after: &[usize]) {
        let wanted = self.desired.servers.len();
        let mut surplus: BTreeSet<usize> = self.existing.keys().copied().filter(|i| *i >= wanted).collect();
        if let Some(state) = self.inputs.observed.child.state() {
            surplus.extend(state.nodes.keys().filter_map(|n| self.index(n)).filter(|i| *i >= wanted));
        }
        // One that does not run goes first: the others have their majority without it.
        let rests =
            |i: &&usize| self.site.own(&self.name(**i)).is_none_or(|d| d.container.state != State::Running);
        let resting = surplus.iter().rev().find(rests).filter(|_| self.reachable());
        // Then one that runs and takes no part: the more of the voters are left that agree on the others.
        let silent = |i: &&usize| !self.agrees(&self.name(**i));
        let next = resting.or_else(|| surplus.iter().rev().find(silent)).or(surplus.last());
        let Some(index) = next else { return };
        let name = self.name(*index);
        let waits = |plan: &mut Plan, message: String| {
            plan.waits(types::CONTROL_PLANE_READY, reasons::SCALING_SERVERS, message);
        };
        waits(plan, format!("{name} is being taken away"));
        if !self.reachable() {
            surplus.iter().for_each(|index| self.bring_back(plan, *index));
            return waits(plan, format!("{name} is taken away when the cluster's API answers"));
        }
        if resting.is_some() {
            let asleep =
                self.site.own(&name).filter(|d| self.site.is_placed(d) && self.may_vote_unseen(&name));
            let why = "it has to leave etcd, which it can while it runs";
            match asleep.and_then(wakes) {
                Some(action) => drop(plan.step(action, &[], why)),
                None => self.take_away(plan, &name, "the cluster has fewer servers now"),
            }
            return;
        }
        let stays = self.desired.servers.iter().map(|s| &s.container.name);
        let works = self.works(&name);
        let node = self.node(&name);
        if let Some(missing) = stays.into_iter().find(|s| !self.is_counted_on(s)) {
            return waits(plan, format!("{name} is taken away once {missing} works"));
        }
        if let Some(node) = node.filter(|n| n.voter.is_some() && !n.left) {
            let runs = self.site.own(&name).filter(|d| d.container.state == State::Running);
            if node.leaving && runs.is_some() {
                return waits(plan, format!("{name} is being taken out of etcd"));
            }
            if let Some(detail) = runs {
                if !self.may_leave(&name) {
                    return waits(plan, format!("{name} is taken away once the others can agree without it"));
                }
                if works && !drained(plan, &name, types::CONTROL_PLANE_READY, self.inputs) {
                    return;
                }
                return self.leave(plan, detail, after, "the cluster has fewer servers now");
            }
        }
        if self.may_vote_unseen(&name) {
            return waits(plan, format!("{name} is taken away once it tells whether it votes"));
        }
        self.take_away(plan, &name, "the cluster has fewer servers now");
    }

    /// Plans what brings a surplus server back to work while the API does not answer. Stopped or off its network, a
    /// voter may be what the others lack for a majority, and then the API, which its removal waits for, never answers.
    fn bring_back(&self, plan: &mut Plan, index: usize) {
        // A server that has left etcd is not restarted by Docker either.
        let own = self.site.own(&self.name(index)).filter(|d| d.started_at.is_some() && d.restarts);
        let (Some(detail), Some(network)) = (own, self.site.network) else { return };
        let why = "the other servers may need its vote";
        let state = detail.container.state;
        if self.site.is_placed(detail) || !matches!(state, State::Running | State::Exited) {
            if let Some(wake) = wakes(detail) {
                plan.step(wake, &[], why);
            }
            return;
        }
        let container = Target::of(&detail.container);
        // A process that lost its interface keeps the sockets of the old one.
        let stop = (state == State::Running)
            .then(|| plan.step(Action::Stop { container: container.clone(), grace: GRACE }, &[], ""));
        let ip = self.desired.addresses.node(NodeRole::Server, index);
        let endpoint = Endpoint { ip: Some(ip), ..Endpoint::default() };
        let connect = Action::Connect { network: network.to_owned(), container: container.clone(), endpoint };
        let connected = plan.step(connect, stop.as_slice(), "");
        plan.step(Action::Start { container }, &[connected], why);
    }

    /// Plans that K3s takes a server out of etcd while it runs.
    pub fn leave(&self, plan: &mut Plan, detail: &ContainerDetail, after: &[usize], why: &str) {
        let name = detail.container.name.clone();
        // K3s would join again when it is started.
        let container = Target::of(&detail.container);
        let keep = plan.step(Action::SetRestart { container, restart: false }, after, "");
        plan.step(Action::LeaveEtcd { node: name }, &[keep], why);
    }

    fn take_away(&self, plan: &mut Plan, name: &str, why: &str) {
        nodes::take_away(plan, name, why, self.inputs, self.site, &[]);
    }
}
