//! Common parts of reconciliations: pause, finalizer, deletion and failure.

use std::{sync::Arc, time::Duration};

use kube::{
    ResourceExt,
    core::error_boundary::DeserializeGuard,
    runtime::{controller::Action as Next, reflector::ObjectRef},
};
use tokio::time::Instant;

use super::{
    backoff::jitter,
    context::Context,
    drive, hosting,
    kube_io::{self, Error},
    panics,
    pass::Managed,
    placed, report, times,
};
use crate::{
    api::PAUSED_ANNOTATION,
    docker::share::Caller,
    plan::placement::duty::Duty,
    status::{self, Moment},
};

/// Reconciles an object.
pub async fn reconcile<K: Managed>(
    guard: Arc<DeserializeGuard<K>>,
    ctx: Arc<Context>,
) -> Result<Next, Error> {
    let object = match &guard.0 {
        Ok(object) => object,
        Err(invalid) => {
            // A newer version of the operator may use fields that this one cannot decode. The object is not changed.
            let (namespace, name) = (&invalid.metadata.namespace, &invalid.metadata.name);
            tracing::error!(
                kind = K::KIND.as_str(),
                namespace,
                name,
                error = invalid.error,
                "the object can't be read"
            );
            return Ok(Next::await_change());
        }
    };
    // References can be resolved only after all watches have listed all objects: before that, an existing Registry
    // would seem to be missing, and a namespace would seem to have no HostPolicy.
    if !ctx.known.all().await {
        return Ok(Next::await_change());
    }
    let caller =
        Caller { namespace: object.namespace().unwrap_or_default(), uid: object.uid().unwrap_or_default() };
    caller.scope(work(object, &ctx)).await
}

/// Reconciles an object once its namespace has a worker for it.
async fn work<K: Managed>(object: &K, ctx: &Arc<Context>) -> Result<Next, Error> {
    let waits = ctx.metrics.waits(K::KIND.as_str());
    let Some(_worker) = ctx.workers.take(K::workers(&ctx.workers)).await else {
        return Ok(Next::await_change());
    };
    drop(waits);
    let _runs = ctx.metrics.runs(K::KIND.as_str());
    // It may have changed meanwhile.
    let Some(stored) = K::stored(ctx).get(&name_of(object)) else { return Ok(Next::await_change()) };
    let Ok(object) = &stored.0 else { return Ok(Next::await_change()) };
    let began = Instant::now();
    let result = of(object, ctx).await;
    let error = result.as_ref().err().filter(|e| !e.is_stale()).map(|_| "kubernetes");
    ctx.metrics.reconciled(K::KIND.as_str(), began.elapsed(), error);
    ctx.count_clusters();
    if result.is_ok() {
        ctx.memory.api.cleared(&object.uid().unwrap_or_default());
    }
    result
}

/// Returns the name of an object in the store.
fn name_of<K: Managed>(object: &K) -> ObjectRef<DeserializeGuard<K>> {
    ObjectRef::new(&object.name_any()).within(&object.namespace().unwrap_or_default())
}

/// Reconciles an object that could be decoded.
pub async fn of<K: Managed>(object: &K, ctx: &Arc<Context>) -> Result<Next, Error> {
    panics::caught(object, ctx, tend(object, ctx)).await
}

/// Applies or deletes the object.
async fn tend<K: Managed>(object: &K, ctx: &Arc<Context>) -> Result<Next, Error> {
    let is_paused = object.annotations().get(PAUSED_ANNOTATION).is_some_and(|v| v == "true");
    let duty = hosting::duty(object, ctx);
    if is_paused && duty.as_ref().is_some_and(|duty| !duty.is_here()) {
        return Ok(Next::await_change());
    }
    if duty.as_ref().is_some_and(|duty| !duty.is_here()) {
        return hosting::fulfil(object, ctx, duty).await;
    }
    if is_paused {
        let mut next = object.status().cloned().unwrap_or_default();
        let generation = object.meta().generation.unwrap_or_default();
        status::paused(K::conditions_mut(&mut next), Moment { generation, now: (ctx.now)() });
        K::summarize(&mut next);
        if object.meta().deletion_timestamp.is_some() {
            let why = "the annotation localcluster.dev/paused is true; remove it to continue";
            report::deletion_waits(ctx, &object.object_ref(&()), why);
        }
        if object.status() != Some(&next) {
            kube_io::write_status(&ctx.client, object, &placed::own::<K>(ctx, &next)).await?;
        }
        return Ok(Next::await_change());
    }
    if object.meta().deletion_timestamp.is_none() {
        // Set before anything is created, because a deletion in between would leave it behind.
        kube_io::set_finalizer(&ctx.client, object, true).await?;
        return match duty {
            None | Some(Duty::Run) => drive::apply(object, ctx).await,
            duty => hosting::fulfil(object, ctx, duty).await,
        };
    }
    match drive::cleanup(object, ctx).await? {
        Some(next) => Ok(next),
        None => {
            kube_io::set_finalizer(&ctx.client, object, false).await?;
            Ok(Next::await_change())
        }
    }
}

/// Returns the delay after a failure.
pub fn failed<K: Managed>(object: &DeserializeGuard<K>, error: &Error, ctx: &Context) -> Next {
    let (namespace, name) = (object.namespace(), object.name_any());
    if error.is_stale() {
        tracing::debug!(kind = K::KIND.as_str(), namespace, name, %error, "out of date");
        return Next::requeue(times::SOON);
    }
    let delay: Duration = ctx.memory.api.failed(object.uid().unwrap_or_default(), Instant::now(), jitter());
    tracing::warn!(kind = K::KIND.as_str(), namespace, name, %error, ?delay, "will try again");
    Next::requeue(delay)
}
