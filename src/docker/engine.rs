//! The one seam between the operator and a Docker Engine.
//!
//! [`Engine`] is all that the operator asks of Docker, in its own words: no bollard type crosses it, so that the
//! planner's model, the fault-injecting fake and the real engine are interchangeable. Every call is bounded in time
//! by the implementation.

use std::{collections::BTreeMap, net::Ipv4Addr};

use async_trait::async_trait;
use futures::stream::BoxStream;
use ipnet::Ipv4Net;

use super::{
    error::Error,
    spec::{ContainerSpec, Endpoint, NetworkSpec, Published, VolumeSpec},
};

/// What one call answers.
pub type Result<T> = std::result::Result<T, Error>;

/// What the operator asks of a Docker Engine.
///
/// Calls that change something are idempotent in the sense that their goal already being met is success: starting
/// what runs, stopping what is stopped, removing what is gone, connecting what is connected.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What the engine is. Fails when it can't be reached.
    async fn info(&self) -> Result<EngineInfo>;
    /// Every container of the engine, running or not, whoever made it.
    async fn containers(&self) -> Result<Vec<Container>>;
    /// One container in full; `None` when there is none of this id or name.
    async fn inspect(&self, id: &str) -> Result<Option<ContainerDetail>>;
    /// Every network of the engine.
    async fn networks(&self) -> Result<Vec<Network>>;
    /// Every volume of the engine.
    async fn volumes(&self) -> Result<Vec<Volume>>;
    /// The id of an image that is present; `None` when it is not.
    async fn image(&self, reference: &str) -> Result<Option<String>>;
    /// Pulls an image and waits for the end. Bounded by silence, not by its whole length.
    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()>;

    /// Makes a network and answers its id.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<String>;
    /// Removes a network.
    async fn remove_network(&self, id: &str) -> Result<()>;
    /// Attaches a container to a network.
    async fn connect(&self, network: &str, container: &str, endpoint: &Endpoint) -> Result<()>;
    /// Detaches a container from a network.
    async fn disconnect(&self, network: &str, container: &str) -> Result<()>;
    /// Makes a volume; one of the same name is left as it is.
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()>;
    /// Removes a volume.
    async fn remove_volume(&self, name: &str) -> Result<()>;
    /// Makes a container on the network with this id and answers the container's id. It is not started.
    async fn create_container(&self, spec: &ContainerSpec, network: Option<&str>) -> Result<String>;
    /// Unpacks a tar archive at the root of a container's file system.
    async fn upload(&self, container: &str, archive: Vec<u8>) -> Result<()>;
    /// The content of one regular file; `None` when there is none.
    async fn read_file(&self, container: &str, path: &str) -> Result<Option<Vec<u8>>>;
    /// The regular files below a directory of a container, by absolute path; none when there is no such directory.
    async fn read_tree(&self, container: &str, path: &str) -> Result<BTreeMap<String, Vec<u8>>>;
    /// What a path in a container is, running or not; `None` when there is nothing. The last component is not
    /// followed where it is a symbolic link, the others are.
    async fn path_info(&self, container: &str, path: &str) -> Result<Option<PathInfo>>;
    /// Starts a container.
    async fn start(&self, container: &str) -> Result<()>;
    /// Stops a container: SIGTERM (or its own stop signal), and SIGKILL after the grace period in seconds.
    async fn stop(&self, container: &str, grace: u32) -> Result<()>;
    /// Lets a paused container go on.
    async fn unpause(&self, container: &str) -> Result<()>;
    /// Sends a signal such as `SIGHUP` to a container's first process.
    async fn signal(&self, container: &str, signal: &str) -> Result<()>;
    /// Changes what can be changed of a container as it is, running or not.
    async fn update(&self, container: &str, change: &Update) -> Result<()>;
    /// Runs a command in a running container, with the rights of its own process, and waits for its end.
    async fn exec(&self, container: &str, command: &[String]) -> Result<Ended>;
    /// Runs a command in a running container that reads the archive of an image of this engine from its standard
    /// input, and waits for its end. Bounded by silence, not by its whole length.
    async fn pipe_image(&self, reference: &str, container: &str, command: &[String]) -> Result<Ended>;
    /// Removes a container, running or not, with its anonymous volumes.
    async fn remove_container(&self, container: &str) -> Result<()>;
    /// The last lines that a container wrote, oldest first.
    async fn logs(&self, container: &str, lines: u32) -> Result<Vec<String>>;
    /// What happens on the engine from now on. The stream ends when the connection does; records may be lost, so
    /// they are hints only.
    async fn events(&self) -> Result<BoxStream<'static, Result<Event>>>;
}

