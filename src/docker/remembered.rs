//! An engine that remembers what it has read, until Docker reports a change.
//!
//! While a cluster starts, it is looked at several times a second, and what is awaited mostly happens inside of it. A
//! look at Docker in full costs a call for each kind of object and one for each container, of which Docker's events make
//! most unnecessary.
//!
//! A result is used again only while the stream of events is connected, until the next event or the next change by this
//! operator, and not for long: events may be lost, and what is read right after one may be about to change. Looks at a
//! settled object are much rarer than that, and therefore always read everything.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use tokio::time::Instant;

use super::{
    engine::{
        Attached, Container, ContainerDetail, Ended, Engine, EngineInfo, Event, ImageNames, Network,
        PathInfo, RegistryAuth, Result, Subject, Update, Volume,
    },
    spec::{ContainerSpec, EndpointSettings, NetworkSpec, VolumeSpec},
};

/// Period for which a result is used again at most.
const KEPT: Duration = Duration::from_secs(5);

/// An engine whose results are remembered.
pub struct Remembered<E> {
    engine: E,
    changes: Arc<Changes>,
    memo: Mutex<Memo>,
}

/// Numbers of changes of the engine's objects that are known or possible, by kind.
#[derive(Default)]
struct Changes {
    containers: AtomicU64,
    networks: AtomicU64,
    volumes: AtomicU64,
    /// The engine itself, about which the operator subscribes to no events.
    others: AtomicU64,
    /// True while the stream of events is connected.
    watched: AtomicBool,
}

impl Changes {
    /// Counts a change of anything.
    fn changed(&self) {
        for count in [&self.containers, &self.networks, &self.volumes, &self.others] {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Counts the change that an event reports.
    fn happened(&self, event: &Event) {
        let count = |count: &AtomicU64| count.fetch_add(1, Ordering::SeqCst);
        match &event.subject {
            Subject::Container(_) if event.is_of_files() => {}
            Subject::Container(_) => drop(count(&self.containers)),
            // Containers have the networks that they are on.
            Subject::Network { .. } => drop((count(&self.networks), count(&self.containers))),
            Subject::Volume(_) => drop(count(&self.volumes)),
            // Images are asked for each time.
            Subject::Image(_) => {}
        }
    }
}

/// A result.
struct Known<T> {
    /// Number of changes before the call.
    count: u64,
    /// Time of the call.
    at: Instant,
    result: T,
}

/// The last result of each call.
#[derive(Default)]
struct Memo {
    info: Option<Known<EngineInfo>>,
    containers: Option<Known<Vec<Container>>>,
    networks: Option<Known<Vec<Network>>>,
    volumes: Option<Known<Vec<Volume>>>,
    details: HashMap<String, Known<Option<ContainerDetail>>>,
}

/// Sets the connection of the stream of events to lost when the stream is dropped.
struct Watching(Arc<Changes>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watched.store(false, Ordering::SeqCst);
        self.0.changed();
    }
}

impl<E: Engine> Remembered<E> {
    /// Creates an instance that remembers nothing.
    pub fn new(engine: E) -> Self {
        Self { engine, changes: Arc::default(), memo: Mutex::default() }
    }

    /// Returns a remembered result, or the new one of a call. `changes` counts what may change it.
    async fn read<T: Clone>(
        &self,
        changes: &AtomicU64,
        known: impl Fn(&Memo) -> Option<&Known<T>>,
        keep: impl FnOnce(&mut Memo, Known<T>),
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let count = changes.load(Ordering::SeqCst);
        if self.changes.watched.load(Ordering::SeqCst) {
            let memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = known(&memo).filter(|known| known.count == count && known.at.elapsed() < KEPT);
            if let Some(known) = fresh {
                return Ok(known.result.clone());
            }
        }
        let at = Instant::now();
        let result = call.await?;
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        memo.details.retain(|_, known| known.at.elapsed() < KEPT);
        keep(&mut memo, Known { count, at, result: result.clone() });
        Ok(result)
    }

    /// Makes a call that changes something. What is read meanwhile may be from before or after the change.
    async fn write<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        // Also if the caller gives up.
        let _after = Changed(&self.changes);
        self.changes.changed();
        call.await
    }
}

/// Counts a change when it is dropped.
struct Changed<'a>(&'a Changes);

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        self.0.changed();
    }
}

#[async_trait]
impl<E: Engine> Engine for Remembered<E> {
    async fn info(&self) -> Result<EngineInfo> {
        self.read(&self.changes.others, |m| m.info.as_ref(), |m, new| m.info = Some(new), self.engine.info())
            .await
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        let call = self.engine.containers();
        self.read(
            &self.changes.containers,
            |m| m.containers.as_ref(),
            |m, new| m.containers = Some(new),
            call,
        )
        .await
    }

