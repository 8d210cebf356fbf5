//! Servers of a cluster: which exist, whether they store their data in etcd, and which server a new one joins.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{
    api::{
        LocalClusterStatus,
        local_cluster::NodeRole,
        names::{self, ClusterNames},
    },
    child::state::Child,
    docker::engine::{ContainerDetail, State},
    k3s::{API_PORT, STATE_VOLUME},
    plan::{addresses::Addresses, observed::Reached, owner::Owner},
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
pub fn is_known(name: &str, observed: &Reached, holders: &[String]) -> bool {
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
    observed: &'a Reached,
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

/// Reports whether a server with this configuration joins another one.
pub fn joins(join_file: &str) -> bool {
    join_file.lines().any(|line| line.starts_with("server: "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::observed::Host;
    use crate::{
        child::state::{ChildState, Node},
        docker::engine::{Container, Volume},
    };

    /// Returns server 0 with a container that was never started.
    fn made(node: bool) -> Reached {
        let owner = Owner { uid: "u".into(), manager: "m".into(), object: "default/dev".into() };
        let name = "k3d-dev-server-0".to_owned();
        let container =
            Container { id: "1".into(), name: name.clone(), labels: owner.labels(), ..Container::default() };
        let detail = ContainerDetail { container, ..ContainerDetail::default() };
        let nodes = node.then(|| (name.clone(), Node::default())).into_iter().collect();
        let host = Host {
            own: BTreeMap::from([("1".into(), detail)]),
            volumes: vec![Volume { name: format!("{name}-state"), labels: owner.labels() }],
            ..Host::default()
        };
        Reached { child: Child::Reachable(ChildState { nodes, ..ChildState::default() }), ..host.into() }
    }

    #[test]
    fn one_that_took_a_members_place_has_its_data_before_its_first_start() {
        let owner = Owner { uid: "u".into(), manager: "m".into(), object: "default/dev".into() };
        let names = ClusterNames::new("dev");
        let data =
            |observed: &Reached, voters: &[String]| existing(&names, &owner, observed, voters)[&0].data;
        assert!(data(&made(true), &[]), "an upgrade to an image that does not start");
        assert!(!data(&made(false), &[]), "one that is to join");
        let unreachable = Reached { child: Child::Unreachable(String::new()), ..made(false) };
        assert!(data(&unreachable, &["k3d-dev-server-0".into()]));
        assert!(!data(&unreachable, &[]));
    }

    #[test]
    fn who_begins_and_who_joins() {
        let addresses = Addresses { subnet: "172.31.0.0/24".parse().unwrap() };
        let data = |data| Server { detail: None, data };
        let joins = |index, etcd, servers: &[(usize, bool)], voter: usize| {
            let existing = servers.iter().map(|(i, d)| (*i, data(*d))).collect();
            let text = join_file(index, etcd, addresses, &existing, |i| i == voter);
            text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(joins(0, false, &[], 9), "");
        assert_eq!(joins(0, true, &[], 9), "cluster-init: true");
        assert_eq!(joins(0, true, &[(0, true)], 9), "cluster-init: true", "its data moves to etcd");
        assert_eq!(joins(1, true, &[(0, true)], 0), "server: https://172.31.0.10:6443");
        assert_eq!(joins(1, true, &[(0, false), (1, true)], 9), "server: https://172.31.0.10:6443");
        assert_eq!(joins(0, true, &[(1, true), (2, true)], 2), "server: https://172.31.0.12:6443");
        assert_eq!(joins(2, true, &[(0, true), (1, false)], 9), "server: https://172.31.0.10:6443");
    }
}
