//! Health of servers: which serve the cluster, and which count for the quorum of etcd.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::members::Server;
use crate::{
    api::RESET_QUORUM_ANNOTATION,
    child::state::{ChildState, Node},
    docker::engine::{ContainerDetail, State},
    plan::{
        nodes::health::{NodeHealth, REPORT_LIMIT},
        observed::Reached,
    },
    time::after,
};

/// Maximum age of the last renewal by a kube-apiserver, which renews its Lease every ten seconds.
const HEARTBEAT_LIMIT: SignedDuration = SignedDuration::from_secs(30);

/// Time that a server may take from its start until its API responds.
const API_START: SignedDuration = SignedDuration::from_secs(30);

/// Observations that determine the health of all servers of a cluster.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The observed state.
    pub observed: &'a Reached,
    /// Network of the cluster; `None` if connections to it are not considered.
    pub network: Option<&'a str>,
    /// True if the servers store their data in etcd.
    pub etcd: bool,
    /// Current time.
    pub now: Timestamp,
}

/// Health of a server, by its container, its Node and its membership in etcd.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerHealth<'a> {
    /// Container of the server.
    pub detail: Option<&'a ContainerDetail>,
    /// Node of the cluster with its name.
    pub node: Option<&'a Node>,
    /// True if it has data: a volume that a K3s server was started with.
    pub has_data: bool,
    /// True if its container is connected to the network of the cluster.
    pub is_connected: bool,
    /// True if it is a voter of etcd that is not leaving.
    pub is_voter: bool,
    /// True if etcd itself reports it as a voter.
    votes: bool,
    /// True if its own API responds, or if it is unknown for all servers. Its kubelet can be Ready seconds before,
    /// through the API of another server.
    pub api_responds: bool,
    /// True if it serves the cluster: its Node is Ready and, with etcd, it is a voter and its API responds.
    pub serves: bool,
    /// True if it counts for the quorum: it serves, or it is a voter and has just written to etcd, whatever the state
    /// of its kubelet.
    pub counts_for_quorum: bool,
    /// True if it is joining etcd and may already be a voter: K3s makes it a voter before its Node exists, and only the
    /// Node shows that and lets it leave. Restarts after an exit do not extend its time.
    pub may_vote_unreported: bool,
    /// True if it has no Node, although its container has existed for long enough to register one.
    pub lacks_node: bool,
    /// True if its container has existed for long enough to report.
    is_established: bool,
    /// True if its kubelet has reported since its container started.
    has_reported: bool,
}

impl<'a> ServerHealth<'a> {
    /// Returns the health of a server by its name.
    pub fn of(evidence: Evidence<'a>, name: &str, server: Server<'a>) -> Self {
        let Evidence { observed, network, etcd, now } = evidence;
        let node = observed.node(name);
        let known = Self { detail: server.detail, node, has_data: server.data, ..Self::default() };
        let Some(detail) = server.detail else { return known };
        let health = NodeHealth::of(detail, observed);
        let is_connected = network.is_none_or(|n| detail.container.networks.contains_key(n));
        let votes = observed.child.state().is_some_and(|state| state.votes(name));
        let is_voter = node.is_some_and(|n| is_voter(n, votes));
        let api_responds = node.is_some_and(|n| api_responds(observed, n, detail));
        // A Node stays Ready for a while after its container lost its network.
        let serves = is_connected && health.is_ready() && (!etcd || is_voter && api_responds);
        let writes = is_voter && node.is_some_and(|n| has_written(n, detail, now));
        let is_past = |at: Timestamp| now >= after(at, REPORT_LIMIT);
        let is_established = detail.created_at.is_some_and(is_past);
        let had_time = |at| is_past(at) || !health.is_running();
        Self {
            is_connected,
            is_voter,
            votes,
            api_responds,
            serves,
            counts_for_quorum: serves || (is_connected && etcd && writes),
            may_vote_unreported: etcd
                && node.is_none_or(|n| n.voter.is_none() && !n.left)
                && detail.started_at.is_some()
                && detail.created_at.is_some_and(|at| !is_past(at)),
            lacks_node: node.is_none() && is_established && detail.started_at.is_some_and(had_time),
            is_established,
            has_reported: health.has_reported(),
            ..known
        }
    }

