//! Conversion between the types of the operator and the models of bollard. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
};

use bollard::{
    auth::DockerCredentials,
    models::{
        self, ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary,
        ContainerSummaryStateEnum, ContainerUpdateBody, DeviceRequest, EndpointIpamConfig, HostConfig,
        HostConfigCgroupnsModeEnum, HostConfigLogConfig, Ipam, IpamConfig, Mount, MountType,
        MountVolumeOptions, NetworkCreateRequest, NetworkingConfig, PortMap, PortSummary, ResourcesUlimits,
        RestartPolicy, RestartPolicyNameEnum, SystemInfo, SystemInfoCgroupVersionEnum, VolumeCreateRequest,
    },
};

use super::{
    engine::{
        Attachment, Container, ContainerDetail, EngineInfo, Network, PathInfo, RegistryAuth, State, Update,
        Volume,
    },
    spec::{Bind, ContainerSpec, EndpointSettings, Gpus, NetworkSpec, PortBinding, Ulimit, VolumeSpec},
};
use crate::k3s::proxy;

/// Returns the request body that creates a container. Its only endpoint is on the network with this ID: an engine
/// before API 1.44 accepts no second one.
pub fn container_body(spec: &ContainerSpec, network: Option<&str>, cgroup_v1: bool) -> ContainerCreateBody {
    // Every field is named: a new one does not compile until it is sent.
    let ContainerSpec {
        name,
        image,
        command,
        host_args,
        env,
        host_env,
        labels,
        endpoint: place,
        ports,
        privileged,
        once,
        mounts,
        volume_labels,
        binds,
        tmpfs,
        memory,
        shm_size,
        nano_cpus,
        gpus,
        ulimits,
        extra_hosts,
        // Steps of their own, or decisions of whoever creates the container.
        role: _,
        shares_mounts: _,
        expects: _,
        files: _,
        given_files: _,
    } = spec;
    let env: BTreeMap<_, _> = env.iter().chain(host_env).collect();
    let mounts =
        mounts.iter().map(|mount| volume_mount(mount, volume_labels)).chain(binds.iter().map(bind_mount));
    let host = HostConfig {
        network_mode: network.map(str::to_owned),
        privileged: Some(*privileged),
        restart_policy: Some(restart_policy(!once)),
        // A privileged container uses the namespace of the host by default. On cgroup v1 it must.
        cgroupns_mode: (*privileged && !cgroup_v1).then_some(HostConfigCgroupnsModeEnum::PRIVATE),
        mounts: some(mounts.collect()),
        tmpfs: (!tmpfs.is_empty())
            .then(|| tmpfs.iter().map(|directory| (directory.clone(), String::new())).collect()),
        port_bindings: (!ports.is_empty()).then(|| bindings(ports)),
        memory: *memory,
        shm_size: *shm_size,
        nano_cpus: *nano_cpus,
        device_requests: gpus.map(|gpus| vec![device_request(gpus)]),
        ulimits: some(ulimits.iter().map(ulimit).collect()),
        extra_hosts: some(extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        ..every_container()
    };
    ContainerCreateBody {
        hostname: Some(name.clone()),
        image: Some(image.clone()),
        cmd: some(command.iter().chain(host_args).cloned().collect()),
        env: some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(map(labels)),
        // A binding alone publishes nothing: the engine ignores a port that is not exposed too.
        exposed_ports: some(ports.iter().map(key).collect()),
        host_config: Some(host),
        networking_config: network.map(|id| NetworkingConfig {
            endpoints_config: Some(HashMap::from([(id.to_owned(), endpoint(id, place))])),
        }),
        ..Default::default()
    }
}

/// The settings that all containers have.
fn every_container() -> HostConfig {
    HostConfig {
        // K3s runs as process 1 and reaps children itself; the engine may be configured to run an init process first.
        init: Some(false),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(HashMap::from([("max-size".into(), "10m".into()), ("max-file".into(), "3".into())])),
        }),
        ..Default::default()
    }
}

/// Returns the entry point of a container with shared mounts, for an image with this entry point. The engine creates
/// the mounts of a container as private, and has no setting to change this without a mount of the host: a shell shares
/// them, as the entry point of k3d does (k3d-io/k3d#1268), and then executes the process. Nothing propagates to the
/// host: the mounts are at most slaves of the engine's. If sharing fails, the node runs without it.
pub fn sharing_entrypoint(entrypoint: &[String]) -> Vec<String> {
    const SCRIPT: &str = "mount --make-rshared / || \
        echo 'cannot share the mounts; Pods with mountPropagation will not start' >&2; exec \"$@\"";
    let shell = ["/bin/sh", "-c", SCRIPT, "/bin/sh"].map(String::from);
    shell.into_iter().chain(entrypoint.iter().cloned()).collect()
}

fn restart_policy(restart: bool) -> RestartPolicy {
    RestartPolicy {
        name: Some(if restart { RestartPolicyNameEnum::UNLESS_STOPPED } else { RestartPolicyNameEnum::NO }),
        maximum_retry_count: None,
    }
}

/// Returns the request body that updates a container.
pub fn update_body(change: &Update) -> ContainerUpdateBody {
    ContainerUpdateBody { restart_policy: change.restart.map(restart_policy), ..Default::default() }
}

fn volume_mount((directory, volume): (&String, &String), labels: &BTreeMap<String, String>) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.clone()),
        target: Some(directory.clone()),
        volume_options: Some(MountVolumeOptions { labels: Some(map(labels)), ..Default::default() }),
        ..Default::default()
    }
}

