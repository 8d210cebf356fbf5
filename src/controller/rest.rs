//! An object that is not to run on this host: it is only stopped, whatever its spec says.

use std::collections::BTreeSet;

use super::{
    carry_out::{carry_out, hold, of_docker},
    observe,
    pass::{Managed, Pass, Stop},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    plan::{
        placement::leftovers,
        steps::{Plan, Problem},
    },
};

/// Stops all containers of an object, in no order, and returns the end of the pass with the problem of this condition.
pub async fn stop<K: Managed>(pass: &Pass<'_, K>, why: &str, condition: ConditionType) -> Stop {
    let host = match pass.docker(observe::engine(&*pass.ctx.engine, &pass.owner, &pass.ctx.adoptions()).await)
    {
        Ok(host) => host,
        Err(stop) => return stop,
    };
    pass.ctx.health.set_docker(true);
    let mut plan = Plan::default();
    leftovers::stop(&mut plan, &pass.owner, &host, why);
    let gate = pass.gate(&host, BTreeSet::new());
    hold(pass.ctx, &gate, &mut plan, None);
    let of = (&pass.object.object_ref(&()), &gate);
    let carried = carry_out(pass.ctx, of, &plan, None, of_docker(None)).await;
    let message = format!("the {} is stopped: {why}", K::KIND.noun());
    let rests = Problem::waits(condition, Reason::Evicted, message);
    Stop::Blocked(carried.problems().into_iter().chain([rests]).collect(), condition)
}
