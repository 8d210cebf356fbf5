//! Host aliases of the user, `spec.hostAliases`: in the hosts files of nodes, and conflicts with other names. Pods
//! resolve them through CoreDNS, see [`inside`](super::inside).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    containers::{Site, condition_of, outdated},
    desired::Desired,
    inputs::Inputs,
    refs::UsedRegistry,
    steps::{Action, Plan, Target},
    validate::AliasTarget,
};
use crate::{
    api::reason::Reason,
    docker::engine::{ContainerDetail, State},
    k3s::{dns, hosts_file},
};

/// Returns the addresses of the names in a cluster whose network has this gateway.
pub fn addresses(aliases: &BTreeMap<String, AliasTarget>, gateway: Ipv4Addr) -> BTreeMap<String, IpAddr> {
    aliases.iter().map(|(name, target)| (name.clone(), target.address(gateway))).collect()
}

/// Returns the additional entries in the hosts files of nodes, including the Docker host. Docker rewrites them at
/// each start.
pub fn of_nodes(aliases: &BTreeMap<String, AliasTarget>, gateway: Ipv4Addr) -> BTreeMap<String, String> {
    let aliases = addresses(aliases, gateway).into_iter().map(|(name, address)| (name, address.to_string()));
    aliases.chain([(dns::HOST.to_owned(), gateway.to_string())]).collect()
}

/// Plans the restoration of entries in the hosts files of nodes that were changed from outside: those of the spec,
/// that of the Docker host, and those that Docker writes.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>) {
    for node in desired.nodes() {
        let (spec, name) = (&node.container, &node.container.name);
        let Some(detail) = site.own(name).filter(|d| d.container.state == State::Running) else { continue };
        let Some(content) = inputs.observed.hosts.get(&detail.container.id) else { continue };
        // A node that is about to be replaced was created with other names.
        if outdated(inputs.observed, detail, spec, site.network) {
            continue;
        }
        let own = [("localhost".to_owned(), IpAddr::V4(Ipv4Addr::LOCALHOST))];
        let pinned = spec.endpoint.ip.map(|ip| (name.clone(), IpAddr::V4(ip)));
        let given = spec.extra_hosts.iter().filter_map(|(name, ip)| Some((name.clone(), ip.parse().ok()?)));
        let wanted: BTreeMap<String, IpAddr> = own.into_iter().chain(pinned).chain(given).collect();
        let Some(repaired) = hosts_file::repaired(content, &wanted, |host, ip| may_be(detail, host, ip))
        else {
            continue;
        };
        let container = Target::of(&detail.container);
        let write = Action::Exec { container, command: hosts_file::write(&repaired) };
        plan.step(write, &[], "its /etc/hosts was changed");
        let message = format!("restoring /etc/hosts on {name}");
        plan.waits(condition_of(spec.role), Reason::Updating, message);
    }
}

/// Reports whether Docker may have written this entry: it adds the address of a container on each of its networks.
fn may_be(detail: &ContainerDetail, host: &str, ip: IpAddr) -> bool {
    let own = host == detail.container.name.to_ascii_lowercase();
    let placed = || detail.container.networks.values().any(|p| p.ip.map(IpAddr::V4) == Some(ip));
    (own && (ip.is_ipv6() || placed())) || (host == "localhost" && ip.is_loopback())
}

/// Returns the errors of names that registries in use have, which resolve to their containers. Only the Registry
/// objects contain them, so the schema cannot check them.
pub fn taken(aliases: &BTreeMap<String, AliasTarget>, registries: &[UsedRegistry]) -> Vec<String> {
    let taken = registries.iter().filter(|r| aliases.contains_key(&r.hostname));
    taken
        .map(|r| {
            format!(
                "spec.hostAliases: {} is the hostname of the Registry {} and resolves to its container; remove it",
                r.hostname, r.name
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(names: &[(&str, &str)]) -> BTreeMap<String, AliasTarget> {
        let target = |ip: &str| ip.parse().map_or(AliasTarget::HostGateway, AliasTarget::Ip);
        names.iter().map(|(name, ip)| ((*name).to_owned(), target(ip))).collect()
    }

    #[test]
    fn the_docker_host_is_always_among_them() {
        let hosts = of_nodes(
            &aliases(&[("db.internal", "10.0.0.5"), ("host", "host-gateway"), ("six", "2001:db8::5")]),
            Ipv4Addr::new(172, 31, 0, 1),
        );
        let lines: Vec<_> = hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect();
        let host = "host.k3d.internal:172.31.0.1";
        assert_eq!(lines, ["db.internal:10.0.0.5", "host:172.31.0.1", host, "six:2001:db8::5"]);
    }

    #[test]
    fn a_registrys_name_is_the_registrys() {
        let used = UsedRegistry { name: "r".into(), hostname: "k3d-r".into(), ..UsedRegistry::default() };
        assert_eq!(taken(&aliases(&[("k3d-x", "10.0.0.5")]), std::slice::from_ref(&used)), [""; 0]);
        let said = taken(&aliases(&[("k3d-r", "10.0.0.5")]), &[used]);
        assert!(said.len() == 1 && said[0].contains("k3d-r is the hostname of the Registry r"), "{said:?}");
    }
}
