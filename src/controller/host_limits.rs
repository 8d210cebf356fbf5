//! Observation of the limits of the Docker host, from inside a load balancer: the operator may run elsewhere, and every
//! container of the host sees them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::pulls::Wake;
use crate::{
    docker::{
        engine::{Engine, State},
        share,
    },
    plan::{
        host_limits::{self, HostLimits},
        observed::Host,
    },
};

/// The last observation, which all clusters share.
pub struct Limits {
    engine: Arc<dyn Engine>,
    /// Period for which an observation is trusted.
    trusted: Duration,
    last: Arc<Mutex<Last>>,
}

#[derive(Default)]
struct Last {
    at: Option<Instant>,
    seen: Option<HostLimits>,
}

impl Limits {
    /// Creates an instance without an observation.
    pub fn new(engine: Arc<dyn Engine>, trusted: Duration) -> Self {
        Self { engine, trusted, last: Arc::default() }
    }

    /// Sets the last observation.
    pub fn observed(self, seen: HostLimits) -> Self {
        let last = Last { at: Some(Instant::now()), seen: Some(seen) };
        Self { last: Arc::new(Mutex::new(last)), ..self }
    }

    /// Returns the last observed limits. If they are old, observes them again in the background, since nothing waits for
    /// them, and wakes the object if they changed.
    pub fn observe(&self, host: &Host, balancer: &str, wake: Wake) -> Option<HostLimits> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = last.seen;
        let is_old = last.at.is_none_or(|at| at.elapsed() > self.trusted);
        let running = host.own_named(balancer).filter(|d| d.container.state == State::Running);
        if let Some(detail) = running.filter(|_| is_old) {
            last.at = Some(Instant::now());
            let (engine, last, id) = (self.engine.clone(), self.last.clone(), detail.container.id.clone());
            share::spawn(async move {
                let command = host_limits::COMMAND.map(String::from);
                let Ok(ended) = engine.exec(&id, &command).await else { return };
                let Some(now) = host_limits::parse(&ended.stdout) else { return };
                last.lock().unwrap_or_else(PoisonError::into_inner).seen = Some(now);
                if seen != Some(now) {
                    wake();
                }
            });
        }
        seen
    }
}
