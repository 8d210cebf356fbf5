//! Files of containers, read seldom: for each read the engine starts a process of its own, which costs more than all
//! other calls of a look together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use jiff::Timestamp;

use crate::docker::engine::{ContainerDetail, Engine, Result};

/// How soon a file that was not there is looked for again.
const MISSING: Duration = Duration::from_millis(500);

/// What was read of the files of containers.
pub struct Files {
    engine: Arc<dyn Engine>,
    /// How long what was read is trusted, while nobody here writes it and the container is not restarted.
    trusted: Duration,
    read: Mutex<HashMap<String, Read>>,
}

#[derive(Default)]
struct Read {
    started: Option<Timestamp>,
    files: HashMap<String, (Instant, Option<Vec<u8>>)>,
}

impl Files {
    /// Of this engine.
    pub fn new(engine: Arc<dyn Engine>, trusted: Duration) -> Self {
        Self { engine, trusted, read: Mutex::default() }
    }

    /// A file's content; `None` when it is not there.
    pub async fn read(&self, container: &ContainerDetail, path: &str) -> Result<Option<Vec<u8>>> {
        let id = &container.container.id;
        if let Some(known) = self.with(id, |read| {
            if read.started != container.started_at {
                *read = Read { started: container.started_at, ..Read::default() };
            }
            let (at, content) = read.files.get(path)?;
            let limit = if content.is_some() { self.trusted } else { MISSING };
            (at.elapsed() < limit).then(|| content.clone())
        }) {
            return Ok(known);
        }
        let at = Instant::now();
        let content = self.engine.read_file(id, path).await?;
        self.with(id, |read| read.files.insert(path.to_owned(), (at, content.clone())));
        Ok(content)
    }

    /// Forgets what was read of a container: it was written to, or is gone.
    pub fn forget(&self, container: &str) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    fn with<T>(&self, container: &str, f: impl FnOnce(&mut Read) -> T) -> T {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        f(read.entry(container.to_owned()).or_default())
    }
}
