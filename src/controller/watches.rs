//! Watches of the management cluster.

use std::{future::ready, sync::Arc};

use futures::{
    Stream, StreamExt, TryStreamExt,
    future::try_join_all,
    stream::{BoxStream, select_all},
};
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{WatchStreamExt, reflector::store::Writer, watcher},
};
use tokio::sync::SetOnce;

use super::{
    context::Context,
    known::Known,
    kube_io::{Error, bounded},
    merge::merged,
};

/// Watches all objects of these APIs of a kind, keeps them in the store of `writer`, and sets `known` when all are listed.
pub(super) fn watched<K>(
    ctx: &Arc<Context>,
    name: &'static str,
    apis: Vec<Api<K>>,
    writer: Writer<K>,
    known: fn(&Known) -> &SetOnce<()>,
) -> BoxStream<'static, Result<K, watcher::Error>>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    selected(ctx, name, (apis, watcher::Config::default()), writer, known)
}

/// Does the same for the objects that a configuration selects.
pub(super) fn selected<K>(
    ctx: &Arc<Context>,
    name: &'static str,
    (apis, config): (Vec<Api<K>>, watcher::Config),
    writer: Writer<K>,
    known: fn(&Known) -> &SetOnce<()>,
) -> BoxStream<'static, Result<K, watcher::Error>>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let set = ctx.clone();
    let watches = apis.into_iter().map(|api| watcher(api, config.clone()).default_backoff().boxed());
    let stream = merged(watches.collect())
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .inspect_ok(move |event| {
            if matches!(event, watcher::Event::InitDone) {
                // A watch that starts again has set it before.
                known(&set.known).set(()).ok();
                // It may be without objects that it had.
                set.policies.changed.notify_one();
            }
        })
        .touched_objects();
    swallow(ctx, name, stream)
}

/// Watches what these APIs and a configuration select, and keeps it in the store of `writer`. Sets `listed` when all is
/// listed, and calls `changed` after each change. Never returns.
pub(super) async fn follow<K>(
    (apis, config): (Vec<Api<K>>, watcher::Config),
    writer: Writer<K>,
    listed: &SetOnce<()>,
    changed: &(dyn Fn() + Sync),
) where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let watches =
        apis.into_iter().map(|api| watcher(api, config.clone()).default_backoff().boxed()).collect();
    let mut events =
        merged(watches).modify(|object| object.meta_mut().managed_fields = None).reflect(writer).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::InitDone) => {
                // A watch that starts again has set it before.
                listed.set(()).ok();
                changed();
            }
            Ok(_) => changed(),
            Err(error) => {
                tracing::warn!(watch = %K::kind(&()), %error, "a watch failed and goes on");
            }
        }
    }
}

/// Returns the APIs of a kind in the namespaces that the operator manages.
pub(super) fn managed<K>(ctx: &Context) -> Vec<Api<K>>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    namespaced(&ctx.client, &ctx.settings.namespaces)
}

/// Returns the APIs of a kind in these namespaces; in all if there are none.
pub(super) fn namespaced<K>(client: &Client, namespaces: &[String]) -> Vec<Api<K>>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    if namespaces.is_empty() {
        return vec![Api::all(client.clone())];
    }
    namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
}

/// Asks for the metadata of all objects of a kind in the namespaces that the operator manages: what a watch told may be
/// out of date.
pub(super) async fn listed<K>(ctx: &Context) -> Result<Vec<PartialObjectMeta<K>>, Error>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let (apis, all) = (managed::<K>(ctx), ListParams::default());
    let lists = try_join_all(apis.iter().map(|api| bounded(api.list_metadata(&all)))).await?;
    Ok(lists.into_iter().flatten().collect())
}

/// Watches the metadata of all objects of a kind in the namespaces that the operator manages.
pub(super) fn metadata<K>(
    ctx: &Arc<Context>,
    name: &'static str,
) -> BoxStream<'static, Result<PartialObjectMeta<K>, watcher::Error>>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let watch = |api: Api<PartialObjectMeta<K>>| {
        watcher(api, watcher::Config::default()).default_backoff().touched_objects().boxed()
    };
    swallow(ctx, name, select_all(managed(ctx).into_iter().map(watch)))
}

/// Logs the errors of a watch instead of passing them to the controller: its backoff would delay all other triggers too
/// (kube-rs/kube#763). The watch itself waits before it tries again.
fn swallow<K: Send + 'static>(
    ctx: &Arc<Context>,
    name: &'static str,
    stream: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
) -> BoxStream<'static, Result<K, watcher::Error>> {
    let metrics = ctx.metrics.clone();
    let objects = stream.filter_map(move |result| {
        if let Err(error) = &result {
            tracing::warn!(watch = name, %error, "a watch failed and goes on");
            metrics.watch_error(name);
        }
        ready(result.ok().map(Ok))
    });
    objects.boxed()
}
