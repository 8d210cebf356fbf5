//! K3s's own time in a phase of a cluster: from the start of a node's container until its Node is Ready, and from the
//! signal that stops a node until its container has ended. The rest of the phase is the operator's: containers,
//! volumes, drains, members of etcd, and waiting for one before doing the next.

use std::collections::BTreeMap;

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Started,
    /// It got a signal.
    Signalled,
    Died,
}

/// An event of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The engine's time, in seconds.
    pub at: f64,
    /// The container's name.
    pub container: String,
    pub action: Action,
}

/// A state of a Node, from the watch of the cluster's API.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeState {
    /// When it was heard of, in seconds.
    pub at: f64,
    /// The Node's name, which is that of its container.
    pub node: String,
    pub ready: bool,
    /// The last heartbeat, in whole seconds.
    pub heartbeat: f64,
}

/// A time from `begin` to `end`, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub begin: f64,
    pub end: f64,
}

impl Span {
    /// Returns how long it is.
    pub fn length(&self) -> f64 {
        self.end - self.begin
    }
}

/// What K3s itself took in a phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnTime {
    pub starts: Vec<Span>,
    pub stops: Vec<Span>,
    /// Starts after which no Ready was seen.
    pub unseen: usize,
}

impl OwnTime {
    /// Finds the starts and stops of containers that `is_node` accepts in the phase. Both lists are in order of time.
    pub fn of(events: &[Event], nodes: &[NodeState], phase: Span, is_node: impl Fn(&str) -> bool) -> Self {
        let during = |at: f64| (phase.begin..=phase.end).contains(&at);
        let events: Vec<&Event> = events.iter().filter(|e| during(e.at) && is_node(&e.container)).collect();
        let mut own = Self::default();
        let mut signalled: BTreeMap<&str, f64> = BTreeMap::new();
        for (index, event) in events.iter().enumerate() {
            let name = event.container.as_str();
            match event.action {
                Action::Signalled => {
                    signalled.entry(name).or_insert(event.at);
                }
                Action::Died => {
                    let begin = signalled.remove(name);
                    own.stops.extend(begin.map(|begin| Span { begin, end: event.at }));
                }
                Action::Started => {
                    let mut later = events[index..].iter();
                    let death = later.find(|e| e.action == Action::Died && e.container == name);
                    match ready(nodes, event, death.map(|e| e.at)) {
                        // The watch may be slower than the operator.
                        Some(at) => own.starts.push(Span { begin: event.at, end: at.min(phase.end) }),
                        None => own.unseen += 1,
                    }
                }
            }
        }
        own
    }

    /// Returns the sum of all starts and stops.
    pub fn sum(&self) -> f64 {
        self.spans().map(|s| s.length()).sum()
    }

    /// Returns the same with a moment in which several start or stop counted once.
    pub fn at_once(&self) -> f64 {
        let mut spans: Vec<Span> = self.spans().collect();
        spans.sort_by(|a, b| a.begin.total_cmp(&b.begin));
        let (mut covered, mut until) = (0.0, f64::MIN);
        for span in spans {
            covered += (span.end - span.begin.max(until)).max(0.0);
            until = until.max(span.end);
        }
        covered
    }

    fn spans(&self) -> impl Iterator<Item = Span> {
        self.starts.iter().chain(&self.stops).copied()
    }
}

/// Returns when a Node was first seen Ready by a heartbeat since its start and before its death.
fn ready(nodes: &[NodeState], start: &Event, death: Option<f64>) -> Option<f64> {
    let alive = |at: f64| at > start.at && death.is_none_or(|death| at < death);
    let is_it = |n: &&NodeState| n.ready && n.node == start.container && n.heartbeat >= start.at.floor();
    nodes.iter().filter(is_it).map(|n| n.at).find(|at| alive(*at))
}
