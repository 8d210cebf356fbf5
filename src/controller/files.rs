//! Cache of files in containers. The engine starts a process for each read, which costs more than all other calls of a
//! reconciliation.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use jiff::Timestamp;

use super::{sizes, times};
use crate::docker::engine::{ContainerDetail, Engine, Result};

/// Cache of container files.
pub struct Files {
    engine: Arc<dyn Engine>,
    /// Period for which a cached file is trusted, unless the operator writes it, the container restarts, or Docker
    /// reports that files were copied into it or a command was run in it. Only a process of the container itself changes
    /// files unnoticed.
    trusted: Duration,
    /// The same for files that a process of the container writes.
    resync: Duration,
    read: Mutex<HashMap<String, Read>>,
    /// Number of removals from the cache. What was read across one may be from before the change.
    removals: AtomicU64,
}

#[derive(Debug, Default)]
struct Read {
    started: Option<Timestamp>,
    /// Time at which that start was first observed.
    since: Option<Instant>,
    files: HashMap<String, (Instant, Option<Vec<u8>>)>,
    trees: HashMap<String, (Instant, BTreeMap<String, Vec<u8>>)>,
}

impl Read {
    /// Returns the period after which a file is read again that was missing at this time: the longer the container has
    /// run without it, the less likely it is to come soon.
    fn missing(&self, at: Instant) -> Duration {
        let age = self.since.map(|since| at.saturating_duration_since(since)).unwrap_or_default();
        (age / 20).clamp(times::FILE_MISSING, times::FILE_NEVER)
    }

    /// Returns the size of all contents.
    fn size(&self) -> usize {
        let files = self.files.values().filter_map(|(_, content)| Some(content.as_ref()?.len()));
        let trees =
            self.trees.values().flat_map(|(_, tree)| tree.iter().map(|(path, c)| path.len() + c.len()));
        files.chain(trees).sum()
    }

    /// A restart invalidates the cached files of a container.
    fn renew(&mut self, container: &ContainerDetail) {
        if self.started != container.started_at {
            let since = Some(Instant::now());
            *self = Self { started: container.started_at, since, ..Self::default() };
        }
    }
}

impl Files {
    /// Creates a cache for this engine.
    pub fn new(engine: Arc<dyn Engine>, resync: Duration) -> Self {
        let trusted = resync.saturating_mul(times::RESYNCS_OF_FILES);
        Self { engine, trusted, resync, read: Mutex::default(), removals: AtomicU64::default() }
    }

    /// Returns the content of a file of at most `most` bytes; `None` if it does not exist.
    pub async fn read(
        &self,
        container: &ContainerDetail,
        path: &str,
        most: usize,
    ) -> Result<Option<Vec<u8>>> {
        self.read_for(container, path, most, |_, _| self.trusted).await
    }

    /// Returns the content of a file that the container writes at its start. Right after a start it may still be that
    /// of the previous run.
    pub async fn written(
        &self,
        container: &ContainerDetail,
        path: &str,
        most: usize,
    ) -> Result<Option<Vec<u8>>> {
        let limit = |since: Option<Instant>, at: Instant| {
            let young = since.is_some_and(|since| at.saturating_duration_since(since) < times::FILE_STARTING);
            if young { times::FILE_YOUNG } else { self.resync }
        };
        self.read_for(container, path, most, limit).await
    }

    /// Returns the content of a file, cached for the period that `limit` computes from the time of the read and the
    /// time since which the container's start is known.
    async fn read_for(
        &self,
        container: &ContainerDetail,
        path: &str,
        most: usize,
        limit: impl Fn(Option<Instant>, Instant) -> Duration,
    ) -> Result<Option<Vec<u8>>> {
        let id = &container.container.id;
        if let Some(known) = self.with(id, |read| {
            read.renew(container);
            let (at, content) = read.files.get(path)?;
            let limit = if content.is_some() { limit(read.since, *at) } else { read.missing(*at) };
            (at.elapsed() < limit).then(|| content.clone())
        }) {
            return Ok(known);
        }
        let (at, removals) = (Instant::now(), self.removals.load(Ordering::SeqCst));
        let content = self.engine.read_file(id, path, most).await?;
        self.keep(id, removals, |read| drop(read.files.insert(path.to_owned(), (at, content.clone()))));
        Ok(content)
    }

    /// Returns the files below a directory, of at most `most` bytes together.
    pub async fn tree(
        &self,
        container: &ContainerDetail,
        path: &str,
        most: usize,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let id = &container.container.id;
        if let Some(known) = self.with(id, |read| {
            read.renew(container);
            let (at, tree) = read.trees.get(path)?;
            (at.elapsed() < self.trusted).then(|| tree.clone())
        }) {
            return Ok(known);
        }
        let (at, removals) = (Instant::now(), self.removals.load(Ordering::SeqCst));
        let tree = self.engine.read_tree(id, path, most).await?;
        self.keep(id, removals, |read| drop(read.trees.insert(path.to_owned(), (at, tree.clone()))));
        Ok(tree)
    }

    /// Removes a container from the cache because it was written to or deleted.
    pub fn forget(&self, container: &str) {
        self.removals.fetch_add(1, Ordering::SeqCst);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    /// Removes all containers from the cache because changes may have been missed.
    pub fn forget_all(&self) {
        self.removals.fetch_add(1, Ordering::SeqCst);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Records what was read since this number of removals. If the cache becomes too large, the container with the
    /// largest files is read again each time; the others are not affected.
    fn keep(&self, container: &str, removals: u64, f: impl FnOnce(&mut Read)) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if self.removals.load(Ordering::SeqCst) == removals {
            f(read.entry(container.to_owned()).or_default());
        }
        while read.values().map(Read::size).sum::<usize>() > sizes::CACHE {
            let Some(largest) = read.iter().max_by_key(|(_, read)| read.size()) else { return };
            let largest = largest.0.clone();
            read.remove(&largest);
        }
    }

    fn with<T>(&self, container: &str, f: impl FnOnce(&mut Read) -> T) -> T {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        f(read.entry(container.to_owned()).or_default())
    }
}
