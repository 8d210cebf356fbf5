//! The CustomResourceDefinitions, as the API server gets them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
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

/// Adds what the derive macro can't say: that `spec` can be left out, as all of it can; the default of `status`
/// (kube-rs/kube#1239), by which tools that judge objects by kstatus never take a brand-new one for ready; that nothing is
/// nullable, so that a field set to null is a field left out, for rules and defaults too; and paragraphs without the line
/// breaks of the source, which `kubectl explain` would print among its own.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else {
            continue;
        };
        tidy(schema, false);
        schema.required = schema.required.take().map(|mut fields| {
            fields.retain(|f| f != "spec");
            fields
        });
        schema.required.take_if(|fields| fields.is_empty());
        if let Some(spec) = schema.properties.as_mut().and_then(|p| p.get_mut("spec")) {
            spec.default = Some(JSON(json!({})));
        }
        if let Some(status) = schema.properties.as_mut().and_then(|p| p.get_mut("status")) {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
    }
    crd
}

/// In the items of a list there are no defaults: the API server would write them into the object, and who compares lists
/// as a whole, as `kubectl apply` and Argo CD do, would find another one than was applied, each time
/// (argoproj/argo-cd#11074). The operator fills them in when it reads.
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
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        tidy(value, in_list);
    }
}
