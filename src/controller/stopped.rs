//! A LocalCluster with the state Stopped, or that its HostPolicy stops. The operator only stops its containers: it resolves no references and allocates
//! no network, port or image, so none of these can prevent the stop or appear as a problem in the status.

use std::collections::BTreeSet;

use kube::Resource;

use super::{
    carry_out::{carry_out, hold, of_docker},
    kube_io::Error,
    pass::{Outcome, Pass},
    record, requeue, services,
};
use crate::{
    api::{
        LocalCluster, LocalClusterStatus,
        condition::{self, ConditionType},
        reason::Reason,
    },
    plan::{
        local_cluster,
        observed::Host,
        service,
        steps::{Plan, Problem},
        validate::Valid,
    },
    status::{self, StoppedView},
};

/// Observes the cluster and stops its containers. `cause` says why it is stopped
/// although its spec says otherwise.
pub async fn pass(
    pass: &Pass<'_, LocalCluster>,
    previous: &mut LocalClusterStatus,
    (valid, cause): (&Valid, Option<(Reason, &str)>),
    observed: &Host,
) -> Result<Outcome, Error> {
    let Pass { object: cluster, ctx, owner, moment, .. } = pass;
    // It starts when it runs again, and asks for its turn then.
    ctx.turns.done(&owner.uid);
    ctx.host_images.forget(&owner.uid);
    ctx.pulls.keep(&owner.uid, &[]);
    let mut plan = Plan::default();
    local_cluster::stop(&mut plan, &valid.names, observed);
    // Where it moves to another host, the Service may lead there already.
    let moves = cause.is_some_and(|(reason, _)| reason == Reason::Evicted);
    if plan.steps.is_empty() && !moves {
        service::stop(&mut plan, owner, &services::observe(&ctx.client, owner, valid, previous).await?);
    }
    record::plan(pass, &mut plan, observed, &valid.names.load_balancer()).await;
    let gate = pass.gate(observed, BTreeSet::new());
    let due = hold(ctx, &gate, &mut plan, Some(&valid.names));
    // It needs another spec or another policy.
    let frozen = pass
        .standing
        .problem
        .clone()
        .filter(|_| cause.is_some_and(|(reason, _)| reason == Reason::PolicyViolation));
    plan.problems.extend(frozen.map(|problem| {
        let message = format!("the cluster is stopped; {}", problem.message);
        Problem { message, ..problem }
    }));
    let next_status = |previous: &LocalClusterStatus, problems: &[_]| {
        status::stopped(previous, StoppedView { valid, owner, observed, problems, cause }, *moment)
    };
    let first_look = previous.observed_generation != Some(moment.generation);
    if plan.steps.is_empty() || first_look || condition::is_true(&previous.conditions, ConditionType::Ready) {
        let next = next_status(previous, &plan.problems);
        pass.write(previous, next).await?;
    }
    if plan.steps.is_empty() {
        return Ok(Outcome::Next(requeue::next_due(ctx, &owner.uid, &plan.problems, due)));
    }
    let target = (&cluster.object_ref(&()), &gate);
    let meaning = of_docker(Some(&valid.names));
    let carried = carry_out(ctx, target, &plan, None, meaning).await;
    observed.own.keys().for_each(|id| ctx.files.forget(id));
    if carried.problems.is_empty() {
        return Ok(if carried.report.failed.is_empty() {
            Outcome::Again
        } else {
            Outcome::Next(requeue::waiting(ctx, &owner.uid))
        });
    }
    let mut problems = carried.problems();
    problems.append(&mut plan.problems);
    let next = next_status(previous, &problems);
    pass.write(previous, next).await?;
    Ok(Outcome::Next(requeue::next(ctx, &owner.uid, &problems)))
}
