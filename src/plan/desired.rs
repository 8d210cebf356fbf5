//! What is to exist on the Docker host, as plain values. A container's [`ContainerSpec`] is complete: whoever runs a
//! step decides nothing.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::{api::local_cluster::NodeRole, docker::engine::Published};

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
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Labels, with ownership and the hash.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs with all of the host's privileges, as a K3s node has to.
    pub privileged: bool,
    /// Directories that are memory file systems.
    pub tmpfs: Vec<String>,
    /// Volume names by the directory that they are mounted at.
    pub mounts: BTreeMap<String, String>,
    /// The labels of those volumes. Docker makes a volume that is missing together with the container: without these
    /// it would be nobody's.
    pub volume_labels: BTreeMap<String, String>,
    /// Its place on the network that it is made on.
    pub endpoint: Endpoint,
    /// The host ports that it publishes.
    pub ports: Vec<Published>,
    /// Memory limit in bytes.
    pub memory: Option<i64>,
    /// CPU limit in billionths of a core.
    pub nano_cpus: Option<i64>,
    /// Names that are added to its hosts file.
    pub extra_hosts: BTreeMap<String, String>,
    /// Files that are put in before the first start.
    pub files: Vec<FileSpec>,
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
    /// Nothing: the content is secret, so no hash of it is stored, and it must not change in the container's life.
    Keep,
    /// The running container gets the new file and SIGHUP.
    Hangup,
}
