//! The interface between the operator and a Docker Engine.
//!
//! [`Engine`] contains all operations that the operator needs, with its own types: no bollard type is part of it, so
//! that the model of the planner, the fake with injected faults and the real engine are interchangeable.
//! Implementations limit the duration of every call.

use std::{collections::BTreeMap, io, net::Ipv4Addr, pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{io::AsyncWrite, stream::BoxStream};
use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use super::{
    error::Error,
    spec::{ContainerSpec, EndpointSettings, Limits, NetworkSpec, PortBinding, RestartPolicy, VolumeSpec},
};

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// Operations of a Docker Engine.
///
/// Calls that change something are idempotent: they succeed if their goal is already met, such as starting a running
/// container, stopping a stopped one, removing one that does not exist, or connecting one that is connected.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Returns information about the engine. Fails if it cannot be reached.
    async fn info(&self) -> Result<EngineInfo>;
    /// Lists all containers of the engine, running or not, managed or not.
    async fn containers(&self) -> Result<Vec<Container>>;
    /// Inspects a container; `None` if no container has this ID or name.
    async fn inspect(&self, id: &str) -> Result<Option<ContainerDetail>>;
    /// Lists all networks of the engine.
    async fn networks(&self) -> Result<Vec<Network>>;
    /// Lists all volumes of the engine.
    async fn volumes(&self) -> Result<Vec<Volume>>;
    /// Returns the ID of an image; `None` if it does not exist on the engine.
    async fn image(&self, reference: &str) -> Result<Option<String>>;
    /// Pulls an image and waits for completion. The timeout applies between progress records, not to the whole pull.
    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()>;
    /// Returns the names of an image; `None` if it does not exist on the engine.
    async fn image_names(&self, reference: &str) -> Result<Option<ImageNames>>;
    /// Succeeds if the registry of an image lets its manifest be read with these credentials, or without. Pulls nothing.
    async fn check_access(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()>;

    /// Creates a network and returns its ID.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<String>;
    /// Removes a network.
    async fn remove_network(&self, id: &str) -> Result<()>;
    /// Attaches a container to a network.
    async fn connect(&self, network: &str, container: &str, endpoint: &EndpointSettings) -> Result<()>;
    /// Detaches a container from a network.
    async fn disconnect(&self, network: &str, container: &str) -> Result<()>;
    /// Creates a volume; an existing volume with the same name is left unchanged.
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()>;
    /// Removes a volume.
    async fn remove_volume(&self, name: &str) -> Result<()>;
    /// Creates a container on the network with this ID and returns the ID of the container. It is not started.
    async fn create_container(&self, spec: &ContainerSpec, network: Option<&str>) -> Result<String>;
    /// Unpacks a tar archive at the root of the file system of a container.
    async fn upload(&self, container: &str, archive: Vec<u8>) -> Result<()>;
    /// Reads a regular file; `None` if it does not exist. Fails if it is larger than `limit` bytes: a process of the
    /// container can write as much as the disk takes.
    async fn read_file(&self, container: &str, path: &str, limit: usize) -> Result<Option<Vec<u8>>>;
    /// Reads the regular files below a directory of a container, by absolute path; empty if the directory does not
    /// exist. Fails if they are larger than `limit` bytes together.
    async fn read_tree(&self, container: &str, path: &str, limit: usize)
    -> Result<BTreeMap<String, Vec<u8>>>;
    /// Returns the type of a path in a container, running or not; `None` if it does not exist. Symbolic links are
    /// followed except in the last component.
    async fn path_info(&self, container: &str, path: &str) -> Result<Option<PathInfo>>;
    /// Starts a container.
    async fn start(&self, container: &str) -> Result<()>;
    /// Stops a container: SIGTERM (or its stop signal), and SIGKILL after the grace period in seconds.
    async fn stop(&self, container: &str, grace: u32) -> Result<()>;
    /// Unpauses a container.
    async fn unpause(&self, container: &str) -> Result<()>;
    /// Sends a signal such as `SIGHUP` to the main process of a container.
    async fn signal(&self, container: &str, signal: &str) -> Result<()>;
    /// Updates the settings of a container that can be changed in place, running or not.
    async fn update(&self, container: &str, change: &Update) -> Result<()>;
    /// Runs a command in a running container, with the privileges of its main process, and waits for completion.
    async fn exec(&self, container: &str, command: &[String]) -> Result<Ended>;
    /// Like [`Self::exec`], with another timeout, which does not include the time that a call waits for other calls: what
    /// it says about the container must not depend on them.
    async fn exec_within(&self, container: &str, command: &[String], limit: Duration) -> Result<Ended>;
    /// Runs a command in a running container that reads the archive of an image of this engine from standard input, and
    /// waits for completion. The timeout applies to the time without progress, not to the whole command.
    async fn pipe_image(&self, reference: &str, container: &str, command: &[String]) -> Result<Ended>;
    /// Starts a command in a running container, attached to its standard streams. Does not wait for its exit.
    async fn attach_exec(&self, container: &str, command: &[String]) -> Result<Attached>;
    /// Removes a container, running or not, with its anonymous volumes.
    async fn remove_container(&self, container: &str) -> Result<()>;
    /// Returns the last lines of the log of a container, oldest first.
    async fn logs(&self, container: &str, lines: u32) -> Result<Vec<String>>;
    /// Subscribes to the events of the engine until the connection ends. Events may be lost: they are only hints.
    async fn events(&self) -> Result<BoxStream<'static, Result<Event>>>;
}

/// Information about an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// ID of the engine, stable across restarts.
    pub id: String,
    /// Version.
    pub version: String,
    /// True if the host uses cgroup v1.
    pub cgroup_v1: bool,
    /// True if the kernel of the host cannot limit memory.
    pub lacks_memory_cgroup: bool,
    /// Memory of the host in bytes; 0 if unknown.
    pub memory: i64,
    /// CPUs of the host; 0 if unknown.
    pub cpus: i64,
    /// Architecture of the host as the kernel names it: `x86_64`, `aarch64`, …; empty if unknown.
    pub architecture: String,
    /// Names of the OCI runtimes that it is configured with, sorted.
    pub runtimes: Vec<String>,
    /// Name of the one that containers have by default; empty if unknown.
    pub default_runtime: String,
}

