//! What one namespace can do to another, and to the Docker host: nothing that nobody consented to.

use std::fs;

use k8s_openapi::api::rbac::v1::ClusterRole;

/// Making LocalClusters is being root on the host. Nobody gets that by the installation.
#[test]
fn the_installation_gives_nobody_the_right_to_make_objects() {
    let text = fs::read_to_string("deploy/user-roles.yaml").unwrap();
    let roles: Vec<ClusterRole> =
        text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
    assert_eq!(roles.len(), 2);
    for role in roles {
        let labels = role.metadata.labels.unwrap();
        let aggregated =
            labels.keys().any(|label| label.starts_with("rbac.authorization.k8s.io/aggregate-to-"));
        let writes = |verb: &String| !["get", "list", "watch"].contains(&verb.as_str());
        let reads_only = !role.rules.unwrap().iter().flat_map(|rule| &rule.verbs).any(writes);
        assert_eq!(aggregated, reads_only, "{:?}", role.metadata.name);
    }
}
