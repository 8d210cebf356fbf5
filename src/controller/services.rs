//! The observation of the Service that leads to the API of a created cluster.

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client};

use super::kube_io::{Error, bounded};
use crate::{
    api::LocalClusterStatus,
    plan::{
        owner::Owner,
        service::objects::{Existing, ObservedService, PORT_NAME},
        validate::Valid,
    },
};

/// Observes what has the name of the Service that leads to the API, if there is to be one or the status names one.
pub async fn observe(
    client: &Client,
    owner: &Owner,
    valid: &Valid,
    previous: &LocalClusterStatus,
) -> Result<ObservedService, Error> {
    if valid.api_service.is_none() && previous.api_service.is_none() {
        return Ok(ObservedService::default());
    }
    let (namespace, name) = (owner.namespace(), owner.name());
    let services = Api::<Service>::namespaced(client.clone(), namespace);
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
    let (service, endpoints) =
        tokio::try_join!(bounded(services.get_opt(name)), bounded(slices.get_opt(name)))?;
    Ok(ObservedService { service: service.map(found_service), endpoints: endpoints.map(found_endpoints) })
}

fn found_service(service: Service) -> Existing {
    let base = found(&service.metadata);
    let spec = service.spec.unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let port = ports.iter().find(|port| port.name.as_deref() == Some(PORT_NAME)).map(|port| port.port);
    Existing {
        type_: spec.type_.unwrap_or_default(),
        port: port.and_then(|port| port.try_into().ok()),
        ..base
    }
}

fn found_endpoints(slice: EndpointSlice) -> Existing {
    let ports = slice.ports.unwrap_or_default();
    let port = ports.iter().find(|port| port.name.as_deref() == Some(PORT_NAME)).and_then(|port| port.port);
    let ready = slice.endpoints.into_iter().filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    Existing {
        port: port.and_then(|port| port.try_into().ok()),
        addresses: ready.flat_map(|endpoint| endpoint.addresses).collect(),
        ..found(&slice.metadata)
    }
}

fn found(metadata: &ObjectMeta) -> Existing {
    let owners = metadata.owner_references.iter().flatten();
    Existing {
        uid: metadata.uid.clone().unwrap_or_default(),
        owners: owners.map(|owner| owner.uid.clone()).collect(),
        labels: metadata.labels.clone().unwrap_or_default(),
        ..Existing::default()
    }
}
