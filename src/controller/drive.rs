//! The driver of both kinds: the passes of a reconcile, and the deletion.

use std::sync::Arc;

use kube::{ResourceExt, runtime::controller::Action as Next};

use super::{
    carry_out::{Left, take_away},
    context::Context,
    kube_io::Error,
    pass::{Managed, Outcome, Pass, Stop},
    requeue,
};
use crate::{
    api::{condition::ConditionType, names::ClusterNames, reason::Reason},
    plan::{
        observed::Observed,
        steps::{Plan, Problem},
    },
};

/// Brings what exists to what the object wants, as far as possible now.
pub async fn apply<K: Managed>(object: &K, ctx: &Arc<Context>) -> Result<Next, Error> {
    if object.expire(ctx).await? {
        return Ok(Next::await_change());
    }
    let mut previous = object.status().cloned().unwrap_or_default();
    for number in 1..=K::PASSES {
        let pass = Pass::new(object, ctx, number == K::PASSES);
        match run(&pass, &mut previous).await? {
            Outcome::Again => {}
            Outcome::Next(next) => return Ok(next),
        }
    }
    Ok(requeue::waiting(ctx, &object.uid().unwrap_or_default()))
}

/// Runs a pass, and writes the status of one that ends early.
async fn run<K: Managed>(pass: &Pass<'_, K>, previous: &mut K::Status) -> Result<Outcome, Error> {
    match K::look_and_act(pass, previous).await {
        Ok(outcome) => Ok(outcome),
        Err(Stop::Failed(error)) => Err(error),
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

/// Removes what the object created, and writes what stands in the way. Returns `None` if nothing of it is left.
pub async fn cleanup<K: Managed>(object: &K, ctx: &Arc<Context>) -> Result<Option<Next>, Error> {
    let mut previous = object.status().cloned().unwrap_or_default();
    K::cleanup(&Pass::new(object, ctx, true), &mut previous).await
}

/// Executes a teardown, and writes what stands in the way.
pub async fn tear_down<K: Managed>(
    pass: &Pass<'_, K>,
    previous: &mut K::Status,
    names: Option<&ClusterNames>,
    teardown: impl Fn(&mut Plan, &Observed),
) -> Result<Option<Next>, Error> {
    let of = (&pass.object.object_ref(&()), &pass.owner);
    match take_away(pass.ctx, of, names, teardown).await {
        Left::Nothing => Ok(None),
        Left::Some(problems, due) => {
            if !problems.is_empty() {
                pass.write_blocked(previous, &problems, K::UNJUDGED).await?;
            }
            Ok(Some(requeue::next_due(pass.ctx, &pass.owner.uid, &problems, due)))
        }
    }
}
