//! State of the servers of a cluster: which exist, whether they store their data in etcd, which server a new one
//! joins, and which of them serve requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{
        LocalClusterStatus, RESET_QUORUM_ANNOTATION,
        local_cluster::NodeRole,
        names::{self, ClusterNames},
    },
    child::state::{Child, ChildState, Node},
    docker::engine::{ContainerDetail, State},
    k3s::{API_PORT, STATE_VOLUME},
    plan::{addresses::Addresses, nodes::health, observed::Observed, owner::Owner},
    time::after,
};

/// An existing server.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Container of the server.
    pub detail: Option<&'a ContainerDetail>,
    /// True if it has data: a volume that a K3s server was started with.
    pub data: bool,
}

/// Returns the servers that contained the data of the cluster when it was last observed: the members of etcd, or the
/// first server.
pub fn holders(previous: &LocalClusterStatus, names: &ClusterNames) -> Vec<String> {
    // A version is only known after the API has responded.
    let first = || previous.version.iter().map(|_| names.node(NodeRole::Server, 0)).collect();
    if previous.voters.is_empty() { first() } else { previous.voters.clone() }
}

/// Reports whether a server is known to have data: by its Node or, while the API does not respond, because it is one
/// of `holders`.
pub fn is_known(name: &str, observed: &Observed, holders: &[String]) -> bool {
    match &observed.child {
        Child::Reachable(state) => state.nodes.contains_key(name),
        Child::Unknown | Child::Unreachable(_) => holders.iter().any(|holder| holder == name),
    }
}

/// Returns the existing servers by index. `holders` contains those that are known to have data while the API does not
/// respond.
pub fn existing<'a>(
    names: &ClusterNames,
    owner: &Owner,
    observed: &'a Observed,
    holders: &[String],
) -> BTreeMap<usize, Server<'a>> {
    let known = |name: &String| is_known(name, observed, holders);
    let index = |node: &str| names.parse_server(node);
    let mut all: BTreeMap<usize, Server<'a>> = observed
        .own
        .values()
        .filter_map(|d| Some((index(&d.container.name)?, Server { detail: Some(d), data: false })))
        .collect();
    let suffix = format!("-{STATE_VOLUME}");
    for volume in observed.volumes.iter().filter(|v| owner.owns(&v.labels)) {
        if let Some(index) = volume.name.strip_suffix(&suffix).and_then(index) {
            let server = all.entry(index).or_insert(Server { detail: None, data: true });
            // A container that was created and never started may have replaced another one.
            let kept = |d: &ContainerDetail| observed.kept.get(&d.container.id).map(|kept| kept.data);
            server.data = server.detail.is_none_or(|d| {
                d.started_at.is_some() || kept(d).unwrap_or_else(|| known(&d.container.name))
            });
        }
    }
    all
}

/// Reports whether the servers store their data in etcd: more than one is desired or exists.
pub fn in_etcd(wanted: usize, existing: &BTreeMap<usize, Server<'_>>) -> bool {
    let moved = |s: &Server<'_>| s.detail.is_some_and(is_made_for_etcd);
    wanted > 1 || existing.keys().any(|index| *index > 0) || existing.values().any(moved)
}

/// Reports whether the container of a server was created to store its data in etcd.
pub fn is_made_for_etcd(detail: &ContainerDetail) -> bool {
    detail.container.labels.get(names::DATASTORE).is_some_and(|v| v == names::ETCD)
}

/// Time that a server may take from its start until its API responds.
const START: SignedDuration = SignedDuration::from_secs(30);

/// Configuration of a server that joins no other.
pub const NOT_JOINING: &str = "# Written by localcluster-operator. It counts only while there is no data.\n";

/// Returns the configuration of a server for its first start.
///
/// It joins another server that has data, by its pinned address, since the load balancer could forward to the server
/// itself. If there is none, the first server initializes the cluster, or migrates its data to etcd. Another server
/// never does, since there would be two clusters: without data it waits for the first.
pub fn join_file(
    index: usize,
    in_etcd: bool,
    addresses: Addresses,
    existing: &BTreeMap<usize, Server<'_>>,
    voter: impl Fn(usize) -> bool,
) -> String {
    let runs = |s: &Server<'_>| s.detail.is_some_and(|d| d.container.state == State::Running);
    let mut hosts: Vec<usize> =
        existing.iter().filter(|(other, s)| **other != index && s.data).map(|(other, _)| *other).collect();
    hosts.sort_by_key(|other| (!voter(*other), !runs(&existing[other]), *other));
    let host = hosts.first().copied().or((index > 0).then_some(0));
    match host {
        _ if !in_etcd => NOT_JOINING.to_owned(),
        Some(host) => {
            let ip: Ipv4Addr = addresses.node(NodeRole::Server, host);
            format!("{NOT_JOINING}server: https://{ip}:{API_PORT}\n")
        }
        None => format!("{NOT_JOINING}cluster-init: true\n"),
    }
}

