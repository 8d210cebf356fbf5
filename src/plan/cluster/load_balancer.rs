//! Desired load balancer of a LocalCluster, with the ports that it publishes and forwards.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{
    build::{Basis, Build},
    image_of,
};
use crate::{
    api::{
        local_cluster::{NodeRole, NodeSet, Protocol},
        names,
    },
    docker::spec::{ContainerSpec, FileChange, FileSpec, PortBinding, Role},
    k3s::{
        self,
        load_balancer::{self, Forward},
    },
    plan::{
        balance::{self, Standing},
        servers,
        subject::Subject,
    },
};

impl Build<'_> {
    pub(super) fn load_balancer(&self) -> ContainerSpec {
        let Basis { subject: Subject { valid, settings, .. }, allocation, observed } = self.basis;
        let file = |path: &str, content| FileSpec {
            path: path.into(),
            mode: 0o644,
            content,
            change: FileChange::Hangup,
        };
        let clients = settings.node_dns.is_empty().then_some(allocation.addresses.subnet);
        let config = load_balancer::render(&self.forwards(), clients);
        let config = file(load_balancer::CONFIG_FILE, config.into_bytes());
        let applied = file(load_balancer::APPLIED_FILE, names::hex(&config.sha256()).into_bytes());
        let mut labels = self.labels(Some("loadbalancer"));
        labels.insert(names::API_PORT.into(), allocation.api_port.to_string());
        let name = valid.names.load_balancer();
        // Kept for the same reason as the node image.
        let image = image_of(observed, &name).unwrap_or_else(|| settings.load_balancer_image.clone());
        ContainerSpec {
            labels,
            endpoint: self.endpoint(allocation.addresses.load_balancer()),
            ports: self.published(),
            files: vec![config, applied],
            restart_policy: valid.restart,
            ..ContainerSpec::bare(name, Role::LoadBalancer, image)
        }
    }

    /// Returns the host ports to publish: all but those that another process holds.
    fn published(&self) -> Vec<PortBinding> {
        let Basis { subject: Subject { valid, .. }, allocation, .. } = self.basis;
        let binding = |host_ip: String, host_port, port, protocol: Protocol| PortBinding {
            host_ip,
            host_port,
            port,
            protocol: protocol.docker().into(),
        };
        let api = binding(valid.api_ip.to_string(), allocation.api_port, k3s::API_PORT, Protocol::Tcp);
        let api = allocation.api_held.is_none().then_some(api);
        let others = valid.ports.iter().zip(&allocation.ports).flat_map(|(port, allocated)| {
            let binding = move |i| {
                let (host_port, listen) = (allocated.host_port + i, allocated.listen + i);
                binding(port.host_ip.to_string(), host_port, listen, port.protocol)
            };
            (0..=port.further).map(binding).filter(|b| !allocated.held.contains_key(&b.host_port))
        });
        api.into_iter().chain(others).collect()
    }

    /// Returns the ports that are forwarded, with the nodes that they are forwarded to.
    fn forwards(&self) -> Vec<Forward> {
        let Basis { subject: Subject { valid, now, .. }, allocation, observed } = self.basis;
        let addresses = allocation.addresses;
        let serving = servers::serving(valid.servers.count, self.etcd, self.existing, observed, *now);
        let api = Forward {
            listen: k3s::API_PORT,
            protocol: Protocol::Tcp,
            port: k3s::API_PORT,
            nodes: serving.into_iter().map(|i| addresses.node(NodeRole::Server, i)).collect(),
            placed: true,
        };
        let placed = self.placed();
        let others = valid.ports.iter().zip(&allocation.ports).flat_map(|(port, allocated)| {
            let all = self.addresses_of(port.nodes);
            let known: Vec<Ipv4Addr> = all.iter().filter(|ip| placed.contains(ip)).copied().collect();
            // If no node is known to handle traffic, the ports forward to all: one of them may respond.
            let (nodes, placed) = if known.is_empty() { (all, false) } else { (known, true) };
            (0..=port.further).map(move |i| Forward {
                listen: allocated.listen + i,
                protocol: port.protocol,
                port: port.port + i,
                nodes: nodes.clone(),
                placed,
            })
        });
        [api].into_iter().chain(others).collect()
    }

    fn addresses_of(&self, nodes: NodeSet) -> Vec<Ipv4Addr> {
        let Basis { subject: Subject { valid, .. }, allocation, .. } = self.basis;
        let all = valid.nodes().filter(|(pool, _)| nodes.contains(pool.role()));
        all.filter_map(|(pool, index)| allocation.node(&valid.names, &pool, index)).collect()
    }

    /// Returns the addresses of the nodes that are known to handle traffic.
    fn placed(&self) -> BTreeSet<Ipv4Addr> {
        let placed = self.standings().filter(|(_, _, standing)| *standing == Standing::Placed);
        placed.map(|(_, ip, _)| ip).collect()
    }

    /// Returns the nodes that published ports forward to, with their state.
    fn standings(&self) -> impl Iterator<Item = (String, Ipv4Addr, Standing)> {
        let Basis { subject: Subject { valid, now, .. }, allocation, observed } = self.basis;
        balance::standings(observed, valid, allocation, *now)
    }

    /// Returns the nodes that published ports are about to forward to.
    pub(super) fn awaited(&self) -> Vec<String> {
        let awaited = self.standings().filter(|(_, _, standing)| *standing == Standing::Awaited);
        awaited.map(|(name, _, _)| name).collect()
    }
}
