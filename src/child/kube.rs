//! Implementation of the API of a created cluster with kube.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    Stream, StreamExt,
    future::{join_all, ready, try_join_all},
    stream::{BoxStream, once, select_all},
};
use http::header::{AUTHORIZATION, HeaderValue};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node, Pod, Secret, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt,
    api::{
        DeleteParams, EvictParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
        Request,
    },
    core::PartialObjectMeta,
    runtime::watcher::{self, watcher},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    api::{ChildApi, Error},
    call::{bounded, call, get, unless_gone, words},
    config::{self, CONFIG_VERSION, FIELD_MANAGER},
    etcd,
    limits::{self, list},
    nodes::{self, Changes, DRAINING_SINCE, LEAVE},
    objects::Kinds,
    state::{self, ChildState, ClusterConfigMap, ConfigKey, Found, Held, Member, NodeConfig},
};
use crate::k3s::manifests::ObjectRef;

/// Timeout of the list of members of etcd, which K3s returns only with quorum.
const MEMBERS: Duration = Duration::from_secs(2);

/// Time that K3s may take to finalize a deleted Node, and the interval of checks.
const GOES: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(200);

/// Duration of a watch before it is renewed.
pub(super) const WATCH: Duration = Duration::from_secs(60);

/// A created cluster's API.
#[derive(Clone)]
pub struct KubeChild {
    client: Client,
    kinds: Kinds,
    /// Value of the header that authenticates a server; `None` for a cluster without etcd.
    authorization: Option<String>,
}

impl KubeChild {
    /// Creates an instance with a client of that cluster, which must not retry, and the secret of the token of servers
    /// of a cluster with etcd.
    pub fn new(client: Client, token: Option<&str>) -> Self {
        Self { client, kinds: Kinds::default(), authorization: token.map(etcd::authorization) }
    }

    /// Returns the members of etcd; `None` if K3s does not report them now. Then the conditions of the Nodes remain.
    async fn members(&self) -> Option<Vec<Member>> {
        let mut value = HeaderValue::from_str(self.authorization.as_deref()?).ok()?;
        value.set_sensitive(true);
        let mut request = http::Request::get(etcd::PATH).body(Vec::new()).ok()?;
        request.headers_mut().insert(AUTHORIZATION, value);
        let body = timeout(MEMBERS, self.client.request_text(request)).await.ok()?.ok()?;
        etcd::members(&body)
    }

