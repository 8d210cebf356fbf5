//! Servers of a cluster as members of one etcd cluster: joins, replacement, removal, and loss of quorum.
//!
//! A single server stores its data in SQLite. As soon as a second one is desired, the first migrates its data to
//! etcd, and the others join one at a time: etcd supports one learner, and a member counts for the quorum once it is
//! added. No plan removes a voter while the remaining ones would lose quorum.

pub mod data_loss;
pub mod leases;
pub mod quorum_reset;

mod members;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub use members::{
    NOT_JOINING, Server, existing, holders, in_etcd, is_known, is_made_for_etcd, join_file, serving,
};
use members::{answers, tells, votes, works};

use super::{
    containers::{GRACE, Site},
    desired::{Desired, NodeSpec},
    inputs::Inputs,
    nodes::{
        health::{self, REPORT_LIMIT},
        lifecycle::{self, NOT_JOINED, drained},
    },
    steps::{Action, Plan, Target},
};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, reason::Reason},
    child::state::Node,
    docker::{
        engine::{ContainerDetail, State},
        spec::{EndpointSettings, RestartPolicy},
    },
    k3s::versions,
    time::after,
};

/// Voters of a cluster of which most have lost their data.
#[derive(Clone, Debug)]
pub struct Lost<'a> {
    /// Servers that still have their data.
    pub left: Vec<&'a str>,
    /// Servers that lost their data.
    pub gone: Vec<&'a str>,
}

/// Returns the action that wakes a sleeping server; `None` if it is running, or if K3s was asked to remove it from etcd.
fn wake(detail: &ContainerDetail) -> Option<Action> {
    let container = Target::of(&detail.container);
    match detail.container.state {
        State::Exited if detail.restarts() => Some(Action::Start { container }),
        State::Paused => Some(Action::Unpause { container }),
        _ => None,
    }
}

/// Plan of the servers.
pub struct Servers<'a> {
    desired: &'a Desired,
    inputs: &'a Inputs<'a>,
    site: &'a Site<'a>,
    existing: BTreeMap<usize, Server<'a>>,
    etcd: bool,
    /// The server that is joining, at most one at a time.
    joining: Option<String>,
}

impl<'a> Servers<'a> {
    /// Creates the plan of a cluster.
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

    /// Reports whether a server serves the cluster: its Node is Ready and, with etcd, it is a voter and its API
    /// responds.
    pub fn works(&self, name: &str) -> bool {
        // A Node stays Ready for a while after its container lost its network.
        let works = |d: &ContainerDetail| self.site.is_placed(d) && works(self.inputs.observed, d, self.etcd);
        self.site.own(name).is_some_and(works)
    }

    /// Reports whether a server counts for the quorum: it works, or it is a voter and has just written to etcd,
    /// whatever the state of its kubelet.
    fn agrees(&self, name: &str) -> bool {
        let tells = |d: &ContainerDetail| {
            let node = self.node(name).filter(|n| self.etcd && votes(n));
            self.site.is_placed(d) && node.is_some_and(|n| tells(n, d, self.inputs.now))
        };
        self.works(name) || self.site.own(name).is_some_and(tells)
    }

    /// Reports whether changes of other servers need not wait for a server: it works, or it counts for the quorum and
    /// has not been Ready for long. A server that has just started will be Ready soon, and one with a kubelet that
    /// has not reported since will be restarted.
    fn is_counted_on(&self, name: &str) -> bool {
        let repaired = self.inputs.repairs.contains_key(name);
        let old = |d: &ContainerDetail| {
            d.created_at.is_some_and(|at| self.inputs.now >= after(at, REPORT_LIMIT))
                && (repaired || self.node(name).is_some_and(|n| health::reports(n, d)))
        };
        self.works(name) || self.site.own(name).is_some_and(old) && self.agrees(name)
    }

