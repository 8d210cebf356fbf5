//! Watches of HostPolicies and Namespaces, what they trigger, and the status of the policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    sync::Arc,
};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Resource, ResourceExt, core::PartialObjectMeta, runtime::reflector::store::Writer};
use tokio_util::sync::CancellationToken;

use super::{context::Context, kube_io, policies::PolicyGuard, times, triggers, watches::watched};
use crate::{
    api::HostPolicyStatus,
    plan::policy::{
        select::{Policy, select},
        usage::Usage,
    },
    status::{self, Moment, PolicyObject, PolicyView},
};

/// Writers of the stores.
#[derive(Default)]
pub(super) struct Writers {
    pub(super) policies: Writer<PolicyGuard>,
    pub(super) namespaces: Writer<PartialObjectMeta<Namespace>>,
}

/// Watches until `stop` is cancelled.
pub(super) async fn run(ctx: Arc<Context>, writers: Writers, stop: &CancellationToken) {
    let changed = || {
        ctx.policies.changed.notify_one();
        ready(())
    };
    let policies =
        watched(&ctx, "HostPolicy", vec![Api::all(ctx.client.clone())], writers.policies, |known| {
            &known.policies
        });
    let policies = policies.for_each(|_| changed());
    let namespaces =
        watched(&ctx, "Namespace", vec![Api::all(ctx.client.clone())], writers.namespaces, |known| {
            &known.namespaces
        });
    let namespaces = namespaces.for_each(|_| changed());
    let all = async { tokio::join!(policies, namespaces, statuses(&ctx)) };
    stop.run_until_cancelled(all).map(drop).await;
}

/// Follows all changes: triggers the objects that they concern, and writes the status of the policies.
async fn statuses(ctx: &Arc<Context>) {
    if !ctx.known.all().await {
        return;
    }
    let mut followed = Followed::new(ctx);
    loop {
        // Changes in a row are one.
        tokio::time::sleep(times::POLICY_STATUS).await;
        if !followed.follow(ctx).await {
            ctx.policies.changed.notify_one();
        }
        ctx.policies.changed.notified().await;
    }
}

/// What was last seen.
pub struct Followed {
    applied: Applied,
    /// Usage of each namespace.
    used: BTreeMap<String, Usage>,
}

impl Followed {
    /// Begins with what applies now.
    pub fn new(ctx: &Context) -> Self {
        Self { applied: applied(ctx, &ctx.policies.all()), used: BTreeMap::new() }
    }

    /// Triggers the objects that changes concern, and writes the status of the policies. Reports whether it was written.
    pub async fn follow(&mut self, ctx: &Context) -> bool {
        let policies = ctx.policies.all();
        let objects = ctx.policy_objects(&policies);
        judge_again(ctx, &mut self.applied, &policies);
        retry_refused(ctx, &mut self.used, &objects);
        // Each agent knows a part of what objects use.
        ctx.hosting.is_some() || write_all(ctx, &policies, &objects).await
    }
}

/// The policy that applies to each namespace, if one does.
type Applied = BTreeMap<String, Option<Policy>>;

fn applied(ctx: &Context, policies: &[Policy]) -> Applied {
    let of = |namespace: &PartialObjectMeta<Namespace>| {
        (namespace.name_any(), select(policies, namespace.labels()).cloned())
    };
    ctx.policies.namespaces.state().iter().map(|namespace| of(namespace)).collect()
}

/// Triggers the objects in namespaces to which another policy applies, or the same one with other rules.
fn judge_again(ctx: &Context, applied: &mut Applied, policies: &[Policy]) {
    let now = self::applied(ctx, policies);
    for (namespace, _) in now.iter().filter(|(name, policy)| applied.get(*name) != Some(policy)) {
        triggers::of_namespace(ctx, namespace);
    }
    *applied = now;
}

/// Triggers objects without a share of the quota in namespaces whose usage has changed.
fn retry_refused(ctx: &Context, used: &mut BTreeMap<String, Usage>, objects: &[PolicyObject]) {
    let mut now: BTreeMap<String, Usage> = BTreeMap::new();
    for object in objects {
        let sum = now.entry(object.namespace.clone()).or_default();
        *sum = sum.plus(object.usage);
    }
    let changed: BTreeSet<&String> =
        now.iter().filter(|(name, sum)| used.get(*name) != Some(sum)).map(|(name, _)| name).collect();
    for object in objects.iter().filter(|o| o.violates && changed.contains(&o.namespace)) {
        match object.kind {
            "Registry" => ctx.triggers.registry(&object.namespace, &object.name),
            _ => ctx.triggers.cluster(&object.namespace, &object.name),
        }
    }
    *used = now;
}

/// Writes the status of each policy that has another one. Reports whether all were written.
async fn write_all(ctx: &Context, policies: &[Policy], objects: &[PolicyObject]) -> bool {
    let namespaces = ctx.policies.namespaces.state();
    let namespaces = namespaces.iter().map(|n| (n.name_any(), n.labels().clone())).collect();
    let view = PolicyView { policies, namespaces: &namespaces, objects };
    let mut all = true;
    for guard in ctx.policies.policies.state() {
        let Some(policy) = policies.iter().find(|p| p.name == guard.name_any()) else { continue };
        if let Err(error) = write(ctx, &guard, policy, &view).await {
            tracing::warn!(policy = policy.name, %error, "the status of a HostPolicy was not written");
            // A policy that was deleted or changed comes again.
            all &= error.is_stale();
        }
    }
    all
}

async fn write(
    ctx: &Context,
    guard: &PolicyGuard,
    policy: &Policy,
    view: &PolicyView<'_>,
) -> Result<(), kube_io::Error> {
    let previous = guard.0.as_ref().ok().and_then(|object| object.status.clone());
    let moment = Moment { generation: guard.meta().generation.unwrap_or_default(), now: (ctx.now)() };
    let next = status::host_policy(&previous.clone().unwrap_or_default(), policy, view, moment);
    // That of an object which cannot be decoded is unknown.
    if guard.0.is_ok() && previous.as_ref() == Some(&next) {
        return Ok(());
    }
    kube_io::write_policy_status::<HostPolicyStatus>(&ctx.client, guard.meta(), &next).await
}
