//! Desired containers, networks and volumes, as plain values. A [`ContainerSpec`] is complete: executing a step
//! requires no further decisions.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::api::{local_cluster::NodeRole, names};

/// A desired network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Name.
    pub name: String,
    /// Addresses; `None` lets the engine choose a subnet that overlaps no network to which the host is attached.
    pub addressing: Option<Addressing>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// Subnet.
    pub subnet: Ipv4Net,
    /// Address of the host in the network.
    pub gateway: Ipv4Addr,
    /// Range from which Docker allocates addresses for unmanaged containers; fixed addresses are outside of it.
    pub ip_range: Ipv4Net,
}

/// A desired volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Attachment of a container to a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSettings {
    /// Fixed address; `None` lets Docker allocate one (unmanaged networks).
    pub ip: Option<Ipv4Addr>,
    /// Additional names on the network.
    pub aliases: Vec<String>,
    /// True if it is the default gateway of the container only if no other network is.
    pub aside: bool,
}

impl EndpointSettings {
    /// Returns an endpoint on a network that the spec names.
    pub fn joined() -> Self {
        Self { ip: None, aliases: vec![names::JOINED.into()], aside: true }
    }

    /// Reports whether this is an endpoint on a network that the spec names.
    pub fn is_joined(&self) -> bool {
        self.aliases.iter().any(|alias| alias == names::JOINED)
    }

    /// Returns an endpoint with a fixed address for a container with networks of its own, which keeps its default
    /// gateway: with the gateway of a cluster network, for which Pods may respond, a registry that many clusters use
    /// would depend on a single cluster.
    pub fn aside(ip: Ipv4Addr) -> Self {
        Self { ip: Some(ip), aside: true, ..Self::default() }
    }
}

/// A desired container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Name, which is also the host name.
    pub name: String,
    /// Role of the container.
    pub role: Role,
    /// Image reference.
    pub image: String,
    /// Arguments; empty for the default of the image.
    pub command: Vec<String>,
    /// Additional arguments that depend on the host. They are not part of the hash: a host with more memory replaces
    /// nothing.
    pub host_args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Environment variables that override those and depend on the surroundings. They are not part of the hash: later
    /// additions, such as another agent or registry, replace nothing.
    pub host_env: BTreeMap<String, String>,
    /// Labels, with ownership and the hash.
    pub labels: BTreeMap<String, String>,
    /// Labels from the user. None of them has a key that the operator uses.
    pub given_labels: BTreeMap<String, String>,
    /// True for a privileged container, as a K3s node must be, except with an OCI runtime such as Sysbox.
    pub privileged: bool,
    /// OCI runtime; `None` for the default one of the engine.
    pub runtime: Option<String>,
    /// What the spec sets of those two: a change of it replaces the container. A HostPolicy decides where the spec does
    /// not, and a container keeps what it was created with.
    pub given_isolation: Isolation,
    /// True if its mounts are shared before its process starts, as on a machine, so that mounts propagate to and from
    /// the containers in it. Not part of the hash: nodes get it when they are replaced for other reasons, and existing
    /// ones are not replaced for it.
    pub shares_mounts: bool,
    /// True if its processes do not wait until the disk of the host has what they flush. It applies to privileged
    /// containers only.
    pub skips_flushes: bool,
    /// Directories with a tmpfs.
    pub tmpfs: Vec<String>,
    /// Volume names by mount path.
    pub mounts: BTreeMap<String, String>,
    /// Labels of those volumes. Docker creates a missing volume together with the container, which would be unmanaged
    /// without them.
    pub volume_labels: BTreeMap<String, String>,
    /// Directories and files of the host by mount path. Docker does not create missing ones.
    pub binds: BTreeMap<String, Bind>,
    /// Volumes of the user by mount path. They exist, and nothing is copied into them.
    pub given_volumes: BTreeMap<String, VolumeMount>,
    /// Restart policy.
    pub restart_policy: RestartPolicy,
    /// Attachment to the network that it is created on.
    pub endpoint: EndpointSettings,
    /// Host ports that it publishes.
    pub ports: Vec<PortBinding>,
    /// Memory limit in bytes.
    pub memory: Option<i64>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<i64>,
    /// CPU limit in billionths of a CPU.
    pub nano_cpus: Option<i64>,
    /// Highest number of processes and threads.
    pub pids: Option<i64>,
    /// Limits that a HostPolicy sets where the spec has none. Not part of the hash: a container keeps those that it was
    /// created with.
    pub defaults: Limits,
    /// Resource limits of its processes, by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// GPUs of the host.
    pub gpus: Option<Gpus>,
    /// Additional entries of its hosts file.
    pub extra_hosts: BTreeMap<String, String>,
    /// Files that its volumes must contain, at least one of each set: it is not started on volumes that have lost them.
    /// Not part of the hash.
    pub expects: Vec<Vec<String>>,
    /// Files that are copied into it before the first start.
    pub files: Vec<FileSpec>,
    /// Paths of the files from the user, known even while their contents are not: a change of the list replaces the
    /// container.
    pub given_files: Vec<String>,
}

