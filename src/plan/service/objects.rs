//! The Service that leads to the API of a created cluster, and its EndpointSlice, as values.

use std::{collections::BTreeMap, net::SocketAddrV4};

use crate::{api::names::MANAGED_BY, k3s::API_PORT, plan::owner::Owner};

/// Name of the port in both objects, by which Kubernetes relates them.
pub const PORT_NAME: &str = "https";
/// Port of the Service: that of `kubernetes.default.svc`.
pub const PORT: u16 = 443;

/// A desired Service without a selector, in the namespace of its owner, whose name it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiService {
    /// LocalCluster that owns it.
    pub owner: Owner,
    /// UID of the existing one; `None` to create it.
    pub uid: Option<String>,
}

/// A desired EndpointSlice of this Service, with the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiEndpoints {
    /// LocalCluster that owns it.
    pub owner: Owner,
    /// UID of the existing one; `None` to create it.
    pub uid: Option<String>,
    /// Address of the API; `None` if Pods do not reach it.
    pub address: Option<SocketAddrV4>,
}

/// A change of the Service or of its EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceChange {
    /// Creates or updates the Service.
    Apply(ApiService),
    /// Deletes the Service with this UID.
    Delete {
        /// LocalCluster that owns it.
        owner: Owner,
        /// Its UID.
        uid: String,
    },
    /// Creates or updates the EndpointSlice.
    ApplyEndpoints(ApiEndpoints),
    /// Deletes the EndpointSlice with this UID.
    DeleteEndpoints {
        /// LocalCluster that owns it.
        owner: Owner,
        /// Its UID.
        uid: String,
    },
}

impl ServiceChange {
    /// Returns the LocalCluster that owns what is changed, which has its name.
    pub fn owner(&self) -> &Owner {
        match self {
            Self::Apply(ApiService { owner, .. })
            | Self::ApplyEndpoints(ApiEndpoints { owner, .. })
            | Self::Delete { owner, .. }
            | Self::DeleteEndpoints { owner, .. } => owner,
        }
    }

    /// Returns the name of the action for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Apply(_) => "ApplyService",
            Self::Delete { .. } => "DeleteService",
            Self::ApplyEndpoints(_) => "ApplyEndpointSlice",
            Self::DeleteEndpoints { .. } => "DeleteEndpointSlice",
        }
    }
}

impl ApiService {
    /// Returns its labels.
    pub fn labels() -> BTreeMap<String, String> {
        labels(&[MANAGED_BY])
    }

    fn is(&self, existing: &Existing) -> bool {
        existing.has(&Self::labels()) && existing.type_ == "ClusterIP" && existing.port == Some(PORT)
    }
}

impl ApiEndpoints {
    /// Returns its labels: the second one relates it to its Service, the third one says that no controller of Kubernetes
    /// manages it.
    pub fn labels(&self) -> BTreeMap<String, String> {
        labels(&[
            MANAGED_BY,
            ("kubernetes.io/service-name", self.owner.name()),
            ("endpointslice.kubernetes.io/managed-by", MANAGED_BY.1),
        ])
    }

    /// Returns the port, which no address needs.
    pub fn port(&self) -> u16 {
        self.address.map_or(API_PORT, |address| address.port())
    }

    /// Returns the IP addresses.
    pub fn addresses(&self) -> Vec<String> {
        self.address.iter().map(|address| address.ip().to_string()).collect()
    }

    fn is(&self, existing: &Existing) -> bool {
        existing.has(&self.labels())
            && existing.addresses == self.addresses()
            && existing.port == Some(self.port())
    }
}

fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// An existing Service or EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Existing {
    /// Its UID.
    pub uid: String,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Type of the Service; empty for an EndpointSlice.
    pub type_: String,
    /// Its port with the name [`PORT_NAME`].
    pub port: Option<u16>,
    /// Addresses of the EndpointSlice that are ready; empty for a Service.
    pub addresses: Vec<String>,
}

impl Existing {
    /// Reports whether it belongs to this object.
    pub fn is_owned(&self, owner: &Owner) -> bool {
        self.owners.contains(&owner.uid)
    }

    fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

/// What has the name of a cluster's Service, and of its EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObservedService {
    /// The Service.
    pub service: Option<Existing>,
    /// The EndpointSlice.
    pub endpoints: Option<Existing>,
}

impl ObservedService {
    /// Returns the Service and the EndpointSlice of this object.
    pub fn own(&self, owner: &Owner) -> (Option<&Existing>, Option<&Existing>) {
        let own = |existing: &&Existing| existing.is_owned(owner);
        (self.service.as_ref().filter(own), self.endpoints.as_ref().filter(own))
    }

    /// Returns the kind of the first of them that another one owns.
    pub fn foreign(&self, owner: &Owner) -> Option<&'static str> {
        let kinds = [("Service", &self.service), ("EndpointSlice", &self.endpoints)];
        let foreign = |existing: &Option<Existing>| existing.as_ref().is_some_and(|e| !e.is_owned(owner));
        kinds.into_iter().find(|(_, existing)| foreign(existing)).map(|(kind, _)| kind)
    }

    /// Returns the desired Service unless it exists as desired.
    pub fn service_to_apply(&self, owner: &Owner) -> Option<ApiService> {
        let uid = self.service.as_ref().map(|existing| existing.uid.clone());
        let desired = ApiService { owner: owner.clone(), uid };
        (!self.service.as_ref().is_some_and(|existing| desired.is(existing))).then_some(desired)
    }

    /// Returns the desired EndpointSlice unless it exists as desired.
    pub fn endpoints_to_apply(&self, owner: &Owner, address: Option<SocketAddrV4>) -> Option<ApiEndpoints> {
        let uid = self.endpoints.as_ref().map(|existing| existing.uid.clone());
        let desired = ApiEndpoints { owner: owner.clone(), uid, address };
        (!self.endpoints.as_ref().is_some_and(|existing| desired.is(existing))).then_some(desired)
    }
}
