//! Published ports, and the host addresses that they are bound to.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
};

use super::checker::Checker;
use crate::api::{
    local_cluster::{ApiService, ApiSpec, NodeSet, PortSpec, Protocol},
    rules::{self, format, text},
};

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidPort {
    /// Name of the port.
    pub name: String,
    /// Port of the nodes.
    pub port: u16,
    /// Number of further ports in a range.
    pub further: u16,
    /// Host port, if the spec names one.
    pub host_port: Option<u16>,
    /// Host address.
    pub host_ip: Ipv4Addr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Nodes that it forwards to.
    pub nodes: NodeSet,
}

/// Address of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidApi {
    /// Host address.
    pub host_ip: Ipv4Addr,
    /// Host port, if the spec names one.
    pub host_port: Option<u16>,
    /// Additional names and addresses in the serving certificate, including those of the server and of the Service.
    pub sans: Vec<String>,
    /// Host in kubeconfigs, if it is not the address.
    pub server_name: Option<String>,
    /// DNS name of the Service that leads to it, if there is to be one.
    pub service: Option<String>,
}

impl ValidPort {
    /// Returns the host ports that the spec names.
    pub fn host_ports(&self) -> impl Iterator<Item = u16> + use<> {
        let further = self.further;
        self.host_port.into_iter().flat_map(move |first| first..=first.saturating_add(further))
    }

    /// Reports whether two port ranges, each given by its first port and the number of further ports, overlap.
    fn meet(one: (u16, u16), other: (u16, u16)) -> bool {
        let end = |(first, further): (u16, u16)| u32::from(first) + u32::from(further);
        u32::from(one.0) <= end(other) && u32::from(other.0) <= end(one)
    }
}

impl Checker {
    /// Parses a host address.
    pub(super) fn host_ip(&mut self, path: &str, ip: &str) -> Ipv4Addr {
        let parsed = ip.parse();
        self.check(parsed.is_ok(), path, text::HOST_IP);
        parsed.unwrap_or(Ipv4Addr::LOCALHOST)
    }

    /// Parses a port.
    pub(super) fn port(&mut self, path: &str, port: i32) -> u16 {
        let parsed = u16::try_from(port).ok().filter(|p| *p > 0);
        self.check(parsed.is_some(), path, text::PORT);
        parsed.unwrap_or(1)
    }

    /// Parses the host address and port of the API, and the names in its certificate.
    pub(super) fn api(&mut self, (namespace, name): (&str, &str), api: &ApiSpec) -> ValidApi {
        let ApiSpec { host_ip, host_port, sans, server_name, service } = api;
        let host_ip = host_ip.as_deref().map(|ip| self.host_ip("spec.api.hostIP", ip));
        let host_port = host_port.map(|p| self.port("spec.api.hostPort", p));
        for (i, san) in sans.iter().enumerate() {
            if san.parse::<IpAddr>().is_err() {
                self.fits(format_args!("spec.api.sans[{i}]"), san, &format::SAN);
            }
        }
        if let Some(name) = server_name {
            self.fits("spec.api.serverName", name, &format::SERVER_NAME);
        }
        let service = match service {
            ApiService::None => None,
            ApiService::ClusterIp => Some(format!("{name}.{namespace}.svc")),
        };
        // They may also be among the others.
        let named = server_name.iter().chain(&service).filter(|name| !sans.contains(name));
        let sans = sans.iter().chain(named).cloned().collect();
        let host_ip = host_ip.unwrap_or(Ipv4Addr::LOCALHOST);
        ValidApi { host_ip, host_port, sans, server_name: server_name.clone(), service }
    }

    /// Parses the published ports, which must not conflict with each other or with the port of the API.
    pub(super) fn ports(
        &mut self,
        specs: &[PortSpec],
        api_ip: Ipv4Addr,
        api_port: Option<u16>,
    ) -> Vec<ValidPort> {
        let mut ports: Vec<ValidPort> = Vec::new();
        for (i, spec) in specs.iter().enumerate() {
            let path = format!("spec.ports[{i}]");
            let port = self.published(&path, spec);
            let tcp = port.protocol == Protocol::Tcp;
            let api = tcp && ValidPort::meet((port.port, port.further), (6443, 0));
            self.check(!api, &path, text::API_PORT);
            let clashes = |ip: Ipv4Addr, other: Option<u16>, further: u16| {
                let pair = other.zip(port.host_port);
                pair.is_some_and(|(other, own)| ValidPort::meet((other, further), (own, port.further)))
                    && (ip == port.host_ip || ip.is_unspecified() || port.host_ip.is_unspecified())
            };
            let host_port = format!("{path}.hostPort");
            self.check(!(tcp && clashes(api_ip, api_port, 0)), &host_port, text::API_HOST_PORT);
            let twice = ports
                .iter()
                .any(|o| o.protocol == port.protocol && clashes(o.host_ip, o.host_port, o.further));
            self.check(!twice, &host_port, text::HOST_PORT_TWICE);
            ports.push(port);
        }
        let all: usize = ports.iter().map(|p| usize::from(p.further) + 1).sum();
        self.check(all <= rules::MAX_PORTS, "spec.ports", text::PORTS_IN_ALL);
        self.distinct("spec.ports", ports.iter().map(|p| &p.name));
        ports
    }

