//! Allocation of what the spec of a LocalCluster leaves open: its subnet and host ports, which are kept afterwards.

use std::collections::{BTreeMap, BTreeSet};

use super::{pools, subnet};
use crate::{
    api::{condition::ConditionType, local_cluster::Protocol, reason::Reason},
    docker::engine::ContainerDetail,
    k3s,
    plan::{
        addresses::{self, Addresses},
        desired::{AllocatedPort, Allocation},
        observed::Host,
        refused::Refused,
        settings::Settings,
        steps::Plan,
        subject::Subject,
        validate::{Valid, ValidPort},
    },
};

/// Allocates what the spec leaves open and keeps earlier allocations. Returns `None` if that is not possible, with
/// the reason in the problems of the plan.
pub fn allocate(
    plan: &mut Plan,
    subject: &Subject<'_>,
    observed: &Host,
    refused: &Refused,
) -> Option<Allocation> {
    let Subject { valid, settings, previous, .. } = *subject;
    let subnet = subnet::allocate(plan, subject, observed, &refused.subnets)?;
    let mut host_ports = HostPorts::new(subject, observed, &refused.ports);
    // Earlier allocations come before new ones: all are known before the first port is allocated.
    let known_api_port = previous.api_port.as_ref().map(|p| p.host_port);
    let kept_api_port = host_ports.keep(Protocol::Tcp, valid.api_port, known_api_port);
    let keep = |port: &ValidPort| {
        let known = previous.ports.iter().find(|p| p.name == port.name && p.protocol == port.protocol);
        host_ports.keep(port.protocol, port.host_port, known.map(|p| p.host_port))
    };
    let kept: Vec<Option<u16>> = valid.ports.iter().map(keep).collect();
    host_ports.reserve_given();

    let api = Published { name: "api", protocol: Protocol::Tcp, port: k3s::API_PORT };
    let api_port = host_ports.allocate(plan, api, kept_api_port)?;
    let mut listeners = Listeners::new(settings, valid);
    let mut ports = Vec::new();
    for (port, kept) in valid.ports.iter().zip(kept) {
        let published = Published { name: &port.name, protocol: port.protocol, port: port.port };
        let host_port = host_ports.allocate(plan, published, kept)?;
        let listen = listeners.add(port, host_port)?;
        ports.push(AllocatedPort { name: port.name.clone(), host_port, listen, held: BTreeMap::new() });
    }
    let addresses = Addresses { subnet };
    let pools = pools::allocate(plan, subject, observed, addresses);
    Some(Allocation { addresses, pools, api_port, api_held: None, ports })
}

/// A port of the load balancer that is published on the host.
struct Published<'a> {
    name: &'a str,
    protocol: Protocol,
    /// Port of the nodes.
    port: u16,
}

/// Host ports of a cluster. No port is allocated twice. Ports in the spec come first, then earlier allocations, then
/// free ports. A port that was published before is kept even if another process holds it now: users refer to it in
/// their configuration.
struct HostPorts<'a> {
    subject: &'a Subject<'a>,
    /// The load balancer, which publishes the ports of an allocation that no status has recorded.
    balancer: Option<&'a ContainerDetail>,
    /// Ports that Docker failed to publish.
    refused: &'a BTreeSet<u16>,
    /// Ports that are not free, whatever their protocol.
    taken: BTreeSet<u16>,
    /// Ports of the cluster.
    given: BTreeSet<(Protocol, u16)>,
}

impl<'a> HostPorts<'a> {
    fn new(subject: &'a Subject<'a>, observed: &'a Host, refused: &'a BTreeSet<u16>) -> Self {
        let Subject { valid, owner, .. } = *subject;
        let foreign = observed.containers.iter().filter(|c| !owner.owns(&c.labels));
        let taken = foreign
            .flat_map(|c| c.ports.iter().map(|p| p.host_port))
            .chain(refused.iter().copied())
            .chain(valid.api_port)
            .chain(valid.ports.iter().flat_map(ValidPort::host_ports))
            .collect();
        let api = valid.api_port.map(|p| (Protocol::Tcp, p));
        let ports = valid.ports.iter().flat_map(|p| p.host_ports().map(|h| (p.protocol, h)));
        Self {
            subject,
            balancer: observed.own_named(&valid.names.load_balancer()),
            refused,
            taken,
            given: api.into_iter().chain(ports).collect(),
        }
    }

