//! Tunnels into containers, one for each, opened when a connection is needed.
//!
//! The forwarder is the operator's own program, because images of load balancers and registries contain no other that
//! could do it. It is copied into the container once.

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Mutex as Slot, OnceCell},
    task::spawn_blocking,
};

use super::{
    archive,
    elf::{self, Program},
    engine::{Attached, Engine},
    listener::Incoming,
    share::{self, Caller, Limits, Shares},
    spec::{FileChange, FileSpec},
    tunnel::{Dial, Stream, Tunnel},
};
use crate::api::names;

/// Path of the forwarder in containers, without its version.
const PLACE: &str = "/usr/local/bin/localcluster-forward-";
/// Subcommand that runs the forwarder.
pub const SUBCOMMAND: &str = "forward";
/// Subcommand that runs the listener.
pub const LISTEN: &str = "listen";
/// Beginning of the words with which the program itself fails.
const FAILS: &str = "error: ";

/// Maximum numbers of concurrent copies. A container that hangs delays only those of its namespace.
const COPIES: Limits = Limits { object: 1, namespace: 1, all: 2 };

/// The tunnel into a container, which is locked while it is opened.
type Opening = Slot<Option<Arc<Tunnel>>>;

/// Tunnels into the containers of an engine.
pub struct Tunnels {
    engine: Arc<dyn Engine>,
    /// Path of the operator's program.
    own: PathBuf,
    /// Path of the forwarder in containers, or the reason why the program is not suitable.
    place: OnceCell<Result<String, String>>,
    open: Mutex<HashMap<String, Arc<Opening>>>,
    /// The program is in memory while it is copied.
    copying: Shares,
}

impl Tunnels {
    /// Creates an instance with this program as the forwarder.
    pub fn new(engine: Arc<dyn Engine>, own: PathBuf) -> Arc<Self> {
        let (place, open, copying) = (OnceCell::new(), Mutex::default(), Shares::new(COPIES));
        Arc::new(Self { engine, own, place, open, copying })
    }

    /// Returns a destination in the network of a container, for the object that this task works for: HTTP clients connect
    /// in tasks of their own.
    pub fn to(self: &Arc<Self>, container: &str, address: SocketAddr) -> Arc<dyn Dial> {
        let (tunnels, caller) = (self.clone(), Caller::current());
        Arc::new(Destination { tunnels, caller, container: container.to_owned(), address })
    }

    /// Returns the open tunnel into a container, or opens one. Opening continues if the caller gives up.
    async fn tunnel(self: &Arc<Self>, container: &str) -> io::Result<Arc<Tunnel>> {
        let slot = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            // Removes the slots of tunnels that have ended, unless one is about to be opened in them.
            open.retain(|_, slot| {
                let is_open = |slot: &Option<Arc<Tunnel>>| slot.as_ref().is_some_and(|t| !t.is_closed());
                Arc::strong_count(slot) > 1 || slot.try_lock().map_or(true, |slot| is_open(&slot))
            });
            open.entry(container.to_owned()).or_default().clone()
        };
        let (tunnels, container) = (self.clone(), container.to_owned());
        let opened = share::spawn(async move {
            let mut slot = slot.lock().await;
            if let Some(tunnel) = slot.as_ref().filter(|tunnel| !tunnel.is_closed()) {
                return Ok(tunnel.clone());
            }
            let tunnel = tunnels.start(&container).await.map_err(|why| {
                io::Error::other(format!("the forwarder in the container does not start: {why}"))
            })?;
            tracing::debug!(container, "opened a tunnel through Docker");
            Ok(slot.insert(tunnel).clone())
        });
        opened.await.map_err(io::Error::other)?
    }

    /// Listens on an address in the network of a container, and returns the connections to it. The listener ends when they
    /// are dropped.
    pub async fn listen(&self, container: &str, address: SocketAddr) -> io::Result<Incoming> {
        let command = [LISTEN.to_owned(), address.to_string()];
        self.running(container, &command, Incoming::start).await.map_err(io::Error::other)
    }

    async fn start(&self, container: &str) -> Result<Arc<Tunnel>, String> {
        self.running(container, &[SUBCOMMAND.to_owned()], Tunnel::start).await
    }

    /// Runs the program with these arguments in a container, which is copied there if necessary.
    async fn running<T>(
        &self,
        container: &str,
        arguments: &[String],
        begin: impl AsyncFn(Attached) -> io::Result<T>,
    ) -> Result<T, String> {
        let place = self.place.get_or_init(|| self.find_place()).await.clone()?;
        let exists = self.engine.path_info(container, &place).await.map_err(|e| e.to_string())?.is_some();
        let command: Vec<String> = [place.clone()].into_iter().chain(arguments.iter().cloned()).collect();
        if exists {
            match begin(self.run(container, &command).await?).await {
                Ok(begun) => return Ok(begun),
                Err(error) if error.to_string().starts_with(FAILS) => return Err(error.to_string()),
                // A file that does not run may be the beginning of one whose copy was interrupted.
                Err(_) => {}
            }
        }
        self.copy(container, &place).await?;
        begin(self.run(container, &command).await?).await.map_err(|e| e.to_string())
    }

    async fn run(&self, container: &str, command: &[String]) -> Result<Attached, String> {
        self.engine.attach_exec(container, command).await.map_err(|e| e.to_string())
    }

    async fn copy(&self, container: &str, place: &str) -> Result<(), String> {
        let _turn = self.copying.acquire().await;
        let archive = {
            // Not in memory beside its archive for longer than that takes.
            let content = self.program().await?;
            let file = FileSpec { path: place.to_owned(), mode: 0o755, content, change: FileChange::Keep };
            archive::pack(&[file])
        };
        self.engine.upload(container, archive).await.map_err(|e| e.to_string())
    }

    async fn program(&self) -> Result<Vec<u8>, String> {
        let own = self.own.clone();
        let read = move || fs::read(&own).map_err(|e| format!("{}: {e}", own.display()));
        spawn_blocking(read).await.map_err(|e| e.to_string())?
    }

    /// Returns the path of the forwarder in containers, which contains its hash: another version of the operator does
    /// not run this one's. Fails if the program cannot run in them.
    async fn find_place(&self) -> Result<String, String> {
        let content = self.program().await?;
        let engine = self.engine.info().await.map_err(|e| e.to_string())?;
        elf::check(&Program::of(&content), &engine.architecture)?;
        let hash = Sha256::digest(&content);
        Ok(format!("{PLACE}{}", &names::hex(&hash)[..16]))
    }
}

/// Removes the forwarders of other versions of the operator from the directory of this one. Running ones go on.
pub fn remove_others(own: &Path) -> io::Result<()> {
    let prefix = Path::new(PLACE).file_name().unwrap_or_default().to_string_lossy();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (Some(directory), own) = (own.parent(), name(own)) else { return Ok(()) };
    if !own.starts_with(&*prefix) {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if name(&path).starts_with(&*prefix) && name(&path) != own {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A destination in the network of a container.
struct Destination {
    tunnels: Arc<Tunnels>,
    caller: Option<Caller>,
    container: String,
    address: SocketAddr,
}

#[async_trait]
impl Dial for Destination {
    async fn dial(&self) -> io::Result<Stream> {
        let tunnel = share::on_behalf_of(self.caller.clone(), self.tunnels.tunnel(&self.container));
        tunnel.await?.dial(self.address).await
    }
}
