//! Existence and deletion of objects of any kind in a created cluster.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, Preconditions},
    core::{ApiResource, GroupVersionKind},
    discovery::{self, Scope},
    error::DiscoveryError,
};
use tokio::time::timeout;

use super::{
    api::Error,
    call::{bounded, call, unless_gone, words},
    state::Found,
};
use crate::k3s::manifests::ObjectRef;

/// Maximum number of concurrent requests.
const AT_ONCE: usize = 8;

/// Timeout of all of them: users of the cluster can add any number of objects to the inventory, and each request may take
/// as long as a call.
const ALL: Duration = Duration::from_secs(30);

/// A kind with its scope.
type Kind = (ApiResource, Scope);

/// Discovered kinds of a cluster, by apiVersion and kind.
#[derive(Clone, Default)]
pub struct Kinds(Arc<Mutex<HashMap<(String, String), Kind>>>);

impl Kinds {
    /// Returns a kind; `None` if the cluster does not have it.
    async fn find(&self, client: &Client, object: &ObjectRef) -> Result<Option<Kind>, Error> {
        let key = (object.api_version.clone(), object.kind.clone());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let (group, version) = object.api_version.split_once('/').unwrap_or(("", &object.api_version));
        let gvk = GroupVersionKind::gvk(group, version, &object.kind);
        let found = match bounded(discovery::pinned_kind(client, &gvk)).await? {
            Ok((resource, capabilities)) => (resource, capabilities.scope),
            // For an unknown group the response is not a Status, so only its code is known.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(kube::Error::Discovery(
                DiscoveryError::MissingKind(_)
                | DiscoveryError::MissingApiGroup(_)
                | DiscoveryError::MissingResource(_)
                | DiscoveryError::EmptyApiGroup(_),
            )) => return Ok(None),
            Err(error) => return Err(words(&error)),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
        Ok(Some(found))
    }

    async fn api(&self, client: &Client, object: &ObjectRef) -> Result<Option<Api<DynamicObject>>, Error> {
        let found = self.find(client, object).await?;
        Ok(found.map(|(resource, scope)| match scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object.namespace.as_deref().unwrap_or("default");
                Api::namespaced_with(client.clone(), namespace, &resource)
            }
        }))
    }

    /// Returns which of the objects exist.
    pub async fn there(
        &self,
        client: &Client,
        objects: &BTreeSet<ObjectRef>,
    ) -> Result<BTreeMap<ObjectRef, Found>, Error> {
        let asked = objects.iter().cloned().map(|object| self.look(client, object));
        let found = stream::iter(asked).buffer_unordered(AT_ONCE).try_collect();
        let found: Vec<_> = timeout(ALL, found).await.map_err(|_| {
            let (count, seconds) = (objects.len(), ALL.as_secs());
            Error::Unreachable(format!("requests for {count} objects took longer than {seconds}s"))
        })??;
        Ok(found.into_iter().flatten().collect())
    }

    async fn look(&self, client: &Client, object: ObjectRef) -> Result<Option<(ObjectRef, Found)>, Error> {
        let Some(api) = self.api(client, &object).await? else { return Ok(None) };
        let found = call(api.get_metadata_opt(&object.name)).await?;
        Ok(found.map(|found| {
            let going = found.metadata.deletion_timestamp.is_some();
            (object, Found { uid: found.uid().unwrap_or_default(), going })
        }))
    }

    /// Deletes an object and its dependents in the background, but no other object with its name.
    pub async fn delete(&self, client: &Client, object: &ObjectRef, uid: &str) -> Result<(), Error> {
        let Some(api) = self.api(client, object).await? else { return Ok(()) };
        let same = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::background() };
        match bounded(api.delete(&object.name, &params)).await? {
            // Another object has this name by now.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
            other => unless_gone(other.map(drop)),
        }
    }
}
