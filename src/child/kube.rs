//! A created cluster's API, asked by kube.

use std::{collections::BTreeMap, error::Error as _, future::Future, time::Duration};

use async_trait::async_trait;
use futures::{
    StreamExt,
    future::{join_all, ready, try_join_all},
    stream::BoxStream,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod, Secret, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, EvictParams, GetParams, ListParams, Patch, PatchParams, Request},
    runtime::watcher::{self, watcher},
};
use serde_json::json;
use tokio::time::timeout;

use super::{
    api::{ChildApi, Error},
    nodes::{self, Changes, DRAINING_SINCE},
};
use crate::plan::{observed::ChildState, steps::NodeConfig};

/// How long a call may take. A server without its quorum accepts calls and never answers them.
const CALL: Duration = Duration::from_secs(5);

/// How long one watch lasts before it is asked for anew.
pub(super) const WATCH: Duration = Duration::from_secs(60);

/// A created cluster's API.
#[derive(Clone)]
pub struct KubeChild {
    client: Client,
}

impl KubeChild {
    /// By a client of that cluster, which must not retry by itself.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Fails unless the API serves.
    pub async fn ready(&self) -> Result<(), Error> {
        let request = Request::new("").get("readyz", &GetParams::default());
        let request = request.map_err(|e| Error::Unreachable(e.to_string()))?;
        call(self.client.request_text(request)).await.map(drop)
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// The Pods that must leave a Node.
    async fn pods_to_evict(&self, node: &str) -> Result<Vec<Pod>, Error> {
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let pods = call(Api::<Pod>::all(self.client.clone()).list(&on_node)).await?;
        Ok(pods.items.into_iter().filter(nodes::must_leave).collect())
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let name = pod.name_any();
        match bounded(api.evict(&name, &EvictParams::default())).await? {
            // 429: its PodDisruptionBudget wants it to stay for now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429) => Ok(()),
            other => other.map(drop).map_err(|e| words(&e)),
        }
    }
}

#[async_trait]
impl ChildApi for KubeChild {
    async fn observe(&self) -> Result<ChildState, Error> {
        let leases = Api::<Lease>::namespaced(self.client.clone(), "kube-node-lease");
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), "default");
        let (nodes_api, all) = (self.nodes(), ListParams::default());
        let ((), nodes, leases, account) = tokio::try_join!(
            self.ready(),
            call(nodes_api.list(&all)),
            call(leases.list(&all)),
            call(accounts.get_metadata_opt("default")),
        )?;
        let drained = nodes.iter().filter(|node| nodes::draining_since(node).is_some()).map(|node| async {
            let pods = self.pods_to_evict(&node.name_any()).await?;
            Ok::<_, Error>((node.name_any(), pods.len()))
        });
        let pods_to_evict: BTreeMap<_, _> = try_join_all(drained).await?.into_iter().collect();
        Ok(ChildState {
            nodes: nodes::observe(&nodes.items, &leases.items, &pods_to_evict),
            pods_can_start: account.is_some(),
        })
    }

    async fn drain(&self, node: &str, now: Timestamp) -> Result<(), Error> {
        let Some(found) = call(self.nodes().get_opt(node)).await? else { return Ok(()) };
        let since = nodes::draining_since(&found);
        if since.is_none() || nodes::schedulable(&found) {
            let since = since.unwrap_or(now).to_string();
            let patch = json!({
                "metadata": {"annotations": {DRAINING_SINCE: since}},
                "spec": {"unschedulable": true},
            });
            call(self.nodes().patch(node, &PatchParams::default(), &Patch::Merge(&patch))).await?;
        }
        let pods = self.pods_to_evict(node).await?;
        let asked =
            pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(|pod| self.evict(pod));
        // One that fails keeps none of the others.
        join_all(asked).await.into_iter().collect()
    }

    async fn uncordon(&self, node: &str) -> Result<(), Error> {
        let found = call(self.nodes().get_metadata_opt(node)).await?;
        // Without the mark the Node was closed by a person, who will have a reason.
        if !found.is_some_and(|node| node.annotations().contains_key(DRAINING_SINCE)) {
            return Ok(());
        }
        let patch =
            json!({"metadata": {"annotations": {DRAINING_SINCE: null}}, "spec": {"unschedulable": null}});
        let patched =
            bounded(self.nodes().patch(node, &PatchParams::default(), &Patch::Merge(&patch))).await?;
        unless_gone(patched.map(drop))
    }

    async fn configure(&self, node: &str, config: &NodeConfig) -> Result<(), Error> {
        let Some(found) = call(self.nodes().get_opt(node)).await? else { return Ok(()) };
        let patch = Patch::Merge(nodes::configure(&found, config));
        call(self.nodes().patch(node, &PatchParams::default(), &patch)).await.map(drop)
    }

    async fn delete_node(&self, node: &str) -> Result<(), Error> {
        let deleted = bounded(self.nodes().delete(node, &DeleteParams::default())).await?;
        unless_gone(deleted.map(drop))?;
        let secrets = Api::<Secret>::namespaced(self.client.clone(), "kube-system");
        let password = format!("{node}.node-password.k3s");
        let deleted = bounded(secrets.delete(&password, &DeleteParams::default())).await?;
        unless_gone(deleted.map(drop))
    }

    async fn changes(&self) -> Result<BoxStream<'static, ()>, Error> {
        let config = watcher::Config::default().timeout(WATCH.as_secs() as u32);
        let changes = watcher(self.nodes(), config)
            // The watcher would try again for ever; the caller looks for another way to the cluster instead.
            .scan(Changes::default(), |changes, event| ready(event.ok().map(|event| changes.note(event))))
            .filter_map(|changed| ready(changed.then_some(())));
        Ok(changes.boxed())
    }
}

/// The answer of a call in time, whatever it is.
async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<kube::Result<T>, Error> {
    timeout(CALL, call)
        .await
        .map_err(|_| Error::Unreachable(format!("no answer within {} s", CALL.as_secs())))
}

/// What a call in time answers.
async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    bounded(call).await?.map_err(|e| words(&e))
}

fn unless_gone(result: kube::Result<()>) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map_err(|e| words(&e)),
    }
}

/// An error in words for people. A server that is starting or has lost its quorum refuses everything with 5xx: that
/// is no refusal of this one call.
fn words(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => {
            let told = format!("{} {}", status.code, reason(&status.message));
            if status.code == 429 || status.code >= 500 { Error::Unreachable(told) } else { Error::Api(told) }
        }
        other => {
            // The outer layers only say that some layer failed.
            let mut root = other.source();
            while let Some(deeper) = root.and_then(|e| e.source()) {
                root = Some(deeper);
            }
            Error::Unreachable(root.map_or_else(|| other.to_string(), ToString::to_string))
        }
    }
}

/// A message on one line; of `/readyz`, only the checks that fail.
fn reason(message: &str) -> String {
    let failed: Vec<_> = message.lines().filter_map(|line| line.strip_prefix("[-]")).collect();
    if failed.is_empty() {
        message.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    } else {
        failed.join("; ")
    }
}

#[cfg(test)]
mod tests;
