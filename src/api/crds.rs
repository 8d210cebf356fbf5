//! The CustomResourceDefinitions, as the API server gets them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;
use serde_json::json;

use super::{LocalCluster, Registry};

/// Both definitions, each with the name of its file.
pub fn all() -> Vec<(String, CustomResourceDefinition)> {
    [LocalCluster::crd(), Registry::crd()]
        .map(finish)
        .map(|crd| (format!("{}.yaml", crd.spec.names.plural), crd))
        .into()
}

/// Adds what the derive macro can't say (kube-rs/kube#1239): the default of `status`, by which tools that judge
/// objects by kstatus never take a brand-new one for ready.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let status = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
            .and_then(|s| s.properties.as_mut())
            .and_then(|p| p.get_mut("status"));
        if let Some(status) = status {
            status.nullable = None;
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
    }
    crd
}
