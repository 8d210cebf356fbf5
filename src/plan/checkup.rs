//! Whether a Docker host is fit for clusters, and whether what is installed is well: what `localcluster check` says of it.

mod installed;

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use serde::Serialize;

pub use installed::{Installed, clusters, definitions, hub, operators};

use super::{
    addresses::overlap,
    host_limits::{self, HostLimits},
    observed::Host,
};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// Clusters work, or most of them.
    Warning,
    /// Clusters do not work.
    Error,
}

impl Level {
    /// Returns the level as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub check: &'static str,
    /// How it is.
    pub level: Level,
    /// What was found, and what to do about it.
    pub message: String,
}

impl Finding {
    /// Returns a finding.
    pub fn new(check: &'static str, level: Level, message: impl Into<String>) -> Self {
        Self { check, level, message: message.into() }
    }
}

/// Oldest engine that the operator was tested with.
const OLDEST: (u32, u32) = (20, 10);
/// Newest major version that it was tested with.
const NEWEST: u32 = 29;

/// Judges the version of an engine that answers at an address, on a host with a name.
pub fn engine(version: &str, name: &str, address: &str) -> Finding {
    let of = |level, why: &str| {
        Finding::new("docker", level, format!("Docker Engine {version} on {name} at {address}{why}"))
    };
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().ok());
    let Some((major, minor)) = numbers.next().flatten().zip(numbers.next().flatten()) else {
        return of(Level::Warning, ": the operator was tested with 20.10 to 29; see docs/engines.md");
    };
    match () {
        () if (major, minor) < OLDEST => {
            of(Level::Error, ": it is older than 20.10, the oldest that the operator works with; upgrade it")
        }
        () if major > NEWEST => {
            of(Level::Warning, ": it is newer than those that the operator was tested with, 20.10 to 29")
        }
        () => of(Level::Ok, ""),
    }
}

/// Judges the control groups of the host.
pub fn cgroups(host: &Host) -> Finding {
    let check = "cgroups";
    match host_limits::memory_cgroup(&host.engine) {
        Some((_, message)) => Finding::new(check, Level::Error, message),
        None => Finding::new(check, Level::Ok, if host.engine.cgroup_v1 { "version 1" } else { "version 2" }),
    }
}

/// Judges the limits of the host by the nodes that run on it and those of one more cluster.
pub fn limits(host: &Host, limits: Result<HostLimits, String>) -> [Finding; 2] {
    let limits = match limits {
        Ok(limits) => limits,
        Err(why) => return ["inotify", "disk"].map(|check| Finding::new(check, Level::Unknown, why.clone())),
    };
    let nodes = host_limits::nodes(host, &["one more"]);
    let of = |check, found: Option<(_, String)>, well: String| match found {
        Some((_, message)) => Finding::new(check, Level::Warning, message),
        None => Finding::new(check, Level::Ok, well),
    };
    let inotify = format!("{} instances for {nodes} nodes, one more than run", limits.inotify_instances);
    [
        of("inotify", host_limits::inotify(&limits, nodes), inotify),
        of("disk", host_limits::disk(&limits), format!("{} % are free", limits.free)),
    ]
}

/// Pool from which Docker takes the subnets of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// All of it.
    pub base: Ipv4Net,
    /// Length of the prefix of each subnet.
    pub size: u8,
}

impl Pool {
    /// Parses a pool as Docker describes it.
    pub fn new(base: &str, size: u8) -> Option<Self> {
        let base: Ipv4Net = base.parse().ok()?;
        (base.prefix_len() <= size && size <= 32).then_some(Self { base: base.trunc(), size })
    }
}

/// Pools of an engine that is not configured with any.
const DEFAULT_POOLS: [(&str, u8); 7] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
];
/// More free subnets are not counted.
const ENOUGH: usize = 100;
/// Fewer free subnets are told.
const FEW: usize = 3;
/// Longest prefix of a subnet that has room for a cluster.
const LONGEST: u8 = 25;

/// Judges what is left of the engine's address pools; never as an error, since clusters that exist have their subnets, and
/// an operator with `--network-pool` needs none of these. Docker takes no subnet that overlaps a network of its own or a route
/// of the host, as far as those are known.
pub fn subnets(host: &Host, pools: &[Pool], routes: Option<&BTreeSet<Ipv4Net>>) -> Finding {
    let of = |level, message: String| Finding::new("subnets", level, message);
    let defaults: Vec<Pool> =
        DEFAULT_POOLS.iter().filter_map(|(base, size)| Pool::new(base, *size)).collect();
    let pools = if pools.is_empty() { &defaults } else { pools };
    if let Some(small) = pools.iter().find(|pool| pool.size > LONGEST) {
        return of(
            Level::Warning,
            format!(
                "Docker makes subnets of /{} from {}, and a cluster needs a /{LONGEST} or larger: set a size of 24 in \
                 default-address-pools of the engine's daemon.json, or start the operator with --network-pool",
                small.size, small.base
            ),
        );
    }
    let routes = routes.into_iter().flatten();
    let taken: Vec<Ipv4Net> =
        host.networks.iter().flat_map(|network| &network.subnets).chain(routes).copied().collect();
    let all = pools.iter().flat_map(|pool| pool.base.subnets(pool.size).into_iter().flatten());
    let free = all.filter(|subnet| taken.iter().all(|other| !overlap(*subnet, *other))).take(ENOUGH).count();
    let what = "remove unused networks (`docker network prune`), add a pool to default-address-pools in the engine's \
                daemon.json, or start the operator with --network-pool";
    match free {
        0 => of(
            Level::Warning,
            format!("Docker has no free subnet for the network of another cluster: {what}"),
        ),
        1..FEW => {
            of(Level::Warning, format!("Docker has only {free} free subnets, one for each cluster: {what}"))
        }
        ENOUGH => of(Level::Ok, format!("{ENOUGH} or more are free")),
        _ => of(Level::Ok, format!("{free} are free")),
    }
}