/// Returns a mount instead of an entry of `binds`, for which the engine creates a missing directory.
fn bind_mount((directory, bind): (&String, &Bind)) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.clone()),
        target: Some(directory.clone()),
        read_only: Some(bind.read_only),
        ..Default::default()
    }
}

/// Returns the device request of `docker run --gpus`. The engine selects the driver.
fn device_request(gpus: Gpus) -> DeviceRequest {
    DeviceRequest {
        count: Some(gpus.count()),
        capabilities: Some(vec![vec!["gpu".into()]]),
        ..Default::default()
    }
}

fn ulimit((name, limit): (&String, &Ulimit)) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

fn bindings(ports: &[PortBinding]) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let binding = models::PortBinding {
            host_ip: Some(port.host_ip.clone()),
            host_port: Some(port.host_port.to_string()),
        };
        bindings.entry(key(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

fn key(port: &PortBinding) -> String {
    format!("{}/{}", port.port, port.protocol)
}

/// Returns the endpoint settings for the network with this ID. The ID is part of the settings, although the
/// documentation calls it an output: with it a listing contains the network before the first start, and the engine does
/// not look up the network by its name, which may be ambiguous.
pub fn endpoint(network: &str, endpoint: &EndpointSettings) -> models::EndpointSettings {
    models::EndpointSettings {
        network_id: Some(network.to_owned()),
        ipam_config: endpoint
            .ip
            .map(|ip| EndpointIpamConfig { ipv4_address: Some(ip.to_string()), ..Default::default() }),
        aliases: some(endpoint.aliases.clone()),
        // Since API 1.48; older engines ignore it and sort networks by name. Others have 0.
        gw_priority: endpoint.aside.then_some(-1),
        ..Default::default()
    }
}

/// Returns the request body that creates a network.
pub fn network_body(spec: &NetworkSpec) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".into()),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(spec.subnet.to_string()),
                gateway: Some(spec.gateway.to_string()),
                ip_range: Some(spec.ip_range.to_string()),
                auxiliary_addresses: None,
            }]),
            ..Default::default()
        }),
        labels: Some(map(&spec.labels)),
        ..Default::default()
    }
}

/// Returns the request body that creates a volume.
pub fn volume_body(spec: &VolumeSpec) -> VolumeCreateRequest {
    VolumeCreateRequest {
        name: Some(spec.name.clone()),
        labels: Some(map(&spec.labels)),
        ..Default::default()
    }
}

/// Returns credentials for the engine. An identity token replaces the password.
pub fn credentials(auth: &RegistryAuth) -> DockerCredentials {
    DockerCredentials {
        username: Some(auth.username.clone()),
        password: auth.identity_token.is_none().then(|| auth.password.clone()),
        identitytoken: auth.identity_token.clone(),
        serveraddress: Some(auth.server.clone()),
        ..Default::default()
    }
}

/// Returns the tag that a pull must specify in addition to the reference: without any tag the engine pulls all of them.
pub fn missing_tag(reference: &str) -> Option<&'static str> {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    (!name.contains([':', '@'])).then_some("latest")
}

/// Converts the information about an engine.
pub fn info(info: SystemInfo) -> EngineInfo {
    EngineInfo {
        id: info.id.unwrap_or_default(),
        version: info.server_version.unwrap_or_default(),
        // Engines that do not report it only support v1.
        cgroup_v1: info.cgroup_version != Some(SystemInfoCgroupVersionEnum::_2),
        memory: info.mem_total.unwrap_or_default(),
        cpus: info.ncpu.unwrap_or_default(),
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
    let mounts = response.mounts.unwrap_or_default().into_iter();
    let mut volumes: Vec<String> = mounts
        .filter(|mount| mount.typ.as_deref() == Some("volume"))
        .filter_map(|mount| mount.name)
        .collect();
    volumes.sort();
    let env = config.env.unwrap_or_default();
    let host = response.host_config.unwrap_or_default();
    let policy = host.restart_policy.and_then(|policy| policy.name);
    ContainerDetail {
        container: Container {
            image: config.image.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            state: status,
            networks: attachments(&id, &name, settings.networks),
            ports: port_map(settings.ports),
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
        restarts: policy
            .is_some_and(|p| !matches!(p, RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY)),
        volumes,
        past_proxy: proxy::lists(env.iter().map(String::as_str)),
        hostname: config.hostname.unwrap_or_default(),
    }
}

/// Parses a time, for which the engine writes the year 1 if it never happened.
fn once(time: Option<String>) -> Option<jiff::Timestamp> {
    time?.parse::<jiff::Timestamp>().ok().filter(|time| time.as_second() > 0)
}

/// Converts a network in a listing.
pub fn network(network: bollard::models::Network) -> Network {
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

/// Returns the type of a path by the mode from the engine: the mode bits of Go, on every system.
pub fn path_info(mode: u32) -> PathInfo {
    PathInfo { is_dir: mode & (1 << 31) != 0, is_symlink: mode & (1 << 27) != 0 }
}

/// Converts a volume in a listing.
pub fn volume(volume: bollard::models::Volume) -> Volume {
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

fn sorted(mut ports: Vec<PortBinding>) -> Vec<PortBinding> {
    ports.sort();
    ports
}

fn bare(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

fn map(labels: &BTreeMap<String, String>) -> HashMap<String, String> {
    labels.clone().into_iter().collect()
}

/// Returns `None` for an empty list, so that the engine uses the default of the image.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests;
