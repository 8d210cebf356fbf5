//! The Node of the management cluster if it is a container of this engine. Docker isolates its networks, so load
//! balancers and registries that the operator connects to join the network of that container, and credentials are
//! sent to it.
//!
//! The container must therefore be the Node: Kubernetes must know it by its address. A name proves nothing, since a
//! Registry can have any name, and containers of the operator are never considered.

use std::net::Ipv4Addr;

use super::{consent, observed::Host};
use crate::{
    api::names,
    docker::engine::{Container, State},
};

/// Identification of the Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Management {
    /// There is none.
    #[default]
    None,
    /// The name that an administrator configured.
    Named(String),
    /// The Node that the Pod of the operator runs on, as reported by Kubernetes.
    Node {
        /// Its address; `None` if unknown or not IPv4. The name is used then.
        ip: Option<Ipv4Addr>,
        /// Name of the Node.
        name: Option<String>,
    },
}

impl Management {
    /// Returns the container. `manager` is the ID of this management cluster.
    pub fn container<'a>(&self, observed: &'a Host, manager: &str) -> Option<&'a Container> {
        let running = observed.containers.iter().filter(|c| c.state == State::Running);
        match self {
            Self::None => None,
            // It may be a node that the operator of another management cluster created.
            Self::Named(name) => {
                let ours = |c: &Container| c.labels.get(names::MANAGER).is_some_and(|m| m == manager);
                running.into_iter().find(|c| c.name == *name && !ours(c))
            }
            Self::Node { ip, name } => {
                let others = running.filter(|c| !consent::is_owned(&c.labels));
                let named = |c: &Container| Some(&c.name) == name.as_ref();
                match ip {
                    Some(ip) => others
                        .filter(|c| c.networks.values().any(|place| place.ip == Some(*ip)))
                        .min_by_key(|c| (!named(c), c.id.as_str())),
                    None => others.into_iter().find(|c| named(c)),
                }
            }
        }
    }

    /// Returns the network on which the Node is reachable, other than `own`: that of its address if known.
    pub fn network(&self, observed: &Host, manager: &str, own: &str) -> Option<String> {
        let known = self.ip();
        let node = self.container(observed, manager)?;
        let reachable = node.networks.iter().filter(|(id, place)| *id != own && place.ip.is_some());
        reachable.min_by_key(|(_, place)| known.is_some() && place.ip != known).map(|(id, _)| id.clone())
    }

    /// Returns the address of this load balancer on that network, the only one that Pods of the management cluster
    /// reach, since Docker isolates its networks. It may be missing at the moment.
    pub fn place(
        &self,
        observed: &Host,
        manager: &str,
        own: &str,
        balancer: &str,
    ) -> Option<Option<Ipv4Addr>> {
        let shared = self.network(observed, manager, own)?;
        let balancer = observed.own_named(balancer);
        Some(balancer.and_then(|d| d.container.networks.get(&shared)?.ip))
    }

    /// Returns the address of the Node if known.
    pub fn ip(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Node { ip, .. } => *ip,
            Self::None | Self::Named(_) => None,
        }
    }

    /// Returns the name of the Node, which no managed container may have.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Named(name) => Some(name),
            Self::Node { name, .. } => name.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::docker::engine::Attachment;

    const MANAGER: &str = "m";

    fn container(name: &str, networks: &[(&str, &str)], labels: &[(&str, &str)]) -> Container {
        let text = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let place = |(id, ip): &(&str, &str)| {
            ((*id).to_owned(), Attachment { ip: ip.parse().ok(), ..Attachment::default() })
        };
        Container {
            id: format!("id-of-{name}"),
            name: name.into(),
            state: State::Running,
            labels: labels.iter().map(text).collect(),
            networks: networks.iter().map(place).collect::<BTreeMap<_, _>>(),
            ..Container::default()
        }
    }

    fn node(ip: &str, name: &str) -> Management {
        Management::Node { ip: ip.parse().ok(), name: Some(name.into()) }
    }

    fn found(management: &Management, containers: &[Container]) -> Option<(String, Option<String>)> {
        let observed = Host { containers: containers.to_vec(), ..Host::default() };
        let name = management.container(&observed, MANAGER)?.name.clone();
        Some((name, management.network(&observed, MANAGER, "own")))
    }

    fn it(name: &str, network: &str) -> Option<(String, Option<String>)> {
        Some((name.to_owned(), Some(network.to_owned())))
    }

    #[test]
    fn it_has_the_address_that_kubernetes_knows_it_by() {
        let containers = [
            container("node-1", &[("a", "10.0.0.9")], &[]),
            container("mgmt", &[("a", "10.0.1.2"), ("kind", "10.0.0.2"), ("own", "10.0.2.2")], &[]),
        ];
        assert_eq!(found(&node("10.0.0.2", "node-1"), &containers), it("mgmt", "kind"));
        assert_eq!(found(&node("10.0.2.2", "node-1"), &containers), it("mgmt", "a"));
        // The Node is the host itself, or a machine of its own.
        assert_eq!(found(&node("192.168.1.5", "node-1"), &containers), None);
        // Before the address was reported.
        assert_eq!(found(&node("", "node-1"), &containers), it("node-1", "a"));
        assert_eq!(found(&Management::None, &containers), None);
    }

    #[test]
    fn what_an_object_owns_is_never_it() {
        for label in [names::UID, names::MANAGER] {
            let ours = [container("node-1", &[("evil", "10.0.0.2")], &[(label, MANAGER)])];
            for management in [node("10.0.0.2", "node-1"), node("", "node-1")] {
                assert_eq!(found(&management, &ours), None, "{label}");
            }
        }
        let named = Management::Named("node-1".into());
        let of = |manager| [container("node-1", &[("a", "10.0.0.2")], &[(names::MANAGER, manager)])];
        assert_eq!(found(&named, &of(MANAGER)), None);
        assert_eq!(found(&named, &of("another")), it("node-1", "a"));
        assert_eq!(found(&named, &[container("other", &[("a", "10.0.0.2")], &[])]), None);
    }

    #[test]
    fn what_does_not_run_is_not_it() {
        let mut stopped = container("node-1", &[("a", "10.0.0.2")], &[]);
        stopped.state = State::Exited;
        for management in [node("10.0.0.2", "node-1"), node("", "node-1"), Management::Named("node-1".into())]
        {
            assert_eq!(found(&management, std::slice::from_ref(&stopped)), None);
        }
    }
}