    /// Reports whether its container is running.
    pub fn is_running(&self) -> bool {
        self.detail.is_some_and(|d| d.container.state == State::Running)
    }

    /// Reports whether it has just become a voter and is not Ready yet, so that the next server can join: K3s starts the
    /// rest of a server seconds after its etcd. Of one that exists for longer, the Node must confirm it.
    pub fn has_joined(&self) -> bool {
        self.votes && self.is_running() && self.is_connected && !self.is_established
    }

    /// Reports whether changes of other servers need not wait for it: it serves, or it counts for the quorum and has
    /// not been Ready for long. A server that has just started will be Ready soon, and one with a kubelet that has not
    /// reported since will be restarted, unless it was `repaired` already.
    pub fn is_dependable(&self, repaired: bool) -> bool {
        self.serves || (self.counts_for_quorum && self.is_established && (repaired || self.has_reported))
    }
}

/// Reports whether the server of a Node is a voter of etcd that is not leaving, according to the Node or to etcd itself.
fn is_voter(node: &Node, votes: bool) -> bool {
    (votes || node.voter == Some(true)) && !node.leaving && !node.left
}

/// Reports whether the API of a server itself has responded since its start, or whether that is unknown for all
/// servers.
fn api_responds(observed: &Reached, node: &Node, detail: &ContainerDetail) -> bool {
    let reported = |state: &ChildState| state.nodes.values().any(|n| n.api_renewed.is_some());
    let since_its_start = |at: Timestamp| detail.started_at.is_none_or(|started| at >= started);
    !observed.child.state().is_some_and(reported) || node.api_renewed.is_some_and(since_its_start)
}

/// Reports whether a running server has just written to etcd through its own member, the only one that its
/// kube-apiserver uses. The write proves quorum.
fn has_written(node: &Node, detail: &ContainerDetail, now: Timestamp) -> bool {
    let recent = |at: Timestamp| {
        now < after(at, HEARTBEAT_LIMIT) && detail.started_at.is_some_and(|started| at >= started)
    };
    detail.container.state == State::Running && node.api_renewed.is_some_and(recent)
}

/// Returns the servers that receive API requests, by index: those that serve and are not drained. If none is known to
/// serve, all existing ones: one that is being removed may be the last one that responds.
pub fn serving(
    count: usize,
    etcd: bool,
    existing: &BTreeMap<usize, Server<'_>>,
    observed: &Reached,
    now: Timestamp,
) -> Vec<usize> {
    let evidence = Evidence { observed, network: None, etcd, now };
    let detail = |index: &usize| existing.get(index).and_then(|s| s.detail);
    let serves = |index: &usize| {
        let (Some(server), Some(detail)) = (existing.get(index), detail(index)) else { return false };
        let health = ServerHealth::of(evidence, &detail.container.name, *server);
        health.serves && health.node.is_none_or(|n| n.draining_since.is_none())
    };
    let serving: Vec<usize> = (0..count).filter(serves).collect();
    if !serving.is_empty() {
        return with_quorum(serving, existing, observed);
    }
    // A server that is being removed from etcd usually does not respond any more. All are silent for some seconds
    // after the exit of the etcd leader, and a server that has just been started for longer.
    let leaves =
        |d: &ContainerDetail| !d.restarts() && !d.container.labels.contains_key(RESET_QUORUM_ANNOTATION);
    let steady = |d: &ContainerDetail| {
        d.container.state == State::Running
            && d.started_at.is_some_and(|at| now >= after(at, API_START))
            && !leaves(d)
    };
    let all: BTreeSet<usize> = (0..count).chain(existing.keys().copied()).collect();
    let likely: Vec<usize> = all.iter().copied().filter(|index| detail(index).is_some_and(steady)).collect();
    with_quorum(if likely.is_empty() { all.into_iter().collect() } else { likely }, existing, observed)
}

