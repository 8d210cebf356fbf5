//! The definitions in the forms that people and editors read: a page of Markdown, and a JSON schema.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Value, json};

/// Returns the page about a kind: every field with its type, default and text, and what is refused.
pub fn markdown(crd: &CustomResourceDefinition) -> String {
    let (names, group) = (&crd.spec.names, &crd.spec.group);
    let mut page = format!("# {}\n\n", names.kind);
    for version in &crd.spec.versions {
        let Some(schema) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else {
            continue;
        };
        let short = names.short_names.iter().flatten().map(|n| format!(", short name `{n}`"));
        let _ = writeln!(
            page,
            "{}\n\n`apiVersion: {group}/{}`, `kind: {}`{}; {}.",
            schema.description.as_deref().unwrap_or_default(),
            version.name,
            names.kind,
            short.collect::<String>(),
            if crd.spec.scope == "Namespaced" { "namespaced" } else { "cluster-scoped" },
        );
        refused(schema, &mut page);
        for part in ["spec", "status"] {
            if let Some(schema) =
                schema.properties.iter().flatten().find_map(|(n, s)| (n == part).then_some(s))
            {
                section(part, schema, &mut page);
            }
        }
    }
    page
}

/// Appends the section about an object, and those about the objects in it.
fn section(path: &str, schema: &JSONSchemaProps, page: &mut String) {
    let _ = writeln!(page, "\n## {path}\n\n{}", schema.description.as_deref().unwrap_or_default());
    let fields = schema.properties.iter().flatten();
    let required = schema.required.as_deref().unwrap_or_default();
    let _ = writeln!(page, "\n| field | type | |\n|---|---|---|");
    let mut below = Vec::new();
    for (name, field) in fields {
        let (mut kind, object) = kind(field);
        // The spec of a template is that of a kind, which has a page of its own.
        let is_template = name == "spec" && path.ends_with(".template");
        if let Some((suffix, schema)) = object.filter(|_| !is_template) {
            let path = format!("{path}.{name}{suffix}");
            kind = format!("[{kind}](#{})", anchor(&path));
            below.push((path, schema));
        }
        let default = field.default.as_ref().map_or_else(String::new, |default| match &default.0 {
            // It only says that the fields have defaults.
            Value::Object(fields) if fields.is_empty() => String::new(),
            value => format!(", default `{value}`"),
        });
        let mark = if required.contains(name) { ", required" } else { "" };
        let text = field.description.as_deref().unwrap_or_default();
        let text = text.replace("\n\n", "<br>").replace('|', "\\|");
        let _ = writeln!(page, "| `{name}` | {kind}{mark}{default} | {text} |");
    }
    refused(schema, page);
    for (path, schema) in below {
        section(&path, schema, page);
    }
}

/// Appends what the rules of an object say when they refuse.
fn refused(schema: &JSONSchemaProps, page: &mut String) {
    let fields = schema.properties.iter().flatten();
    let rules = fields.flat_map(|(name, field)| of_rules(field).map(move |said| (Some(name), said)));
    let mut rules: Vec<_> = of_rules(schema).map(|said| (None, said)).chain(rules).collect();
    // One for each kind of pool, with the same message.
    rules.dedup();
    if !rules.is_empty() {
        let _ = writeln!(page, "\nRefused with the message:\n");
    }
    for (field, message) in rules {
        let field = field.map_or_else(String::new, |name| format!("`{name}`: "));
        let _ = writeln!(page, "- {field}{}", message.replace('|', "\\|"));
    }
}

fn of_rules(schema: &JSONSchemaProps) -> impl Iterator<Item = &str> {
    schema.x_kubernetes_validations.iter().flatten().filter_map(|rule| rule.message.as_deref())
}

