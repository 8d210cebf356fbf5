//! Ends of clusters: the expiry of their time to live, which is announced before it and executed as an ordinary deletion,
//! and the time at which their policy stops them.

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
    api::{LocalCluster, LocalClusterStatus, local_cluster::ViolationStatus},
    plan::{
        expiry::{self, Due},
        kubeconfig,
        policy::{standing::Standing, stop, term::Term},
    },
};

/// Announces or executes the expiry if it is due, and triggers the reconciliation in which the next end is due. Reports whether the
/// cluster is deleted.
pub async fn run(cluster: &LocalCluster, ctx: &Context, standing: &Standing) -> Result<bool, Error> {
    let uid = cluster.uid().unwrap_or_default();
    let now = (ctx.now)();
    let unrecorded = LocalClusterStatus::default();
    let status = cluster.status.as_ref().unwrap_or(&unrecorded);
    let default = expiry::default(cluster, status, standing, now);
    let stop = stop::grace(status, standing, now).and_then(Term::end).filter(|end| *end > now);
    let wake = |next: Timestamp| wake(cluster, ctx, now, stop.map_or(next, |stop| stop.min(next)));
    let Some(expiry) = expiry::of(cluster, default) else {
        match stop {
            Some(stop) => wake(stop),
            None => ctx.memory.no_alarm(&uid),
        }
        return Ok(false);
    };
    let at = expiry.at;
    let (ttl, source) = match (cluster.spec.ttl.as_deref(), default) {
        (Some(ttl), _) => (ttl.to_owned(), "its spec.ttl".to_owned()),
        (None, Some(term)) => {
            let policy = standing.policy.as_deref().unwrap_or_default();
            (expiry::text(term.length), format!("the default of the HostPolicy {policy}"))
        }
        (None, None) => return Ok(false),
    };
    match expiry.due(now) {
        Due::Nothing(next) => wake(next),
        Due::Notice(next) => {
            let note = format!(
                "the cluster and everything in it will be deleted at {at}: its time to live is {ttl}, {source}; to \
                 keep it, set the annotation localcluster.dev/hold=true, or another spec.ttl"
            );
            if ctx.memory.record_once(&uid, &note) {
                report::warning(ctx, &cluster.object_ref(&()), "Expiring", &note);
            }
            wake(next);
        }
        // Only by what the policy says now, and only after it was recorded and could be read.
        Due::End
            if cluster.spec.ttl.is_none()
                && (standing.is_unknown() || expiry::recorded(status) != default) => {}
        Due::End => {
            // Only the version that was read: the cluster may be protected by now.
            kube_io::delete_unchanged(&ctx.client, cluster).await?;
            ctx.memory.no_alarm(&uid);
            let note = format!("deleting the cluster: its time to live of {ttl}, {source}, is over");
            report::event(ctx, &cluster.object_ref(&()), "Expired", &note);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sets the time of expiry, the time to live that the policy sets, and the time at which it stops the cluster.
pub fn complete(
    cluster: &LocalCluster,
    status: &mut LocalClusterStatus,
    standing: &Standing,
    now: Timestamp,
) {
    let default = expiry::default(cluster, status, standing, now);
    status.expires_at = expiry::of(cluster, default).map(|expiry| Time(expiry.at));
    let token = kubeconfig::default_ttl(&cluster.spec.kubeconfig, Some(&*status), standing);
    let effective = status.effective.get_or_insert_default();
    effective.kubeconfig_ttl = token.map(expiry::text);
    effective.ttl = default.map(|term| expiry::text(term.length));
    effective.ttl_since = default.map(|term| Time(term.since));
    let grace = stop::grace(status, standing, now);
    let recorded =
        |grace: Term| Some(ViolationStatus { since: Time(grace.since), stops_at: Time(grace.end()?) });
    status.violation = grace.and_then(recorded);
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
