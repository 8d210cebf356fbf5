//! Requests to the engine.

use std::collections::{BTreeMap, HashMap};

use bollard::{
    auth::DockerCredentials,
    models::{
        self, ContainerCreateBody, ContainerUpdateBody, DeviceRequest, EndpointIpamConfig, HostConfig,
        HostConfigCgroupnsModeEnum, HostConfigLogConfig, Ipam, IpamConfig, Mount, MountType,
        MountVolumeOptions, NetworkCreateRequest, NetworkingConfig, PortMap, ResourcesUlimits,
        RestartPolicyNameEnum, VolumeCreateRequest,
    },
};

use super::flushes;
use crate::docker::{
    engine::{RegistryAuth, Update},
    spec::{
        Bind, ContainerSpec, EndpointSettings, Gpus, Limits, NetworkSpec, PortBinding, RestartPolicy, Role,
        Ulimit, VolumeMount, VolumeSpec,
    },
};

/// Returns the request body that creates a container. Its only endpoint is on the network with this ID; without one, on
/// Docker's default network, unless its role needs none.
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
        given_labels,
        endpoint: place,
        ports,
        restart_policy: policy,
        tmpfs,
        shm_size,
        gpus,
        ulimits,
        extra_hosts,
        // Those of `mounts_of`.
        mounts: _,
        volume_labels: _,
        binds: _,
        given_volumes: _,
        // Privileges and limits, those of `base`.
        privileged: _,
        runtime: _,
        skips_flushes: _,
        memory: _,
        nano_cpus: _,
        pids: _,
        defaults: _,
        // Steps of their own, or decisions of whoever creates the container.
        role,
        given_isolation: _,
        shares_mounts: _,
        expects: _,
        files: _,
        given_files: _,
    } = spec;
    let host = HostConfig {
        network_mode: network.or_else(|| isolated(*role)).map(str::to_owned),
        restart_policy: Some(restart_policy(*policy)),
        cgroupns_mode: own_cgroups(spec, cgroup_v1),
        mounts: some(mounts_of(spec)),
        tmpfs: scratch(tmpfs),
        port_bindings: (!ports.is_empty()).then(|| bindings(ports)),
        shm_size: *shm_size,
        device_requests: gpus.map(|gpus| vec![device_request(gpus)]),
        ulimits: some(ulimits.iter().map(ulimit).collect()),
        extra_hosts: some(extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()),
        ..base(spec)
    };
    ContainerCreateBody {
        hostname: Some(name.clone()),
        user: user(*role),
        image: Some(image.clone()),
        cmd: some(command.iter().chain(host_args).cloned().collect()),
        env: some(variables(env, host_env)),
        // Those by which the container is found are its own, whatever the others are.
        labels: Some(map(given_labels).into_iter().chain(map(labels)).collect()),
        // A binding alone publishes nothing: the engine ignores a port that is not exposed too.
        exposed_ports: some(ports.iter().map(key).collect()),
        host_config: Some(host),
        networking_config: network.map(|id| networking(id, place)),
        ..Default::default()
    }
}

/// Returns the cgroup namespace. A privileged container uses that of the host by default. On cgroup v1 it must.
fn own_cgroups(spec: &ContainerSpec, cgroup_v1: bool) -> Option<HostConfigCgroupnsModeEnum> {
    let own = (spec.privileged || spec.role.is_node()) && !cgroup_v1;
    own.then_some(HostConfigCgroupnsModeEnum::PRIVATE)
}

/// Returns directories with a tmpfs of the engine's default options.
fn scratch(paths: &[String]) -> Option<HashMap<String, String>> {
    (!paths.is_empty()).then(|| paths.iter().map(|path| (path.clone(), String::new())).collect())
}

