//! Expiry of clusters with a time to live: announced before it, and executed as an ordinary deletion.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};

use super::{
    context::Context,
    kube_io::{self, Error},
    report,
};
use crate::{
    api::LocalCluster,
    plan::expiry::{self, Due},
};

/// Announces or executes the expiry if it is due, and triggers the next reconciliation for it. Reports whether the
/// cluster is deleted.
pub async fn run(cluster: &LocalCluster, ctx: &Context) -> Result<bool, Error> {
    let uid = cluster.uid().unwrap_or_default();
    let now = (ctx.now)();
    let Some(expiry) = expiry::of(cluster) else {
        ctx.memory.no_alarm(&uid);
        return Ok(false);
    };
    let (at, ttl) = (expiry.at, cluster.spec.ttl.as_deref().unwrap_or_default());
    match expiry.due(now) {
        Due::Nothing(next) => wake(cluster, ctx, now, next),
        Due::Notice(next) => {
            let note = format!(
                "the cluster and everything in it will be deleted at {at}: its spec.ttl is {ttl}; to keep it, set the \
                 annotation localcluster.dev/hold=true, or change or remove spec.ttl"
            );
            if ctx.memory.record_once(&uid, &note) {
                report::warning(ctx, &cluster.object_ref(&()), "Expiring", &note);
            }
            wake(cluster, ctx, now, next);
        }
        Due::End => {
            // Only the version that was read: the cluster may be protected by now.
            kube_io::delete_unchanged(&ctx.client, cluster).await?;
            ctx.memory.no_alarm(&uid);
            let note = format!("deleting the cluster: it was created {ttl} ago, which is its spec.ttl");
            report::event(ctx, &cluster.object_ref(&()), "Expired", &note);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the time of expiry for the status.
pub fn expires_at(cluster: &LocalCluster) -> Option<Time> {
    expiry::of(cluster).map(|expiry| Time(expiry.at))
}

/// Triggers a reconciliation at `next`, because a settled cluster is reconciled rarely.
fn wake(cluster: &LocalCluster, ctx: &Context, now: Timestamp, next: Timestamp) {
    let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
    let (triggers, namespace, name) =
        (ctx.triggers.clone(), cluster.namespace().unwrap_or_default(), cluster.name_any());
    ctx.memory.alarm(&cluster.uid().unwrap_or_default(), next, || {
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            triggers.cluster(&namespace, &name);
        })
        .abort_handle()
    });
}
