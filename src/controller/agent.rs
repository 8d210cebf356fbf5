//! Background work of the agent of a host: its heartbeat, the watch of the placeholders on it, and those whose objects are
//! gone.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{reflector::store::Writer, watcher};
use tokio_util::sync::CancellationToken;

use super::{context::Context, hosting, orphans, place_io, times, watches};
use crate::plan::{
    kind::Kind,
    placement::{
        heartbeat,
        pod::{self, PLACEHOLDER},
    },
};

/// Works until `stop` is cancelled.
pub(super) async fn run(ctx: &Arc<Context>, writer: Writer<Pod>, stop: &CancellationToken) {
    let all = async { tokio::join!(follow(ctx, writer), beats(ctx), endings(ctx)) };
    stop.run_until_cancelled(all).await;
}

/// Watches the placeholders on the host, and triggers a reconciliation of the objects that they are of.
async fn follow(ctx: &Arc<Context>, writer: Writer<Pod>) {
    let Some(hosting) = &ctx.hosting else { return };
    let config =
        watcher::Config::default().labels(PLACEHOLDER).fields(&format!("spec.nodeName={}", hosting.node));
    let apis = watches::managed::<Pod>(ctx);
    let mut pods = watches::selected(ctx, "Pod", (apis, config), writer, |known| &known.pods);
    while let Some(found) = pods.next().await {
        let Some((kind, namespace, name, _)) = found.ok().as_ref().and_then(pod::owner) else { continue };
        match kind {
            Kind::LocalCluster => ctx.triggers.cluster(&namespace, &name),
            Kind::Registry => ctx.triggers.registry(&namespace, &name),
        }
    }
}

/// Marks the Node while its Docker Engine responds. Never returns.
async fn beats(ctx: &Context) {
    let Some(hosting) = &ctx.hosting else { return };
    loop {
        beat(ctx, &hosting.node).await;
        tokio::time::sleep(heartbeat::INTERVAL).await;
    }
}

async fn beat(ctx: &Context, node: &str) {
    let patch = match ctx.engine.info().await {
        Ok(engine) => {
            ctx.health.set_docker(true);
            heartbeat::beat((ctx.now)(), &engine.version)
        }
        Err(error) => {
            ctx.health.set_docker(false);
            tracing::warn!(node, %error, "the Docker Engine does not respond: nothing is placed on this host");
            heartbeat::silent()
        }
    };
    if let Err(error) = place_io::patch_node(&ctx.client, node, &patch).await {
        tracing::warn!(node, %error, "cannot mark the Node");
    }
}

/// Lets placeholders go that are being deleted and whose objects are gone, which no reconciliation does. Never returns.
async fn endings(ctx: &Context) {
    if !ctx.known.all().await {
        return;
    }
    loop {
        end(ctx).await;
        tokio::time::sleep(times::ENDINGS).await;
    }
}

/// Looks once for such placeholders.
pub async fn end(ctx: &Context) {
    let Some(hosting) = &ctx.hosting else { return };
    let pods = hosting.pods.state();
    let ending = |found: &&Arc<Pod>| pod::is_terminating(found) && pod::is_held(found);
    let mut ending = pods.iter().filter(ending).peekable();
    if ending.peek().is_none() {
        return;
    }
    let living = orphans::uids(ctx);
    for found in ending.filter(|found| pod::owner(found).is_some_and(|(.., uid)| !living.contains(&uid))) {
        if let Err(error) = hosting::let_go(ctx, found).await {
            tracing::debug!(%error, "a placeholder was not let go");
        }
    }
}
