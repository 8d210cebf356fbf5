//! Observation of the limits of the Docker host, from inside a load balancer: the operator may run elsewhere, and every
//! container of the host sees them.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::{context::Context, pulls::Wake};
use crate::{
    docker::engine::State,
    plan::{
        host_limits::{self, HostLimits},
        observed::Host,
    },
};

/// The last observation, which all clusters share.
#[derive(Default)]
pub struct Limits(Mutex<Last>);

impl Limits {
    /// Creates an instance that has just observed these.
    pub fn known(seen: HostLimits) -> Self {
        Self(Mutex::new(Last { at: Some(Instant::now()), seen: Some(seen) }))
    }
}

#[derive(Default)]
struct Last {
    at: Option<Instant>,
    seen: Option<HostLimits>,
}

/// Returns the last observed limits. If they are old, observes them again in the background, since nothing waits for
/// them, and wakes the object if they changed.
pub fn observe(ctx: &Arc<Context>, host: &Host, balancer: &str, wake: Wake) -> Option<HostLimits> {
    let mut last = ctx.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = last.seen;
    let is_old = last.at.is_none_or(|at| at.elapsed() > ctx.resync);
    let running = host.own_named(balancer).filter(|d| d.container.state == State::Running);
    if let Some(detail) = running.filter(|_| is_old) {
        last.at = Some(Instant::now());
        let (ctx, id) = (ctx.clone(), detail.container.id.clone());
        tokio::spawn(async move {
            let command = host_limits::COMMAND.map(String::from);
            let Ok(ended) = ctx.engine.exec(&id, &command).await else { return };
            let Some(now) = host_limits::parse(&ended.stdout) else { return };
            ctx.limits.0.lock().unwrap_or_else(PoisonError::into_inner).seen = Some(now);
            if seen.is_none_or(|before| before != now) {
                wake();
            }
        });
    }
    seen
}