    /// Reports whether a server without data may be created and started now. Plans what must be done before, and adds
    /// the problem that it waits for.
    pub fn may_begin(&mut self, plan: &mut Plan, name: &str) -> bool {
        let Some(index) = self.index(name).filter(|_| self.etcd) else { return true };
        if self.existing.get(&index).is_some_and(|s| s.data) {
            return true;
        }
        let waits = |plan: &mut Plan, message: String| {
            plan.waits(ConditionType::ControlPlaneReady, Reason::Joining, message);
            false
        };
        let others: Vec<String> = self
            .existing
            .iter()
            .filter(|(i, s)| **i != index && s.data)
            .map(|(i, _)| self.name(*i))
            .collect();
        if others.is_empty() {
            // The first server initializes the cluster: always the same one.
            return index == 0
                || waits(
                    plan,
                    format!("waiting for {} to become an etcd voter before {name} joins", self.name(0)),
                );
        }
        if !self.reachable() {
            return waits(plan, format!("waiting for the API of the cluster before {name} joins"));
        }
        if self.node(name).is_some() {
            // Its etcd member is removed with its Node. Until then etcd rejects a new member with its name.
            let message = format!("the data of {name} is lost: removing its etcd member");
            leases::delete_node(plan, name, &[], "its data is lost", self.inputs);
            return waits(plan, message);
        }
        let missing = |other: &String| !self.is_counted_on(other);
        let waiting = self.joining.clone().or_else(|| others.into_iter().find(missing));
        if let Some(other) = waiting {
            return waits(plan, format!("waiting for {other} to become an etcd voter before {name} joins"));
        }
        self.joining = Some(name.to_owned());
        true
    }

    /// Adds the problems of a Ready server that is not a full member yet.
    pub fn judge(&self, plan: &mut Plan, node: &Node, name: &str) {
        if self.etcd && !votes(node) {
            let message = format!("waiting for {name} to become an etcd voter");
            plan.waits(ConditionType::ControlPlaneReady, Reason::Joining, message);
        } else if self.etcd && self.site.own(name).is_some_and(|d| !answers(self.inputs.observed, node, d)) {
            let message = format!("waiting for the API of {name} to respond");
            plan.waits(ConditionType::ControlPlaneReady, Reason::NodeStarting, message);
        }
    }

    /// Plans the removal of a desired server that was removed from etcd, for example after a scale-down that was
    /// reverted, or because its Node was deleted: K3s would not start with its data. It rejoins as a new member.
    /// Reports whether this is in progress.
    pub fn is_expelled(&self, plan: &mut Plan, node: &NodeSpec) -> bool {
        let name = &node.container.name;
        if self.is_forgotten(name) {
            let message = format!("{name} has no Node in the cluster: rejoining it as a new etcd member");
            plan.waits(ConditionType::ControlPlaneReady, Reason::Joining, message);
            match self.site.own(name).filter(|d| d.container.state == State::Running) {
                // If it was the only voter when its Node was deleted, it is still a voter, and the others may need
                // it. A restart decides: it recreates its Node, or K3s exits because the server was removed from
                // etcd.
                Some(detail) if !self.majority_beside_unknown(name) => {
                    lifecycle::restart(plan, detail, &[], NOT_JOINED)
                }
                _ => self.remove(plan, name, "its Node no longer exists"),
            }
            return true;
        }
        let Some(seen) = self.node(name).filter(|n| self.etcd && (n.leaving || n.left)) else { return false };
        let done = if seen.left { "was" } else { "is being" };
        let message = format!("{name} {done} removed from etcd and rejoins as a new member");
        plan.waits(ConditionType::ControlPlaneReady, Reason::Joining, message);
        if seen.left {
            self.remove(plan, name, "it was removed from etcd");
        }
        true
    }

    /// Reports whether an existing server has no Node for a while although other servers serve the cluster. Its Node
    /// was deleted from outside: K3s removes a server from etcd with its Node.
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

