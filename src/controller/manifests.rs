//! Observes the manifests in servers and their objects in the cluster.

use futures::future::try_join_all;

use super::{files::Files, sizes};
use crate::{
    child::api::ChildApi,
    docker::{engine::Result, error::Error},
    k3s::manifests,
    plan::{desired::Desired, manifests::asked, observed::Observed, refs::Refs},
};

/// Records the operator's files in the ready servers, and which of the relevant objects exist.
pub async fn observe(
    files: &Files,
    child: Option<&dyn ChildApi>,
    observed: &mut Observed,
    desired: &Desired,
    refs: &Refs,
) -> Result<()> {
    let Some(child) = child else { return Ok(()) };
    let is_server = |name: &str| desired.servers.iter().any(|s| s.container.name == name);
    let servers = super::observe::working(observed, desired).filter(|d| is_server(&d.container.name));
    let read = servers.map(|detail| async move {
        let tree = files.tree(detail, manifests::DIRECTORY, sizes::MANIFESTS).await?;
        let own = tree.into_iter().filter(|(path, _)| manifests::name_of(path).is_some()).collect();
        Ok::<_, Error>((detail.container.id.clone(), own))
    });
    let read: Vec<_> = try_join_all(read).await?;
    observed.manifests.files = read.into_iter().collect();
    let asked = asked(&refs.manifests, observed);
    match child.there(&asked).await {
        Ok(found) => observed.manifests.objects = Some(found),
        Err(error) => observed.manifests.trouble = Some(error.to_string()),
    }
    Ok(())
}
