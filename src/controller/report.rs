//! What a reconcile tells: problems, Events, and when to look again.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::runtime::{
    controller::Action as Next,
    events::{Event, EventType},
};
use tokio::time::Instant;

use super::{backoff::jitter, context::Context, execute::Report};
use crate::{
    api::{
        condition::{self, ConditionType},
        reason::{Class, Reason},
    },
    docker::error::Error as DockerError,
    plan::steps::{Plan, Problem, Step},
};

/// How soon to look again while something is under way that nobody tells of.
pub const SOON: Duration = Duration::from_millis(250);
/// The longest such wait.
const LATER: Duration = Duration::from_secs(5);
/// How often to look whether a person has acted, where no watch tells.
const STALLED: Duration = Duration::from_secs(15);

/// The problem that a failed look at Docker is.
pub fn docker(ctx: &Context, error: &DockerError) -> Problem {
    let away = matches!(error, DockerError::Unavailable(_) | DockerError::Timeout(_));
    if away {
        ctx.health.set_docker(false);
    }
    let reason = if away { Reason::DockerUnavailable } else { Reason::DockerError };
    Problem::waits(ConditionType::DockerReachable, reason, error.to_string())
}

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
        return ctx.memory.backoff.failed(uid.to_owned(), Instant::now(), jitter()).min(STALLED);
    }
    // What goes on beside it is followed as closely as ever.
    if problems.iter().all(Problem::stalled) {
        return STALLED.mul_f64(1.0 - jitter() / 5.0);
    }
    soon(ctx, uid)
}

/// When to look again at a settled object of which something is due at this time, which may be long after.
pub fn at(ctx: &Context, time: Timestamp, now: Timestamp) -> Next {
    let wait = Duration::try_from(time.duration_since(now)).unwrap_or_default();
    Next::requeue(wait.clamp(SOON, ctx.resync))
}

/// When to look again at an object that something is under way for: soon at first, since a user waits, and less often
/// the longer it lasts.
pub fn waiting(ctx: &Context, uid: &str) -> Next {
    Next::requeue(soon(ctx, uid))
}

fn soon(ctx: &Context, uid: &str) -> Duration {
    (ctx.memory.unsettled_for(uid) / 20).clamp(SOON, LATER)
}

/// Tells of everything that was done to the host.
pub fn events(ctx: &Context, object: &ObjectReference, steps: &[Step], done: &Report) {
    for step in done.done.iter().map(|i| &steps[*i]) {
        tracing::info!(kind = object.kind, namespace = object.namespace, name = object.name, step = %step.action, why = step.why, "done");
        if !step.why.is_empty() {
            event(ctx, object, step.action.kind(), &format!("{}: {}", step.action, step.why));
        }
    }
}

/// Tells what a plan has to say besides, each once for as long as it says it.
pub fn notes(ctx: &Context, object: &ObjectReference, uid: &str, plan: &Plan) {
    let all: Vec<String> = plan.notes.iter().chain(&plan.warnings).cloned().collect();
    for note in ctx.memory.news(uid, &all) {
        if plan.warnings.contains(&note) {
            warning(ctx, object, Reason::NotAllowed, &note);
        } else {
            event(ctx, object, "NotOurs", &note);
        }
    }
}

/// Writes an Event in the background: it must neither delay nor fail anything. kube's recorder counts Events of one
/// reason and action as one, whatever their note, so the note is part of the action.
pub fn event(ctx: &Context, object: &ObjectReference, reason: impl AsRef<str>, note: &str) {
    publish(ctx, object, EventType::Normal, reason.as_ref(), note);
}

/// The same, of what needs attention.
pub fn warning(ctx: &Context, object: &ObjectReference, reason: impl AsRef<str>, note: &str) {
    publish(ctx, object, EventType::Warning, reason.as_ref(), note);
}

fn publish(ctx: &Context, object: &ObjectReference, type_: EventType, reason: &str, note: &str) {
    let note: String = note.chars().take(1000).collect();
    let action: String = note.chars().take(120).collect();
    let event = Event { type_, reason: reason.into(), note: Some(note), action, secondary: None };
    let (recorder, object) = (ctx.recorder.clone(), object.clone());
    tokio::spawn(async move {
        if let Ok(Err(error)) =
            tokio::time::timeout(Duration::from_secs(10), recorder.publish(&event, &object)).await
        {
            tracing::debug!(%error, "an Event was not written");
        }
    });
}

/// Tells of a condition that now fails for a reason that it did not have before, and of having become ready.
pub fn turned(ctx: &Context, object: &ObjectReference, before: &[Condition], after: &[Condition]) {
    let Some(ready) = condition::get(after, ConditionType::Ready) else { return };
    let was = condition::get(before, ConditionType::Ready);
    if ready.status == "True" {
        if was.is_none_or(|w| w.status != "True") {
            event(ctx, object, Reason::Ready, "everything is as desired");
        }
        return;
    }
    let progress = condition::is_true(after, ConditionType::Reconciling)
        && !Reason::parse(&ready.reason)
            .is_some_and(|reason| matches!(reason.class(), Class::Retry | Class::NeedsUser));
    if !progress && was.is_none_or(|w| w.reason != ready.reason || w.message != ready.message) {
        warning(ctx, object, &ready.reason, &ready.message);
    }
}