/// Parses `/proc/net/route`. Docker takes no account of routes by way of a gateway.
pub fn routes(file: &str) -> BTreeSet<Ipv4Net> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let address = |at: usize| Some(u32::from_str_radix(columns.get(at)?, 16).ok()?.swap_bytes());
        let is_direct = address(2)? == 0;
        Ipv4Net::with_netmask(address(1)?.into(), address(7)?.into()).ok().filter(|_| is_direct)
    };
    file.lines().skip(1).filter_map(route).collect()
}

/// Judges the resolvers of the host, and whether one of them knows the registry of K3s's image.
pub fn dns(resolvers: &BTreeSet<String>, registry: &str, resolved: Result<(), String>) -> Finding {
    let of = |level, message: String| Finding::new("dns", level, message);
    if resolvers.is_empty() {
        let message = "/etc/resolv.conf of the Docker host names no server, and Docker asks 8.8.8.8 and 8.8.4.4 instead; add \
                       one if these are not reachable";
        return of(Level::Warning, message.into());
    }
    let all: Vec<&str> = resolvers.iter().map(String::as_str).collect();
    match resolved {
        Ok(()) => of(Level::Ok, format!("{} resolves {registry}", all.join(", "))),
        Err(why) => of(
            Level::Warning,
            format!(
                "{} does not resolve {registry}: {why}; images have to be on the host or in a registry whose name is \
                 known, see docs/registries.md",
                all.join(", ")
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::engine::{EngineInfo, Network};

    #[test]
    fn engines_are_those_that_were_tested() {
        for (version, level) in [
            ("20.10.24+dfsg1", Level::Ok),
            ("29.1.0", Level::Ok),
            ("v2.0.0-beta.24", Level::Warning),
            ("30.0.0", Level::Warning),
            ("19.03.15", Level::Error),
            ("20.9.1", Level::Error),
            ("", Level::Warning),
        ] {
            let found = engine(version, "box", "unix:///x");
            assert_eq!(found.level, level, "{found:?}");
            assert!(found.message.contains(" on box at unix:///x"), "{found:?}");
        }
    }

    fn host(subnets: &[&str]) -> Host {
        let subnets = subnets.iter().map(|s| s.parse().unwrap()).collect();
        Host { networks: vec![Network { subnets, ..Network::default() }], ..Host::default() }
    }

    #[test]
    fn subnets_are_counted_by_networks_and_routes() {
        assert_eq!(subnets(&host(&[]), &[], None).message, "31 are free");
        let vpn = ["172.16.0.0/12", "192.168.0.0/17"].map(|s| s.parse().unwrap()).into();
        let of = |networks: &[&str]| subnets(&host(networks), &[], Some(&vpn));
        assert_eq!(of(&[]).message, "8 are free");
        let few = of(&["192.168.128.0/18", "192.168.192.0/19"]);
        assert!(few.level == Level::Warning && few.message.contains("only 2 free subnets"), "{few:?}");
        let none = of(&["192.168.128.0/17"]);
        assert!(none.level == Level::Warning && none.message.contains("--network-pool"), "{none:?}");
        let many = subnets(&host(&[]), &[Pool::new("10.0.0.0/8", 24).unwrap()], None);
        assert_eq!((many.level, many.message.as_str()), (Level::Ok, "100 or more are free"));
        let least = subnets(&host(&[]), &[Pool::new("10.0.0.0/16", LONGEST).unwrap()], None);
        assert_eq!(least.level, Level::Ok, "{least:?}");
        let small = subnets(&host(&[]), &[Pool::new("10.0.0.0/24", 28).unwrap()], None);
        assert!(small.level == Level::Warning && small.message.contains("/28 from 10.0.0.0/24"), "{small:?}");
        assert_eq!((Pool::new("10.0.0.0/24", 16), Pool::new("fd00::/64", 80)), (None, None));
    }

    #[test]
    fn routes_are_those_of_the_kernel() {
        let file = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            tun0\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\nhalf\t0000\n";
        assert_eq!(routes(file), ["192.168.0.0/16".parse().unwrap()].into());
    }

    #[test]
    fn limits_are_those_of_the_condition() {
        let told =
            |instances, free| limits(&host(&[]), Ok(HostLimits { inotify_instances: instances, free }));
        assert!(told(8192, 50).iter().all(|found| found.level == Level::Ok));
        let [inotify, disk] = told(10, 3);
        assert!(inotify.level == Level::Warning && inotify.message.contains("sysctl -w"), "{inotify:?}");
        assert!(disk.level == Level::Warning && disk.message.contains("docker image prune"), "{disk:?}");
        let unseen = limits(&host(&[]), Err("nobody knows".into()));
        assert!(unseen.iter().all(|found| found.level == Level::Unknown));
        let mut lacks = host(&[]);
        lacks.engine = EngineInfo { lacks_memory_cgroup: true, ..EngineInfo::default() };
        assert_eq!(cgroups(&lacks).level, Level::Error);
        assert_eq!(cgroups(&host(&[])).message, "version 2");
    }

    #[test]
    fn names_have_to_resolve() {
        let servers = BTreeSet::from(["127.0.0.53".to_owned()]);
        assert_eq!(dns(&BTreeSet::new(), "r", Ok(())).level, Level::Warning);
        assert_eq!(dns(&servers, "r", Ok(())).message, "127.0.0.53 resolves r");
        let away = dns(&servers, "r", Err("no such host".into()));
        assert!(
            away.level == Level::Warning
                && away.message.contains("127.0.0.53 does not resolve r: no such host")
        );
    }
}
