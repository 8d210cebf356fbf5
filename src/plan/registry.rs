//! Plan of a Registry: its volume and its container, which every cluster that uses it connects to its network.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    addresses,
    cluster::{default_image, image_of},
    containers::{Site, Standing, outdated},
    host_path::{allowed, refusal},
    observed::{Host, Observed},
    owner::Owner,
    refused::Refused,
    registry::names::VOLUME_OF,
    settings::Settings,
    steps::{Action, Plan, Target},
    validate::{Storage, ValidRegistry},
};
use crate::{
    api::{
        RegistryStatus,
        condition::ConditionType,
        names::{self, MAX_HOSTNAME},
        reason::Reason,
        registry::GarbageCollectionStatus,
    },
    docker::{
        engine::State,
        spec::{Bind, ContainerSpec, EndpointSettings, FileSpec, PortBinding, Role, VolumeSpec},
    },
    k3s::registries::REGISTRY_PORT,
};

pub mod collection;
pub mod config;
pub mod decide;
pub mod fill;
pub mod host_path;
pub mod log;
pub mod network;
pub mod retention;
pub mod schedule;
pub mod teardown;
pub mod upstream;
pub mod volume;

use collection::Course;
use config::{CONFIG_FILE, DATA, Secrets};

/// A Registry with its context, before anything is observed.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The valid spec.
    pub valid: &'a ValidRegistry,
    /// Contents of the Secrets that it references.
    pub secrets: &'a Secrets,
    /// Owner labels of the Registry.
    pub owner: &'a Owner,
    /// Settings of the operator.
    pub settings: &'a Settings,
    /// Last status.
    pub previous: &'a RegistryStatus,
    /// Chosen host ports and subnets that Docker refused.
    pub refused: &'a Refused,
    /// UIDs of all existing Registries.
    pub living: &'a BTreeSet<String>,
    /// Size of the storage in bytes at the last measurement; `None` if it is unknown.
    pub used: Option<i64>,
    /// Garbage collection that the annotation requests, see [`collection::request`].
    pub request: Option<&'a str>,
    /// Time of the creation of the Registry; `None` if it is unknown.
    pub created: Option<Timestamp>,
    /// Current time.
    pub now: Timestamp,
}

/// Inputs of the plan of a Registry.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The Registry.
    pub subject: Subject<'a>,
    /// The observed state.
    pub observed: &'a Observed,
}

/// Desired state of a Registry.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Container of the registry.
    pub container: ContainerSpec,
    /// Storage of the images, which the container mounts.
    pub store: Store,
    /// Port on the Docker host.
    pub host_port: u16,
    /// Image for a spec without one.
    pub default_image: String,
}

/// Desired storage of the images.
#[derive(Clone, Debug)]
pub enum Store {
    /// A volume that the operator creates.
    Managed(VolumeSpec),
    /// A volume of the user.
    Volume(String),
    /// A host directory.
    HostPath(String),
}

impl Store {
    fn of(storage: &Storage, hostname: &str, owner: &Owner) -> Self {
        match storage {
            Storage::Managed { retain: _ } => {
                let mut labels = owner.labels();
                labels.insert(names::APP.into(), "k3d".into());
                labels.insert(VOLUME_OF.into(), hostname.to_owned());
                Self::Managed(VolumeSpec { name: hostname.to_owned(), labels })
            }
            Storage::Volume(name) => Self::Volume(name.clone()),
            Storage::HostPath(path) => Self::HostPath(path.clone()),
        }
    }

    /// Adds the storage to the container of the registry.
    fn mount(&self, container: &mut ContainerSpec) {
        let mut volume = |name: &String| drop(container.mounts.insert(DATA.to_owned(), name.clone()));
        match self {
            Self::Managed(spec) => {
                volume(&spec.name);
                container.volume_labels.clone_from(&spec.labels);
            }
            Self::Volume(name) => volume(name),
            Self::HostPath(path) => {
                let bind = Bind { source: path.clone(), read_only: false };
                container.binds.insert(DATA.to_owned(), bind);
            }
        }
    }
}