/// Returns environment variables; those of the host have precedence.
fn variables(own: &BTreeMap<String, String>, of_host: &BTreeMap<String, String>) -> Vec<String> {
    let all: BTreeMap<_, _> = own.iter().chain(of_host).collect();
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Returns the mounts of volumes and of directories and files of the host.
fn mounts_of(spec: &ContainerSpec) -> Vec<Mount> {
    let labels = &spec.volume_labels;
    let own = spec.mounts.iter().map(|mount| volume_mount(mount, labels));
    let given = spec.given_volumes.iter().map(|given| given_mount(given, labels));
    own.chain(spec.binds.iter().map(bind_mount)).chain(given).collect()
}

/// Returns the limits of a container, and the settings that do not depend on its spec.
fn base(spec: &ContainerSpec) -> HostConfig {
    let Limits { memory, nano_cpus, pids } = spec.limits();
    // A node without privileges has what its runtime gives it: Sysbox all capabilities, in a user namespace.
    let base = if spec.privileged || spec.role.is_node() { every_container() } else { restricted() };
    HostConfig {
        privileged: Some(spec.privileged),
        runtime: spec.runtime.clone(),
        memory: memory.or(base.memory),
        nano_cpus,
        pids_limit: pids.or(base.pids_limit),
        security_opt: flushes::skipped(spec).or(base.security_opt),
        ..base
    }
}

/// Returns the network mode of the helpers that only work on files.
fn isolated(role: Role) -> Option<&'static str> {
    match role {
        Role::RegistryHelper | Role::NodeHelper => Some("none"),
        Role::Node(_) | Role::LoadBalancer | Role::Registry | Role::Hub => None,
    }
}

/// Returns the user of the process; `None` for that of the image. The group of the engine's socket is unknown, and
/// whoever may use it is root on the host anyway.
fn user(role: Role) -> Option<String> {
    (role == Role::Hub).then(|| "0:0".to_owned())
}

/// Returns the networks of a new container. An engine before API 1.44 accepts no second one.
fn networking(network: &str, place: &EndpointSettings) -> NetworkingConfig {
    let endpoints = HashMap::from([(network.to_owned(), endpoint(network, place))]);
    NetworkingConfig { endpoints_config: Some(endpoints) }
}

/// Returns the settings that all containers have.
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

/// Capabilities of containers that are not nodes: what a server needs that starts as root, switches to another user and
/// writes to directories of any owner. Docker's default has more, such as `NET_RAW`, with which a process can answer for
/// others on its network.
const CAPABILITIES: [&str; 7] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];

/// Limit of processes of such containers: far above the workers of nginx on any host.
const PROCESSES: i64 = 4096;

/// Memory limit in bytes of such containers, unless their spec has one: several times what nginx needs for thousands of
/// connections, and a registry for many concurrent pushes. The cache of files counts, but is freed first.
const MEMORY: i64 = 1 << 30;

/// Returns the settings of all containers that are not nodes. They are not part of the hash: existing containers get
/// them when they are replaced for other reasons.
fn restricted() -> HostConfig {
    HostConfig {
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(CAPABILITIES.map(String::from).into()),
        security_opt: Some(vec!["no-new-privileges:true".into()]),
        pids_limit: Some(PROCESSES),
        memory: Some(MEMORY),
        ..every_container()
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

fn restart_policy(policy: RestartPolicy) -> models::RestartPolicy {
    let name = match policy {
        RestartPolicy::UnlessStopped => RestartPolicyNameEnum::UNLESS_STOPPED,
        RestartPolicy::No => RestartPolicyNameEnum::NO,
    };
    models::RestartPolicy { name: Some(name), maximum_retry_count: None }
}

/// Returns the request body that updates a container.
pub fn update_body(change: &Update) -> ContainerUpdateBody {
    ContainerUpdateBody { restart_policy: change.restart_policy.map(restart_policy), ..Default::default() }
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

/// Returns the mount of a volume of the user. Nothing of the image is copied into it. If it was removed at this moment, the
/// engine creates another one, which its labels mark as one to be removed with the cluster.
fn given_mount((directory, given): (&String, &VolumeMount), labels: &BTreeMap<String, String>) -> Mount {
    let mut mount = volume_mount((directory, &given.name), labels);
    mount.read_only = Some(given.read_only);
    mount.volume_options.iter_mut().for_each(|options| options.no_copy = Some(true));
    mount
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
        ipam: spec.addressing.as_ref().map(|addressing| Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(addressing.subnet.to_string()),
                gateway: Some(addressing.gateway.to_string()),
                ip_range: Some(addressing.ip_range.to_string()),
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

fn map(labels: &BTreeMap<String, String>) -> HashMap<String, String> {
    labels.clone().into_iter().collect()
}

/// Returns `None` for an empty list, so that the engine uses the default of the image.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