    async fn inspect(&self, id: &str) -> Result<Option<ContainerDetail>> {
        let keep = |m: &mut Memo, new| drop(m.details.insert(id.to_owned(), new));
        self.read(&self.changes.containers, |m| m.details.get(id), keep, self.engine.inspect(id)).await
    }

    async fn networks(&self) -> Result<Vec<Network>> {
        let call = self.engine.networks();
        self.read(&self.changes.networks, |m| m.networks.as_ref(), |m, new| m.networks = Some(new), call)
            .await
    }

    async fn volumes(&self) -> Result<Vec<Volume>> {
        let call = self.engine.volumes();
        self.read(&self.changes.volumes, |m| m.volumes.as_ref(), |m, new| m.volumes = Some(new), call).await
    }

    async fn image(&self, reference: &str) -> Result<Option<String>> {
        // No events tell of images, and who builds one applies the spec that names it right after.
        self.engine.image(reference).await
    }

    // Nor is anything that a pull changes remembered.

    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        self.engine.pull(reference, auth).await
    }

    async fn image_names(&self, reference: &str) -> Result<Option<ImageNames>> {
        self.engine.image_names(reference).await
    }

    async fn check_access(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        self.engine.check_access(reference, auth).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        self.write(self.engine.create_network(spec)).await
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        self.write(self.engine.remove_network(id)).await
    }

    async fn connect(&self, network: &str, container: &str, endpoint: &EndpointSettings) -> Result<()> {
        self.write(self.engine.connect(network, container, endpoint)).await
    }

    async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        self.write(self.engine.disconnect(network, container)).await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()> {
        self.write(self.engine.create_volume(spec)).await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.write(self.engine.remove_volume(name)).await
    }

    async fn create_container(&self, spec: &ContainerSpec, network: Option<&str>) -> Result<String> {
        self.write(self.engine.create_container(spec, network)).await
    }

    // Files are no part of what is remembered here.

    async fn upload(&self, container: &str, archive: Vec<u8>) -> Result<()> {
        self.engine.upload(container, archive).await
    }

    async fn read_file(&self, container: &str, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        self.engine.read_file(container, path, limit).await
    }

    async fn read_tree(
        &self,
        container: &str,
        path: &str,
        limit: usize,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        self.engine.read_tree(container, path, limit).await
    }

    async fn path_info(&self, container: &str, path: &str) -> Result<Option<PathInfo>> {
        self.engine.path_info(container, path).await
    }

    async fn start(&self, container: &str) -> Result<()> {
        self.write(self.engine.start(container)).await
    }

    async fn stop(&self, container: &str, grace: u32) -> Result<()> {
        self.write(self.engine.stop(container, grace)).await
    }

    async fn unpause(&self, container: &str) -> Result<()> {
        self.write(self.engine.unpause(container)).await
    }

    async fn signal(&self, container: &str, signal: &str) -> Result<()> {
        self.write(self.engine.signal(container, signal)).await
    }

    async fn update(&self, container: &str, change: &Update) -> Result<()> {
        self.write(self.engine.update(container, change)).await
    }

    // Nor are the processes in a container.

    async fn exec(&self, container: &str, command: &[String]) -> Result<Ended> {
        self.engine.exec(container, command).await
    }

    async fn exec_within(&self, container: &str, command: &[String], limit: Duration) -> Result<Ended> {
        self.engine.exec_within(container, command, limit).await
    }

    async fn pipe_image(&self, reference: &str, container: &str, command: &[String]) -> Result<Ended> {
        self.engine.pipe_image(reference, container, command).await
    }

    async fn attach_exec(&self, container: &str, command: &[String]) -> Result<Attached> {
        self.engine.attach_exec(container, command).await
    }

    async fn remove_container(&self, container: &str) -> Result<()> {
        self.write(self.engine.remove_container(container)).await
    }

    async fn logs(&self, container: &str, lines: u32) -> Result<Vec<String>> {
        self.engine.logs(container, lines).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<Event>>> {
        let events = self.engine.events().await?;
        let watching = Watching(self.changes.clone());
        // Nothing is remembered from before the connection.
        watching.0.changed();
        watching.0.watched.store(true, Ordering::SeqCst);
        let counted = events.inspect(move |event| match event {
            Ok(event) => watching.0.happened(event),
            Err(_) => watching.0.watched.store(false, Ordering::SeqCst),
        });
        Ok(counted.boxed())
    }
}