/// Reports whether a server serves the cluster: its Node is Ready and, with etcd, it is a voter and its API responds.
pub fn works(observed: &Observed, detail: &ContainerDetail, etcd: bool) -> bool {
    let serves = |node: &Node| votes(node) && answers(observed, node, detail);
    health::works(observed, detail) && (!etcd || observed.node(&detail.container.name).is_some_and(serves))
}

/// Reports whether the API of a server itself responds, if that is known. Its kubelet can be Ready seconds before,
/// through the API of another server.
pub fn answers(observed: &Observed, node: &Node, detail: &ContainerDetail) -> bool {
    let told = |state: &ChildState| state.nodes.values().any(|n| n.api_renewed.is_some());
    let since_its_start = |at: Timestamp| detail.started_at.is_none_or(|started| at >= started);
    !observed.child.state().is_some_and(told) || node.api_renewed.is_some_and(since_its_start)
}

/// Maximum age of the last renewal by a kube-apiserver, which renews its Lease every ten seconds.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);

/// Reports whether a running server has just written to etcd through its own member, the only one that its
/// kube-apiserver uses. The write proves quorum.
pub fn tells(node: &Node, detail: &ContainerDetail, now: Timestamp) -> bool {
    let recent =
        |at: Timestamp| now < after(at, SILENCE) && detail.started_at.is_some_and(|started| at >= started);
    detail.container.state == State::Running && node.api_renewed.is_some_and(recent)
}

/// Reports whether the server of a Node is a voter of etcd that is not leaving.
pub fn votes(node: &Node) -> bool {
    node.voter == Some(true) && !node.leaving && !node.left
}

