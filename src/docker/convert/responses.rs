//! Responses of the engine.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
};

use bollard::models::{
    self, ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
    MountPoint, PortMap, PortSummary, RestartPolicyNameEnum, SystemInfo, SystemInfoCgroupVersionEnum,
};

use crate::{
    docker::{
        engine::{Attachment, Container, ContainerDetail, EngineInfo, Network, PathInfo, State, Volume},
        spec::{Limits, PortBinding, RestartPolicy},
    },
    k3s::proxy,
};

/// Converts the information about an engine.
pub fn info(info: SystemInfo) -> EngineInfo {
    EngineInfo {
        id: info.id.unwrap_or_default(),
        version: info.server_version.unwrap_or_default(),
        // Engines that do not report it only support v1.
        cgroup_v1: info.cgroup_version != Some(SystemInfoCgroupVersionEnum::_2),
        lacks_memory_cgroup: info.memory_limit == Some(false),
        memory: info.mem_total.unwrap_or_default(),
        cpus: info.ncpu.unwrap_or_default(),
        architecture: info.architecture.unwrap_or_default(),
        runtimes: sorted(info.runtimes.unwrap_or_default().into_keys().collect()),
        default_runtime: info.default_runtime.unwrap_or_default(),
    }
}

/// Converts a container in a listing.
pub fn container(summary: ContainerSummary) -> Container {
    let id = summary.id.unwrap_or_default();
    let name = summary.names.unwrap_or_default().first().map(|name| bare(name)).unwrap_or_default();
    let networks = summary.network_settings.and_then(|settings| settings.networks);
    Container {
        image: summary.image.unwrap_or_default(),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        state: summary.state.map_or(State::Created, summary_state),
        networks: attachments(&id, &name, networks),
        ports: sorted(summary.ports.unwrap_or_default().into_iter().filter_map(published).collect()),
        writable_binds: writable_binds(summary.mounts.as_deref().unwrap_or_default()),
        id,
        name,
    }
}

/// Converts an inspected container.
pub fn detail(response: ContainerInspectResponse) -> ContainerDetail {
    let id = response.id.unwrap_or_default();
    let name = bare(&response.name.unwrap_or_default());
    let state = response.state.unwrap_or_default();
    let config = response.config.unwrap_or_default();
    let settings = response.network_settings.unwrap_or_default();
    let status = state.status.map_or(State::Created, detail_state);
    let ended = matches!(status, State::Exited | State::Dead | State::Restarting | State::Removing);
    let mounts = response.mounts.unwrap_or_default();
    let writable_binds = writable_binds(&mounts);
    let mut volumes: Vec<String> = mounts
        .into_iter()
        .filter(|mount| mount.typ.as_deref() == Some("volume"))
        .filter_map(|mount| mount.name)
        .collect();
    volumes.sort();
    let env = config.env.unwrap_or_default();
    let host = response.host_config.unwrap_or_default();
    let has_no_network = settings.networks.as_ref().is_some_and(HashMap::is_empty)
        && !matches!(host.network_mode.as_deref(), Some("none" | "host"));
    // 0 or less is no limit.
    let limit = |n: Option<i64>| n.filter(|n| *n > 0);
    let limits =
        Limits { memory: limit(host.memory), nano_cpus: limit(host.nano_cpus), pids: limit(host.pids_limit) };
    let policy = host.restart_policy.and_then(|policy| policy.name);
    ContainerDetail {
        container: Container {
            image: config.image.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            state: status,
            networks: attachments(&id, &name, settings.networks),
            ports: port_map(settings.ports),
            writable_binds,
            id,
            name,
        },
        created_at: response.created.and_then(|time| time.parse::<jiff::Timestamp>().ok()),
        started_at: once(state.started_at),
        ended_at: once(state.finished_at),
        started_again: response.restart_count.and_then(|n| n.try_into().ok()).unwrap_or_default(),
        exit_code: state.exit_code.filter(|_| ended),
        error: state.error.filter(|error| !error.is_empty()),
        wanted_ports: port_map(host.port_bindings),
        restart_policy: policy.map_or(RestartPolicy::No, restart_policy),
        volumes,
        past_proxy: proxy::lists(env.iter().map(String::as_str)),
        hostname: config.hostname.unwrap_or_default(),
        has_no_network,
        limits,
        runtime: host.runtime.filter(|name| !name.is_empty()),
        privileged: host.privileged == Some(true),
        entrypoint: config.entrypoint.unwrap_or_default(),
    }
}

/// Returns the directories and files of the host that are mounted writable.
fn writable_binds(mounts: &[MountPoint]) -> Vec<String> {
    let writable = |m: &&MountPoint| m.typ.as_deref() == Some("bind") && m.rw == Some(true);
    let mut binds: Vec<String> = mounts.iter().filter(writable).filter_map(|m| m.source.clone()).collect();
    binds.sort();
    binds
}

/// Converts a restart policy. One that was set from outside and that also restarts the container is left unchanged.
fn restart_policy(policy: RestartPolicyNameEnum) -> RestartPolicy {
    match policy {
        RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO => RestartPolicy::No,
        RestartPolicyNameEnum::ALWAYS
        | RestartPolicyNameEnum::UNLESS_STOPPED
        | RestartPolicyNameEnum::ON_FAILURE => RestartPolicy::UnlessStopped,
    }
}

