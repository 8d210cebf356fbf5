//! CustomResourceDefinitions, in the form in which they are applied to the API server.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{HostPolicy, LocalCluster, LocalClusterClaim, LocalClusterPool, Registry};

/// Returns all definitions, each with its file name.
pub fn all() -> Vec<(String, CustomResourceDefinition)> {
    [
        LocalCluster::crd(),
        Registry::crd(),
        HostPolicy::crd(),
        LocalClusterPool::crd(),
        LocalClusterClaim::crd(),
    ]
    .map(finish)
    .map(|crd| (format!("{}.yaml", crd.spec.names.plural), crd))
    .into()
}

/// Completes what the derive macro cannot express: `spec` is optional if all of its fields are; `status` has a
/// default (kube-rs/kube#1239), so that tools that evaluate objects with kstatus do not consider a new object ready; no
/// field is nullable, so that a field set to null counts as left out, for rules and defaults too; and paragraphs
/// contain no line breaks of the source, which `kubectl explain` would print in addition to its own.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else {
            continue;
        };
        tidy(schema, false);
        let spec = schema.properties.as_mut().and_then(|p| p.get_mut("spec"));
        if let Some(spec) = spec.filter(|spec| spec.required.is_none()) {
            spec.default = Some(JSON(json!({})));
            schema.required = schema.required.take().map(|mut fields| {
                fields.retain(|f| f != "spec");
                fields
            });
            schema.required.take_if(|fields| fields.is_empty());
        }
        // The defaults of its fields are those of a LocalCluster.
        let spec = schema.properties.as_mut().and_then(|p| p.get_mut("spec"));
        if let Some(template) = spec.and_then(|spec| spec.properties.as_mut()?.get_mut("template")) {
            for part in template.properties.iter_mut().flat_map(|parts| parts.values_mut()) {
                part.default = Some(JSON(json!({})));
            }
            template.default = Some(JSON(json!({})));
        }
        if let Some(status) = schema.properties.as_mut().and_then(|p| p.get_mut("status")) {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
    }
    crd
}

/// Removes line breaks, `nullable`, the refusal of unknown fields, which API servers prune instead, and the defaults in
/// list items. The API server would write those into the object,
/// and tools that compare lists as a whole, such as `kubectl apply` and Argo CD, would see a difference from the
/// applied object each time (argoproj/argo-cd#11074). The operator applies these defaults when it reads an object.
fn tidy(schema: &mut JSONSchemaProps, in_list: bool) {
    schema.nullable = None;
    if in_list {
        schema.default = None;
    }
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<_> = description.split("\n\n").map(|p| p.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        tidy(property, in_list);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => tidy(item, true),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(|item| tidy(item, true)),
        None => {}
    }
    if matches!(schema.additional_properties, Some(JSONSchemaPropsOrBool::Bool(false))) {
        schema.additional_properties = None;
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        tidy(value, in_list);
    }
}
