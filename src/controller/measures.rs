//! Sizes of the storage of registries that have a maximum, measured in their containers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{pulls::Wake, times};
use crate::{
    docker::{
        engine::{ContainerDetail, Engine, State},
        share,
    },
    plan::registry::fill,
};

/// The last measurements, by the UID of the Registry.
pub struct Measures {
    engine: Arc<dyn Engine>,
    last: Arc<Mutex<HashMap<String, Measure>>>,
}

struct Measure {
    run: Run,
    at: Instant,
    used: Option<i64>,
}

/// Identifies a run of a container. Images are removed between two.
type Run = (String, Option<Timestamp>);

impl Measures {
    /// Creates an instance that has measured nothing.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, last: Arc::default() }
    }

    /// Returns the last size in bytes that was measured in this run of the container; `None` while it is unknown. If it is
    /// old, measures it again in the background, since that may take as long as the disk is slow, and wakes the object
    /// if it changed.
    pub fn size(&self, uid: &str, detail: Option<&ContainerDetail>, wake: Wake) -> Option<i64> {
        let detail = detail.filter(|d| d.container.state == State::Running)?;
        let run = (detail.container.id.clone(), detail.started_at);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.get(uid).filter(|measure| measure.run == run);
        let used = known.and_then(|measure| measure.used);
        if known.is_some_and(|measure| measure.at.elapsed() < times::MEASURED) {
            return used;
        }
        last.insert(uid.to_owned(), Measure { run: run.clone(), at: Instant::now(), used });
        let (engine, last, uid) = (self.engine.clone(), self.last.clone(), uid.to_owned());
        share::spawn(async move {
            let command = fill::COMMAND.map(String::from);
            let ended = engine.exec_within(&run.0, &command, times::MEASURE).await;
            let now = ended.ok().and_then(|ended| fill::parse(&ended.stdout));
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(measure) = last.get_mut(&uid).filter(|measure| measure.run == run) else { return };
            let changed = measure.used != now;
            measure.used = now;
            drop(last);
            if changed {
                wake();
            }
        });
        used
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