/// Returns the type of a field in words, and the object in it with what its path gets.
fn kind(schema: &JSONSchemaProps) -> (String, Option<(&'static str, &JSONSchemaProps)>) {
    if let Some(values) = &schema.enum_ {
        let values: Vec<String> =
            values.iter().map(|v| format!("`{}`", v.0.as_str().unwrap_or_default())).collect();
        return (values.join(", "), None);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        let (kind, object) = kind(item);
        return (format!("list of {}", plural(&kind)), object.map(|(_, schema)| ("[]", schema)));
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
        let (kind, object) = kind(value);
        return (format!("map to {}", plural(&kind)), object.map(|(_, schema)| (".*", schema)));
    }
    let object = schema.properties.as_ref().is_some_and(|p| !p.is_empty());
    let name = match schema.type_.as_deref() {
        _ if schema.x_kubernetes_int_or_string == Some(true) => "integer or string",
        Some(name) => name,
        None => "any value",
    };
    (name.to_owned(), object.then_some(("", schema)))
}

fn plural(kind: &str) -> String {
    match kind {
        "object" | "string" | "integer" | "boolean" => format!("{kind}s"),
        other => other.to_owned(),
    }
}

/// Returns what a link to a heading says: forges and mdBook leave out all but letters, digits, `-` and `_`.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Returns the name of the file with the JSON schema of a kind, as catalogs of schemas have it.
pub fn schema_file(crd: &CustomResourceDefinition) -> String {
    let version = crd.spec.versions.first().map_or("", |version| version.name.as_str());
    format!("{}_{version}.json", crd.spec.names.kind.to_lowercase())
}

/// Returns the JSON schema of a kind, for editors and tools such as kubeconform: other fields than those of the kind are
/// errors, where an API server removes them.
pub fn json_schema(crd: &CustomResourceDefinition) -> serde_json::Result<Value> {
    let version = crd.spec.versions.first();
    let schema = version.and_then(|v| v.schema.as_ref()).and_then(|s| s.open_api_v3_schema.as_ref());
    let mut schema = serde_json::to_value(schema)?;
    close(&mut schema);
    let version = version.map_or("", |version| version.name.as_str());
    if let Some(fields) = schema.pointer_mut("/properties").and_then(Value::as_object_mut) {
        let api = format!("{}/{version}", crd.spec.group);
        fields.insert("apiVersion".into(), json!({"type": "string", "enum": [api]}));
        fields.insert("kind".into(), json!({"type": "string", "enum": [crd.spec.names.kind]}));
        fields.insert("metadata".into(), json!({"type": "object"}));
    }
    if let Some(all) = schema.as_object_mut() {
        all.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
    }
    Ok(schema)
}

fn close(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let open = ["additionalProperties", "x-kubernetes-preserve-unknown-fields"];
    if fields.contains_key("properties") && !open.iter().any(|key| fields.contains_key(*key)) {
        fields.insert("additionalProperties".into(), false.into());
    }
    fields.retain(|key, _| !key.starts_with("x-kubernetes-validations"));
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(close);
    }
    for key in ["items", "additionalProperties"] {
        fields.get_mut(key).into_iter().for_each(close);
    }
    if fields.remove("x-kubernetes-int-or-string") == Some(true.into()) {
        fields.insert("type".into(), json!(["integer", "string"]));
        fields.remove("anyOf");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::crds;

    fn of(kind: &str) -> CustomResourceDefinition {
        crds::all().into_iter().map(|(_, crd)| crd).find(|crd| crd.spec.names.kind == kind).unwrap()
    }

    #[test]
    fn every_object_of_a_page_has_a_section_that_links_lead_to() {
        for (_, crd) in crds::all() {
            let page = markdown(&crd);
            let sections: Vec<String> =
                page.lines().filter_map(|l| l.strip_prefix("## ")).map(anchor).collect();
            let links: Vec<&str> =
                page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
            assert!(links.len() > 2, "{page}");
            for link in &links {
                assert_eq!(sections.iter().filter(|s| s == link).count(), 1, "{link}");
            }
            let mut once = sections.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), sections.len());
        }
    }

    #[test]
    fn a_field_is_told_with_its_type_its_default_and_what_is_refused() {
        let page = markdown(&of("LocalCluster"));
        assert!(
            page.contains("| `state` | `Running`, `Stopped`, default `\"Running\"` | Running or Stopped."),
            "{page}"
        );
        assert!(page.contains("| `ports` | [list of objects](#specports) | Ports of the nodes"), "{page}");
        assert!(page.contains("- `clusterName`: ") || page.contains("clusterName is immutable"), "{page}");
        assert!(!page.contains("| `version` | string |  |"), "{page}");
    }

    #[test]
    fn a_json_schema_knows_its_kind_and_refuses_other_fields() {
        let crd = of("Registry");
        assert_eq!(schema_file(&crd), "registry_v1alpha1.json");
        let schema = json_schema(&crd).unwrap();
        assert_eq!(schema["properties"]["kind"]["enum"], json!(["Registry"]));
        assert_eq!(schema["properties"]["spec"]["additionalProperties"], false);
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["metadata"].get("additionalProperties"), None);
        assert!(!schema.to_string().contains("x-kubernetes-validations"));
    }
}
