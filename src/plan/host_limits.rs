//! Limits of the Docker host below which nodes fail: reported before they do, with the command that raises them. They
//! hold nothing back, since nodes may work all the same.

use std::collections::BTreeSet;

use super::observed::Host;
use crate::{
    api::{names, reason::Reason},
    docker::engine::{EngineInfo, State},
};

/// Prints the limits in any running container of the host: inotify instances of a user, and total and free blocks of the
/// file system of containers.
pub const COMMAND: [&str; 3] =
    ["sh", "-c", "cat /proc/sys/fs/inotify/max_user_instances && stat -f -c '%b %a' /"];
/// Inotify instances of a node: kubelet, containerd, CoreDNS and the operator's programs on it. All nodes run as the same
/// user, and kernels permit 128 by default.
const INSTANCES: u64 = 20;
/// Percentage of free disk space below which it is reported. K3s evicts Pods below 5 %.
const FREE: u64 = 10;

/// Observed limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Inotify instances of a user.
    pub inotify_instances: u64,
    /// Percentage of the file system of containers that is free.
    pub free: u64,
}

/// Parses the output of [`COMMAND`].
pub fn parse(output: &str) -> Option<HostLimits> {
    let mut numbers = output.split_whitespace().map(|word| word.parse::<u64>().ok());
    let (inotify_instances, blocks, free) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let free = u128::from(free).saturating_mul(100).checked_div(blocks.into())?;
    Some(HostLimits { inotify_instances, free: u64::try_from(free).ok()? })
}

/// Returns the limits that are too low: the reason of the first, and the message about all. `desired` are the names of the
/// nodes of the cluster.
pub fn too_low(host: &Host, limits: Option<&HostLimits>, desired: &[&str]) -> Option<(Reason, String)> {
    let memory = memory_cgroup(&host.engine);
    let inotify = limits.and_then(|limits| inotify(limits, nodes(host, desired)));
    let all: Vec<_> = memory.into_iter().chain(inotify).chain(limits.and_then(disk)).collect();
    let reason = all.first()?.0;
    Some((reason, all.into_iter().map(|(_, message)| message).collect::<Vec<_>>().join(". ")))
}

/// Returns the reason and the message if the kernel cannot limit memory.
pub fn memory_cgroup(engine: &EngineInfo) -> Option<(Reason, String)> {
    engine.lacks_memory_cgroup.then(|| {
        let message = "the kernel of the Docker host has no memory cgroup, without which K3s exits: add \
            cgroup_enable=memory cgroup_memory=1 to its command line (on a Raspberry Pi in /boot/firmware/cmdline.txt) \
            and reboot";
        (Reason::MemoryCgroupDisabled, message.to_owned())
    })
}

/// Returns the number of nodes on the host: running ones of all clusters, and desired ones of this one.
pub fn nodes(host: &Host, desired: &[&str]) -> u64 {
    let is_node = |role: &String| role == "server" || role == "agent";
    let running = host
        .containers
        .iter()
        .filter(|c| c.state == State::Running && c.labels.get(names::ROLE).is_some_and(is_node));
    let all: BTreeSet<&str> = running.map(|c| c.name.as_str()).chain(desired.iter().copied()).collect();
    u64::try_from(all.len()).unwrap_or(u64::MAX)
}

/// Returns the reason and the message if so many nodes need more inotify instances.
pub fn inotify(limits: &HostLimits, nodes: u64) -> Option<(Reason, String)> {
    let (has, needed) = (limits.inotify_instances, nodes.saturating_mul(INSTANCES));
    (has < needed).then(|| {
        let message = format!(
            "the Docker host permits {has} inotify instances, and {nodes} nodes need about {needed}, without which they \
             fail with \"too many open files\": run `sysctl -w fs.inotify.max_user_instances=8192` on it, and set it in \
             /etc/sysctl.d to keep it"
        );
        (Reason::InotifyLimitLow, message)
    })
}

/// Returns the reason and the message if disk space is short.
pub fn disk(limits: &HostLimits) -> Option<(Reason, String)> {
    (limits.free < FREE).then(|| {
        let message = format!(
            "less than {FREE} % of the file system of Docker is free, and K3s evicts Pods below 5 %: free space, for example \
             with `docker image prune`, or move Docker's data-root to a larger disk"
        );
        (Reason::DiskSpaceLow, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::engine::{Container, EngineInfo};

    fn limits(inotify_instances: u64, free: u64) -> HostLimits {
        HostLimits { inotify_instances, free }
    }

    fn host(nodes: usize) -> Host {
        let node = |number: usize| Container {
            name: format!("k3d-other-agent-{number}"),
            state: State::Running,
            labels: [(names::ROLE.to_owned(), "agent".to_owned())].into(),
            ..Container::default()
        };
        Host { containers: (0..nodes).map(node).collect(), ..Host::default() }
    }

    #[test]
    fn the_output_is_parsed() {
        assert_eq!(parse("128\n66053021 9630634\n"), Some(limits(128, 14)));
        for bad in ["", "128", "cat: can't open", "128\nstat: no", "128\n0 0"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn running_servers_and_agents_of_all_clusters_count() {
        let container = |(name, role, state): (&str, &str, State)| Container {
            name: name.to_owned(),
            state,
            labels: [(names::ROLE.to_owned(), role.to_owned())].into(),
            ..Container::default()
        };
        let containers = [
            ("k3d-other-server-0", "server", State::Running),
            ("k3d-other-agent-0", "agent", State::Running),
            ("k3d-other-agent-1", "agent", State::Exited),
            ("k3d-other-serverlb", "loadbalancer", State::Running),
            ("k3d-images", "registry", State::Running),
        ];
        let host = Host { containers: containers.map(container).into(), ..Host::default() };
        assert_eq!(nodes(&host, &["k3d-dev-server-0", "k3d-other-agent-0"]), 3);
    }

    #[test]
    fn each_message_has_a_cure() {
        let low = |host: &Host, limits: HostLimits| too_low(host, Some(&limits), &["k3d-other-agent-0"]);
        assert_eq!(low(&host(6), limits(128, 10)), None);
        let (reason, message) = low(&host(7), limits(128, 10)).unwrap();
        assert_eq!(reason, Reason::InotifyLimitLow);
        assert!(message.contains("7 nodes need about 140") && message.contains("sysctl -w"), "{message}");
        let (reason, message) = low(&host(1), limits(128, 9)).unwrap();
        assert_eq!(reason, Reason::DiskSpaceLow);
        assert!(message.contains("less than 10 %"), "{message}");
        let (reason, message) = low(&host(9), limits(128, 1)).unwrap();
        assert_eq!(reason, Reason::InotifyLimitLow);
        assert!(message.contains("sysctl") && message.contains("docker image prune"), "{message}");
        // It is known before anything runs.
        let engine = EngineInfo { lacks_memory_cgroup: true, ..EngineInfo::default() };
        let (reason, message) = too_low(&Host { engine, ..Host::default() }, None, &[]).unwrap();
        assert_eq!(reason, Reason::MemoryCgroupDisabled);
        assert!(message.contains("cgroup_enable=memory"), "{message}");
        assert_eq!(too_low(&Host::default(), None, &[]), None);
    }
}