/// What an engine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its own id, stable over restarts.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Whether the host runs cgroup v1.
    pub cgroup_v1: bool,
    /// The host's memory in bytes; 0 where that is not known.
    pub memory: i64,
    /// The host's processors; 0 where that is not known.
    pub cpus: i64,
}

/// A container as a listing tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, without the leading slash.
    pub name: String,
    /// The image reference it was made from.
    pub image: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its state.
    pub state: State,
    /// The networks it is attached to, by network id.
    pub networks: BTreeMap<String, Attachment>,
    /// The host ports it publishes now.
    pub ports: Vec<Published>,
}

/// What only an inspection tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDetail {
    /// What a listing tells.
    pub container: Container,
    /// When it was made.
    pub created_at: Option<jiff::Timestamp>,
    /// When it was last started, in RFC 3339; `None` when never.
    pub started_at: Option<jiff::Timestamp>,
    /// How often the engine started it again, because it had ended by itself, since somebody else did.
    pub started_again: u32,
    /// When its first process last ended; `None` when it never did.
    pub ended_at: Option<jiff::Timestamp>,
    /// How its first process last ended, while it is not running.
    pub exit_code: Option<i64>,
    /// What the engine said when it last failed to start.
    pub error: Option<String>,
    /// The host ports it asks for, running or not.
    pub wanted_ports: Vec<Published>,
    /// Whether the engine starts it again when it ends by itself.
    pub restarts: bool,
    /// The volumes mounted, by name.
    pub volumes: Vec<String>,
    /// What goes past a proxy, by each variable of its environment that lists that.
    pub past_proxy: Vec<String>,
    /// The name of its host, which it keeps when it gets another name.
    pub hostname: String,
}

/// What can be changed of a container as it is. `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Whether the engine starts it again when it ends by itself.
    pub restart: Option<bool>,
}

/// How a command ended that was run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: i64,
    /// What it wrote to be read by others.
    pub stdout: String,
    /// What it wrote about itself. Docker hands both over in no order that means anything.
    pub stderr: String,
}

impl Ended {
    /// What it wrote on stdout, unless it failed.
    pub fn succeeded(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        let last = |text: &str| text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
        let said = last(&self.stderr).or_else(|| last(&self.stdout));
        Err(Error::Engine(format!(
            "exit code {}{}",
            self.code,
            said.map(|s| format!(": {s}")).unwrap_or_default()
        )))
    }
}

/// What a path in a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathInfo {
    /// A directory.
    pub is_dir: bool,
    /// A symbolic link, wherever it leads.
    pub is_symlink: bool,
}

/// The state of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Made, never started.
    #[default]
    Created,
    /// Runs.
    Running,
    /// Runs, frozen.
    Paused,
    /// Between two starts by its restart policy.
    Restarting,
    /// Ended or stopped.
    Exited,
    /// Being removed.
    Removing,
    /// Half removed.
    Dead,
}

impl State {
    /// Whether there is something to stop.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// A container's place on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// The network's name.
    pub network_name: String,
    /// The address it has now; none while it does not run.
    pub ip: Option<Ipv4Addr>,
    /// The address it was pinned to.
    pub pinned: Option<Ipv4Addr>,
    /// Its further names on the network.
    pub aliases: Vec<String>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name; several networks may have the same.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its IPv4 subnets.
    pub subnets: Vec<Ipv4Net>,
    /// Its driver: `bridge`, `host`, …
    pub driver: String,
    /// When it was made, as the engine writes it; of two with one name the older is kept.
    pub created: String,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Credentials for a pull.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAuth {
    /// The registry they are for.
    pub server: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Identity token, instead of both.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for RegistryAuth {
    /// Without the secrets, so that no log line can hold them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Something that happened on the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it happened to.
    pub subject: Subject,
    /// What happened, in Docker's words: `die`, `start`, `destroy`, `disconnect`, …
    pub action: String,
    /// The labels of a container; network and volume records carry none.
    pub labels: BTreeMap<String, String>,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A container, by id.
    Container(String),
    /// A network by id, and the container of a connect or disconnect.
    Network {
        /// The network's id.
        id: String,
        /// The network's name.
        name: String,
        /// The container that was connected or disconnected.
        container: Option<String>,
    },
    /// A volume, by name.
    Volume(String),
}
