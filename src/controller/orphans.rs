//! Reports Docker objects of the operator that belong to no object of the management cluster.

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;

use super::context::Context;
use crate::{
    docker::engine::Result,
    plan::{observed::Host, orphans::Orphans},
};

/// Looks for them when all objects are known, and again after each resync period. Never returns after that.
pub(super) async fn run(ctx: Arc<Context>) {
    if !ctx.known.all().await {
        return;
    }
    loop {
        report(&ctx).await;
        tokio::time::sleep(ctx.resync).await;
    }
}

/// Sets the metric, and logs a warning if there are any.
pub async fn report(ctx: &Context) {
    let orphans = match find(ctx).await {
        Ok(orphans) => orphans,
        Err(error) => return tracing::debug!(%error, "looking for Docker objects without an owner"),
    };
    for (resource, names) in
        [("container", &orphans.containers), ("network", &orphans.networks), ("volume", &orphans.volumes)]
    {
        ctx.metrics.set_orphans(resource, names.len());
    }
    if !orphans.is_empty() {
        tracing::warn!(
            %orphans,
            "Docker objects belong to no LocalCluster or Registry: their object was removed without its finalizer; \
             remove them with docker, see the label localcluster.dev/owner"
        );
    }
}

async fn find(ctx: &Context) -> Result<Orphans> {
    // An object may come or go while Docker is asked.
    let mut living = living(ctx);
    let (containers, networks, volumes) =
        tokio::try_join!(ctx.engine.containers(), ctx.engine.networks(), ctx.engine.volumes())?;
    living.append(&mut self::living(ctx));
    let host = Host { containers, networks, volumes, ..Host::default() };
    Ok(Orphans::of(&host, &ctx.manager, &living, |namespace| ctx.settings.manages(namespace)))
}

/// Returns the UIDs of all objects, including those that cannot be decoded.
fn living(ctx: &Context) -> BTreeSet<String> {
    let clusters = ctx.clusters.state();
    clusters.iter().filter_map(|guard| guard.uid()).chain(ctx.living_registries()).collect()
}
