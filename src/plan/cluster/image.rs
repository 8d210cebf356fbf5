//! Node image of a LocalCluster, and the refusal of downgrades and skipped minor versions.

use crate::{
    api::{LocalClusterStatus, local_cluster::NodeRole, reason::Reason},
    k3s::versions::{self, Version},
    plan::{
        observed::{Host, Reached},
        settings::Settings,
        validate::Valid,
    },
};

/// Returns the node image of a cluster, and the reason if it differs from the spec.
///
/// A spec with neither version nor image keeps the existing image, so that an operator with another default changes
/// no existing cluster. A spec with a version that the cluster cannot run keeps it too.
pub fn image(
    valid: &Valid,
    settings: &Settings,
    observed: &Reached,
    previous: &LocalClusterStatus,
) -> (String, Option<(Reason, String)>) {
    let of_version = |v: &str| format!("{}:{}", settings.node_image_repository, versions::tag(v));
    let named = valid.image.clone().or_else(|| valid.version.as_deref().map(of_version));
    let has = image_of(observed, &valid.names.node(NodeRole::Server, 0)).or_else(|| previous.image.clone());
    let Some(named) = named else {
        return (has.unwrap_or_else(|| of_version(&settings.default_version)), None);
    };
    let refusal = versions::of_image(&named)
        .and_then(|v| Version::parse(&v))
        .zip(running(valid, observed, previous))
        .and_then(|(wanted, running)| refusal(&wanted, &running));
    match (refusal, has) {
        (Some(refusal), Some(has)) => (has, Some(refusal)),
        (None, _) | (_, None) => (named, None),
    }
}

/// Returns the running version of the servers as last reported by their Nodes: the lowest of several, so that a
/// failed upgrade can be reverted.
fn running(valid: &Valid, observed: &Reached, previous: &LocalClusterStatus) -> Option<Version> {
    let server = |name: &str| valid.names.parse_server(name).is_some();
    let nodes = observed.child.state().into_iter().flat_map(|state| &state.nodes);
    let reported =
        nodes.filter(|(name, _)| server(name)).filter_map(|(_, node)| Version::parse(&node.version));
    let known = previous.nodes.iter().filter(|n| server(&n.name)).filter_map(|n| n.version.as_deref());
    reported.min().or_else(|| known.filter_map(Version::parse).min())
}

/// Returns why a cluster of one version cannot run another.
fn refusal(wanted: &Version, running: &Version) -> Option<(Reason, String)> {
    if wanted < running {
        let message = format!(
            "downgrade from {running} to {wanted} refused: the older version cannot read the data of the cluster; \
             set the version to {running} or later, or create a new cluster"
        );
        return Some((Reason::DowngradeRefused, message));
    }
    let next = running.numbers[1] + 1;
    (wanted.numbers[0] == running.numbers[0] && wanted.numbers[1] > next).then(|| {
        let message = format!(
            "upgrade from {running} to {wanted} refused: Kubernetes upgrades one minor version at a time; upgrade \
             to v{}.{next} first",
            running.numbers[0]
        );
        (Reason::UpgradeRefused, message)
    })
}

/// Returns the image that a managed container was created from.
pub fn image_of(observed: &Host, container: &str) -> Option<String> {
    observed.own_named(container).map(|d| d.container.image.clone())
}
