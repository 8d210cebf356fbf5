//! Carries out a plan, as far as it may be carried out now, and tells of it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use super::{
    context::Context,
    execute::{self, Error, Report},
    report,
};
use crate::{
    api::names::ClusterNames,
    child::api::ChildApi,
    plan::{
        failures,
        owner::Owner,
        steps::{Action, Plan, Problem},
    },
};

/// What became of a plan.
pub struct Carried {
    /// Each step's end.
    pub report: Report,
    /// What the failed steps mean, by index. One that only shows that the picture was out of date means nothing.
    pub problems: Vec<(usize, Problem)>,
}

impl Carried {
    /// What the failed steps mean.
    pub fn problems(self) -> Vec<Problem> {
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// Takes out of the plan what was done a moment ago without effect; how long until its turn comes.
pub fn hold(ctx: &Context, uid: &str, plan: &mut Plan, names: Option<&ClusterNames>) -> Option<Duration> {
    let now = Instant::now();
    let due = ctx.memory.pace(uid, |pace| pace.hold(plan, names, now))?;
    Some(due.saturating_duration_since(now))
}

/// Carries out what is left of the plan. `meaning` tells what a failure is for the object.
pub async fn carry_out(
    ctx: &Context,
    (object, owner): (&ObjectReference, &Owner),
    plan: &Plan,
    child: Option<&dyn ChildApi>,
    now: Timestamp,
    mut meaning: impl FnMut(&Action, &Error) -> Option<Problem>,
) -> Carried {
    let report = execute::execute(&plan.steps, &*ctx.engine, child, now, &ctx.metrics).await;
    report::events(ctx, object, &plan.steps, &report);
    let mut problems = Vec::new();
    for (index, error) in &report.failed {
        let action = &plan.steps[*index].action;
        tracing::warn!(object = owner.object, step = %action, %error, "a step failed");
        problems.extend(meaning(action, error).map(|problem| (*index, problem)));
    }
    ctx.memory.pace(&owner.uid, |pace| pace.note(&plan.steps, &report, &problems, Instant::now()));
    Carried { report, problems }
}

/// What the failure of a Docker step means where nothing else is done.
pub fn of_docker(names: Option<&ClusterNames>) -> impl Fn(&Action, &Error) -> Option<Problem> {
    move |action, error| match error {
        Error::Docker(error) => failures::docker(action, error, names),
        Error::Child(_) | Error::NoChild | Error::NotMade(_) => None,
    }
}
