//! Carries out a plan, as far as it may be carried out now, and tells of it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use super::{
    context::Context,
    execute::{self, Error, Report},
    observe, report, times,
};
use crate::{
    api::{names::ClusterNames, reason::Reason},
    child::api::ChildApi,
    plan::{
        failures,
        observed::Observed,
        owner::Owner,
        steps::{Action, Plan, Problem},
    },
};

/// How many times a deletion looks and acts before it lets others have their turn.
const PASSES: usize = 5;

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

/// What is left of an object that is being deleted.
pub enum Left {
    /// Nothing.
    Nothing,
    /// Something, for these reasons, if there are any; with how long until more can be done about it.
    Some(Vec<Problem>, Option<Duration>),
}

/// Takes away all that `teardown` names of what an object made.
pub async fn take_away(
    ctx: &Context,
    (object, owner): (&ObjectReference, &Owner),
    names: Option<&ClusterNames>,
    teardown: impl Fn(&mut Plan, &Observed),
) -> Left {
    for _ in 0..PASSES {
        let observed = match observe::engine(&*ctx.engine, owner).await {
            Ok(observed) => observed,
            Err(error) => {
                let mut problem = report::docker(ctx, &error);
                problem.message = format!("the deletion waits for Docker: {}", problem.message);
                return Left::Some(vec![problem], None);
            }
        };
        ctx.health.set_docker(true);
        let mut plan = Plan::default();
        teardown(&mut plan, &observed);
        if plan.is_settled() {
            ctx.memory.forget(&owner.uid);
            return Left::Nothing;
        }
        // That it goes on is no failure.
        plan.problems.retain(|p| p.reason != Reason::Deleting);
        let due = hold(ctx, &owner.uid, &mut plan, names);
        let carried = carry_out(ctx, (object, owner), &plan, None, (ctx.now)(), of_docker(names)).await;
        let mut problems = carried.problems();
        problems.append(&mut plan.problems);
        if !problems.is_empty() || (due.is_some() && plan.steps.is_empty()) {
            return Left::Some(problems, due);
        }
    }
    Left::Some(Vec::new(), Some(times::DELETING))
}
