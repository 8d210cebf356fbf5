//! Driver of both kinds: the passes of a reconciliation, and the deletion.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kube::{ResourceExt, runtime::controller::Action as Next};
use tokio::time::{Instant, timeout};

use super::{
    backoff::jitter,
    carry_out::{carry_out, hold, of_docker},
    context::Context,
    kube_io::Error,
    observe,
    pass::{Managed, Outcome, Pass, Stop},
    report, requeue, times,
};
use crate::{
    api::{condition::ConditionType, names::ClusterNames, reason::Reason},
    plan::{
        observed::Host,
        steps::{Plan, Problem},
    },
};

/// Number of passes of one deletion before other objects have their turn.
const PASSES: usize = 5;

/// Message about a pass that took too long.
const OVERDUE: &str = "the reconciliation is repeated: it took longer than 180s and was ended, so that others are not \
                       delayed; if it stays so, look for nodes that hang, and for a Docker host without free CPUs or \
                       disk (docker stats)";

/// Reconciles an object as far as possible now.
pub async fn apply<K: Managed>(object: &K, ctx: &Arc<Context>) -> Result<Next, Error> {
    passes(object, ctx, None).await
}

/// Keeps an object stopped on this host, for the reason `why`.
pub async fn rest<K: Managed>(object: &K, ctx: &Arc<Context>, why: &str) -> Result<Next, Error> {
    passes(object, ctx, Some(why)).await
}

async fn passes<K: Managed>(object: &K, ctx: &Arc<Context>, rest: Option<&str>) -> Result<Next, Error> {
    let mut previous = object.status().cloned().unwrap_or_default();
    let began = Instant::now();
    for number in 1..=K::PASSES {
        // Others have their turn after as much time too.
        if began.elapsed() >= times::PASS {
            break;
        }
        let pass = Pass::new(object, ctx, number == K::PASSES);
        if number == 1 && object.expire(ctx, &pass.standing).await? {
            return Ok(Next::await_change());
        }
        match run(&pass, &mut previous, rest).await? {
            Outcome::Again => {}
            Outcome::Next(next) => return Ok(next),
        }
    }
    Ok(requeue::waiting(ctx, &object.uid().unwrap_or_default()))
}

/// Runs a pass, and writes the status of one that ends early.
async fn run<K: Managed>(
    pass: &Pass<'_, K>,
    previous: &mut K::Status,
    rest: Option<&str>,
) -> Result<Outcome, Error> {
    // Boxed, since the passes of a reconciliation would take the space of several in a debug build.
    let looked = match rest {
        None => timeout(times::PASS, Box::pin(K::look_and_act(pass, previous))).await,
        Some(why) => timeout(times::PASS, Box::pin(K::rest(pass, previous, why))).await,
    };
    let Ok(looked) = looked else { return overdue(pass, previous).await.map(Outcome::Next) };
    pass.ctx.memory.overdue.0.cleared(&pass.owner.uid);
    match looked {
        Ok(outcome) => Ok(outcome),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Interrupted) => Ok(Outcome::Again),
        Err(Stop::Blocked(problems, unknown)) => {
            pass.write_blocked(previous, &problems, unknown).await?;
            Ok(Outcome::Next(requeue::next(pass.ctx, &pass.owner.uid, &problems)))
        }
        Err(Stop::Invalid(messages)) => {
            let problem = Problem::stalls(ConditionType::Accepted, Reason::InvalidSpec, messages.join("; "));
            pass.write_blocked(previous, &[problem], ConditionType::ResolvedRefs).await?;
            Ok(Outcome::Next(Next::await_change()))
        }
    }
}

/// Removes everything that the object created, and writes problems to its status. Returns `None` if nothing is left.
pub async fn cleanup<K: Managed>(object: &K, ctx: &Arc<Context>) -> Result<Option<Next>, Error> {
    let mut previous = object.status().cloned().unwrap_or_default();
    let pass = Pass::new(object, ctx, true);
    match timeout(times::PASS, Box::pin(K::cleanup(&pass, &mut previous))).await {
        Ok(cleaned) => cleaned,
        Err(_) => overdue(&pass, &mut previous).await.map(Some),
    }
}