/// Returns the name of a temporary helper container of the registry `hostname`.
pub fn helper_name(hostname: &str, what: &str) -> String {
    // It is also the host name of the container.
    let room = MAX_HOSTNAME - what.len() - 1;
    format!("{}-{what}", hostname.get(..room).unwrap_or(hostname).trim_end_matches(['.', '-']))
}

/// Returns the desired state of the Registry; `None` if it cannot be determined, with the reason in the problems of
/// the plan.
pub fn desired(plan: &mut Plan, subject: &Subject<'_>, host: &Host) -> Option<Desired> {
    let Subject { valid, owner, settings, .. } = *subject;
    if let Some(path) = valid.storage.host_path()
        && allowed(path, &settings.allowed_host_paths).is_none()
    {
        plan.problems.push(refusal("spec.storage.hostPath", path, &settings.allowed_host_paths));
        return None;
    }
    let host_port = host_port(plan, subject, host)?;
    let mut labels = owner.labels();
    labels.insert(names::APP.into(), "k3d".into());
    labels.insert(names::ROLE.into(), names::REGISTRY_ROLE.into());
    labels.insert(names::EXTERNAL_PORT.into(), host_port.to_string());
    labels.insert("k3s.registry.port.internal".into(), REGISTRY_PORT.to_string());
    labels.insert(names::NETWORK.into(), names::registry_network(&valid.hostname));
    let read_only = fill::is_read_only(subject, host);
    if read_only {
        labels.insert(names::READ_ONLY.into(), "true".into());
    }
    let runs = image_of(host, &valid.hostname);
    let default_image =
        default_image(subject.previous.default_image.as_ref(), runs.as_ref(), &settings.registry_image);
    let image = valid.image.clone().unwrap_or_else(|| default_image.clone());
    let (command, files) = serving(subject, host, &image, read_only);
    let mut container = ContainerSpec {
        command,
        env: valid.env.clone(),
        labels,
        ports: vec![PortBinding {
            host_ip: valid.host_ip.to_string(),
            host_port,
            port: REGISTRY_PORT,
            protocol: "tcp".into(),
        }],
        memory: valid.memory,
        restart_policy: valid.restart,
        files,
        ..ContainerSpec::bare(&valid.hostname, Role::Registry, image)
    };
    let store = Store::of(&valid.storage, &valid.hostname, owner);
    store.mount(&mut container);
    Some(Desired { container, store, host_port, default_image })
}

/// Returns how the container serves: its command and its files.
fn serving(subject: &Subject<'_>, host: &Host, image: &str, read_only: bool) -> (Vec<String>, Vec<FileSpec>) {
    let Subject { valid, secrets, .. } = *subject;
    let mut files = config::files(valid, secrets, read_only);
    if valid.proxy.is_none() || !upstream::is_scripted(host.own_named(&valid.hostname), image) {
        return (vec![CONFIG_FILE.into()], files);
    }
    files.extend([config::offline(valid, secrets), upstream::script()]);
    (upstream::command(), files)
}

/// Returns the host port: the one in the spec, the previous one, or a free one.
fn host_port(plan: &mut Plan, subject: &Subject<'_>, host: &Host) -> Option<u16> {
    let Subject { valid, owner, settings, previous, refused, .. } = *subject;
    let port_range = &settings.port_range;
    let made = host.own_named(&valid.hostname);
    let made =
        made.and_then(|d| d.wanted_ports.first()).map(|p| p.host_port).filter(|p| !refused.ports.contains(p));
    let taken: BTreeSet<u16> = host
        .containers
        .iter()
        .filter(|c| !owner.owns(&c.labels))
        .flat_map(|c| c.ports.iter().map(|p| p.host_port))
        .chain(refused.ports.iter().copied())
        .collect();
    let known = previous.host_port.and_then(|p| u16::try_from(p).ok());
    let port = valid.host_port.or(known).or(made);
    let port = port.or_else(|| addresses::free_port(port_range, &owner.uid, &taken));
    if port.is_none() {
        let (first, last) = (port_range.start(), port_range.end());
        plan.stalls(
            ConditionType::ContainerReady,
            Reason::PortConflict,
            format!(
                "no free host port between {first} and {last}: all are in use; set spec.hostPort, or widen \
                --port-range"
            ),
        );
    }
    port
}

