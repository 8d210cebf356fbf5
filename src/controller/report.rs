//! Events of a reconciliation, and its problem with Docker.

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::runtime::events::{Event, EventType, Recorder};

use super::{context::Context, execute::Report, times};
use crate::{
    api::{
        condition::{self, ConditionType},
        reason::{Class, Reason},
    },
    docker::error::Error as DockerError,
    plan::{
        failures,
        steps::{Plan, Problem, Step},
    },
};

/// Returns the problem of a failed observation of Docker.
pub fn docker(ctx: &Context, error: &DockerError) -> Problem {
    let away = error.is_away();
    if away {
        ctx.health.set_docker(false);
    }
    let reason = if away { Reason::DockerUnavailable } else { Reason::DockerError };
    Problem::waits(ConditionType::DockerReachable, reason, format!("{error}{}", failures::remedy(error)))
}

/// Logs the executed steps, and writes their Events.
pub fn events(ctx: &Context, object: &ObjectReference, steps: &[Step], done: &Report) {
    for step in done.done.iter().map(|i| &steps[*i]) {
        tracing::info!(kind = object.kind, namespace = object.namespace, name = object.name, step = %step.action, why = step.why, "done");
        if let Some((reason, message)) = step.event() {
            event(ctx, object, reason, &message);
        }
    }
}

/// Writes the notes and warnings of a plan as Events, each once while it lasts.
pub fn notes(ctx: &Context, object: &ObjectReference, uid: &str, plan: &Plan) {
    let all: Vec<String> = plan.notes.iter().chain(&plan.warnings).cloned().collect();
    for note in ctx.memory.news(uid, &all) {
        if plan.warnings.contains(&note) {
            warning(ctx, object, Reason::NotAllowed, &note);
        } else {
            event(ctx, object, "Unmanaged", &note);
        }
    }
}

/// Writes a Normal Event in the background, so that it delays and fails nothing. kube's recorder merges Events with the
/// same reason and action even if their notes differ, so the action contains the note.
pub fn event(ctx: &Context, object: &ObjectReference, reason: impl AsRef<str>, note: &str) {
    publish(&ctx.recorder, object, (EventType::Normal, reason.as_ref()), note);
}

/// Writes an Event about what the deletion of an object waits for, each once.
pub fn deletion_waits(ctx: &Context, object: &ObjectReference, why: &str) {
    let note = format!("the deletion waits: {why}");
    if ctx.memory.record_once(object.uid.as_deref().unwrap_or_default(), &note) {
        event(ctx, object, "DeletionWaits", &note);
    }
}

/// Writes a Warning Event in the same way.
pub fn warning(ctx: &Context, object: &ObjectReference, reason: impl AsRef<str>, note: &str) {
    publish(&ctx.recorder, object, (EventType::Warning, reason.as_ref()), note);
}

/// Writes an Event in the background.
pub fn publish(
    recorder: &Recorder,
    object: &ObjectReference,
    (type_, reason): (EventType, &str),
    note: &str,
) {
    let note: String = note.chars().take(1000).collect();
    let action: String = note.chars().take(120).collect();
    let event = Event { type_, reason: reason.into(), note: Some(note), action, secondary: None };
    let (recorder, object) = (recorder.clone(), object.clone());
    tokio::spawn(async move {
        if let Ok(Err(error)) = tokio::time::timeout(times::EVENT, recorder.publish(&event, &object)).await {
            tracing::debug!(%error, "an Event was not written");
        }
    });
}

/// Writes a Warning when an object that stays as it is violates its policy, and when its policy announces that it stops it.
pub fn violated(
    ctx: &Context,
    object: &ObjectReference,
    (before, after): (&[Condition], &[Condition]),
    announced: bool,
) {
    let type_ = ConditionType::PolicyViolation;
    let violates = |conditions| condition::get(conditions, type_).filter(|c| c.status == "True");
    let Some(condition) = violates(after) else { return };
    // What is only audited keeps nothing from being Ready.
    let told = condition.reason != Reason::PolicyAudited.as_str()
        && condition::get(after, ConditionType::Ready).is_some_and(|ready| ready.status != "True");
    let new = violates(before).is_none_or(|was| was.reason != condition.reason);
    if announced || !told && new {
        warning(ctx, object, &condition.reason, &condition.message);
    }
}

/// Conditions of which `Ready` does not depend, and the status of each that people have to know of.
const BESIDE: [(ConditionType, &str); 2] =
    [(ConditionType::StorageFull, "True"), (ConditionType::UpstreamReady, "False")];

/// Writes a Warning when the storage of a registry becomes nearly full and when it becomes full, and when the upstream of a cache
/// becomes silent or limits the rate of pulls; an Event when that is over.
pub fn beside(ctx: &Context, object: &ObjectReference, (before, after): (&[Condition], &[Condition])) {
    for (type_, told) in BESIDE {
        let (was, Some(is)) = (condition::get(before, type_), condition::get(after, type_)) else { continue };
        if is.status == told && was.is_none_or(|was| was.reason != is.reason) {
            warning(ctx, object, &is.reason, &is.message);
        }
    }
    let upstream = |conditions| condition::get(conditions, ConditionType::UpstreamReady);
    let is = |condition: Option<&Condition>, status| condition.is_some_and(|c| c.status == status);
    if is(upstream(before), "False") && is(upstream(after), "True") {
        let message = "the upstream registry answers again, and accepts requests";
        event(ctx, object, ConditionType::UpstreamReady, message);
    }
}

/// Writes an Event when the object becomes ready, and a Warning when it is not ready for another reason than before.
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
