//! Isolates a panic to the object that was reconciled.
//!
//! A reconciliation reads input from created clusters and their users, and any such input may trigger a bug. So a panic
//! is caught and reported in the object's status, and the object is not reconciled for a while, because the input has
//! probably not changed. All other objects are reconciled as usual.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Arc,
};

use futures::FutureExt;
use kube::{ResourceExt, runtime::controller::Action as Next};

use super::{
    context::Context,
    kube_io::{self, Error},
    pass::Managed,
    placed, times,
};
use crate::status::{self, Moment};

thread_local! {
    /// Source location of the last panic on this thread.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Logs panics with their source location. The message is left out because it may contain secret values.
pub fn log() {
    panic::set_hook(Box::new(|info| {
        let place = place(info);
        let words = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not shown)");
        tracing::error!(place, words, "panicked");
        PLACE.set(Some(place));
    }));
}

fn place(info: &PanicHookInfo<'_>) -> String {
    info.location().map_or_else(|| "an unknown place".to_owned(), |l| format!("{}:{}", l.file(), l.line()))
}

/// Reconciles `object`, unless a reconciliation of the same generation has just panicked. Reports a panic in the
/// object's status.
pub async fn caught<K: Managed>(
    object: &K,
    ctx: &Arc<Context>,
    reconcile: impl Future<Output = Result<Next, Error>>,
) -> Result<Next, Error> {
    let uid = object.uid().unwrap_or_default();
    let generation = object.meta().generation.unwrap_or_default();
    if let Some(rest) = ctx.memory.broken(&uid, generation, times::PANICKED) {
        return Ok(Next::requeue(rest));
    }
    if let Ok(result) = AssertUnwindSafe(reconcile).catch_unwind().await {
        return result;
    }
    ctx.memory.breaks(&uid, generation);
    ctx.metrics.panicked(K::KIND.as_str());
    let place = PLACE.take().unwrap_or_else(|| "an unknown place".to_owned());
    let mut next = object.status().cloned().unwrap_or_default();
    status::broken(
        K::conditions_mut(&mut next),
        &place,
        times::PANICKED.as_secs() / 60,
        Moment { generation, now: (ctx.now)() },
    );
    K::summarize(&mut next);
    kube_io::write_status(&ctx.client, object, &placed::own::<K>(ctx, &next)).await?;
    Ok(Next::requeue(times::PANICKED))
}