/// Reports a pass that was ended because it took too long. It is as if the operator had been killed: the next pass
/// continues from what it observes. Without an end, containers and clusters that hang would hold the workers of their
/// namespace.
async fn overdue<K: Managed>(pass: &Pass<'_, K>, previous: &mut K::Status) -> Result<Next, Error> {
    let delay = pass.ctx.memory.overdue.0.failed(pass.owner.uid.clone(), Instant::now(), jitter());
    tracing::warn!(
        kind = K::KIND.as_str(),
        object = pass.owner.object,
        ?delay,
        "a reconciliation took too long"
    );
    let problem = Problem::unknown(K::UNJUDGED, Reason::DeadlineExceeded, OVERDUE);
    pass.write_blocked(previous, &[problem], K::UNJUDGED).await?;
    Ok(Next::requeue(delay))
}

/// Executes a teardown, and writes problems to the status.
pub async fn tear_down<K: Managed>(
    pass: &Pass<'_, K>,
    previous: &mut K::Status,
    names: Option<&ClusterNames>,
    teardown: impl Fn(&mut Plan, &Host),
) -> Result<Option<Next>, Error> {
    let Some((problems, due)) = remove(pass, names, teardown).await else { return Ok(None) };
    if !problems.is_empty() {
        pass.write_blocked(previous, &problems, K::UNJUDGED).await?;
    }
    // A Warning reports Docker.
    for problem in problems.iter().filter(|p| p.condition != ConditionType::DockerReachable) {
        report::deletion_waits(pass.ctx, &pass.object.object_ref(&()), &problem.message);
    }
    Ok(Some(requeue::next_due(pass.ctx, &pass.owner.uid, &problems, due)))
}

/// Removes what `teardown` plans to remove. Returns the problems, and the delay until the next step is due; `None` if
/// nothing is left.
async fn remove<K: Managed>(
    pass: &Pass<'_, K>,
    names: Option<&ClusterNames>,
    teardown: impl Fn(&mut Plan, &Host),
) -> Option<(Vec<Problem>, Option<Duration>)> {
    let (ctx, owner) = (pass.ctx, &pass.owner);
    let object = pass.object.object_ref(&());
    for _ in 0..PASSES {
        let adoptions = ctx.adoptions();
        let observed = match observe::engine(&*ctx.engine, owner, &adoptions).await {
            Ok(observed) => observed,
            Err(error) => {
                let mut problem = report::docker(ctx, &error);
                problem.message = format!("the deletion waits for Docker: {}", problem.message);
                return Some((vec![problem], None));
            }
        };
        ctx.health.set_docker(true);
        if let Some(mut problem) = adoptions.is_pending(K::KIND, owner, &observed) {
            // It may be its own, and nobody would remove it later.
            problem.message = format!("the deletion waits: {}", problem.message);
            return Some((vec![problem], None));
        }
        let mut plan = Plan::default();
        teardown(&mut plan, &observed);
        if plan.is_settled() {
            ctx.memory.forget(&owner.uid);
            ctx.pulls.keep(&owner.uid, &[]);
            ctx.policies.forget(&owner.uid);
            ctx.measures.forget(&owner.uid);
            return None;
        }
        // A deletion in progress is no problem.
        plan.problems.retain(|p| p.reason != Reason::Deleting);
        let gate = pass.gate(&observed, BTreeSet::new());
        let due = hold(ctx, &gate, &mut plan, names);
        let carried = carry_out(ctx, (&object, &gate), &plan, None, of_docker(names)).await;
        let mut problems = carried.problems();
        problems.append(&mut plan.problems);
        if !problems.is_empty() || (due.is_some() && plan.steps.is_empty()) {
            return Some((problems, due));
        }
    }
    Some((Vec::new(), Some(times::DELETING)))
}
