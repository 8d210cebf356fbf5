//! The edits of a campaign: the same of the same seed, and each field of both kinds among them.

use std::collections::BTreeSet;

use localcluster_operator::api::crds;
use serde_json::{Value, json};

#[path = "campaign/edits.rs"]
mod edits;

use edits::Edits;

fn schema(kind: &str) -> Value {
    let (_, crd) =
        crds::all().into_iter().find(|(_, crd)| crd.spec.names.kind == kind).expect("it is one of ours");
    json!(crd)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

fn edits(seed: u64, kind: &str) -> Edits {
    let names = ["image", "registry-image", "app-image", "version", "next-version"];
    let world = names.map(|name| (name, format!("the-{name}")));
    Edits::new(seed, &kind.to_lowercase(), schema(kind), &world)
}

fn life(seed: u64, kind: &str, many: usize) -> Vec<Value> {
    let (mut edits, mut spec) = (edits(seed, kind), json!({}));
    let mut all = Vec::new();
    for _ in 0..many {
        spec = edits.edit(&spec);
        all.push(spec.clone());
    }
    all
}

#[test]
fn a_seed_is_a_campaign() {
    assert_eq!(life(1, "LocalCluster", 50), life(1, "LocalCluster", 50));
    assert_ne!(life(1, "LocalCluster", 50), life(2, "LocalCluster", 50));
}

/// The paths of all fields that a spec can have, as the generator writes them.
fn fields(schema: &Value, path: &str, all: &mut BTreeSet<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        all.insert(format!("{path}.{name}"));
        fields(inner, &format!("{path}.{name}"), all);
    }
    if schema["items"].is_object() {
        fields(&schema["items"], &format!("{path}[]"), all);
    }
}

/// The paths of a spec's fields.
fn used(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(inner) => inner.iter().for_each(|(name, value)| {
            all.insert(format!("{path}.{name}"));
            used(value, &format!("{path}.{name}"), all);
        }),
        Value::Array(items) => items.iter().for_each(|item| used(item, &format!("{path}[]"), all)),
        _ => {}
    }
}

/// A new field is edited without a line in the generator, or the generator says what is missing.
#[test]
fn every_field_is_edited_but_those_that_are_immutable() {
    let immutable = ["clusterName", "token", "network", "hostname", "storage.volumeName", "storage.hostPath"];
    // Not heeded where there is one Docker host; no runtime of the campaign's runs K3s without privileges.
    let unheeded = ["placement", "privileged"];
    for kind in ["LocalCluster", "Registry"] {
        let (mut all, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let root = kind.to_lowercase();
        fields(&schema(kind), &root, &mut all);
        for seed in 0..40 {
            life(seed, kind, 400).iter().for_each(|spec| used(spec, &root, &mut seen));
        }
        let left: Vec<_> = all.difference(&seen).collect();
        let known = |path: &&&String| {
            immutable.iter().chain(&unheeded).any(|i| path.ends_with(i) || path.contains(&format!("{i}.")))
        };
        assert!(left.iter().all(|path| known(&path)), "{kind}: never in a spec: {left:?}");
    }
}