/// Returns the servers without those whose etcd has no leader, unless none is left: such a server still accepts
/// requests, and fails them (429 and 500).
fn with_quorum(
    servers: Vec<usize>,
    existing: &BTreeMap<usize, Server<'_>>,
    observed: &Reached,
) -> Vec<usize> {
    let has_leader = |index: &usize| {
        let detail = existing.get(index).and_then(|s| s.detail);
        detail.is_none_or(|d| observed.leaders.get(&d.container.name) != Some(&false))
    };
    let rest: Vec<usize> = servers.iter().copied().filter(has_leader).collect();
    if rest.is_empty() { servers } else { rest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        child::state::{Child, Member},
        docker::{engine::Container, spec::RestartPolicy},
        plan::observed::Host,
    };

    fn second(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    /// Returns two servers that were started at 100, whose APIs reported at these times.
    fn servers(apis: [Option<i64>; 2]) -> Reached {
        let mut nodes = BTreeMap::new();
        let mut own = BTreeMap::new();
        for (index, api) in apis.into_iter().enumerate() {
            let name = format!("k3d-dev-server-{index}");
            let container = Container { name: name.clone(), state: State::Running, ..Container::default() };
            let detail = ContainerDetail {
                container,
                started_at: Some(second(100)),
                restart_policy: RestartPolicy::UnlessStopped,
                ..ContainerDetail::default()
            };
            own.insert(name.clone(), detail);
            let node = Node {
                ready: true,
                renewed: Some(second(110)),
                voter: Some(true),
                api_renewed: api.map(second),
                ..Node::default()
            };
            nodes.insert(name, node);
        }
        let child = Child::Reachable(ChildState { nodes, ..ChildState::default() });
        Reached { child, ..Host { own, ..Host::default() }.into() }
    }

    fn led(observed: &Reached, now: i64) -> Vec<usize> {
        let detail = |i: usize| observed.own.get(&format!("k3d-dev-server-{i}"));
        let existing = (0..2).map(|i| (i, Server { detail: detail(i), data: true })).collect();
        serving(2, true, &existing, observed, second(now))
    }

    #[test]
    fn nobody_is_led_to_a_server_whose_own_api_is_not_up() {
        let at = |apis| led(&servers(apis), 120);
        assert_eq!(at([Some(105), Some(105)]), [0, 1]);
        assert_eq!(at([Some(95), Some(105)]), [1], "a report from before the last start does not count");
        assert_eq!(at([None, Some(105)]), [1]);
        assert_eq!(at([None, None]), [0, 1], "where Kubernetes' feature is off, it is not asked for");

        let silent = |change: &dyn Fn(&mut ContainerDetail)| {
            let mut silent = servers([Some(105), Some(105)]);
            silent.child = Child::Unreachable(String::new());
            change(silent.host.own.get_mut("k3d-dev-server-1").unwrap());
            led(&silent, 150)
        };
        assert_eq!(silent(&|_| ()), [0, 1]);
        assert_eq!(silent(&|d| d.restart_policy = RestartPolicy::No), [0], "one that leaves");
        assert_eq!(silent(&|d| d.started_at = Some(second(140))), [0], "one that was just started");
        assert_eq!(silent(&|d| d.started_at = Some(second(120))), [0, 1]);
        assert_eq!(silent(&|d| d.container.state = State::Exited), [0]);
    }

    #[test]
    fn nobody_is_led_to_a_server_without_quorum_while_another_may_have_it() {
        for (leaders, wanted) in [
            ([Some(true), Some(true)], &[0, 1][..]),
            ([Some(true), Some(false)], &[0]),
            ([None, Some(false)], &[0]),
            ([Some(false), Some(false)], &[0, 1]),
            ([None, None], &[0, 1]),
        ] {
            for reachable in [true, false] {
                let mut observed = servers([Some(105), Some(105)]);
                if !reachable {
                    observed.child = Child::Unreachable(String::new());
                }
                let named = (0..2).zip(leaders);
                observed.leaders =
                    named.filter_map(|(i, leads)| Some((format!("k3d-dev-server-{i}"), leads?))).collect();
                assert_eq!(led(&observed, 150), wanted, "{leaders:?}, {reachable}");
            }
        }
    }
    /// The second of two servers, which was made and started at 100 and votes, with changes to its container and its Node.
    /// Without a Node if `node` is `None`.
    struct Second {
        observed: Reached,
        etcd: bool,
    }

    impl Second {
        fn new(
            detail: impl FnOnce(&mut ContainerDetail),
            node: Option<&dyn Fn(&mut Node)>,
            voters: &[&str],
        ) -> Self {
            let mut observed = servers([Some(105), Some(105)]);
            let name = "k3d-dev-server-1";
            let own = observed.host.own.get_mut(name).unwrap();
            own.created_at = Some(second(100));
            own.container.networks.insert("net".into(), Default::default());
            detail(own);
            let Child::Reachable(state) = &mut observed.child else { panic!("it is up") };
            match node {
                Some(change) => change(state.nodes.get_mut(name).unwrap()),
                None => drop(state.nodes.remove(name)),
            }
            let member = |node: &&str| Member { node: (*node).into(), ..Member::default() };
            state.members = Some(voters.iter().map(member).collect());
            Self { observed, etcd: true }
        }

        fn at<T>(&self, now: i64, ask: impl FnOnce(ServerHealth<'_>) -> T) -> T {
            let name = "k3d-dev-server-1";
            let Self { observed, etcd } = self;
            let evidence = Evidence { observed, network: Some("net"), etcd: *etcd, now: second(now) };
            ask(ServerHealth::of(evidence, name, Server { detail: observed.own.get(name), data: true }))
        }
    }

    #[test]
    fn a_server_that_was_just_made_may_vote_before_its_node_tells() {
        let unseen = |server: &Second, now| server.at(now, |health| health.may_vote_unreported);
        let joins = Second::new(|_| (), None, &[]);
        assert_eq!([279, 280].map(|now| unseen(&joins, now)), [true, false], "for three minutes");
        assert!(!unseen(&Second { etcd: false, ..joins }, 200));
        assert!(!unseen(&Second::new(|d| d.started_at = None, None, &[]), 200), "it was never started");
        assert!(!unseen(&Second::new(|d| d.created_at = None, None, &[]), 200));
        let with_node = |change: &dyn Fn(&mut Node)| unseen(&Second::new(|_| (), Some(change), &[]), 200);
        assert!(with_node(&|n| n.voter = None));
        assert!(!with_node(&|n| (n.voter, n.left) = (None, true)));
        assert!(!with_node(&|n| n.voter = Some(false)));
        assert!(!with_node(&|n| n.voter = Some(true)));
    }

    #[test]
    fn a_server_lacks_its_node_when_it_had_three_minutes_to_make_it() {
        let lacks = |server: &Second, now| server.at(now, |health| health.lacks_node);
        let late = Second::new(|_| (), None, &[]);
        assert_eq!([279, 280].map(|now| lacks(&late, now)), [false, true]);
        assert!(!lacks(&Second::new(|_| (), Some(&|_| ()), &[]), 280));
        assert!(!lacks(&Second::new(|d| d.started_at = None, None, &[]), 280));
        // One that runs has the same time after each start, and one that does not run had its time.
        let again = Second::new(|d| d.started_at = Some(second(200)), None, &[]);
        assert_eq!([379, 380].map(|now| lacks(&again, now)), [false, true]);
        let stopped = |d: &mut ContainerDetail| {
            (d.started_at, d.container.state) = (Some(second(200)), State::Exited);
        };
        assert_eq!([279, 280].map(|now| lacks(&Second::new(stopped, None, &[]), now)), [false, true]);
    }

    #[test]
    fn who_counts_for_the_quorum_serves_or_has_just_written_to_etcd() {
        let counts = |server: &Second, now| server.at(now, |health| health.counts_for_quorum);
        let unready = |n: &mut Node| n.ready = false;
        let writes = Second::new(|_| (), Some(&unready), &[]);
        assert_eq!([134, 135].map(|now| counts(&writes, now)), [true, false], "within half a minute");
        assert!(writes.at(134, |health| !health.serves));
        assert!(!counts(&Second { etcd: false, ..writes }, 134));
        let written = |at: i64| {
            Second::new(|_| (), Some(&move |n| (n.ready, n.api_renewed) = (false, Some(second(at)))), &[])
        };
        assert_eq!([99, 100].map(|at| counts(&written(at), 120)), [false, true], "since its start");
        for (change, why) in [
            (
                &(|d: &mut ContainerDetail| d.container.networks.clear()) as &dyn Fn(&mut ContainerDetail),
                "off its network",
            ),
            (&|d| d.container.state = State::Exited, "stopped"),
            (&|d| d.started_at = None, "never started"),
        ] {
            assert!(!counts(&Second::new(change, Some(&unready), &[]), 120), "{why}");
        }
        // Whether it votes says its Node or etcd; one that leaves does not count.
        let votes = |change: &dyn Fn(&mut Node), voters: &[&str]| {
            let change = |n: &mut Node| {
                unready(n);
                change(n);
            };
            counts(&Second::new(|_| (), Some(&change), voters), 120)
        };
        let own = ["k3d-dev-server-1"];
        assert!(!votes(&|n| n.voter = Some(false), &["k3d-dev-server-0"]));
        assert!(!votes(&|n| n.voter = None, &[]));
        assert!(votes(&|n| n.voter = Some(false), &own) && votes(&|n| n.voter = None, &own));
        assert!(!votes(&|n| n.leaving = true, &own) && !votes(&|n| n.left = true, &own));
        // Without a report of its kubelet since its start it does not serve, even if its Node is Ready.
        let serves = |change: &dyn Fn(&mut Node)| {
            Second::new(|_| (), Some(change), &own).at(500, |h| (h.serves, h.counts_for_quorum))
        };
        assert_eq!(serves(&|_| ()), (true, true));
        Second::new(|_| (), Some(&|_| ()), &own).at(500, |health| {
            assert!(health.node.is_some() && health.has_data && health.is_voter && health.api_responds);
            assert!(health.detail.is_some() && health.is_connected && health.is_running());
        });
        assert_eq!(serves(&|n| n.renewed = Some(second(99))), (false, false));
        assert_eq!(serves(&|n| n.api_renewed = Some(second(99))), (false, false));
        assert_eq!(serves(&|n| n.leaving = true), (false, false));
        let single = Second { etcd: false, ..Second::new(|_| (), Some(&|n| n.voter = None), &[]) };
        assert!(single.at(500, |health| health.serves && health.counts_for_quorum));
    }

    #[test]
    fn others_need_not_wait_for_a_server_that_joined_or_that_lasts_without_its_kubelet() {
        let own = ["k3d-dev-server-1"];
        let joined = |server: Second, now| server.at(now, |health| health.has_joined());
        assert!(joined(Second::new(|_| (), None, &own), 279));
        assert!(!joined(Second::new(|_| (), None, &own), 280), "its Node has to tell it then");
        assert!(!joined(Second::new(|_| (), None, &[]), 279));
        assert!(
            !joined(Second::new(|_| (), Some(&|n| n.voter = Some(true)), &[]), 279),
            "etcd itself tells it"
        );
        assert!(!joined(Second::new(|d| d.container.state = State::Paused, None, &own), 279));
        assert!(!joined(Second::new(|d| d.container.networks.clear(), None, &own), 279));

        let dependable = |change: &dyn Fn(&mut Node), now| {
            let server = Second::new(|_| (), Some(change), &own);
            server.at(now, |health| [false, true].map(|repaired| health.is_dependable(repaired)))
        };
        assert_eq!(dependable(&|_| (), 120), [true, true]);
        let unready = |at: i64| move |n: &mut Node| (n.ready, n.api_renewed) = (false, Some(second(at)));
        assert_eq!(dependable(&unready(279), 279), [false, false], "it has just started");
        assert_eq!(dependable(&unready(280), 280), [true, true]);
        assert_eq!(dependable(&unready(200), 280), [false, false], "it does not count");
        // It will be restarted, unless that was done.
        let silent = |n: &mut Node| {
            unready(280)(n);
            n.renewed = Some(second(99));
        };
        assert_eq!(dependable(&silent, 280), [false, true]);
    }
}
