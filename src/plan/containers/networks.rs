//! Networks of an existing container: where it is connected, and how it is reconnected.

use super::existing::Existing;
use crate::{
    docker::{
        engine::{Attachment, State},
        spec::EndpointSettings,
    },
    plan::steps::{Action, Plan, Target},
};

const RECONNECTED: &str = "it was disconnected from a network";

impl Existing<'_> {
    /// Reports whether the container is connected to its network as desired.
    pub(super) fn is_connected(&self, running: bool) -> bool {
        let Some(network) = self.site.network else { return true };
        let place = self.detail.container.networks.get(network);
        place.is_some_and(|p| right_place(p, &self.spec.endpoint, running))
    }

    /// Returns the additional networks that the container is not connected to.
    pub(super) fn missing_networks(&self) -> Vec<(String, EndpointSettings)> {
        let connected = &self.detail.container.networks;
        self.site.further.iter().filter(|(network, _)| !connected.contains_key(network)).cloned().collect()
    }

    /// Plans the connection of a running container to its additional networks, and returns the last step.
    pub(super) fn connect_further(&self, plan: &mut Plan) -> Option<usize> {
        let mut last = None;
        for (network, endpoint) in self.missing_networks() {
            let connect = Action::Connect { network, container: self.target(), endpoint };
            last = Some(plan.step(connect, &[], RECONNECTED));
        }
        last
    }

    /// Plans the disconnection of a stopped container from networks that no longer exist, which would prevent its
    /// start, and returns the last step. Docker only knows such a connection by the name of the network.
    pub(super) fn detach(&self, plan: &mut Plan, after: Option<usize>) -> Option<usize> {
        let mut last = after;
        for (network, place) in &self.detail.container.networks {
            if self.detail.container.state == State::Running
                || self.site.observed.networks.iter().any(|n| n.id == *network)
            {
                continue;
            }
            let off = Action::Disconnect { network: place.network_name.clone(), container: self.target() };
            last = Some(plan.step(off, last.as_slice(), "the network no longer exists"));
        }
        last
    }

    /// Plans the reconnection of a stopped container to its networks, and returns the last step.
    pub(super) fn attach(&self, plan: &mut Plan, after: Option<usize>) -> Option<usize> {
        let mut last = self.detach(plan, after);
        if let Some(network) = self.site.network.filter(|_| !self.is_connected(false)) {
            if self.detail.container.networks.contains_key(network) {
                let off = Action::Disconnect { network: network.to_owned(), container: self.target() };
                last = Some(plan.step(off, last.as_slice(), ""));
            }
            let on = Action::Connect {
                network: network.to_owned(),
                container: self.target(),
                endpoint: self.spec.endpoint.clone(),
            };
            last = Some(plan.step(on, last.as_slice(), "it was disconnected from its network"));
        }
        connect_all(plan, &self.target(), self.missing_networks(), last, RECONNECTED)
    }
}

/// Plans the connection of a container that is not running to networks, one after the other and after `after`, and
/// returns the last step.
pub(super) fn connect_all(
    plan: &mut Plan,
    container: &Target,
    networks: Vec<(String, EndpointSettings)>,
    after: Option<usize>,
    why: &str,
) -> Option<usize> {
    networks.into_iter().fold(after, |last, (network, endpoint)| {
        let connect = Action::Connect { network, container: container.clone(), endpoint };
        Some(plan.step(connect, last.as_slice(), why))
    })
}

/// Reports whether a container is connected to a network as desired. An address only exists while the container is
/// running, and Docker adds aliases.
pub fn right_place(place: &Attachment, endpoint: &EndpointSettings, running: bool) -> bool {
    (endpoint.ip.is_none() || place.pinned == endpoint.ip)
        && (!running || endpoint.ip.is_none() || place.ip == endpoint.ip)
        && endpoint.aliases.iter().all(|a| place.aliases.contains(a))
}