/// A container in a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// ID.
    pub id: String,
    /// Name without the leading slash.
    pub name: String,
    /// Image reference that it was created from.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// State.
    pub state: State,
    /// Attached networks by network ID.
    pub networks: BTreeMap<String, Attachment>,
    /// Host ports that it currently publishes.
    pub ports: Vec<PortBinding>,
    /// Directories and files of the host that it can write to, sorted.
    pub writable_binds: Vec<String>,
}

/// An inspected container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDetail {
    /// Fields that a listing contains.
    pub container: Container,
    /// Time of creation.
    pub created_at: Option<jiff::Timestamp>,
    /// Time of the last start; `None` if it was never started.
    pub started_at: Option<jiff::Timestamp>,
    /// Number of restarts by the engine after it exited, since it was last started by a request.
    pub started_again: u32,
    /// Time of the last exit of its main process; `None` if it never exited.
    pub ended_at: Option<jiff::Timestamp>,
    /// Last exit code of its main process, while it is not running.
    pub exit_code: Option<i64>,
    /// Error of the engine from the last failed start.
    pub error: Option<String>,
    /// Host ports in its configuration, running or not.
    pub wanted_ports: Vec<PortBinding>,
    /// Restart policy.
    pub restart_policy: RestartPolicy,
    /// Names of mounted volumes.
    pub volumes: Vec<String>,
    /// Proxy exceptions in each variable of its environment that lists them.
    pub past_proxy: Vec<String>,
    /// Host name, which does not change when the container is renamed.
    pub hostname: String,
    /// True if it has no network at all, not even one that it is connected to when it starts.
    pub has_no_network: bool,
    /// Limits that it was created with.
    pub limits: Limits,
    /// OCI runtime that it was created with. Engines show their default one for a container that was created without.
    pub runtime: Option<String>,
    /// True for a privileged container.
    pub privileged: bool,
    /// Entry point, which is that of its image; empty if there is none.
    pub entrypoint: Vec<String>,
}

impl ContainerDetail {
    /// Reports whether the engine restarts it when it exits.
    pub fn restarts(&self) -> bool {
        self.restart_policy != RestartPolicy::No
    }
}

/// Settings of a container that can be changed in place. `None` keeps the current value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Restart policy.
    pub restart_policy: Option<RestartPolicy>,
}

