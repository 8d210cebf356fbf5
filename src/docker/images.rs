//! Images of an engine, and the access to them in their registries.

use std::time::Duration;

use bollard::{Docker, models::ImageInspect};
use tokio::time::timeout;

use super::{
    bollard::BollardEngine,
    convert,
    engine::{ImageNames, RegistryAuth, Result},
    error::Error,
    fault,
};

impl BollardEngine {
    /// Returns the entry point of an image; `None` if it has none.
    pub(super) async fn entrypoint(&self, image: &str) -> Result<Option<Vec<String>>> {
        let call = |docker: Docker| async move { docker.inspect_image(image).await };
        let found = self.client.call("inspect_image", call).await?;
        Ok(found.config.and_then(|config| config.entrypoint).filter(|entrypoint| !entrypoint.is_empty()))
    }

    /// Returns an image; `None` if it does not exist.
    pub(super) async fn found_image(&self, reference: &str) -> Result<Option<ImageInspect>> {
        let call = |docker: Docker| async move { fault::found(docker.inspect_image(reference).await) };
        self.client.call("inspect_image", call).await
    }
}

/// Returns the names of an image.
pub(super) fn names(image: ImageInspect) -> ImageNames {
    ImageNames {
        id: image.id.unwrap_or_default(),
        tags: image.repo_tags.unwrap_or_default(),
        digests: image.repo_digests.unwrap_or_default(),
    }
}

/// Checks that the engine can read the manifest of an image in its registry. It is not one of the limited calls of the
/// client: a registry that does not respond would hold up those of other objects.
pub(super) async fn check_access(
    docker: &Docker,
    reference: &str,
    auth: Option<&RegistryAuth>,
    limit: Duration,
) -> Result<()> {
    let asked = docker.inspect_registry_image(reference, auth.map(convert::credentials));
    match timeout(limit, asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(failure)) => {
            let secrets =
                auth.map(|auth| [auth.password.as_str(), auth.identity_token.as_deref().unwrap_or_default()]);
            let failure = fault::without(failure, secrets.into_iter().flatten());
            Err(fault::pull_error("inspect_registry_image", failure))
        }
        Err(_) => Err(Error::Timeout(format!("the registry of {reference} took longer than {limit:?}"))),
    }
}