    fn published(&mut self, path: &str, spec: &PortSpec) -> ValidPort {
        let PortSpec { name, port, end_port, host_port, host_ip, protocol, nodes } = spec;
        self.fits(format_args!("{path}.name"), name, &format::PORT_NAME);
        ValidPort {
            name: name.clone(),
            port: self.port(&format!("{path}.port"), *port),
            further: end_port.map_or(0, |end| self.further(path, *port..=end, *host_port)),
            host_port: host_port.map(|h| self.port(&format!("{path}.hostPort"), h)),
            host_ip: self.host_ip(&format!("{path}.hostIP"), host_ip),
            protocol: *protocol,
            nodes: *nodes,
        }
    }

    /// Returns the number of ports in a range after the first one.
    fn further(&mut self, path: &str, range: RangeInclusive<i32>, host_port: Option<i32>) -> u16 {
        let (first, end) = range.into_inner();
        self.port(&format!("{path}.endPort"), end);
        let further = u16::try_from(end - first).ok();
        self.check(further.is_some(), path, text::END_PORT);
        let further = further.unwrap_or_default();
        let fits = host_port.is_some_and(|first| first + i32::from(further) <= 65535);
        self.check(fits, path, text::HOST_RANGE);
        further
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::validate::tests::problems;

    #[test]
    fn a_host_port_is_given_once_per_address() {
        let port = |name: &str, ip: &str, host_port| PortSpec {
            name: name.into(),
            port: 80,
            end_port: None,
            host_port,
            host_ip: ip.into(),
            protocol: Protocol::Tcp,
            nodes: NodeSet::All,
        };
        let clash = |a, b| !problems(|s| s.ports = vec![a, b]).is_empty();
        assert!(clash(port("a", "127.0.0.1", Some(80)), port("b", "0.0.0.0", Some(80))));
        assert!(!clash(port("a", "127.0.0.1", Some(80)), port("b", "127.0.0.2", Some(80))));
        assert!(!clash(port("a", "127.0.0.1", None), port("b", "127.0.0.1", None)));
        let api = problems(|s| {
            s.api.host_port = Some(80);
            s.ports = vec![port("a", "0.0.0.0", Some(80))];
        });
        assert_eq!(api, [format!("spec.ports[0].hostPort: {}", text::API_HOST_PORT)]);
    }

    /// So that no node is replaced for the other field.
    #[test]
    fn a_name_of_the_server_is_in_the_certificate_once() {
        let parsed = |sans: &[&str], name: Option<&str>| {
            let sans = sans.iter().map(|san| (*san).to_owned()).collect();
            let server_name = name.map(str::to_owned);
            Checker::default().api(("team-a", "dev"), &ApiSpec { sans, server_name, ..ApiSpec::default() })
        };
        let names = |sans: &[&str], name| parsed(sans, name).sans;
        assert_eq!(names(&["a.test", "b.test"], None), ["a.test", "b.test"]);
        assert_eq!(names(&["b.test"], Some("a.test")), ["b.test", "a.test"]);
        assert_eq!(names(&["a.test", "b.test"], Some("a.test")), ["a.test", "b.test"]);
        assert_eq!(parsed(&[], Some("a.test")).server_name.as_deref(), Some("a.test"));
        let of_service = |sans: &[&str], service| {
            let sans = sans.iter().map(|san| (*san).to_owned()).collect();
            let api =
                Checker::default().api(("team-a", "dev"), &ApiSpec { sans, service, ..ApiSpec::default() });
            (api.sans, api.service)
        };
        let name = "dev.team-a.svc".to_owned();
        assert_eq!(of_service(&[], ApiService::None), (vec![], None));
        for sans in [&[][..], &["dev.team-a.svc"]] {
            assert_eq!(of_service(sans, ApiService::ClusterIp), (vec![name.clone()], Some(name.clone())));
        }
        for bad in ["https://a.test", "a.test:6443", "A.test", "2001:db8::1", "", "*.test"] {
            let found = problems(|s| s.api.server_name = Some(bad.into()));
            assert_eq!(found, [format!("spec.api.serverName: {}", text::SERVER_NAME)], "{bad}");
        }
    }

    #[test]
    fn ranges_have_as_many_ports_of_the_host() {
        let port = |name: &str, port, end_port, host_port| PortSpec {
            name: name.into(),
            port,
            end_port: Some(end_port),
            host_port,
            host_ip: "127.0.0.1".into(),
            protocol: Protocol::Tcp,
            nodes: NodeSet::All,
        };
        let of = |ports: &[PortSpec]| problems(|s| s.ports = ports.to_vec());
        let is =
            |ports: &[PortSpec], path: &str, text: &str| assert_eq!(of(ports), [format!("{path}: {text}")]);
        assert_eq!(
            of(&[port("a", 8000, 8010, Some(9000)), port("b", 8000, 8010, Some(9011))]),
            [] as [&str; 0]
        );
        is(&[port("a", 8000, 7999, Some(9000))], "spec.ports[0]", text::END_PORT);
        is(&[port("a", 8000, 8010, None)], "spec.ports[0]", text::HOST_RANGE);
        is(&[port("a", 8000, 8010, Some(65526))], "spec.ports[0]", text::HOST_RANGE);
        is(&[port("a", 6400, 6443, Some(9000))], "spec.ports[0]", text::API_PORT);
        is(&[port("a", 8000, 8128, Some(9000))], "spec.ports", text::PORTS_IN_ALL);
        let meet = [port("a", 8000, 8010, Some(9000)), port("b", 80, 90, Some(9010))];
        is(&meet, "spec.ports[1].hostPort", text::HOST_PORT_TWICE);
        let api = problems(|s| {
            s.api.host_port = Some(9010);
            s.ports = vec![port("a", 8000, 8010, Some(9000))];
        });
        assert_eq!(api, [format!("spec.ports[0].hostPort: {}", text::API_HOST_PORT)]);
    }
}
