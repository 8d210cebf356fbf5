//! When an object is looked at again.

use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action as Next;
use tokio::time::Instant;

use super::{backoff::jitter, context::Context, times};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    plan::steps::Problem,
};

/// When to look again at an object with these problems.
pub fn next(ctx: &Context, uid: &str, problems: &[Problem]) -> Next {
    Next::requeue(delay(ctx, uid, problems))
}

/// The same, where steps were held back that are due then, if any were.
pub fn next_due(ctx: &Context, uid: &str, problems: &[Problem], due: Option<Duration>) -> Next {
    match due {
        // It is not settled, whatever its status can tell of it so far.
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
    // What goes on beside it is followed as closely as ever.
    if problems.iter().all(Problem::stalled) {
        return times::STALLED.mul_f64(1.0 - jitter() / 5.0);
    }
    soon(ctx, uid)
}

/// When to look again at a settled object of which something is due at this time, which may be long after.
pub fn at(ctx: &Context, time: Timestamp, now: Timestamp) -> Next {
    let wait = Duration::try_from(time.duration_since(now)).unwrap_or_default();
    Next::requeue(wait.clamp(times::SOON, ctx.resync))
}

/// When to look again at an object that something is under way for: soon at first, since a user waits, and less often
/// the longer it lasts.
pub fn waiting(ctx: &Context, uid: &str) -> Next {
    Next::requeue(soon(ctx, uid))
}

fn soon(ctx: &Context, uid: &str) -> Duration {
    (ctx.memory.unsettled_for(uid) / 20).clamp(times::SOON, times::LATER)
}
