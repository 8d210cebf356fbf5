//! Reports Docker objects of the operator that belong to no object of the management cluster, and removes them if an
//! administrator wants it.

use std::{collections::BTreeSet, sync::Arc};

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::{
    context::Context,
    execute::{World, execute},
    kube_io, watches,
};
use crate::{
    api::{LocalCluster, Registry},
    docker::engine::Result,
    plan::{
        observed::Host,
        orphans::{self, Living, Orphans, Sweep},
        owner::Owner,
        policy::permit::Gate,
        steps::Plan,
    },
};

/// Looks for them when all objects are known, and again after each resync period. Never returns after that.
pub(super) async fn run(ctx: Arc<Context>) {
    if !ctx.known.all().await {
        return;
    }
    let mut seen = Sweep::default();
    loop {
        look(&ctx, &mut seen).await;
        tokio::time::sleep(ctx.resync).await;
    }
}

/// Looks for them once, reports them, and removes those that have been there for as long as an administrator wants.
pub async fn look(ctx: &Context, seen: &mut Sweep) {
    // An object may come or go while Docker is asked.
    let mut uids = uids(ctx);
    let host = match host(ctx).await {
        Ok(host) => host,
        Err(error) => return tracing::debug!(%error, "looking for Docker objects without an owner"),
    };
    uids.append(&mut self::uids(ctx));
    report(ctx, &host, &uids);
    if let Some(after) = ctx.settings.remove_orphans_after {
        sweep(ctx, seen, after, &host, uids).await;
    }
}

/// Sets the metric, and logs a warning if there are any.
fn report(ctx: &Context, host: &Host, uids: &BTreeSet<String>) {
    let orphans = Orphans::of(host, &ctx.manager, uids, |namespace| ctx.settings.manages(namespace));
    for (resource, names) in
        [("container", &orphans.containers), ("network", &orphans.networks), ("volume", &orphans.volumes)]
    {
        ctx.metrics.set_orphans(resource, names.len());
    }
    if !orphans.is_empty() {
        tracing::warn!(
            %orphans,
            "Docker objects belong to no LocalCluster or Registry: their object was removed without its finalizer; \
             remove them with docker, see the label localcluster.dev/owner, or start the operator with \
             --remove-orphans-after"
        );
    }
}

/// Removes what objects left that every look has found gone for the time `after`. `uids` contains those of all objects
/// that the watches know.
async fn sweep(ctx: &Context, seen: &mut Sweep, after: SignedDuration, host: &Host, uids: BTreeSet<String>) {
    // Asked for now: a watch that was interrupted may not know of an object that was restored.
    let mut living = match listed(ctx).await {
        Ok(listed) => listed,
        Err(error) => return tracing::debug!(%error, "nothing is removed while the objects are unknown"),
    };
    living.uids.extend(uids);
    let gone = orphans::gone(host, &ctx.manager, &living, |namespace| ctx.settings.manages(namespace));
    for owner in seen.due(gone, (ctx.now)(), after) {
        remove(ctx, &owner, host).await;
    }
}

async fn remove(ctx: &Context, owner: &Owner, host: &Host) {
    let mut plan = Plan::default();
    orphans::remove(&mut plan, owner, host);
    let settings = &ctx.settings;
    // As for an object that is being deleted.
    let gate = Gate { owner, host, settings, standing: None, keep: BTreeSet::new(), proven: BTreeSet::new() };
    let world =
        World { engine: &*ctx.engine, child: None, management: &ctx.client, gate: &gate, now: (ctx.now)() };
    let report = execute(&plan.steps, world, &ctx.metrics).await;
    let (object, uid) = (&owner.object, &owner.uid);
    for step in report.done.iter().map(|index| &plan.steps[*index]) {
        tracing::warn!(object, uid, step = %step.action, "removed what an object left that no longer exists");
    }
    for (index, error) in &report.failed {
        let step = &plan.steps[*index].action;
        tracing::warn!(object, uid, %step, %error, "cannot remove what an object left that no longer exists; retrying");
    }
}

async fn host(ctx: &Context) -> Result<Host> {
    let (containers, networks, volumes) =
        tokio::try_join!(ctx.engine.containers(), ctx.engine.networks(), ctx.engine.volumes())?;
    Ok(Host { containers, networks, volumes, ..Host::default() })
}

/// Returns all objects by the API itself, or fails.
async fn listed(ctx: &Context) -> std::result::Result<Living, kube_io::Error> {
    let all = tokio::try_join!(watches::listed::<LocalCluster>(ctx), watches::listed::<Registry>(ctx))?;
    let mut living = Living::default();
    let mut add = |metadata: ObjectMeta| {
        let namespace = metadata.namespace.unwrap_or_default();
        living.names.insert(format!("{namespace}/{}", metadata.name.unwrap_or_default()));
        living.uids.extend(metadata.uid);
    };
    all.0.into_iter().for_each(|object| add(object.metadata));
    all.1.into_iter().for_each(|object| add(object.metadata));
    Ok(living)
}

/// Returns the UIDs of all objects that the watches know, including those that cannot be decoded.
pub(super) fn uids(ctx: &Context) -> BTreeSet<String> {
    let clusters = ctx.clusters.state();
    clusters.iter().filter_map(|guard| guard.uid()).chain(ctx.living_registries()).collect()
}