    /// Returns the port of the spec, or a known one unless it is another one's.
    fn keep(&mut self, protocol: Protocol, wanted: Option<u16>, known: Option<i32>) -> Option<u16> {
        let known = known.and_then(|p| u16::try_from(p).ok());
        wanted.or_else(|| known.filter(|p| self.given.insert((protocol, *p))))
    }

    /// Reserves the ports of the cluster for both protocols.
    fn reserve_given(&mut self) {
        self.taken.extend(self.given.iter().map(|(_, port)| *port));
    }

    /// Returns the kept port, the one that the load balancer publishes, or a free one. Adds a problem if there is none.
    fn allocate(&mut self, plan: &mut Plan, published: Published<'_>, kept: Option<u16>) -> Option<u16> {
        let Subject { owner, settings, .. } = *self.subject;
        let port = kept.or_else(|| self.of_balancer(&published)).or_else(|| {
            let seed = format!("{}/{}", owner.uid, published.name);
            addresses::free_port(&settings.port_range, &seed, &self.taken)
        });
        if let Some(port) = port {
            self.taken.insert(port);
            self.given.insert((published.protocol, port));
        } else {
            let (first, last) = (settings.port_range.start(), settings.port_range.end());
            plan.stalls(
                ConditionType::LoadBalancerReady,
                Reason::PortConflict,
                format!(
                    "no free host port between {first} and {last}: all are in use; set a host port in the spec, or \
                     widen --port-range"
                ),
            );
        }
        port
    }

    fn of_balancer(&self, published: &Published<'_>) -> Option<u16> {
        let Published { protocol, port, .. } = *published;
        let mut bindings = self.balancer?.wanted_ports.iter();
        let binding = bindings.find(|p| p.port == port && p.protocol == protocol.docker());
        binding
            .map(|p| p.host_port)
            .filter(|p| !self.refused.contains(p) && !self.given.contains(&(protocol, *p)))
    }
}

/// Ports that the load balancer listens on. Two host ports may forward to one port of the nodes; the second listens on
/// the number of its host port, or another. So does one that forwards to the port on which the load balancer serves DNS.
struct Listeners(BTreeSet<(Protocol, u16)>);

impl Listeners {
    /// Returns the ports that the load balancer listens on besides the published ones.
    fn new(settings: &Settings, valid: &Valid) -> Self {
        let dns = [Protocol::Tcp, Protocol::Udp].map(|protocol| (protocol, k3s::load_balancer::DNS_PORT));
        let dns = dns.into_iter().filter(|_| settings.node_dns.is_empty());
        let images = valid.images_from_host.then_some((Protocol::Tcp, k3s::HOST_IMAGES_PORT));
        Self([(Protocol::Tcp, k3s::API_PORT)].into_iter().chain(dns).chain(images).collect())
    }

    /// Adds a port with those that follow it, and returns the first; `None` if there is no room for them.
    fn add(&mut self, port: &ValidPort, host_port: u16) -> Option<u16> {
        let count = usize::from(port.further) + 1;
        let range = |first: u16| (first..=u16::MAX).take(count);
        let free = |first: &u16| {
            range(*first).count() == count
                && range(*first).all(|listen| !self.0.contains(&(port.protocol, listen)))
        };
        let first = [port.port, host_port].into_iter().chain(1..=u16::MAX).find(free)?;
        self.0.extend(range(first).map(|listen| (port.protocol, listen)));
        Some(first)
    }
}
