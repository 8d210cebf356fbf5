//! Host ports that another process or container holds. They are left out and reported, and all others are published.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{
    desired::{Allocation, Binding},
    observed::Host,
    owner::short,
    steps::Plan,
    subject::Subject,
    validate::Valid,
};
use crate::{
    api::{
        LocalClusterStatus,
        condition::ConditionType,
        local_cluster::{PortStatus, Protocol},
        reason::Reason,
    },
    docker::{error::Error, spec::PortBinding},
};

/// Returns all host ports that the cluster publishes.
pub fn wanted(valid: &Valid, allocation: &Allocation) -> BTreeSet<Binding> {
    let ports = valid.ports.iter().zip(&allocation.ports).flat_map(|(port, allocated)| {
        (0..=port.further).map(|i| (port.protocol, port.host_ip, allocated.host_port + i))
    });
    ports.chain([(Protocol::Tcp, valid.api_ip, allocation.api_port)]).collect()
}

/// Returns the desired ports that the error of the engine reports as in use.
pub fn refused(error: &Error, valid: &Valid, allocation: &Allocation) -> BTreeSet<Binding> {
    named(error, wanted(valid, allocation))
}

/// Returns the ports of a set that the error of the engine reports as in use.
pub fn named(error: &Error, ports: BTreeSet<Binding>) -> BTreeSet<Binding> {
    let numbers = super::failures::refused_ports(error, ports.iter().map(|(_, _, port)| *port));
    ports.into_iter().filter(|(_, _, port)| numbers.contains(port)).collect()
}

/// Returns the ports that a status reports as not published.
pub fn remembered(status: &LocalClusterStatus) -> BTreeSet<Binding> {
    let held = status.ports.iter().filter(|p| p.problem.is_some());
    let ports = held.filter_map(|p| {
        let (first, ip) = (u16::try_from(p.host_port).ok()?, p.host_ip.parse().ok()?);
        let further = p.end_port.and_then(|end| u16::try_from(end - p.port).ok()).unwrap_or_default();
        Some((0..=further).filter_map(move |i| Some((p.protocol, ip, first.checked_add(i)?))))
    });
    ports.flatten().collect()
}

/// Marks the ports that are in use and adds a problem for each with its holder. `refused` contains the ports that the
/// engine failed to bind; ports that other containers publish are observed.
pub fn judge(
    plan: &mut Plan,
    subject: &Subject<'_>,
    allocation: &mut Allocation,
    observed: &Host,
    refused: &BTreeSet<Binding>,
) {
    let Subject { valid, owner, .. } = *subject;
    let holder = |binding: &Binding| {
        let container = observed
            .containers
            .iter()
            .find(|c| !owner.owns(&c.labels) && c.ports.iter().any(|p| is_bound_by(p, binding)));
        match container {
            Some(c) => Some(format!("the container {} ({})", c.name, short(&c.id))),
            None => refused.contains(binding).then(|| "another process on the Docker host".to_owned()),
        }
    };
    allocation.api_held = holder(&(Protocol::Tcp, valid.api_ip, allocation.api_port));
    if let Some(who) = &allocation.api_held {
        let message = format!(
            "the API is not published: port {}:{} is in use by {who}; free it, or change spec.api.hostPort",
            valid.api_ip, allocation.api_port
        );
        plan.stalls(ConditionType::LoadBalancerReady, Reason::PortConflict, message);
    }
    for (port, allocated) in valid.ports.iter().zip(&mut allocation.ports) {
        let all = (0..=port.further).map(|i| allocated.host_port + i);
        allocated.held = all.filter_map(|p| Some((p, holder(&(port.protocol, port.host_ip, p))?))).collect();
        if let Some(problem) = problem(&allocated.held, port.host_ip) {
            let name = &port.name;
            let what = match port.further {
                0 => format!("port {name} is not published"),
                _ => format!("port range {name} is published without {}", list(allocated.held.keys())),
            };
            let message =
                format!("{what}: {problem}; free it, or change its hostPort. All other ports are published");
            plan.stalls(ConditionType::LoadBalancerReady, Reason::PortConflict, message);
        }
    }
}

/// Reports whether a published port prevents the binding of this one.
fn is_bound_by(published: &PortBinding, (protocol, ip, port): &Binding) -> bool {
    let every = |ip: &str| ip == "0.0.0.0";
    published.host_port == *port
        && published.protocol == protocol.docker()
        && (every(&published.host_ip) || ip.is_unspecified() || published.host_ip == ip.to_string())
}

/// Returns the message about ports that are in use.
fn problem(held: &BTreeMap<u16, String>, ip: Ipv4Addr) -> Option<String> {
    let mut by: BTreeMap<&String, Vec<u16>> = BTreeMap::new();
    for (port, who) in held {
        by.entry(who).or_default().push(*port);
    }
    let sentences = by.iter().map(|(who, ports)| {
        let are = if ports.len() == 1 { "is" } else { "are" };
        format!("{ip}:{} {are} in use by {who}", list(ports))
    });
    (!held.is_empty()).then(|| sentences.collect::<Vec<_>>().join("; "))
}