impl ContainerSpec {
    /// Returns a container with the default command of an image, without privileges, labels or other settings.
    pub fn bare(name: impl Into<String>, role: Role, image: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            role,
            image: image.into(),
            command: Vec::new(),
            host_args: Vec::new(),
            env: BTreeMap::new(),
            host_env: BTreeMap::new(),
            labels: BTreeMap::new(),
            given_labels: BTreeMap::new(),
            privileged: false,
            runtime: None,
            given_isolation: Isolation::default(),
            shares_mounts: false,
            skips_flushes: false,
            tmpfs: Vec::new(),
            mounts: BTreeMap::new(),
            volume_labels: BTreeMap::new(),
            binds: BTreeMap::new(),
            given_volumes: BTreeMap::new(),
            restart_policy: RestartPolicy::UnlessStopped,
            endpoint: EndpointSettings::default(),
            ports: Vec::new(),
            memory: None,
            shm_size: None,
            nano_cpus: None,
            pids: None,
            defaults: Limits::default(),
            ulimits: BTreeMap::new(),
            gpus: None,
            extra_hosts: BTreeMap::new(),
            expects: Vec::new(),
            files: Vec::new(),
            given_files: Vec::new(),
        }
    }
}

impl ContainerSpec {
    /// Returns the limits that the container is created with.
    pub fn limits(&self) -> Limits {
        let Self { memory, nano_cpus, pids, .. } = *self;
        Limits { memory, nano_cpus, pids }.or(self.defaults)
    }
}

/// Limits of a container; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<i64>,
    /// CPUs in billionths.
    pub nano_cpus: Option<i64>,
    /// Number of processes and threads.
    pub pids: Option<i64>,
}

impl Limits {
    /// Returns these limits, and where there is none the other one.
    pub fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            nano_cpus: self.nano_cpus.or(other.nano_cpus),
            pids: self.pids.or(other.pids),
        }
    }
}

/// What separates a node container from the host; `None` where it is not decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Isolation {
    /// Name of an OCI runtime.
    pub runtime: Option<String>,
    /// True for a privileged container.
    pub privileged: Option<bool>,
}

impl Isolation {
    /// Returns this isolation, and where it is not decided the other one.
    pub fn or(&self, other: &Self) -> Self {
        Self {
            runtime: self.runtime.as_ref().or(other.runtime.as_ref()).cloned(),
            privileged: self.privileged.or(other.privileged),
        }
    }
}

/// Restart policy of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RestartPolicy {
    /// The engine does not restart it.
    #[default]
    No,
    /// The engine restarts it when its process exits, and when the engine itself starts.
    UnlessStopped,
}

/// A resource limit of processes in its own unit; -1 for unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// GPUs of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// All GPUs.
    All,
    /// This number of GPUs, selected by the engine.
    Count(u8),
}

impl Gpus {
    /// Returns the number for the engine: -1 for all.
    pub fn count(self) -> i64 {
        match self {
            Self::All => -1,
            Self::Count(n) => n.into(),
        }
    }
}

/// A volume that is mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// Name of the volume.
    pub name: String,
    /// True for a read-only mount.
    pub read_only: bool,
}

/// A directory or file of the host that is mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: String,
    /// True for a read-only mount.
    pub read_only: bool,
}

/// Role of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A K3s node.
    Node(NodeRole),
    /// The load balancer of a cluster.
    LoadBalancer,
    /// An image registry.
    Registry,
    /// A temporary helper of a registry, which runs its garbage collection or inspects a directory of the host.
    RegistryHelper,
    /// A temporary helper that inspects directories of the host for nodes that mount them.
    NodeHelper,
    /// A hub or its operator, which no object owns.
    Hub,
}

impl Role {
    /// Reports whether it is that of a K3s node.
    pub fn is_node(self) -> bool {
        matches!(self, Self::Node(_))
    }
}

/// A file in a container.
#[derive(Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Absolute path.
    pub path: String,
    /// Mode.
    pub mode: u32,
    /// Content.
    pub content: Vec<u8>,
    /// Effect of a change of the content.
    pub change: FileChange,
}

impl FileSpec {
    /// Returns the hash of the content.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.content).into()
    }
}

impl fmt::Debug for FileSpec {
    /// Formats the file without its content, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSpec").field("path", &self.path).field("bytes", &self.content.len()).finish()
    }
}

/// Effect of a change of the content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// The container is replaced: its process only reads the file when it starts. The content is part of the hash.
    Replace,
    /// Nothing happens: the file is temporary.
    Keep,
    /// The file is updated in the running container, which receives SIGHUP.
    Hangup,
    /// The container is replaced, as with [`Replace`](Self::Replace), for a file with content that is or may become
    /// secret: its hash is not stored. The content in the container is read and compared, whether it is running or not;
    /// a container with a file that cannot be read yet (it was never started) gets all of its files again anyway.
    Recreate,
    /// The container is replaced, as with [`Recreate`](Self::Recreate), if the secret in this join token changes. With
    /// another CA in the token, the file is updated in the container and takes effect at its next start.
    Token,
    /// The file is updated in the container, and its process reads it again whenever needed. Secret or not, the content
    /// is read and compared, and its hash is not stored.
    Live,
    /// The file is updated in the container, as with [`Live`](Self::Live). The container is replaced only if the setting
    /// behind the content changes: this hash of it is part of the hash of the container.
    LiveFrom([u8; 32]),
}

impl FileChange {
    /// Reports whether the file is updated in place without a signal.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::LiveFrom(_))
    }
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortBinding {
    /// Host address, `0.0.0.0` for all.
    pub host_ip: String,
    /// Host port; 0 if the engine chooses one.
    pub host_port: u16,
    /// Port of the container.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}
