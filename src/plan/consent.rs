//! Consent of unmanaged volumes and containers of the Docker host to be used by the objects of a namespace. An author
//! of objects can name any resource of the host, and most do not belong to them: the data of a cluster in another
//! namespace, an unrelated database.
//!
//! Only users with access to the engine can give consent, with the label [`names::ALLOW_NAMESPACES`], which no spec
//! can set. Resources that an object of any operator owns never consent: their label may come from their image.
//!
//! Without consent the message does not depend on whether the resource exists, since objects must not disclose other
//! resources of the host.

use std::collections::BTreeMap;

use crate::{api::names, docker::engine::Volume};

/// Reports whether the objects of a namespace may use the resource with these labels.
pub fn given(labels: &BTreeMap<String, String>, namespace: &str) -> bool {
    let allowed = labels.get(names::ALLOW_NAMESPACES).map(String::as_str).unwrap_or_default();
    let names_it =
        allowed.split(',').map(str::trim).any(|a| !namespace.is_empty() && (a == "*" || a == namespace));
    names_it && !is_owned(labels)
}

/// Reports whether a volume with this name exists that the objects of a namespace may use.
pub fn to_volume(volumes: &[Volume], name: &str, namespace: &str) -> bool {
    volumes.iter().any(|volume| volume.name == name && given(&volume.labels, namespace))
}

/// Reports whether the clusters of a namespace may be connected to the container with these labels: it consents, or k3d
/// created it as a registry, which serves the clusters of the host, with labels that cannot be changed.
pub fn connects(labels: &BTreeMap<String, String>, namespace: &str) -> bool {
    let has = |key: &str, value: &str| labels.get(key).is_some_and(|v| v == value);
    let of_k3d = has(names::APP, "k3d") && names::is_registry(labels) && !is_owned(labels);
    of_k3d || given(labels, namespace)
}

/// Reports whether an object of any operator owns the resource with these labels.
pub fn is_owned(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(names::UID) || labels.contains_key(names::MANAGER)
}

/// Returns the option of `docker create` that gives consent.
pub fn option(namespace: &str) -> String {
    format!("--label {}={namespace}", names::ALLOW_NAMESPACES)
}

/// Returns the message about a volume in this field that does not exist or does not allow a namespace.
pub fn no_volume(field: &str, name: &str, namespace: &str) -> String {
    format!(
        "{field}: no Docker volume {name} allows the namespace {namespace}; {}",
        of_volume(name, namespace)
    )
}

/// Returns how a volume gets to allow a namespace.
pub fn of_volume(name: &str, namespace: &str) -> String {
    format!(
        "create one with `docker volume create {} {name}`. Labels of an existing volume cannot be changed; copy its \
         content to a new volume with this label",
        option(namespace)
    )
}

/// Returns the message about a Registry that does not allow a namespace. `begun` is true if the nodes of the cluster were
/// started before, `password` if they may have had a password of it.
pub fn withheld(registry: &str, namespace: &str, begun: bool, password: bool) -> String {
    if !begun {
        return format!(
            "the Registry {registry} does not allow namespace {namespace}: add it to its spec.allowedNamespaces"
        );
    }
    let rotate = match password {
        true => {
            ". If nodes had its password before, its owner has to rotate it: whoever reached them may know it"
        }
        false => "",
    };
    format!(
        "nodes are configured without the Registry {registry}: it does not allow namespace {namespace}; add the \
         namespace to its spec.allowedNamespaces, or remove it from spec.registries.use{rotate}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn it_names_namespaces_or_all() {
        for (value, consents) in [
            ("team-a", true),
            ("*", true),
            ("team-b, team-a", true),
            ("team-b,*", true),
            ("", false),
            ("team-b", false),
            ("team", false),
            ("team-a2", false),
            ("team-*", false),
            ("Team-a", false),
        ] {
            assert_eq!(given(&labels(&[(names::ALLOW_NAMESPACES, value)]), "team-a"), consents, "{value:?}");
        }
        assert!(!given(&labels(&[]), "team-a"));
        assert!(!given(&labels(&[(names::ALLOW_NAMESPACES, "")]), ""));
    }

    #[test]
    fn a_password_is_to_be_rotated_only_if_nodes_may_have_had_it() {
        let said = |begun, password| withheld("shared/images", "team-a", begun, password);
        assert!(!said(false, true).contains("rotate") && !said(true, false).contains("rotate"));
        assert!(said(true, true).contains("rotate") && said(true, true).contains("shared/images"));
    }

    /// Others have labels of k3d too: its nodes and load balancers.
    #[test]
    fn registries_of_k3d_serve_the_clusters_of_the_host() {
        let (app, role) = ((names::APP, "k3d"), (names::ROLE, "registry"));
        let connects = |list: &[(&str, &str)]| connects(&labels(list), "team-a");
        assert!(connects(&[app, role]) && connects(&[(names::ALLOW_NAMESPACES, "team-a")]));
        for no in [&[app][..], &[role], &[app, (names::ROLE, "server")], &[app, role, (names::UID, "x")], &[]]
        {
            assert!(!connects(no), "{no:?}");
        }
    }

    #[test]
    fn what_an_object_owns_never_consents() {
        for own in [names::UID, names::MANAGER] {
            assert!(!given(&labels(&[(names::ALLOW_NAMESPACES, "*"), (own, "x")]), "team-a"), "{own}");
        }
    }
}
