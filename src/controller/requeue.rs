//! Delays until the next reconciliation of an object.

use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action as Next;
use tokio::time::Instant;

use super::{backoff::jitter, context::Context, times};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    plan::steps::Problem,
};

/// Returns the delay of an object with these problems.
pub fn next(ctx: &Context, uid: &str, problems: &[Problem]) -> Next {
    Next::requeue(delay(ctx, uid, problems))
}

/// Returns the delay of an object with these problems and steps that are held until `due`, if any are.
pub fn next_due(ctx: &Context, uid: &str, problems: &[Problem], due: Option<Duration>) -> Next {
    match due {
        // It is not settled, even if its status does not show this yet.
        Some(due) if problems.is_empty() => Next::requeue(due),
        Some(due) => Next::requeue(due.min(delay(ctx, uid, problems))),
        None => next(ctx, uid, problems),
    }
}

fn delay(ctx: &Context, uid: &str, problems: &[Problem]) -> Duration {
    if problems.is_empty() {
        ctx.memory.settled(uid);
        return ctx.resync.mul_f64(1.0 - jitter() / 10.0);
    }
    let failed = problems
        .iter()
        .any(|p| p.condition == ConditionType::DockerReachable || p.reason == Reason::DockerError);
    if failed {
        return ctx.memory.backoff.failed(uid.to_owned(), Instant::now(), jitter()).min(times::STALLED);
    }
    // Other changes in progress are followed as closely as usual.
    if problems.iter().all(Problem::stalled) {
        return times::STALLED.mul_f64(1.0 - jitter() / 5.0);
    }
    soon(ctx, uid)
}

/// Returns the delay of a settled object with something due at this time, which may be much later.
pub fn at(ctx: &Context, time: Timestamp, now: Timestamp) -> Next {
    let wait = Duration::try_from(time.duration_since(now)).unwrap_or_default();
    Next::requeue(wait.clamp(times::SOON, ctx.resync))
}

/// Returns the delay of an object with a change in progress: short at first because a user waits, then increasing.
pub fn waiting(ctx: &Context, uid: &str) -> Next {
    Next::requeue(soon(ctx, uid))
}

fn soon(ctx: &Context, uid: &str) -> Duration {
    (ctx.memory.unsettled_for(uid) / 20).clamp(times::SOON, times::LATER)
}
