//! Manifests that K3s applies: files in a directory that servers scan every 15 seconds. K3s does not delete objects
//! that are removed from a file, or belong to a removed file (k3s-io/docs: "deleting files from this directory will not
//! delete the corresponding resources").

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Directory that servers scan.
pub const DIRECTORY: &str = "/var/lib/rancher/k3s/server/manifests";
/// Prefix of the files of the operator.
const PREFIX: &str = "localcluster-";
/// Prefix of the first line. It makes the file different each time it is written, since K3s does not apply an unchanged
/// file again.
const HEADER: &str = "# written by localcluster-operator, ";

/// Reference to an object in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// API version: `v1`, `apps/v1`, …
    pub api_version: String,
    /// Kind: `ConfigMap`, …
    pub kind: String,
    /// Namespace; `None` for `default`, and for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A valid manifest.
#[derive(Clone, PartialEq, Eq)]
pub struct Parsed {
    /// YAML text.
    pub text: String,
    /// Objects in the manifest.
    pub objects: BTreeSet<ObjectRef>,
}

impl std::fmt::Debug for Parsed {
    /// Formats the manifest without the text, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parsed").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// Parses a manifest. The error describes the problem without any value, which may be secret.
pub fn parse(text: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(text).map_err(|_| "not valid UTF-8".to_owned())?;
    // JSON is nearly always YAML; on a single line it is.
    let (text, documents) = match serde_json::from_str::<Value>(text) {
        Ok(json) => (json.to_string(), vec![json]),
        Err(_) => {
            let documents: Result<Vec<Value>, _> = serde_saphyr::from_multiple(text);
            let documents = documents.map_err(|error| {
                let place = error.location().map(|l| format!(" at line {}", l.line()));
                format!("not valid YAML{}", place.unwrap_or_default())
            })?;
            (text.to_owned(), documents)
        }
    };
    let mut objects = BTreeSet::new();
    for (i, document) in documents.iter().enumerate().filter(|(_, d)| !d.is_null()) {
        let place = if documents.len() == 1 { String::new() } else { format!("document {}: ", i + 1) };
        read(document, &mut objects).map_err(|why| format!("{place}{why}"))?;
    }
    if objects.is_empty() {
        return Err("contains no object".into());
    }
    Ok(Parsed { text, objects })
}

fn read(document: &Value, objects: &mut BTreeSet<ObjectRef>) -> Result<(), String> {
    if !document.is_object() {
        return Err("not an object; apiVersion, kind and metadata.name are required".into());
    }
    let text = |pointer: &str, name: &str| match document.pointer(pointer) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(format!("{name} must be a string")),
        None => Err(format!("{name} is missing")),
    };
    let api_version = text("/apiVersion", "apiVersion")?;
    let kind = text("/kind", "kind")?;
    if let Some(items) = document.get("items").and_then(Value::as_array).filter(|_| kind.ends_with("List")) {
        for (i, item) in items.iter().enumerate() {
            read(item, objects).map_err(|why| format!("item {}: {why}", i + 1))?;
        }
        return Ok(());
    }
    if document.pointer("/metadata/generateName").is_some() && document.pointer("/metadata/name").is_none() {
        return Err("metadata.generateName would create another object each time; use metadata.name".into());
    }
    let name = text("/metadata/name", "metadata.name")?;
    let namespace = match document.pointer("/metadata/namespace") {
        None | Some(Value::Null) => None,
        Some(_) => Some(text("/metadata/namespace", "metadata.namespace")?).filter(|n| n != "default"),
    };
    objects.insert(ObjectRef { api_version, kind, namespace, name });
    Ok(())
}

/// Returns the path of the file of a manifest on servers. K3s takes the file name up to the first dot as its name.
pub fn path(name: &str) -> String {
    format!("{DIRECTORY}/{PREFIX}{name}.yaml")
}

/// Returns the name of the manifest of a file; `None` for a file that is not managed by the operator.
pub fn name_of(path: &str) -> Option<&str> {
    path.strip_prefix(DIRECTORY)?.strip_prefix('/')?.strip_prefix(PREFIX)?.strip_suffix(".yaml")
}

