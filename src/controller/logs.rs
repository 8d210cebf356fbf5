//! Last log lines of nodes that fail or do not register, which are looked at several times a second meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::times;
use crate::docker::engine::{ContainerDetail, Engine, Result, State};

/// Number of lines.
const LINES: u32 = 100;

/// Logs of containers.
pub struct Logs {
    engine: Arc<dyn Engine>,
    read: Mutex<HashMap<String, Read>>,
}

struct Read {
    run: Run,
    at: Instant,
    lines: Vec<String>,
}

/// Identifies a run of a container and whether it is over.
type Run = (State, Option<Timestamp>, Option<Timestamp>, u32);

impl Logs {
    /// Creates an instance that has read nothing.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, read: Mutex::default() }
    }

    /// Returns the last lines of a container, oldest first: at most [`times::LOG_AGAIN`] old while it runs.
    pub async fn last(&self, detail: &ContainerDetail) -> Result<Vec<String>> {
        let id = &detail.container.id;
        let run = (detail.container.state, detail.started_at, detail.ended_at, detail.started_again);
        let trusted = match detail.container.state {
            State::Exited => times::LOG_ENDED,
            _ => times::LOG_AGAIN,
        };
        let fresh = |read: &&Read| read.run == run && read.at.elapsed() < trusted;
        if let Some(read) = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(id).filter(fresh) {
            return Ok(read.lines.clone());
        }
        let at = Instant::now();
        let lines = self.engine.logs(id, LINES).await?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of containers that work by now or are gone.
        read.retain(|_, read| read.at.elapsed() < times::LOG_ENDED);
        read.insert(id.clone(), Read { run, at, lines: lines.clone() });
        Ok(lines)
    }
}