    /// Fails unless the API is ready.
    pub async fn ready(&self) -> kube::Result<()> {
        let request =
            Request::new("").get("readyz", &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        self.client.request_text(request).await.map(drop)
    }

    /// Like [`Self::ready`], with a timeout and a readable error.
    async fn serves(&self) -> Result<(), Error> {
        call(self.ready()).await.map_err(|error| match error {
            // The server is starting, or has lost its quorum.
            Error::Failed(why) => Error::Unreachable(why),
            other => other,
        })
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn config_maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn held(&self, key: ConfigKey) -> Result<Option<(ConfigKey, Held)>, Error> {
        let what = format!("ConfigMap {}/{}", key.namespace, key.name);
        let found = get(&what, self.config_maps(key.namespace).get_opt(key.name)).await?;
        Ok(found.and_then(|map| Some((key, config::held(&map, key)?))))
    }

    /// Makes kubelets update a ConfigMap with this version in its readers, which would otherwise take a minute.
    async fn tell(&self, namespace: &str, readers: &str, version: &str) -> Result<(), Error> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let found = call(pods.list_metadata(&ListParams::default().labels(readers))).await?;
        let patch = json!({"metadata": {"annotations": {CONFIG_VERSION: version}}});
        let notified = found.iter().map(async |pod| {
            let name = pod.name_any();
            unless_gone(
                bounded(pods.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)))
                    .await?
                    .map(drop),
            )
        });
        join_all(notified).await.into_iter().collect()
    }

    /// Returns the Pods that must leave a Node.
    async fn pods_to_evict(&self, node: &str) -> Result<Vec<Pod>, Error> {
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let pods = call(list(&Api::<Pod>::all(self.client.clone()), &on_node)).await?;
        Ok(pods.into_iter().filter(nodes::must_leave).collect())
    }

    /// Returns the Leases in `kube-system`.
    async fn system_leases(&self) -> Result<Vec<Lease>, Error> {
        let leases = Api::<Lease>::namespaced(self.client.clone(), "kube-system");
        get("list of Leases in kube-system", list(&leases, &ListParams::default())).await
    }

    /// Waits until a deleted Node is gone. K3s removes a server from etcd and deletes its password before it removes
    /// its finalizers (k3s-io/k3s#2669). A node that joined with this name earlier would be removed too.
    async fn let_go(&self, node: &Node) -> Result<(), Error> {
        let (name, uid) = (node.name_any(), node.uid());
        let before = nodes::leases(&self.system_leases().await?);
        let mut finalizers = node.finalizers().to_vec();
        let gone = async {
            while let Some(found) = call(self.nodes().get_metadata_opt(&name)).await?
                && found.uid() == uid
            {
                finalizers = found.finalizers().to_vec();
                sleep(LOOK).await;
            }
            Ok(())
        };
        let gone = timeout(GOES, gone).await;
        match gone {
            Ok(gone) => gone,
            Err(_) => {
                let after = nodes::leases(&self.system_leases().await?);
                Err(Error::Waits(nodes::kept(&finalizers, &before, &after)))
            }
        }
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let name = pod.name_any();
        match bounded(api.evict(&name, &EvictParams::default())).await? {
            // 429: its PodDisruptionBudget does not allow the eviction yet.
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
        let ((), nodes, leases, of_system, account, config, members) = tokio::try_join!(
            self.serves(),
            get("list of Nodes", list(&nodes_api, &all)),
            get("list of the Leases of Nodes", list(&leases, &all)),
            self.system_leases(),
            get("service account default/default", accounts.get_metadata_opt("default")),
            try_join_all(state::KEYS.map(|key| self.held(key))),
            async { Ok(self.members().await) },
        )?;
        let drained = nodes.iter().filter(|node| nodes::draining_since(node).is_some()).map(|node| async {
            let pods = self.pods_to_evict(&node.name_any()).await?;
            Ok::<_, Error>((node.name_any(), pods.len()))
        });
        let pods_to_evict: BTreeMap<_, _> = try_join_all(drained).await?.into_iter().collect();
        Ok(ChildState {
            nodes: nodes::observe(&nodes, &leases, &of_system, &pods_to_evict),
            leases: nodes::leases(&of_system),
            pods_can_start: account.is_some(),
            config: config.into_iter().flatten().collect(),
            members,
        })
    }

    async fn drain(&self, node: &str, now: Timestamp) -> Result<(), Error> {
        let Some(found) = call(self.nodes().get_opt(node)).await? else { return Ok(()) };
        let since = nodes::draining_since(&found).filter(|since| *since <= now);
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
        // A failed eviction does not block the others.
        join_all(asked).await.into_iter().collect()
    }

    async fn uncordon(&self, node: &str) -> Result<(), Error> {
        let found = call(self.nodes().get_metadata_opt(node)).await?;
        // Without the annotation the Node was cordoned by a user for their own reasons.
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
        match bounded(self.nodes().delete(node, &DeleteParams::default())).await? {
            Ok(deleted) => {
                if let Some(going) = deleted.left() {
                    self.let_go(&going).await?;
                }
            }
            refused => unless_gone(refused.map(drop))?,
        }
        self.forget_password(node).await
    }

    async fn forget_password(&self, node: &str) -> Result<(), Error> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), "kube-system");
        let password = format!("{node}.node-password.k3s");
        let deleted = bounded(secrets.delete(&password, &DeleteParams::default())).await?;
        unless_gone(deleted.map(drop))
    }

    async fn leave_etcd(&self, node: &str) -> Result<(), Error> {
        let patch = json!({"metadata": {"annotations": {LEAVE: "true"}}});
        let patched =
            bounded(self.nodes().patch(node, &PatchParams::default(), &Patch::Merge(&patch))).await?;
        unless_gone(patched.map(drop))
    }

    async fn remove_member(&self, member: &Member) -> Result<(), Error> {
        let node = nodes::departing(member);
        match bounded(self.nodes().create(&PostParams::default(), &node)).await? {
            // It registered in the meantime.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created.map(drop).map_err(|e| words(&e)),
        }
    }

    async fn release_lease(&self, name: &str, version: &str) -> Result<(), Error> {
        let leases = Api::<Lease>::namespaced(self.client.clone(), "kube-system");
        // As client-go does when a holder exits (`ReleaseOnCancel`).
        let patch = json!({
            "metadata": {"resourceVersion": version},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
        });
        match bounded(leases.patch(name, &PatchParams::default(), &Patch::Merge(&patch))).await? {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => unless_gone(other.map(drop)),
        }
    }

    async fn set_config(&self, wanted: &ClusterConfigMap) -> Result<(), Error> {
        let ConfigKey { namespace, name, .. } = wanted.key;
        let maps = self.config_maps(namespace);
        let params = PatchParams { force: wanted.claimed, ..PatchParams::apply(FIELD_MANAGER) };
        if wanted.content.is_none() {
            let Some(found) = call(maps.get_opt(name)).await? else { return Ok(()) };
            if config::alone(&found, wanted.key) {
                // Only in the observed version: another client may be adding content.
                let preconditions =
                    Preconditions { uid: found.uid(), resource_version: found.resource_version() };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                return unless_gone(bounded(maps.delete(name, &params)).await?.map(drop));
            }
            // Content of other owners remains if it is merely left out of the applied object.
            if wanted.claimed && config::held(&found, wanted.key).is_some_and(|held| !held.ours) {
                let patch = Patch::Merge(config::without(&found, wanted.key));
                let patched = bounded(maps.patch(name, &PatchParams::default(), &patch)).await?;
                return unless_gone(patched.map(drop));
            }
        }
        let patch = Patch::Apply(config::applied(wanted.key, wanted.content.as_deref()));
        let written = call(maps.patch(name, &params, &patch)).await?;
        if let Some(readers) = wanted.readers {
            let version = written.resource_version().unwrap_or_default();
            if let Err(error) = self.tell(namespace, readers, &version).await {
                tracing::debug!(namespace, name, %error, "cannot notify the Pods that read the ConfigMap");
            }
        }
        Ok(())
    }

    async fn there(&self, objects: &BTreeSet<ObjectRef>) -> Result<BTreeMap<ObjectRef, Found>, Error> {
        self.kinds.there(&self.client, objects).await
    }

    async fn delete_object(&self, object: &ObjectRef, uid: &str) -> Result<(), Error> {
        self.kinds.delete(&self.client, object, uid).await
    }

    async fn changes(&self) -> Result<BoxStream<'static, ()>, Error> {
        let config = || watcher::Config::default().timeout(WATCH.as_secs() as u32).page_size(limits::PAGE);
        // The watchers would retry indefinitely; the caller looks for another address of the cluster instead.
        let nodes = watcher(self.nodes(), config())
            .scan(Changes::default(), |changes, event| ready(event.ok().map(|event| changes.note(event))));
        let mut all = vec![ended(nodes)];
        for ConfigKey { namespace, name, .. } in state::KEYS {
            let only = config().fields(&format!("metadata.name={name}"));
            let maps = Api::<PartialObjectMeta<ConfigMap>>::namespaced(self.client.clone(), namespace);
            let changes = watcher(maps, only);
            all.push(ended(
                changes.scan((), |(), event| ready(event.ok().map(|event| config::changed(&event)))),
            ));
        }
        let changes = select_all(all).take_while(|event| ready(event.is_some()));
        Ok(changes.filter_map(|changed| ready((changed == Some(true)).then_some(()))).boxed())
    }
}

/// Returns a stream that reports its end.
fn ended(stream: impl Stream<Item = bool> + Send + 'static) -> BoxStream<'static, Option<bool>> {
    stream.map(Some).chain(once(ready(None))).boxed()
}

#[cfg(test)]
mod tests;