/// Formats ports in ascending order: `8001, 8003-8005`.
fn list<'a>(ports: impl IntoIterator<Item = &'a u16>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => runs.push((*port, *port)),
        }
    }
    let runs = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// Returns the ports for a status. `made` contains those that Docker has published. All others keep their previous
/// status until all are published: another number may be chosen before.
pub fn reported(
    valid: &Valid,
    allocation: &Allocation,
    wanted: &[PortBinding],
    made: Option<&[PortBinding]>,
    previous: &[PortStatus],
) -> Vec<PortStatus> {
    let Some(made) = made else { return previous.to_vec() };
    let now = all(valid, allocation);
    if wanted.iter().all(|p| made.contains(p)) {
        return now;
    }
    let mut ports = previous.to_vec();
    for (i, port) in now.into_iter().enumerate() {
        let (first, further) = (allocation.ports[i].listen, valid.ports[i].further);
        let listens = first..=first.saturating_add(further);
        let own = |p: &&PortBinding| listens.contains(&p.port) && p.protocol == port.protocol.docker();
        let own: Vec<&PortBinding> = wanted.iter().filter(own).collect();
        if own.is_empty() || !own.iter().all(|p| made.contains(p)) {
            continue;
        }
        match ports.iter_mut().find(|p| p.name == port.name && p.protocol == port.protocol) {
            Some(known) => *known = port,
            None => ports.push(port),
        }
    }
    ports
}

/// Returns the desired ports.
fn all(valid: &Valid, allocation: &Allocation) -> Vec<PortStatus> {
    let pairs = valid.ports.iter().zip(&allocation.ports);
    pairs
        .map(|(port, allocated)| PortStatus {
            name: port.name.clone(),
            host_ip: port.host_ip.to_string(),
            host_port: allocated.host_port.into(),
            port: port.port.into(),
            end_port: (port.further > 0).then(|| i32::from(port.port) + i32::from(port.further)),
            protocol: port.protocol,
            problem: problem(&allocated.held, port.host_ip),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_is_named_with_who_has_it() {
        let message = |held: &[(u16, &str)]| {
            let held = held.iter().map(|(port, who)| (*port, (*who).to_owned())).collect();
            problem(&held, Ipv4Addr::LOCALHOST)
        };
        assert_eq!(message(&[]), None);
        assert_eq!(message(&[(80, "a")]).unwrap(), "127.0.0.1:80 is in use by a");
        assert_eq!(
            message(&[(1, "a"), (2, "a"), (3, "b"), (4, "a"), (6, "a"), (65535, "a")]).unwrap(),
            "127.0.0.1:1-2, 4, 6, 65535 are in use by a; 127.0.0.1:3 is in use by b"
        );
    }

    fn status(host_port: i32, (port, end_port): (i32, Option<i32>), problem: Option<&str>) -> PortStatus {
        PortStatus {
            name: "web".into(),
            host_ip: "127.0.0.1".into(),
            host_port,
            port,
            end_port,
            protocol: Protocol::Udp,
            problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn a_published_port_is_in_the_way_at_the_same_address_or_where_one_is_every_address() {
        let binds = |ip: &str, host_port: u16, protocol: Protocol, wanted: &str| {
            let protocol = protocol.docker().into();
            let published = PortBinding { host_ip: ip.into(), host_port, port: 1, protocol };
            is_bound_by(&published, &(Protocol::Tcp, wanted.parse().unwrap(), 80))
        };
        for (ip, wanted) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0"),
            ("0.0.0.0", "0.0.0.0"),
        ] {
            assert!(binds(ip, 80, Protocol::Tcp, wanted), "{ip} {wanted}");
            assert!(!binds(ip, 81, Protocol::Tcp, wanted), "{ip} {wanted}");
            assert!(!binds(ip, 80, Protocol::Udp, wanted), "{ip} {wanted}");
        }
        assert!(!binds("127.0.0.2", 80, Protocol::Tcp, "127.0.0.1"));
        assert!(!binds("::", 80, Protocol::Tcp, "127.0.0.1"));
    }

    #[test]
    fn a_status_remembers_the_ports_that_were_not_published() {
        let ports = |status: PortStatus| {
            let status = LocalClusterStatus { ports: vec![status], ..LocalClusterStatus::default() };
            let all = remembered(&status).into_iter();
            all.map(|(protocol, ip, port)| {
                assert_eq!((protocol, ip), (Protocol::Udp, Ipv4Addr::LOCALHOST));
                port
            })
            .collect::<Vec<_>>()
        };
        let held = Some("in use");
        assert_eq!(ports(status(8000, (80, None), held)), [8000]);
        assert_eq!(ports(status(8000, (80, None), None)), [0_u16; 0]);
        assert_eq!(ports(status(8000, (80, Some(82)), held)), [8000, 8001, 8002]);
        assert_eq!(ports(status(65535, (80, Some(82)), held)), [65535]);
        assert_eq!(ports(status(70000, (80, None), held)), [0_u16; 0]);
    }
}