/// The file of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<'a> {
    /// Text of the manifest.
    pub text: &'a str,
    /// Number of times that it was written in succession.
    pub times: u32,
    /// Time of the last write.
    pub at: Option<Timestamp>,
}

/// Renders the file of a manifest.
pub fn render(written: &Written<'_>) -> Vec<u8> {
    let Written { text, times, at } = written;
    let at = at.unwrap_or_default();
    // Ends the first document, so that what follows is not parsed as JSON.
    format!("{HEADER}{times} times, at last {at}\n---\n{text}").into_bytes()
}

/// Parses such a file. Other content counts as written once, a long time ago.
pub fn written(content: &[u8]) -> Written<'_> {
    let text = std::str::from_utf8(content).unwrap_or_default();
    let head = || {
        let (first, rest) = text.strip_prefix(HEADER)?.split_once('\n')?;
        let (times, at) = first.split_once(" times, at last ")?;
        let text = rest.strip_prefix("---\n")?;
        Some(Written { text, times: times.parse().ok()?, at: Some(at.parse().ok()?) })
    };
    head().unwrap_or(Written { text, times: 1, at: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<Vec<String>, String> {
        parse(text.as_bytes()).map(|p| p.objects.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn objects_of_all_documents_are_known() {
        let text = "# first\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  \
                    metadata: {name: app, namespace: team}\n---\napiVersion: v1\nkind: ConfigMap\n\
                    metadata: {name: c, namespace: default}\n";
        assert_eq!(told(text).unwrap(), ["Deployment team/app", "ConfigMap c", "Namespace team"]);
        let json = "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"s\"}}";
        assert_eq!(told(json).unwrap(), ["Secret s"]);
        assert!(!parse(json.as_bytes()).unwrap().text.contains('\n'), "tabs are not valid in YAML");
    }

    #[test]
    fn what_is_wrong_is_told_without_a_value() {
        for (text, want) in [
            ("", "contains no object"),
            ("# nothing", "contains no object"),
            ("a: [hunter2", "not valid YAML"),
            ("hunter2", "not an object"),
            ("- hunter2", "not an object"),
            ("kind: A\nmetadata: {name: hunter2}", "apiVersion is missing"),
            ("apiVersion: v1\nmetadata: {name: hunter2}", "kind is missing"),
            ("apiVersion: v1\nkind: A", "metadata.name is missing"),
            ("apiVersion: v1\nkind: A\nmetadata: {name: 7}", "metadata.name must be a string"),
            ("apiVersion: v1\nkind: A\nmetadata: {name: ''}", "metadata.name must be a string"),
            ("apiVersion: v1\nkind: A\nmetadata: {generateName: hunter2-}", "metadata.generateName"),
            (
                "apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\napiVersion: v1\nkind: B",
                "document 2: metadata.name is missing",
            ),
            ("apiVersion: v1\nkind: List\nitems: [{kind: A}]", "item 1: apiVersion is missing"),
        ] {
            let said = told(text).unwrap_err();
            assert!(said.starts_with(want) && !said.contains("hunter2"), "{text}: {said}");
        }
        assert_eq!(parse(b"\xff").unwrap_err(), "not valid UTF-8");
    }

    #[test]
    fn a_file_comes_back_as_it_was_written() {
        let at = "2026-11-25T12:00:00Z".parse().ok();
        let file = Written { text: "apiVersion: v1\n", times: 3, at };
        let bytes = render(&file);
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "# written by localcluster-operator, 3 times, at last 2026-11-25T12:00:00Z\n---\napiVersion: v1\n"
        );
        assert_eq!(written(&bytes), file);
        assert_eq!(written(b"kind: A").at, None);
    }

    #[test]
    fn files_of_others_are_told_apart() {
        assert_eq!(name_of(&path("a-b")), Some("a-b"));
        for other in ["coredns.yaml", "localcluster-a.yaml.skip", "metrics-server/localcluster-a.yaml"] {
            assert_eq!(name_of(&format!("{DIRECTORY}/{other}")), None);
        }
    }
}
