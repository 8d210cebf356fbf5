//! References of LocalClusters. A change of a referenced object triggers a reconciliation.

use crate::api::LocalClusterSpec;

/// Returns the names of the Secrets in its namespace that a cluster refers to.
pub fn secrets(spec: &LocalClusterSpec) -> Vec<&str> {
    let mut names: Vec<&String> = Vec::new();
    names.extend(spec.token.iter().map(|t| &t.secret_name));
    names.extend(spec.image_pull_secret.iter().map(|s| &s.name));
    names.extend(spec.files.iter().filter_map(|f| f.secret.as_ref()).map(|s| &s.name));
    names.extend(spec.manifests.iter().filter_map(|m| m.secret.as_ref()).map(|s| &s.name));
    for config in &spec.registries.configs {
        names.extend(config.auth.iter().map(|a| &a.secret_name));
        names.extend(config.tls.iter().flat_map(|t| [&t.ca_secret_name, &t.client_secret_name]).flatten());
    }
    names.extend(spec.registries.config.iter().filter_map(|c| c.secret_name.as_ref()));
    names.into_iter().map(String::as_str).collect()
}

/// Returns the names of the ConfigMaps in its namespace that a cluster refers to.
pub fn config_maps(spec: &LocalClusterSpec) -> Vec<&str> {
    let mut names: Vec<&String> = Vec::new();
    names.extend(spec.files.iter().filter_map(|f| f.config_map.as_ref()).map(|s| &s.name));
    names.extend(spec.manifests.iter().filter_map(|m| m.config_map.as_ref()).map(|s| &s.name));
    let tls = spec.registries.configs.iter().filter_map(|c| c.tls.as_ref());
    names.extend(tls.filter_map(|t| t.ca_config_map_name.as_ref()));
    names.extend(spec.registries.config.iter().filter_map(|c| c.config_map_name.as_ref()));
    names.into_iter().map(String::as_str).collect()
}
