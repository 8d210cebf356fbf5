//! Execution of a plan as far as its steps are due, with its Events and problems.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use super::{
    context::Context,
    execute::{self, Error, Report, World},
    report,
};
use crate::{
    api::names::ClusterNames,
    child::api::ChildApi,
    plan::{
        failures,
        policy::{permit::Gate, restrain::restrain},
        steps::{Action, Plan, Problem},
    },
};

/// Result of a plan.
pub struct Carried {
    /// Result of each step.
    pub report: Report,
    /// Problems of the failed steps, by index. A step that failed because its observation was out of date has none.
    pub problems: Vec<(usize, Problem)>,
}

impl Carried {
    /// Returns the problems of the failed steps.
    pub fn problems(self) -> Vec<Problem> {
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// Removes the steps from the plan that the policy does not permit, and those that were executed a moment ago without
/// effect. Returns the delay until the first of the latter is due.
pub fn hold(
    ctx: &Context,
    gate: &Gate<'_>,
    plan: &mut Plan,
    names: Option<&ClusterNames>,
) -> Option<Duration> {
    restrain(plan, gate);
    let now = Instant::now();
    let due = ctx.memory.pace(&gate.owner.uid, |pace| pace.hold(plan, names, now))?;
    Some(due.saturating_duration_since(now))
}

/// Executes the plan. `meaning` returns the problem of a failed step.
pub async fn carry_out(
    ctx: &Context,
    (object, gate): (&ObjectReference, &Gate<'_>),
    plan: &Plan,
    child: Option<&dyn ChildApi>,
    mut meaning: impl FnMut(&Action, &Error) -> Option<Problem>,
) -> Carried {
    let owner = gate.owner;
    let world = World { engine: &*ctx.engine, child, management: &ctx.client, gate, now: (ctx.now)() };
    let report = execute::execute(&plan.steps, world, &ctx.metrics).await;
    report::events(ctx, object, &plan.steps, &report);
    let kind = if object.kind.as_deref() == Some("Registry") { "Registry" } else { "LocalCluster" };
    for repair in report.done.iter().filter_map(|index| plan.steps[*index].repair) {
        ctx.metrics.repaired(kind, repair.name());
    }
    for problem in report.done.iter().filter_map(|index| gate.audited(&plan.steps[*index].action)) {
        report::warning(ctx, object, problem.reason, &problem.message);
    }
    let mut problems = Vec::new();
    for (index, error) in &report.failed {
        let action = &plan.steps[*index].action;
        tracing::warn!(object = owner.object, step = %action, %error, "a step failed");
        problems.extend(meaning(action, error).map(|problem| (*index, problem)));
    }
    ctx.memory.pace(&owner.uid, |pace| pace.note(&plan.steps, &report, &problems, Instant::now()));
    Carried { report, problems }
}

/// Returns the problem of a failed step of a plan that needs no created cluster.
pub fn of_docker(names: Option<&ClusterNames>) -> impl Fn(&Action, &Error) -> Option<Problem> {
    move |action, error| match error {
        Error::Docker(error) => failures::docker(action, error, names),
        Error::Management(error) => failures::management(action, error, names),
        Error::NotPermitted(problem) => Some(problem.clone()),
        Error::Child(_) | Error::NoChild | Error::NotMade(_) => None,
    }
}
