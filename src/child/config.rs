//! Keys of ConfigMaps: their owners according to the managed fields, and the patches that write them. Pure.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::state::{ConfigKey, Held};

/// Field manager of this operator.
pub const FIELD_MANAGER: &str = "localcluster-operator";

/// Annotation of a Pod that reads a ConfigMap: the version that it was last notified of. The kubelet updates a changed
/// ConfigMap in its Pods only about every minute, unless the Pod itself changes.
pub const CONFIG_VERSION: &str = "localcluster.dev/config-version";

/// Returns the content of a key; `None` if the key does not exist.
pub fn held(map: &ConfigMap, key: ConfigKey) -> Option<Held> {
    let content = map.data.as_ref()?.get(key.key)?.clone();
    let field = format!("f:{}", key.key);
    let mut owners = map.metadata.managed_fields.iter().flatten().filter(|entry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:data"].get(&field).is_some())
    });
    let owner = owners.next().filter(|o| o.manager.as_deref() == Some(FIELD_MANAGER));
    let written = owner.and_then(|o| o.time.as_ref()).map(|time| time.0);
    let ours = owner.is_some() && owners.next().is_none();
    Some(Held { content, ours, written })
}

/// Reports whether a ConfigMap has no content of other owners.
pub fn alone(map: &ConfigMap, key: ConfigKey) -> bool {
    let mut writers = map.metadata.managed_fields.iter().flatten();
    map.data.iter().flatten().all(|(k, _)| k == key.key)
        && map.binary_data.iter().flatten().next().is_none()
        && writers.all(|w| w.manager.as_deref() == Some(FIELD_MANAGER))
}

/// Returns the object to apply so that the key has this content, or does not exist.
pub fn applied(key: ConfigKey, content: Option<&str>) -> Value {
    let mut map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": key.namespace, "name": key.name},
    });
    if let Some(content) = content {
        map["data"] = json!({key.key: content});
    }
    map
}

/// Returns the merge patch that removes the key, regardless of its owner, for the version that was read.
pub fn without(map: &ConfigMap, key: ConfigKey) -> Value {
    json!({"metadata": {"resourceVersion": map.metadata.resource_version}, "data": {key.key: null}})
}

/// Reports whether an event of a watch requires an observation. Each completed list does: something may have changed
/// between the last observation and the list.
pub fn changed<T>(event: &Event<T>) -> bool {
    match event {
        Event::Apply(_) | Event::Delete(_) | Event::InitDone => true,
        Event::Init | Event::InitApply(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::state::REGISTRY_HOSTING as KEY;

    fn map(data: Value, writers: &[(&str, &str)]) -> ConfigMap {
        let fields: Vec<_> = writers
            .iter()
            .map(|(manager, key)| {
                json!({"manager": manager, "operation": "Apply", "fieldsV1": {"f:data": {format!("f:{key}"): {}}}})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"managedFields": fields}, "data": data})).unwrap()
    }

    #[test]
    fn a_key_is_ours_when_we_alone_wrote_it() {
        let key = KEY.key;
        let ours = |writers: &[(&str, &str)]| {
            held(&map(json!({key: "x", "other": "y"}), writers), KEY).unwrap().ours
        };
        assert!(ours(&[(FIELD_MANAGER, key), ("kubectl", "other")]));
        assert!(!ours(&[("kubectl", key), (FIELD_MANAGER, "other")]));
        assert!(!ours(&[("kubectl", key), (FIELD_MANAGER, key)]));
        assert!(!ours(&[]));
        assert_eq!(held(&map(json!({"other": "y"}), &[]), KEY), None);
        assert_eq!(held(&ConfigMap::default(), KEY), None);
    }

    #[test]
    fn a_config_map_goes_when_nobody_else_has_anything_in_it() {
        let key = KEY.key;
        assert!(alone(&map(json!({key: "x"}), &[(FIELD_MANAGER, key)]), KEY));
        assert!(!alone(&map(json!({key: "x", "other": "y"}), &[(FIELD_MANAGER, key)]), KEY));
        assert!(!alone(&map(json!({key: "x"}), &[(FIELD_MANAGER, key), ("kubectl", "label")]), KEY));
        let mut binary = map(json!({key: "x"}), &[(FIELD_MANAGER, key)]);
        binary.binary_data = Some([("other".to_owned(), k8s_openapi::ByteString(Vec::new()))].into());
        assert!(!alone(&binary, KEY));
    }
}
