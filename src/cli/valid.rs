//! **Pure**: whether the operator would accept an object.

use kube::ResourceExt;
use serde_json::Value;

use crate::{
    api::{Registry, local_cluster},
    plan::validate,
};

/// Returns what is wrong with an object, by the operator's own validation.
pub(super) fn check(kind: &str, object: &Value) -> Result<(), String> {
    let invalid =
        |e: serde_json::Error| format!("the {kind} is invalid: {e}; see `kubectl explain {kind}.spec`");
    let (name, problems) = if kind == "Registry" {
        let registry: Registry = serde_json::from_value(object.clone()).map_err(invalid)?;
        let namespace = registry.namespace().unwrap_or_else(|| "default".into());
        (registry.name_any(), validate::registry(&namespace, &registry.name_any(), &registry.spec).err())
    } else {
        let cluster = local_cluster::from_file(object.clone()).map_err(invalid)?;
        let namespace = cluster.namespace().unwrap_or_else(|| "default".into());
        (cluster.name_any(), validate::local_cluster(&namespace, &cluster.name_any(), &cluster.spec).err())
    };
    match problems {
        Some(problems) => Err(format!("the {kind} {name} is invalid: {}", problems.join("; "))),
        None => Ok(()),
    }
}