    /// Returns the names of all existing servers.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.existing.keys().map(|index| self.name(*index))
    }

    /// Returns the voters with and without data if most have lost their data.
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

    /// Plans the replacement of outdated servers: one at a time, and a working one only while all others work.
    /// `after` contains the steps that reconfigure the load balancer. Reports whether servers remain to be replaced.
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
        // Servers that do not work come first: the others wait for them.
        let (working, idle): (Vec<&NodeSpec>, Vec<&NodeSpec>) =
            servers.iter().copied().partition(|s| self.works(&s.container.name));
        for server in idle.into_iter().chain(working) {
            let name = &server.container.name;
            if self.wake(plan, &servers, name) || blocked(plan, server) {
                continue;
            }
            let why = "its spec changed";
            if self.existing.len() < 2 {
                self.site.replace(plan, &server.container, &[], why);
                return true;
            }
            if !self.works(name) {
                if self.may_be_replaced_unseen(name) {
                    self.site.replace(plan, &server.container, &[], why);
                    return true;
                }
                continue;
            }
            let idle =
                self.existing.keys().map(|i| self.name(*i)).find(|other| other != name && !self.works(other));
            if idle.is_none() && !self.majority_without(name) {
                let message = format!("waiting for etcd quorum without {name} before replacing it");
                plan.waits(ConditionType::ControlPlaneReady, Reason::Updating, message);
                return true;
            }
            if let Some(other) = idle {
                let message = format!("waiting for {other} to be ready before replacing {name}");
                plan.waits(ConditionType::ControlPlaneReady, Reason::Updating, message);
                return true;
            }
            if drained(plan, name, ConditionType::ControlPlaneReady, self.inputs) {
                let mut before = after.to_vec();
                before.extend(self.snapshot(plan, server));
                self.site.replace(plan, &server.container, &before, why);
            }
            return true;
        }
        true
    }

    /// Plans the start of an outdated server if all were stopped together: they start unchanged and are replaced one
    /// at a time afterwards. Reports whether it did.
    fn wake(&self, plan: &mut Plan, outdated: &[&NodeSpec], name: &str) -> bool {
        let asleep =
            |s: &Server<'_>| s.detail.is_some_and(|d| d.container.state == State::Exited && d.restarts());
        let together = self.existing.len() > 1
            && self.existing.values().all(asleep)
            && outdated.len() == self.existing.len();
        let Some(detail) = self.site.own(name).filter(|_| together) else { return false };
        if !self.site.is_placed(detail) {
            return false;
        }
        let container = Target::of(&detail.container);
        plan.step(Action::Start { container }, &[], "it was not running");
        true
    }

    /// Reports whether a server that seems not to work may be replaced. A running one may still be a voter, so the
    /// others must have quorum without it. While the API does not respond, the state of a running server is unknown:
    /// the cause may be the start of other servers or of the load balancer.
    fn may_be_replaced_unseen(&self, name: &str) -> bool {
        let Some(detail) = self.site.own(name) else { return true };
        let runs = detail.container.state == State::Running && self.site.is_placed(detail);
        let balancer = self.site.own(&self.desired.load_balancer.name);
        // A disconnected load balancer keeps the API from responding, however long it runs.
        let leads = |d: &&ContainerDetail| d.container.state == State::Running && self.site.is_placed(d);
        let balancer = balancer.filter(leads).and_then(|d| d.started_at);
        let started = self.existing.values().filter_map(|s| s.detail?.started_at).max();
        let given_up = |at: Timestamp| self.inputs.now >= after(at.max(started.unwrap_or(at)), REPORT_LIMIT);
        // A server that is about to be started may be the only one missing for quorum.
        let rests = |d: &ContainerDetail| {
            matches!(d.container.state, State::Created | State::Exited) && self.site.is_placed(d)
        };
        let comes = self.existing.values().filter_map(|s| s.detail).any(rests);
        let enough = if self.reachable() {
            // Once it is stopped, nothing shows that it is a voter.
            !self.may_vote_unseen(name) && self.majority_without(name)
        } else {
            !comes && balancer.is_some_and(given_up)
        };
        !runs || enough
    }

    /// Reports whether the server of a Node is a member of an etcd cluster with other voters. The last voter remains
    /// a member without its Node.
    pub fn is_one_of_several(&self, node: &Node) -> bool {
        node.voter.is_some() && self.voters().is_some_and(|v| v > usize::from(node.voter == Some(true)))
    }

    /// Plans that a server with a kubelet that never reported leaves etcd, if the others keep quorum. It is then
    /// removed and rejoins as a new member.
    pub fn expel(&self, plan: &mut Plan, name: &str, detail: &ContainerDetail) {
        if self.may_leave(name) {
            self.leave(plan, detail, &[], NOT_JOINED);
        }
    }

    /// Reports whether the other servers have quorum once this one is no voter.
    fn may_leave(&self, name: &str) -> bool {
        let own = usize::from(self.node(name).is_some_and(|n| n.voter == Some(true)));
        self.voters().is_some_and(|voters| self.others_are_most(name, voters - own))
    }

    /// Reports whether a server is joining etcd and may already be a voter: K3s makes it a voter before its Node
    /// exists, and only the Node shows that and lets it leave. Restarts after an exit do not extend its time.
    fn may_vote_unseen(&self, name: &str) -> bool {
        let silent = self.node(name).is_none_or(|n| n.voter.is_none());
        let young = |at: Timestamp| self.inputs.now < after(at, REPORT_LIMIT);
        let joins = |d: &ContainerDetail| d.started_at.is_some() && d.created_at.is_some_and(young);
        self.etcd && silent && self.site.own(name).is_some_and(joins)
    }

    /// Reports whether there are at least two servers.
    pub fn are_several(&self) -> bool {
        self.existing.len() > 1
    }

    /// Returns the number of voters of etcd according to the cluster. A voter that lost its data counts until its
    /// Node is deleted.
    fn voters(&self) -> Option<usize> {
        let state = self.inputs.observed.child.state()?;
        Some(state.nodes.values().filter(|n| n.voter == Some(true)).count())
    }

    /// Reports whether the other servers that count for the quorum are most of `voters`.
    fn others_are_most(&self, name: &str, voters: usize) -> bool {
        let others = self.names().filter(|other| other != name);
        others.filter(|other| self.agrees(other)).count() * 2 > voters
    }

    /// Reports whether the other servers have quorum even if this one, which has no Node, is a voter.
    fn majority_beside_unknown(&self, name: &str) -> bool {
        self.voters().is_some_and(|voters| self.others_are_most(name, voters + 1))
    }

    /// Reports whether the other servers have quorum among all current and potential voters.
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
        Some(plan.step(
            Action::Exec { container, command: command.into() },
            &[],
            "to save an etcd snapshot before the upgrade",
        ))
    }

    /// Plans the removal of surplus servers, the newest first, one at a time: drained, removed from etcd while
    /// running (two members lose quorum if one of them is stopped first), then stopped.
    pub fn shrink(&self, plan: &mut Plan, after: &[usize]) {
        let wanted = self.desired.servers.len();
        let mut surplus: BTreeSet<usize> = self.existing.keys().copied().filter(|i| *i >= wanted).collect();
        if let Some(state) = self.inputs.observed.child.state() {
            surplus.extend(state.nodes.keys().filter_map(|n| self.index(n)).filter(|i| *i >= wanted));
        }
        // A server that is not running is removed first: the others have quorum without it.
        let rests =
            |i: &&usize| self.site.own(&self.name(**i)).is_none_or(|d| d.container.state != State::Running);
        let resting = surplus.iter().rev().find(rests).filter(|_| self.reachable());
        // Then a running one that is not healthy: more healthy voters remain for the removal of the others.
        let silent = |i: &&usize| !self.agrees(&self.name(**i));
        let next = resting.or_else(|| surplus.iter().rev().find(silent)).or(surplus.last());
        let Some(index) = next else { return };
        let name = self.name(*index);
        let waits = |plan: &mut Plan, message: String| {
            plan.waits(ConditionType::ControlPlaneReady, Reason::ScalingServers, message);
        };
        waits(plan, format!("removing {name}"));
        if !self.reachable() {
            surplus.iter().for_each(|index| self.bring_back(plan, *index));
            return waits(plan, format!("waiting for the API of the cluster before removing {name}"));
        }
        if resting.is_some() {
            let asleep =
                self.site.own(&name).filter(|d| self.site.is_placed(d) && self.may_vote_unseen(&name));
            let why = "it can only leave etcd while it is running";
            match asleep.and_then(wake) {
                Some(action) => drop(plan.step(action, &[], why)),
                None => self.remove(plan, &name, "it is a surplus server"),
            }
            return;
        }
        let stays = self.desired.servers.iter().map(|s| &s.container.name);
        let works = self.works(&name);
        let node = self.node(&name);
        if let Some(missing) = stays.into_iter().find(|s| !self.is_counted_on(s)) {
            return waits(plan, format!("waiting for {missing} to be ready before removing {name}"));
        }
        if let Some(node) = node.filter(|n| n.voter.is_some() && !n.left) {
            let runs = self.site.own(&name).filter(|d| d.container.state == State::Running);
            if node.leaving && runs.is_some() {
                return waits(plan, format!("removing {name} from etcd"));
            }
            if let Some(detail) = runs {
                if !self.may_leave(&name) {
                    return waits(plan, format!("waiting for etcd quorum without {name} before removing it"));
                }
                if works && !drained(plan, &name, ConditionType::ControlPlaneReady, self.inputs) {
                    return;
                }
                return self.leave(plan, detail, after, "it is a surplus server");
            }
        }
        if self.may_vote_unseen(&name) {
            return waits(
                plan,
                format!("waiting for {name} to report whether it is an etcd voter before removing it"),
            );
        }
        self.remove(plan, &name, "it is a surplus server");
    }

    /// Plans what brings a surplus server back to work while the API does not respond. Stopped or off its network, a
    /// voter may be what the others lack for a majority, and then the API, which its removal waits for, never responds.
    fn bring_back(&self, plan: &mut Plan, index: usize) {
        // A server that has left etcd is not restarted by Docker either.
        let own = self.site.own(&self.name(index)).filter(|d| d.started_at.is_some() && d.restarts());
        let (Some(detail), Some(network)) = (own, self.site.network) else { return };
        let why = "the other servers may need its vote";
        let state = detail.container.state;
        if self.site.is_placed(detail) || !matches!(state, State::Running | State::Exited) {
            if let Some(action) = wake(detail) {
                plan.step(action, &[], why);
            }
            return;
        }
        let container = Target::of(&detail.container);
        // A process that lost its interface keeps the sockets of the old one.
        let stop = (state == State::Running)
            .then(|| plan.step(Action::Stop { container: container.clone(), grace: GRACE }, &[], ""));
        let ip = self.desired.addresses.node(NodeRole::Server, index);
        let endpoint = EndpointSettings { ip: Some(ip), ..EndpointSettings::default() };
        let connect = Action::Connect { network: network.to_owned(), container: container.clone(), endpoint };
        let connected = plan.step(connect, stop.as_slice(), "");
        plan.step(Action::Start { container }, &[connected], why);
    }

    /// Plans that K3s removes a running server from etcd.
    pub fn leave(&self, plan: &mut Plan, detail: &ContainerDetail, after: &[usize], why: &str) {
        let name = detail.container.name.clone();
        // K3s would rejoin after a restart.
        let container = Target::of(&detail.container);
        let keep = plan.step(Action::SetRestart { container, policy: RestartPolicy::No }, after, "");
        plan.step(Action::LeaveEtcd { node: name }, &[keep], why);
    }

    fn remove(&self, plan: &mut Plan, name: &str, why: &str) {
        lifecycle::take_away(plan, name, why, self.inputs, self.site, &[]);
    }
}
