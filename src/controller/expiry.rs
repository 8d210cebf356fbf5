//! The end of clusters that have a time to live: told before, and carried out by a deletion like a user's.

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

/// Does what is due of the cluster's end, and has it looked at again when the next thing is. Whether it is deleted.
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
                "it deletes itself at {at}, {ttl} after its creation, with all that is in it: to keep it, annotate it \
                 with localcluster.dev/hold=true, or change or remove spec.ttl"
            );
            if ctx.memory.say_once(&uid, &note) {
                report::warning(ctx, &cluster.object_ref(&()), "Expiring", &note);
            }
            wake(cluster, ctx, now, next);
        }
        Due::End => {
            // Of the very version that was read: it may be held by now.
            kube_io::delete_unchanged(&ctx.client, cluster).await?;
            ctx.memory.no_alarm(&uid);
            let note = format!("it is deleted, {ttl} after its creation, as spec.ttl says");
            report::event(ctx, &cluster.object_ref(&()), "Expired", &note);
            return Ok(true);
        }
    }
    Ok(false)
}

/// When the cluster goes, for its status.
pub fn told(cluster: &LocalCluster) -> Option<Time> {
    expiry::of(cluster).map(|expiry| Time(expiry.at))
}

/// Has the cluster looked at when `next` has come. One that is settled is otherwise looked at seldom.
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