/// Returns the servers that receive API requests, by index: those that work and are not leaving. If none is known to
/// work, all existing ones: one that is being removed may be the last one that responds.
pub fn serving(
    count: usize,
    etcd: bool,
    existing: &BTreeMap<usize, Server<'_>>,
    observed: &Observed,
    now: Timestamp,
) -> Vec<usize> {
    let serves = |index: &usize| {
        let detail = existing.get(index).and_then(|s| s.detail);
        let drained = |name: &str| observed.node(name).is_some_and(|n| n.draining_since.is_some());
        detail.is_some_and(|d| works(observed, d, etcd) && !drained(&d.container.name))
    };
    let serving: Vec<usize> = (0..count).filter(serves).collect();
    if !serving.is_empty() {
        return serving;
    }
    let detail = |index: &usize| existing.get(index).and_then(|s| s.detail);
    // A server that is being removed from etcd usually does not respond any more. All are silent for some seconds
    // after the exit of the etcd leader, and a server that has just been started for longer.
    let leaves =
        |d: &ContainerDetail| !d.restarts() && !d.container.labels.contains_key(RESET_QUORUM_ANNOTATION);
    let steady = |d: &ContainerDetail| {
        d.container.state == State::Running
            && d.started_at.is_some_and(|at| now >= after(at, START))
            && !leaves(d)
    };
    let all: BTreeSet<usize> = (0..count).chain(existing.keys().copied()).collect();
    let likely: Vec<usize> = all.iter().copied().filter(|index| detail(index).is_some_and(steady)).collect();
    if likely.is_empty() { all.into_iter().collect() } else { likely }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::{
        engine::{Container, Volume},
        spec::RestartPolicy,
    };

    /// Returns server 0 with a container that was never started.
    fn made(node: bool) -> Observed {
        let owner = Owner { uid: "u".into(), manager: "m".into(), object: "default/dev".into() };
        let name = "k3d-dev-server-0".to_owned();
        let container =
            Container { id: "1".into(), name: name.clone(), labels: owner.labels(), ..Container::default() };
        let detail = ContainerDetail { container, ..ContainerDetail::default() };
        let nodes = node.then(|| (name.clone(), Node::default())).into_iter().collect();
        Observed {
            own: BTreeMap::from([("1".into(), detail)]),
            volumes: vec![Volume { name: format!("{name}-state"), labels: owner.labels() }],
            child: Child::Reachable(ChildState { nodes, ..ChildState::default() }),
            ..Observed::default()
        }
    }

    #[test]
    fn one_that_took_a_members_place_has_its_data_before_its_first_start() {
        let owner = Owner { uid: "u".into(), manager: "m".into(), object: "default/dev".into() };
        let names = ClusterNames::new("dev");
        let data =
            |observed: &Observed, voters: &[String]| existing(&names, &owner, observed, voters)[&0].data;
        assert!(data(&made(true), &[]), "an upgrade to an image that does not start");
        assert!(!data(&made(false), &[]), "one that is to join");
        let unreachable = Observed { child: Child::Unreachable(String::new()), ..made(false) };
        assert!(data(&unreachable, &["k3d-dev-server-0".into()]));
        assert!(!data(&unreachable, &[]));
    }

    #[test]
    fn who_begins_and_who_joins() {
        let addresses = Addresses { subnet: "172.31.0.0/24".parse().unwrap() };
        let data = |data| Server { detail: None, data };
        let told = |index, etcd, servers: &[(usize, bool)], voter: usize| {
            let existing = servers.iter().map(|(i, d)| (*i, data(*d))).collect();
            let text = join_file(index, etcd, addresses, &existing, |i| i == voter);
            text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(0, false, &[], 9), "");
        assert_eq!(told(0, true, &[], 9), "cluster-init: true");
        assert_eq!(told(0, true, &[(0, true)], 9), "cluster-init: true", "its data moves to etcd");
        assert_eq!(told(1, true, &[(0, true)], 0), "server: https://172.31.0.10:6443");
        assert_eq!(told(1, true, &[(0, false), (1, true)], 9), "server: https://172.31.0.10:6443");
        assert_eq!(told(0, true, &[(1, true), (2, true)], 2), "server: https://172.31.0.12:6443");
        assert_eq!(told(2, true, &[(0, true), (1, false)], 9), "server: https://172.31.0.10:6443");
    }

    #[test]
    fn nobody_is_led_to_a_server_whose_own_api_is_not_up() {
        let second = |s: i64| Timestamp::from_second(s).unwrap();
        let observed = |apis: [Option<i64>; 2]| {
            let mut nodes = BTreeMap::new();
            let mut own = BTreeMap::new();
            for (index, api) in apis.into_iter().enumerate() {
                let name = format!("k3d-dev-server-{index}");
                let container =
                    Container { name: name.clone(), state: State::Running, ..Container::default() };
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
            Observed { own, child, ..Observed::default() }
        };
        let led = |apis| {
            let observed = observed(apis);
            let existing = (0..2)
                .map(|i| {
                    let detail = observed.own.get(&format!("k3d-dev-server-{i}"));
                    (i, Server { detail, data: true })
                })
                .collect();
            serving(2, true, &existing, &observed, second(120))
        };
        assert_eq!(led([Some(105), Some(105)]), [0, 1]);
        assert_eq!(
            led([Some(95), Some(105)]),
            [1],
            "what it said before it was started again counts for nothing"
        );
        assert_eq!(led([None, Some(105)]), [1]);
        assert_eq!(led([None, None]), [0, 1], "where Kubernetes' feature is off, it is not asked for");

        let led = |change: &dyn Fn(&mut ContainerDetail)| {
            let mut silent = observed([Some(105), Some(105)]);
            silent.child = Child::Unreachable(String::new());
            change(silent.own.get_mut("k3d-dev-server-1").unwrap());
            let detail = |i: usize| silent.own.get(&format!("k3d-dev-server-{i}"));
            let existing = (0..2).map(|i| (i, Server { detail: detail(i), data: true })).collect();
            serving(2, true, &existing, &silent, second(150))
        };
        assert_eq!(led(&|_| ()), [0, 1]);
        assert_eq!(led(&|d| d.restart_policy = RestartPolicy::No), [0], "one that leaves");
        assert_eq!(led(&|d| d.started_at = Some(second(140))), [0], "one that was just started");
        assert_eq!(led(&|d| d.started_at = Some(second(120))), [0, 1]);
        assert_eq!(led(&|d| d.container.state = State::Exited), [0]);
    }
}
