//! What the agent of a host does for objects besides running them: it stops those whose placeholder ends, lets the
//! placeholder go then, and removes what is left of objects that are bound to another host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::controller::Action as Next};

use super::{
    carry_out::{carry_out, hold, of_docker},
    context::Context,
    drive,
    kube_io::Error,
    observe,
    pass::{Managed, Pass},
    place_io, placed, requeue, times,
};
use crate::plan::{
    owner::Owner,
    placement::{duty, duty::Duty, leftovers, pod},
    policy::permit::Gate,
    steps::Plan,
};

/// Returns what this process has to do for an object on its host; `None` for the one host of the role `all`.
pub fn duty<K: Managed>(object: &K, ctx: &Context) -> Option<Duty> {
    let hosting = ctx.hosting.as_ref()?;
    let placed = placed::object(object);
    let found = placeholder(object, ctx);
    Some(duty::duty(&placed, &hosting.node, found.as_deref()))
}

/// Returns the placeholder of an object, if it is on this host.
fn placeholder<K: Managed>(object: &K, ctx: &Context) -> Option<Arc<Pod>> {
    let name = K::KIND.placeholder(&object.name_any());
    let found = ctx.hosting.as_ref()?.pod(&object.namespace().unwrap_or_default(), &name)?;
    pod::is_of(&found, &object.uid().unwrap_or_default()).then_some(found)
}

/// Does what a duty says other than to run the object.
pub async fn fulfil<K: Managed>(object: &K, ctx: &Arc<Context>, duty: Option<Duty>) -> Result<Next, Error> {
    let next = match duty {
        Some(Duty::Rest(why)) => drive::rest(object, ctx, &why).await?,
        Some(Duty::Elsewhere { keeps_data }) => {
            clear(object, ctx, |plan, owner, host| leftovers::remove(plan, owner, host, keeps_data)).await
        }
        Some(Duty::Delete { last: false }) => {
            clear(object, ctx, |plan, owner, host| leftovers::remove(plan, owner, host, false)).await
        }
        Some(Duty::Unbound) => {
            clear(object, ctx, |plan, owner, host| {
                leftovers::stop(plan, owner, host, "the object is bound to no Docker host");
            })
            .await
        }
        Some(Duty::Run | Duty::Delete { last: true }) | None => return Ok(Next::await_change()),
    };
    let ending = placeholder(object, ctx).filter(|found| pod::is_terminating(found) && pod::is_held(found));
    let Some(ending) = ending else { return Ok(next) };
    let done = let_go(ctx, &ending).await?;
    Ok(if done { next } else { Next::requeue(times::SOON) })
}

/// Executes a plan for what is left of an object on this host, of which nothing is told in its status.
async fn clear<K: Managed>(
    object: &K,
    ctx: &Arc<Context>,
    plans: impl Fn(&mut Plan, &Owner, &crate::plan::observed::Host),
) -> Next {
    let pass = Pass::new(object, ctx, true);
    let owner = &pass.owner;
    let host = match observe::engine(&*ctx.engine, owner, &ctx.adoptions()).await {
        Ok(host) => host,
        Err(error) => {
            tracing::debug!(object = owner.object, %error, "looking for what is left of an object");
            return Next::requeue(times::STALLED);
        }
    };
    let mut plan = Plan::default();
    plans(&mut plan, owner, &host);
    if plan.steps.is_empty() {
        return if plan.problems.is_empty() { Next::requeue(ctx.resync) } else { Next::requeue(times::SOON) };
    }
    let settings = &ctx.settings;
    // As for an object that is being deleted.
    let gate =
        Gate { owner, host: &host, settings, standing: None, keep: BTreeSet::new(), proven: BTreeSet::new() };
    hold(ctx, &gate, &mut plan, None);
    carry_out(ctx, (&object.object_ref(&()), &gate), &plan, None, of_docker(None)).await;
    requeue::waiting(ctx, &owner.uid)
}

/// Lets a placeholder go that is being deleted if nothing of its object runs on this host. Reports whether it did.
///
/// The finalizer keeps the Pod, and its name, until then. Its container ends before: it cannot wait for the agent, since the
/// kubelet updates no volume of a Pod that is being deleted, and does not heed a grace period that is shortened meanwhile.
pub async fn let_go(ctx: &Context, ending: &Pod) -> Result<bool, Error> {
    let Some((.., uid)) = pod::owner(ending) else { return Ok(true) };
    let owner = Owner { uid, object: String::new(), manager: ctx.manager.clone() };
    let adoptions = ctx.adoptions();
    // Also what the object adopted.
    let is_its = |labels: &BTreeMap<String, String>| {
        owner.owns(labels) || adoptions.owner(labels).is_some_and(|by| by.uid == owner.uid)
    };
    match ctx.engine.containers().await {
        Ok(all) if !all.iter().any(|c| is_its(&c.labels) && c.state.is_up()) => {}
        Ok(_) => return Ok(false),
        Err(error) => {
            tracing::debug!(%error, "looking whether an object has stopped");
            return Ok(false);
        }
    }
    place_io::release_placeholder(&ctx.client, ending).await?;
    tracing::info!(pod = ending.name_any(), namespace = ending.namespace(), "let a placeholder go");
    Ok(true)
}