/// Result of a command in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Exit code.
    pub code: i64,
    /// Standard output.
    pub stdout: String,
    /// Standard error. Docker delivers both streams without a defined relative order.
    pub stderr: String,
}

impl Ended {
    /// Returns standard output, or an error if the command failed.
    pub fn succeeded(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        let last = |text: &str| text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
        let last_line = last(&self.stderr).or_else(|| last(&self.stdout));
        Err(Error::Engine(format!(
            "exit code {}{}",
            self.code,
            last_line.map(|s| format!(": {s}")).unwrap_or_default()
        )))
    }
}

/// Standard streams of a running command in a container. Dropping both disconnects from it: it then reads the end of its
/// standard input.
pub struct Attached {
    /// Standard input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Standard output, until the command exits. Standard error, and the engine's message about a command that does not
    /// start, are errors of the stream.
    pub output: BoxStream<'static, io::Result<Bytes>>,
}

/// Type of a path in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathInfo {
    /// True for a directory.
    pub is_dir: bool,
    /// True for a symbolic link, regardless of its target.
    pub is_symlink: bool,
    /// True for a regular file, and not for a socket, a device or a pipe.
    pub is_file: bool,
}

/// The state of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Created, never started.
    #[default]
    Created,
    /// Running.
    Running,
    /// Running, but paused.
    Paused,
    /// Waiting to be restarted by its restart policy.
    Restarting,
    /// Exited or stopped.
    Exited,
    /// Being removed.
    Removing,
    /// Partially removed.
    Dead,
}

impl State {
    /// Reports whether it has processes to stop.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// Attachment of a container to a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the network.
    pub network_name: String,
    /// Current address; none while the container is not running.
    pub ip: Option<Ipv4Addr>,
    /// Requested address.
    pub pinned: Option<Ipv4Addr>,
    /// Additional names on the network.
    pub aliases: Vec<String>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// ID.
    pub id: String,
    /// Name; several networks may have the same one.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// IPv4 subnets.
    pub subnets: Vec<Ipv4Net>,
    /// Driver: `bridge`, `host`, …
    pub driver: String,
    /// Time of creation as written by the engine; of two networks with the same name the older one is kept.
    pub created: String,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Names of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageNames {
    /// ID of the image.
    pub id: String,
    /// Names with a tag, as Docker abbreviates them: `rancher/k3s:v1.36.2-k3s1`.
    pub tags: Vec<String>,
    /// Names with the digest of the image in that repository, if it was pulled from there or pushed to it.
    pub digests: Vec<String>,
}

/// Credentials for a pull.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAuth {
    /// Registry that the credentials are for.
    pub server: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Identity token, which replaces both.
    pub identity_token: Option<String>,
}

impl RegistryAuth {
    /// Returns a hash of the credentials, by which others can be told from them.
    pub fn hash(&self) -> [u8; 32] {
        let Self { server, username, password, identity_token } = self;
        let token = identity_token.as_deref().unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [server, username, password, token] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl std::fmt::Debug for RegistryAuth {
    /// Formats the credentials without secrets, so that no log line contains them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth").field("server", &self.server).finish_non_exhaustive()
    }
}

/// An event of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Subject of the event.
    pub subject: Subject,
    /// Action in Docker's terms: `die`, `start`, `destroy`, `disconnect`, …
    pub action: String,
    /// Labels of a container; empty for networks and volumes.
    pub labels: BTreeMap<String, String>,
}

impl Event {
    /// Reports whether it is only about files: a command in a container ended that this operator did not run, or files
    /// were copied into it.
    pub fn is_of_files(&self) -> bool {
        matches!(self.action.as_str(), "exec_die" | "extract-to-dir")
    }

    /// Reports whether the main process of a container ended. Podman calls it `died`.
    pub fn is_exit(&self) -> bool {
        matches!(self.action.as_str(), "die" | "died")
    }
}

/// Subject of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A container, by ID.
    Container(String),
    /// A network by ID, and the container of a connect or disconnect.
    Network {
        /// ID of the network.
        id: String,
        /// Name of the network.
        name: String,
        /// Container that was connected or disconnected.
        container: Option<String>,
    },
    /// A volume, by name.
    Volume(String),
    /// An image, by references: an ID and a name, of which the engine may tell one.
    Image(Vec<String>),
}
