//! Observation of the resolvers of the Docker host, in a container that exists for a moment: the operator may run
//! elsewhere, and Docker tells them only to a container that starts.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{pulls::Wake, sizes};
use crate::{
    docker::{
        engine::{Engine, Result, State},
        share,
        spec::ContainerSpec,
    },
    plan::{observed::Host, owner::Owner, resolvers},
};

/// Resolvers that the host has, and those that it had when each load balancer started.
pub struct Resolvers {
    engine: Arc<dyn Engine>,
    /// Period for which an observation is trusted; `None` if nothing depends on it.
    trusted: Option<Duration>,
    state: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// The last observation, which all clusters share.
    last: Option<Look>,
    /// True during an observation.
    looking: bool,
    /// Running load balancers by container ID.
    balancers: HashMap<String, Balancer>,
}

struct Look {
    /// Time of its start.
    at: Instant,
    /// The resolvers; `None` if it failed.
    seen: Option<BTreeSet<String>>,
}

struct Balancer {
    started: Option<Timestamp>,
    /// Time at which that start was first observed.
    since: Instant,
    /// Resolvers at the first look since; `None` before it. A change between the start and that look is missed.
    resolvers: Option<BTreeSet<String>>,
}

impl Known {
    /// Records what is known about a load balancer. Reports whether the host's resolvers changed since its start; `None`
    /// if that is to be observed again.
    fn judge(&mut self, id: &str, started: Option<Timestamp>, trusted: Duration) -> Option<bool> {
        let new = || Balancer { started, since: Instant::now(), resolvers: None };
        let balancer = self.balancers.entry(id.to_owned()).or_insert_with(new);
        if balancer.started != started {
            *balancer = new();
        }
        let since = balancer.since;
        let last = self.last.as_ref().filter(|last| last.at >= since)?;
        if let Some(seen) = &last.seen {
            let at_start = balancer.resolvers.get_or_insert_with(|| seen.clone());
            if at_start != seen {
                return Some(true);
            }
        }
        (last.at.elapsed() < trusted).then_some(false)
    }
}

impl Resolvers {
    /// Creates an instance without an observation.
    pub fn new(engine: Arc<dyn Engine>, trusted: Option<Duration>) -> Self {
        Self { engine, trusted, state: Arc::default() }
    }

    /// Reports whether the resolvers of the host changed since the start of the load balancer of a cluster. If the last
    /// observation is old, observes them again in the background, since nothing waits for them, and wakes the object if
    /// they changed.
    pub fn observe(&self, host: &Host, owner: &Owner, balancer: &str, wake: Wake) -> bool {
        let running = host.own_named(balancer).filter(|d| d.container.state == State::Running);
        let (Some(trusted), Some(detail)) = (self.trusted, running) else { return false };
        let (id, started) = (detail.container.id.clone(), detail.started_at);
        let mut state = lock(&self.state);
        state.balancers.retain(|id, _| host.containers.iter().any(|c| c.id == *id));
        if let Some(changed) = state.judge(&id, started, trusted) {
            return changed;
        }
        if std::mem::replace(&mut state.looking, true) {
            return false;
        }
        let helper = resolvers::helper(owner, balancer, &detail.container.image);
        let left = host.own_named(&helper.name).map(|d| d.container.id.clone());
        let (engine, shared) = (self.engine.clone(), self.state.clone());
        share::spawn(async move {
            let at = Instant::now();
            if let Some(left) = left {
                // The operator was interrupted while it existed.
                drop(engine.remove_container(&left).await);
            }
            let seen = look(&*engine, &helper).await;
            if let Err(error) = &seen {
                tracing::debug!(%error, "the resolvers of the Docker host are unknown");
            }
            let mut state = lock(&shared);
            state.looking = false;
            state.last = Some(Look { at, seen: seen.ok().flatten() });
            let changed = state.judge(&id, started, trusted) == Some(true);
            drop(state);
            if changed {
                wake();
            }
        });
        false
    }
}

fn lock(state: &Mutex<Known>) -> MutexGuard<'_, Known> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the resolvers in a temporary container. Docker writes the file when it starts.
async fn look(engine: &dyn Engine, helper: &ContainerSpec) -> Result<Option<BTreeSet<String>>> {
    let id = engine.create_container(helper, None).await?;
    let read = async {
        engine.start(&id).await?;
        engine.read_file(&id, resolvers::FILE, sizes::SYSTEM).await
    };
    let file = read.await;
    engine.remove_container(&id).await?;
    Ok(file?.map(|file| resolvers::parse(&String::from_utf8_lossy(&file))))
}
