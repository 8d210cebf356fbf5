//! **Pure**: files of k3d, kind and ctlptl as a LocalCluster and Registries, with a comment for each field that has no
//! equal. Comments never contain values, which may be secret.

mod ctlptl;
mod k3d;
mod kind;
mod part;
mod pools;

use kube::Resource;
use serde_json::{Value, json};

use part::{Notes, Part};

use super::valid;
use crate::api::LocalCluster;

/// What a file means here.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// Registries, and then clusters.
    objects: Vec<Value>,
    /// Fields without an equal, each with what to do.
    notes: Vec<String>,
    /// Why the operator would not accept the objects.
    pub problems: Vec<String>,
}

impl Converted {
    /// Renders comments and objects.
    pub fn render(&self) -> Result<String, String> {
        let mut text: String = self.notes.iter().map(|note| format!("# {note}\n")).collect();
        for object in &self.objects {
            let yaml = serde_saphyr::to_string(object).map_err(|e| e.to_string())?;
            text.push_str("---\n");
            text.push_str(&yaml);
        }
        Ok(text)
    }
}

/// Converts a file.
pub fn convert(text: &str) -> Result<Converted, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| {
        let why = e.to_string();
        format!("it is no YAML: {}; correct it", why.lines().next().unwrap_or_default())
    })?;
    let documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
    if documents.is_empty() {
        return Err("it is empty; give a file of k3d, kind or ctlptl".into());
    }
    let notes = Notes::default();
    let many = documents.len() > 1;
    let (mut registries, mut clusters) = (Vec::new(), Vec::new());
    for (at, document) in documents.into_iter().enumerate() {
        let mut part =
            Part::new(document, if many { format!("document {}", at + 1) } else { String::new() }, &notes);
        let (version, kind) = (part.text("apiVersion"), part.text("kind"));
        let (version, kind) = (version.unwrap_or_default(), kind.unwrap_or_default());
        match (version.split_once('/').unwrap_or_default(), kind.as_str()) {
            (("k3d.io", "v1alpha2" | "v1alpha3" | "v1alpha4" | "v1alpha5"), "Simple") => {
                clusters.push(k3d::simple(part))
            }
            (("kind.x-k8s.io", "v1alpha4"), "Cluster") => clusters.push(kind::cluster(part)),
            (("ctlptl.dev", "v1alpha1"), "Registry") => registries.push(ctlptl::registry(part)),
            (("ctlptl.dev", "v1alpha1"), "Cluster") => clusters.push(ctlptl::cluster(part)),
            _ => {
                part.ignore();
                return Err(format!(
                    "it has a {kind:?} of {version:?}; it can convert Simple of k3d.io/v1alpha2 to v1alpha5, Cluster of \
                     kind.x-k8s.io/v1alpha4, and Cluster and Registry of ctlptl.dev/v1alpha1"
                ));
            }
        }
    }
    let objects: Vec<Value> = registries.into_iter().chain(clusters).collect();
    let check = |object: &Value| valid::check(object["kind"].as_str().unwrap_or_default(), object).err();
    let problems = objects.iter().filter_map(check).collect();
    Ok(Converted { objects, notes: notes.all(), problems })
}

/// Returns an object of this API.
fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": LocalCluster::api_version(&()), "kind": kind, "metadata": {"name": name}, "spec": spec})
}