/// Parses a time, for which the engine writes the year 1 if it never happened.
fn once(time: Option<String>) -> Option<jiff::Timestamp> {
    time?.parse::<jiff::Timestamp>().ok().filter(|time| time.as_second() > 0)
}

/// Converts a network in a listing.
pub fn network(network: models::Network) -> Network {
    let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    Network {
        id: network.id.unwrap_or_default(),
        name: network.name.unwrap_or_default(),
        labels: network.labels.unwrap_or_default().into_iter().collect(),
        subnets: configs.into_iter().filter_map(|config| config.subnet?.parse().ok()).collect(),
        driver: network.driver.unwrap_or_default(),
        created: network.created.unwrap_or_default(),
    }
}

/// Mode bits of Go that no regular file has: those of a directory, a link, devices, a pipe, a socket and others.
const NO_FILE: u32 = 1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;

/// Returns the type of a path by the mode from the engine: the mode bits of Go, on every system.
pub fn path_info(mode: u32) -> PathInfo {
    PathInfo {
        is_dir: mode & (1 << 31) != 0,
        is_symlink: mode & (1 << 27) != 0,
        is_file: mode & NO_FILE == 0,
    }
}

/// Converts a volume in a listing.
pub fn volume(volume: models::Volume) -> Volume {
    Volume { name: volume.name, labels: volume.labels.into_iter().collect() }
}

/// Returns the last lines of a log, oldest first.
pub fn last_lines(log: &[u8], lines: u32) -> Vec<String> {
    let text = String::from_utf8_lossy(log);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines as usize)..].iter().map(|line| line.to_string()).collect()
}

fn summary_state(state: ContainerSummaryStateEnum) -> State {
    match state {
        ContainerSummaryStateEnum::EMPTY | ContainerSummaryStateEnum::CREATED => State::Created,
        ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::STOPPING => State::Running,
        ContainerSummaryStateEnum::PAUSED => State::Paused,
        ContainerSummaryStateEnum::RESTARTING => State::Restarting,
        ContainerSummaryStateEnum::EXITED => State::Exited,
        ContainerSummaryStateEnum::REMOVING => State::Removing,
        ContainerSummaryStateEnum::DEAD => State::Dead,
    }
}

fn detail_state(state: ContainerStateStatusEnum) -> State {
    match state {
        ContainerStateStatusEnum::EMPTY | ContainerStateStatusEnum::CREATED => State::Created,
        ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING => State::Running,
        ContainerStateStatusEnum::PAUSED => State::Paused,
        ContainerStateStatusEnum::RESTARTING => State::Restarting,
        ContainerStateStatusEnum::EXITED => State::Exited,
        ContainerStateStatusEnum::REMOVING => State::Removing,
        ContainerStateStatusEnum::DEAD => State::Dead,
    }
}

/// Converts the attachments, by network ID. An attachment without an ID is skipped: the engine keeps such an entry for
/// a failed connect, and for an unmanaged container that was never started.
fn attachments(
    id: &str,
    name: &str,
    networks: Option<HashMap<String, models::EndpointSettings>>,
) -> BTreeMap<String, Attachment> {
    let attachment = |(network_name, settings): (String, models::EndpointSettings)| {
        let network = settings.network_id.filter(|id| !id.is_empty())?;
        let mut aliases = settings.aliases.unwrap_or_default();
        // Before API 1.45 the engine adds the short ID of the container and, on a later connect, its host name.
        aliases.retain(|alias| alias != name && (alias.len() != 12 || !id.starts_with(alias.as_str())));
        Some((
            network,
            Attachment {
                network_name,
                ip: settings.ip_address.as_deref().and_then(address),
                pinned: settings.ipam_config.and_then(|ipam| ipam.ipv4_address).as_deref().and_then(address),
                aliases,
            },
        ))
    };
    networks.unwrap_or_default().into_iter().filter_map(attachment).collect()
}

fn address(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok()
}

fn published(port: PortSummary) -> Option<PortBinding> {
    Some(PortBinding {
        host_ip: host_ip(port.ip),
        host_port: port.public_port?,
        port: port.private_port,
        protocol: port.typ.map(|protocol| protocol.to_string()).unwrap_or_else(|| "tcp".into()),
    })
}

fn port_map(ports: Option<PortMap>) -> Vec<PortBinding> {
    let mut published = Vec::new();
    for (key, bindings) in ports.unwrap_or_default() {
        let (port, protocol) = key.split_once('/').unwrap_or((&key, "tcp"));
        let Ok(port) = port.parse() else { continue };
        for binding in bindings.unwrap_or_default() {
            let host_port = binding.host_port.and_then(|port| port.parse().ok()).unwrap_or(0);
            published.push(PortBinding {
                host_ip: host_ip(binding.host_ip),
                host_port,
                port,
                protocol: protocol.to_owned(),
            });
        }
    }
    sorted(published)
}

fn host_ip(ip: Option<String>) -> String {
    ip.filter(|ip| !ip.is_empty()).unwrap_or_else(|| Ipv4Addr::UNSPECIFIED.to_string())
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}

fn bare(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}