/// Plans the transition of a Registry to its desired state. Returns the result of a garbage collection, which must be
/// in the status before any step is executed.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) -> Option<GarbageCollectionStatus> {
    let Inputs { subject: Subject { owner, .. }, observed } = *inputs;
    // Helpers need no network.
    let site = Site { owner, observed, network: None, further: &[] };
    let collected = match collection::plan(plan, desired, &site, inputs) {
        Course::Free(collected) => collected,
        Course::Busy => return None,
    };
    let spec = &desired.container;
    let own = site.own(&spec.name);
    if own.is_none() && inputs.subject.settings.management.name() == Some(&spec.name) {
        let message = format!(
            "{} is the name of the Node of the management cluster; create a new Registry with another hostname",
            spec.name
        );
        plan.stalls(ConditionType::ContainerReady, Reason::NameConflict, message);
        return collected;
    }
    let lost = own.is_some_and(network::has_lost_default);
    let kept = !lost && own.is_some_and(|detail| !outdated(observed, detail, spec, None));
    let Some(after) = volume::plan(plan, desired, inputs, kept) else { return collected };
    if kept {
        // A garbage collection that is about to start still needs it.
        if site.own(&helper_name(&spec.name, "gc")).is_some() || !begins(inputs) {
            host_path::forget(plan, desired, &site);
        }
    } else if own.is_none_or(|d| !matches!(d.container.state, State::Removing | State::Dead))
        && site.foreign(&spec.name).is_none()
        && !host_path::is_sound(plan, desired, &site, &inputs.subject)
    {
        return collected;
    }
    let Some(network) = network::plan(plan, desired, inputs, kept) else { return collected };
    let site = Site { network: network.as_deref(), ..site };
    let standing = if lost { Standing::Outdated } else { site.converge(plan, spec, &after, None) };
    match standing {
        Standing::Outdated if site.has_image(plan, spec) => {
            let why = match own.map(fill::refuses) {
                _ if lost => "a failed start took it off its network",
                Some(false) if spec.labels.contains_key(names::READ_ONLY) => "its storage is full",
                Some(true) if !spec.labels.contains_key(names::READ_ONLY) => "its storage has room again",
                _ => "its spec changed",
            };
            let standing = site.replace(plan, spec, &[], why);
            rejoin(plan, spec, observed, &site, standing);
        }
        Standing::Running | Standing::Changing(_) | Standing::Outdated | Standing::Blocked => {}
    }
    collected
}

/// Reports whether a garbage collection is requested and not done.
fn begins(inputs: &Inputs<'_>) -> bool {
    inputs.subject.valid.proxy.is_none() && collection::requested(&inputs.subject).is_some()
}

/// Plans the connection of a replaced registry to the networks of the clusters that use it, at the same addresses.
/// The clusters would also connect it, a moment later.
fn rejoin(plan: &mut Plan, spec: &ContainerSpec, observed: &Observed, site: &Site<'_>, standing: Standing) {
    let (Standing::Changing(started), Some(old)) = (standing, site.own(&spec.name)) else { return };
    for (network, place) in &old.container.networks {
        let Some(ip) = place.pinned else { continue };
        if observed.networks.iter().any(|n| n.id == *network) {
            let endpoint = EndpointSettings::aside(ip);
            let container = Target { name: spec.name.clone(), id: None };
            plan.step(Action::Connect { network: network.clone(), container, endpoint }, &[started], "");
        }
    }
}
