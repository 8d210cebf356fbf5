//! Endpoints that an engine keeps although their container no longer exists. They occur when containers of a network
//! are removed, restarted and disconnected at the same time, and keep the network from being removed
//! (<https://github.com/moby/moby/issues/17217>, <https://github.com/moby/moby/issues/43286>).

use std::collections::{BTreeMap, BTreeSet};

use bollard::{Docker, query_parameters::InspectNetworkOptions};

use super::{
    bollard::BollardEngine,
    engine::{Container, Engine, Result},
    error::Error,
    fault,
};

/// Endpoints of a network: their names, by the ID of their container. Docker names an endpoint after its container,
/// and lists `ep-<ID of the endpoint>` for an endpoint without one.
type Endpoints = BTreeMap<String, String>;

impl BollardEngine {
    /// Removes a network without endpoints.
    pub(super) async fn delete_network(&self, id: &str) -> Result<()> {
        self.client
            .call("remove_network", |docker| async move {
                fault::met(docker.remove_network(id).await, |status, _| status == 404)
            })
            .await
    }

    /// Removes a network that Docker refuses to remove because of its endpoints: those without a container are
    /// disconnected first.
    pub(super) async fn remove_used_network(&self, id: &str, refusal: String) -> Result<()> {
        let Some(endpoints) = self.endpoints(id).await? else { return Ok(()) };
        if endpoints.is_empty() {
            // The engine counts endpoints apart from them, and corrects the count when it starts.
            return match self.delete_network(id).await {
                Err(Error::Busy(_)) => Err(Error::Engine(format!(
                    "{refusal}, but Docker lists none: its count of endpoints is wrong \
                     (https://github.com/moby/moby/issues/43286); restart Docker on the host"
                ))),
                other => other,
            };
        }
        for name in without_container(&endpoints, &self.containers().await?) {
            // By force, which the engine does without a container.
            self.disconnect(id, name).await?;
        }
        self.delete_network(id).await
    }

    /// Returns the endpoints of a network; `None` if the network does not exist.
    async fn endpoints(&self, id: &str) -> Result<Option<Endpoints>> {
        let found = self.client.call("inspect_network", |docker: Docker| async move {
            fault::found(docker.inspect_network(id, None::<InspectNetworkOptions>).await)
        });
        let Some(network) = found.await? else { return Ok(None) };
        let listed = network.containers.unwrap_or_default().into_iter();
        Ok(Some(listed.map(|(container, endpoint)| (container, endpoint.name.unwrap_or_default())).collect()))
    }
}

/// Returns the names of the endpoints whose container does not exist. A container that is starting has its endpoint
/// before Docker lists it, so its name counts too.
fn without_container<'a>(endpoints: &'a Endpoints, containers: &[Container]) -> BTreeSet<&'a str> {
    let exists = |id: &str, name: &str| containers.iter().any(|c| c.id == id || c.name == name);
    let stale = endpoints.iter().filter(|(id, name)| !name.is_empty() && !exists(id, name));
    stale.map(|(_, name)| name.as_str()).collect()
}
