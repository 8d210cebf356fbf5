//! What is to exist on the Docker host and in the created cluster, as plain values. A container's [`ContainerSpec`] is
//! complete: whoever runs a step decides nothing.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::api::local_cluster::NodeRole;

/// A network to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// The address of the host in it.
    pub gateway: Ipv4Addr,
    /// The part that Docker may take addresses from for strangers; ours are pinned outside of it.
    pub ip_range: Ipv4Net,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A container's place on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The address to pin; `None` lets Docker choose (networks that are not ours).
    pub ip: Option<Ipv4Addr>,
    /// Further names on the network.
    pub aliases: Vec<String>,
    /// Whether it leads out of a container only where nothing else does.
    pub aside: bool,
}

impl Endpoint {
    /// An address for a container that has networks of its own. It keeps its way out by them: through a cluster's
    /// network, whose Pods may answer for the gateway, that of a registry which many use would be one cluster's affair.
    pub fn aside(ip: Ipv4Addr) -> Self {
        Self { ip: Some(ip), aside: true, ..Self::default() }
    }
}

/// A container to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name, which is its host name too.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The image reference.
    pub image: String,
    /// The arguments; empty for the image's own.
    pub command: Vec<String>,
    /// Further arguments, which follow from what the host is. They are not part of the hash: a host with more memory
    /// replaces nothing.
    pub host_args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Environment variables that take the place of those, since they follow from what is around it. They are not part of
    /// the hash: what comes later, as another agent or registry, replaces nothing.
    pub host_env: BTreeMap<String, String>,
    /// Labels, with ownership and the hash.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs with all of the host's privileges, as a K3s node has to.
    pub privileged: bool,
    /// Whether its mounts are shared ones before its process starts, as those of a machine are, so that containers in it
    /// can see them come and go and make some themselves. No part of the hash: nodes get it when they are replaced
    /// anyway, and an older one is not replaced for it.
    pub shares_mounts: bool,
    /// Directories that are memory file systems.
    pub tmpfs: Vec<String>,
    /// Volume names by the directory that they are mounted at.
    pub mounts: BTreeMap<String, String>,
    /// The labels of those volumes. Docker makes a volume that is missing together with the container: without these
    /// it would be nobody's.
    pub volume_labels: BTreeMap<String, String>,
    /// Directories of the host by the directory that they are mounted at. Docker makes none that is missing.
    pub binds: BTreeMap<String, Bind>,
    /// Whether it is left alone when its process has ended, instead of being started again.
    pub once: bool,
    /// Its place on the network that it is made on.
    pub endpoint: Endpoint,
    /// The host ports that it publishes.
    pub ports: Vec<Published>,
    /// Memory limit in bytes.
    pub memory: Option<i64>,
    /// CPU limit in billionths of a core.
    pub nano_cpus: Option<i64>,
    /// Limits of its processes, by name.
    pub ulimits: BTreeMap<String, Limit>,
    /// GPUs of the host.
    pub gpus: Option<Gpus>,
    /// Names that are added to its hosts file.
    pub extra_hosts: BTreeMap<String, String>,
    /// What its volumes hold already, of each of these sets of files one: it is not started on volumes that have lost it.
    /// Not part of the hash.
    pub expects: Vec<Vec<String>>,
    /// Files that are put in before the first start.
    pub files: Vec<FileSpec>,
    /// The paths of those files that the user gave, known even while their contents are not: without one of them a
    /// container is another one.
    pub given_files: Vec<String>,
}

impl ContainerSpec {
    /// A container of an image with its own command and nothing else, with no rights and no labels.
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
            privileged: false,
            shares_mounts: false,
            tmpfs: Vec::new(),
            mounts: BTreeMap::new(),
            volume_labels: BTreeMap::new(),
            binds: BTreeMap::new(),
            once: false,
            endpoint: Endpoint::default(),
            ports: Vec::new(),
            memory: None,
            nano_cpus: None,
            ulimits: BTreeMap::new(),
            gpus: None,
            extra_hosts: BTreeMap::new(),
            expects: Vec::new(),
            files: Vec::new(),
            given_files: Vec::new(),
        }
    }
}

/// A limit of processes, in its own unit; -1 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What processes begin with.
    pub soft: i64,
    /// How far they may raise it.
    pub hard: i64,
}

/// GPUs of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// All that there are.
    All,
    /// So many, of the engine's choice.
    Count(u8),
}

impl Gpus {
    /// As the engine counts them: -1 for all.
    pub fn count(self) -> i64 {
        match self {
            Self::All => -1,
            Self::Count(n) => n.into(),
        }
    }
}

/// A directory of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Its absolute path on the host.
    pub source: String,
    /// Whether the container can only read it.
    pub read_only: bool,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A K3s node.
    Node(NodeRole),
    /// A cluster's load balancer.
    LoadBalancer,
    /// An image registry.
    Registry,
    /// What helps a registry for a moment: it collects its garbage, or looks at a directory of the host for it.
    RegistryHelper,
    /// What looks at directories of the host for nodes that mount them.
    NodeHelper,
}

/// A file in a container.
#[derive(Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Its absolute path.
    pub path: String,
    /// Its mode.
    pub mode: u32,
    /// Its content.
    pub content: Vec<u8>,
    /// What a change of its content means.
    pub change: FileChange,
}

impl FileSpec {
    /// The hash of its content.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.content).into()
    }
}

impl fmt::Debug for FileSpec {
    /// Without the content, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSpec").field("path", &self.path).field("bytes", &self.content.len()).finish()
    }
}

/// What a change of a file's content means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// The container is replaced: its process reads the file only when it starts. The content is part of the hash.
    Replace,
    /// Nothing: the file is there for a moment only.
    Keep,
    /// The running container gets the new file and SIGHUP.
    Hangup,
    /// The container is replaced, as with [`Replace`](Self::Replace), for a file whose content is or may become
    /// secret: no hash of it is stored. What is in the container is read back and compared, running or not; one whose
    /// file can't be read yet (it was never started) gets all of its files anew anyway.
    Recreate,
    /// The container gets the new file, and its process notices by itself: it reads the file anew whenever it needs
    /// it. Secret or not, the content is read back and compared, and no hash of it is stored.
    Live,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Published {
    /// The host address, `0.0.0.0` for all.
    pub host_ip: String,
    /// The host port; 0 where the engine is to choose.
    pub host_port: u16,
    /// The container's port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}
