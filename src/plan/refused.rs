//! Chosen values that Docker refused because another process or container took them first. They are not in a status
//! yet, so others are chosen.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::{
    desired::Allocation,
    failures::{refused_ports, refused_subnet},
    steps::Action,
    validate::{Valid, ValidRegistry},
};
use crate::{
    api::{LocalClusterStatus, RegistryStatus},
    docker::error::Error,
};

/// Values that are not chosen again.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// Host ports.
    pub ports: BTreeSet<u16>,
    /// Subnets.
    pub subnets: BTreeSet<Ipv4Net>,
}

impl Refused {
    /// Records what the engine refused of a LocalCluster, and reports whether anything new was: the next plan uses
    /// other values. A subnet that is refused a second time is not new.
    pub fn of_cluster(
        &mut self,
        (action, error): (&Action, &Error),
        valid: &Valid,
        allocation: &Allocation,
        previous: &LocalClusterStatus,
    ) -> bool {
        let api = (previous.api_port.is_none() && valid.api_port.is_none()).then_some(allocation.api_port);
        let more = valid.ports.iter().zip(&allocation.ports).filter_map(|(port, allocated)| {
            let known = previous.ports.iter().any(|p| p.name == port.name);
            (port.host_port.is_none() && !known).then_some(allocated.host_port)
        });
        let chosen = valid.subnet.is_none() && previous.network.is_none();
        let subnet = refused_subnet(action, error).filter(|_| chosen);
        self.note_ports(error, api.into_iter().chain(more))
            || subnet.is_some_and(|subnet| self.subnets.insert(subnet))
    }

    /// Records what the engine refused of a Registry, which requested this host port. Its subnet is never given.
    pub fn of_registry(
        &mut self,
        (action, error): (&Action, &Error),
        valid: &ValidRegistry,
        host_port: u16,
        previous: &RegistryStatus,
    ) -> bool {
        let chosen = valid.host_port.is_none() && previous.host_port.is_none();
        let subnet = refused_subnet(action, error);
        self.note_ports(error, chosen.then_some(host_port).into_iter())
            || subnet.is_some_and(|subnet| self.subnets.insert(subnet))
    }

    fn note_ports(&mut self, error: &Error, chosen: impl Iterator<Item = u16>) -> bool {
        let refused = refused_ports(error, chosen);
        self.ports.extend(&refused);
        !refused.is_empty()
    }
}
