//! Parsing of `spec.hostAliases`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use super::checker::Checker;
use crate::{
    api::{
        LocalClusterSpec,
        host_alias::HostAlias,
        names::ClusterNames,
        rules::{format, hostnames, text},
    },
    k3s::networks,
};

/// What a host alias resolves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasTarget {
    /// An address.
    Ip(IpAddr),
    /// The Docker host, at the gateway of the cluster's network.
    HostGateway,
}

impl AliasTarget {
    fn parse(text: &str) -> Option<Self> {
        if text == hostnames::HOST_GATEWAY {
            return Some(Self::HostGateway);
        }
        text.parse().ok().filter(|ip| !is_mapped(ip)).map(Self::Ip)
    }

    /// Returns the address in a cluster whose network has this gateway.
    pub fn address(self, gateway: Ipv4Addr) -> IpAddr {
        match self {
            Self::Ip(ip) => ip,
            Self::HostGateway => gateway.into(),
        }
    }
}

/// Error for a name of a container of this cluster. The schema cannot check these names.
const OWN: &str = "the containers of this cluster have such names, and nodes join by them; use another name";

impl Checker {
    /// Parses the names with their addresses. The names and arguments of the cluster refuse some of them.
    pub(super) fn host_aliases(
        &mut self,
        host_aliases: &[HostAlias],
        spec: &LocalClusterSpec,
        names: &ClusterNames,
    ) -> BTreeMap<String, AliasTarget> {
        let mut aliases = BTreeMap::new();
        let containers = &spec.registries.containers;
        let domain = networks::domain(&spec.servers.args);
        for (i, HostAlias { ip, hostnames }) in host_aliases.iter().enumerate() {
            let path = format!("spec.hostAliases[{i}]");
            let target = AliasTarget::parse(ip);
            self.check(target.is_some(), format_args!("{path}.ip"), text::ALIAS_IP);
            for (j, name) in hostnames.iter().enumerate() {
                let path = format!("{path}.hostnames[{j}]");
                self.fits(&path, name, &format::ALIAS_NAME);
                self.refuse(&path, name, hostnames::ALIASES, "");
                let is_in = |domain: &str| {
                    name.strip_suffix(domain).is_some_and(|n| n.is_empty() || n.ends_with('.'))
                };
                // The schema cannot check the domain in the arguments.
                let message = format!(
                    "names in {domain} (--cluster-domain in spec.servers.args) belong to the Services and Pods of \
                     the cluster; use another name"
                );
                self.check(domain == hostnames::CLUSTER_DOMAIN || !is_in(&domain), &path, &message);
                let is_pool = |pool: &str| spec.agent_pools.iter().any(|p| p.name == pool);
                let own = *name == names.load_balancer()
                    || names.parse_node(name).is_some_and(|(pool, _)| pool.name().is_none_or(is_pool));
                self.check(!own, &path, OWN);
                self.check(containers.iter().all(|c| c.name != *name), &path, text::ALIAS_OF_CONTAINER);
                let twice =
                    aliases.insert(name.clone(), target.unwrap_or(AliasTarget::HostGateway)).is_some();
                self.check(!twice, &path, text::ALIAS_TWICE);
            }
        }
        aliases
    }
}

/// Reports whether an address is an IPv4-mapped IPv6 address, which resolvers and the API server handle differently.
fn is_mapped(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(six) if six.to_ipv4_mapped().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::local_cluster::RegistryContainer, plan::validate};

    fn parsed(aliases: &[(&str, &[&str])]) -> Result<BTreeMap<String, AliasTarget>, Vec<String>> {
        let mut spec = LocalClusterSpec::default();
        spec.servers.count = 1;
        let port = 5000;
        spec.registries.containers =
            vec![RegistryContainer { name: "registry.localhost".into(), port, host_port: None }];
        let alias = |(ip, names): &(&str, &[&str])| HostAlias {
            ip: (*ip).to_owned(),
            hostnames: names.iter().map(|n| (*n).to_owned()).collect(),
        };
        spec.host_aliases = aliases.iter().map(alias).collect();
        validate::local_cluster("default", "dev", &spec).map(|valid| valid.host_aliases)
    }

    #[test]
    fn each_name_has_its_address() {
        let told = parsed(&[
            ("10.0.0.5", &["db.internal", "db"]),
            ("2001:db8::5", &["six"]),
            ("host-gateway", &["host.docker.internal"]),
        ]);
        let gateway = Ipv4Addr::new(172, 31, 0, 1);
        let line = |(name, target): (String, AliasTarget)| format!("{name} {}", target.address(gateway));
        let lines: Vec<_> = told.unwrap().into_iter().map(line).collect();
        let expected =
            ["db 10.0.0.5", "db.internal 10.0.0.5", "host.docker.internal 172.31.0.1", "six 2001:db8::5"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn names_that_are_taken_and_addresses_that_are_none_are_refused() {
        let said = |ip: &str, names: &[&str]| parsed(&[(ip, names)]).unwrap_err().join("; ");
        for (name, says) in [
            ("k3d-dev-server-0", OWN),
            ("k3d-dev-agent-7", OWN),
            ("k3d-dev-serverlb", OWN),
            ("registry.localhost", text::ALIAS_OF_CONTAINER),
            ("kubernetes.default.svc.cluster.local", "Services and Pods"),
            ("cluster.local", "Services and Pods"),
            ("db.team-a.svc", "Services and Pods"),
            ("kubernetes.default", "Services and Pods"),
            ("host.k3d.internal", "the Docker host"),
            ("localhost", "to itself"),
            ("DB", text::ALIAS_NAME),
        ] {
            let said = said("10.0.0.5", &["fine", name]);
            assert!(said.starts_with("spec.hostAliases[0].hostnames[1]: ") && said.contains(says), "{said}");
        }
        for ip in
            ["10.0.0", "10.0.0.05", "::ffff:10.0.0.5", "db", "fe80::1%eth0", "", "gateway", "Host-Gateway"]
        {
            assert_eq!(said(ip, &["db"]), format!("spec.hostAliases[0].ip: {}", text::ALIAS_IP), "{ip}");
        }
        let twice = parsed(&[("10.0.0.5", &["db"]), ("10.0.0.6", &["db"])]).unwrap_err();
        assert_eq!(twice, [format!("spec.hostAliases[1].hostnames[0]: {}", text::ALIAS_TWICE)]);
        // Another domain takes the place of the one that all clusters have, which no name may be in all the same.
        let with_domain = |name: &str| {
            validate::tests::problems(|spec| {
                spec.servers.args = vec!["--cluster-domain=lab.example".into()];
                let hostnames = vec![name.to_owned()];
                spec.host_aliases = vec![HostAlias { ip: "10.0.0.5".into(), hostnames }];
            })
        };
        assert_eq!(with_domain("db.collab.example"), [""; 0]);
        for name in ["db.lab.example", "lab.example"] {
            let said = with_domain(name).join("; ");
            assert!(
                said.contains("names in lab.example (--cluster-domain in spec.servers.args) belong to"),
                "{said}"
            );
        }
        assert_eq!(with_domain("db.cluster.local").len(), 1);
        // Of other clusters they are nothing special.
        assert!(parsed(&[("10.0.0.5", &["k3d-other-server-0", "xcluster.local"])]).is_ok());
    }
}
