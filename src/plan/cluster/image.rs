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

/// Node image of a cluster.
pub struct NodeImage {
    /// The image.
    pub image: String,
    /// The one for a spec with neither version nor image.
    pub default: String,
    /// Why it is not the one in the spec.
    pub refusal: Option<(Reason, String)>,
}

/// Returns the node image of a cluster. A spec with a version that the cluster cannot run keeps the existing image. So does
/// one with neither version nor image, if the cluster cannot go back to its default.
pub fn image(
    valid: &Valid,
    settings: &Settings,
    observed: &Reached,
    previous: &LocalClusterStatus,
) -> NodeImage {
    let of_version = |v: &str| format!("{}:{}", settings.node_image_repository, versions::tag(v));
    let named = valid.image.clone().or_else(|| valid.version.as_deref().map(of_version));
    let has = image_of(observed, &valid.names.node(NodeRole::Server, 0)).or_else(|| previous.image.clone());
    let configured = of_version(&settings.default_version);
    let default = default_image(previous.default_image.as_ref(), has.as_ref(), &configured);
    let wanted = named.as_ref().unwrap_or(&default);
    let refusal = versions::of_image(wanted)
        .and_then(|v| Version::parse(&v))
        .zip(running(valid, observed, previous))
        .and_then(|(wanted, running)| refusal(&wanted, &running));
    match (refusal, has) {
        (Some(refusal), Some(image)) => {
            NodeImage { image, default, refusal: named.is_some().then_some(refusal) }
        }
        (None, _) | (_, None) => NodeImage { image: wanted.clone(), default, refusal: None },
    }
}

/// Returns the image of an object for a spec that names none: the one that the status recorded. An operator with
/// another default changes no existing object, and an image that is taken out of the spec leaves nothing of it. Where
/// an older operator recorded none, it is what the object runs.
pub fn default_image(recorded: Option<&String>, runs: Option<&String>, configured: &str) -> String {
    recorded.or(runs).map_or_else(|| configured.to_owned(), Clone::clone)
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
