//! Conflicts between the networks of nodes, Pods and Services: `spec.network` and the arguments of servers.

use ipnet::Ipv4Net;

use super::checker::Checker;
use crate::{
    api::{
        LocalClusterSpec,
        local_cluster::NetworkSpec,
        rules::{self, format, text},
    },
    k3s::networks::{self, Networks},
};

impl Checker {
    /// Parses the subnet of the nodes, and the Pod and Service networks.
    pub(super) fn network(
        &mut self,
        network: &NetworkSpec,
        spec: &LocalClusterSpec,
    ) -> (Option<Ipv4Net>, Networks) {
        let NetworkSpec { subnet, join } = network;
        for (i, name) in join.iter().enumerate() {
            let path = format!("spec.network.join[{i}]");
            self.fits(&path, name, &format::NETWORK_NAME);
            self.refuse(&path, name, std::slice::from_ref(&rules::hostnames::DOCKERS_NETWORKS), "");
        }
        self.check(join.len() <= 4, "spec.network.join", text::JOINED);
        self.distinct("spec.network.join", join.iter());
        let subnet = subnet.as_deref().and_then(|s| self.subnet("spec.network.subnet", s));
        (subnet, self.networks(spec, subnet))
    }

    fn subnet(&mut self, path: &str, subnet: &str) -> Option<Ipv4Net> {
        // The canonical form must be equal: ipnet accepts 172.31.016.0 too, which some parsers read as octal.
        let sound =
            |n: &Ipv4Net| (16..=25).contains(&n.prefix_len()) && n.trunc() == *n && n.to_string() == subnet;
        let net: Option<Ipv4Net> = subnet.parse().ok().filter(sound);
        self.check(net.is_some(), path, text::SUBNET);
        let taken = |net: &Ipv4Net| {
            rules::NO_SUBNET.iter().any(|r| r.parse().is_ok_and(|r: Ipv4Net| r.contains(&net.network())))
        };
        self.check(!net.as_ref().is_some_and(taken), path, text::SUBNET_RANGE);
        net
    }

    /// Parses the Pod and Service networks. The schema cannot check them: they are in the arguments.
    fn networks(&mut self, spec: &LocalClusterSpec, subnet: Option<Ipv4Net>) -> Networks {
        let networks = Networks::of(&spec.servers.args);
        // K3s exits with "cluster-cidr and node-ip do not have the same IP family" otherwise, again and again.
        if let Some(ipv6) = networks::ipv6(&spec.servers.args) {
            let message = format!(
                "{ipv6} is an IPv6 network: nodes have IPv4 addresses only; use IPv4 networks for --cluster-cidr and \
                 --service-cidr"
            );
            self.check(false, "spec.servers.args", &message);
        }
        // Defaults of K3s are outside the subnet range, or replaced by an argument.
        if let Some((subnet, other)) = subnet.and_then(|s| Some((s, networks.overlapping(s)?))) {
            let message = format!(
                "{subnet} overlaps {other}, the Pod or Service network in spec.servers.args; use another subnet"
            );
            self.check(false, "spec.network.subnet", &message);
        }
        let counts = spec.agent_pools.iter().map(|pool| pool.pool.count).chain([spec.agents.count]);
        let nodes = counts.fold(spec.servers.count, i32::saturating_add);
        let nodes = usize::try_from(nodes).unwrap_or(0);
        for pods in &networks.pods {
            let Some((room, mask)) = networks::room(&spec.servers.args, *pods) else { continue };
            let message = format!(
                "{pods} is too small for {nodes} nodes: each node gets a /{mask} for its Pods, and there are \
                 {room}; use a larger --cluster-cidr, or smaller node networks with \
                 --kube-controller-manager-arg=node-cidr-mask-size=28"
            );
            self.check(nodes <= room, "spec.servers.args", &message);
        }
        networks
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::problems, text};

    fn said(subnet: Option<&str>, args: &[&str], agents: i32) -> Vec<String> {
        problems(|spec| {
            spec.network.subnet = subnet.map(str::to_owned);
            spec.servers.args = args.iter().map(|arg| (*arg).to_owned()).collect();
            spec.agents.count = agents;
        })
    }

    #[test]
    fn networks_to_join_have_names() {
        let joined = |names: &[&str]| {
            problems(|spec| spec.network.join = names.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(joined(&["shared", "db_1.net", "a", "B-2"]), [""; 0]);
        for name in ["", "-a", "a b", "a/b"] {
            assert_eq!(joined(&[name]), [format!("spec.network.join[0]: {}", text::NETWORK_NAME)], "{name}");
        }
        for name in ["bridge", "host", "none", "default"] {
            let said = joined(&["shared", name]);
            assert!(said.len() == 1 && said[0].contains("docker network create"), "{said:?}");
        }
        assert_eq!(joined(&["a", "a"]), [format!("spec.network.join: {}", text::TWICE)]);
        assert_eq!(joined(&["a", "b", "c", "d", "e"]), [format!("spec.network.join: {}", text::JOINED)]);
    }

    #[test]
    fn nodes_are_not_where_pods_and_services_are() {
        let args =
            ["--cluster-cidr=172.20.0.0/16", "--service-cidr=172.21.0.0/24", "--cluster-dns=172.21.0.10"];
        let told = said(Some("172.20.0.0/24"), &args, 1);
        assert!(told.len() == 1 && told[0].starts_with("spec.network.subnet: "), "{told:?}");
        assert!(told[0].contains("overlaps 172.20.0.0/16, the Pod or Service network"), "{told:?}");
        assert_eq!(said(Some("172.21.0.0/16"), &args, 1).len(), 1);
        assert_eq!(said(Some("172.22.0.0/24"), &args, 1), [""; 0]);
        assert_eq!(said(None, &args, 1), [""; 0]);
    }

    #[test]
    fn nodes_have_no_ipv6() {
        for arg in ["--cluster-cidr=10.42.0.0/16,2001:db8:42::/56", "--service-cidr=fd00::/112"] {
            let told = said(None, &[arg], 1);
            assert!(
                told.len() == 1
                    && told[0].starts_with("spec.servers.args: ")
                    && told[0].contains("IPv6 network"),
                "{told:?}"
            );
        }
    }

    #[test]
    fn there_is_a_network_for_the_pods_of_each_node() {
        let small = "--cluster-cidr=172.20.1.0/24";
        assert_eq!(said(None, &[small], 0), [""; 0]);
        let told = said(None, &[small], 1);
        assert!(
            told.len() == 1 && told[0].starts_with("spec.servers.args: 172.20.1.0/24 is too small"),
            "{told:?}"
        );
        let finer = "--kube-controller-manager-arg=node-cidr-mask-size=28";
        assert_eq!(said(None, &[small, finer], 15), [""; 0]);
        assert_eq!(said(None, &[small, finer], 16).len(), 1);
        assert_eq!(said(None, &[small, "--flannel-backend=none"], 3), [""; 0]);
    }
}
