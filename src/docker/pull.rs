//! Progress of a pull.

use std::{pin::pin, time::Duration};

use bollard::{Docker, query_parameters::CreateImageOptionsBuilder};
use futures::StreamExt;
use tokio::time::timeout;

use super::{
    convert,
    engine::{RegistryAuth, Result},
    error::Error,
    fault,
};

/// Pulls an image until it completes. Fails if there is no progress for `limit`.
pub async fn follow(
    docker: &Docker,
    reference: &str,
    auth: Option<&RegistryAuth>,
    limit: Duration,
) -> Result<()> {
    let mut options = CreateImageOptionsBuilder::default().from_image(reference);
    if let Some(tag) = convert::missing_tag(reference) {
        options = options.tag(tag);
    }
    let mut records = pin!(docker.create_image(Some(options.build()), None, auth.map(convert::credentials)));
    loop {
        match timeout(limit, records.next()).await {
            Ok(Some(Ok(_))) => {}
            Ok(None) => return Ok(()),
            Ok(Some(Err(failure))) => {
                let secrets = auth
                    .map(|auth| [auth.password.as_str(), auth.identity_token.as_deref().unwrap_or_default()]);
                let failure = fault::without(failure, secrets.into_iter().flatten());
                return Err(fault::pull_error("pull", failure));
            }
            Err(_) => {
                return Err(Error::Timeout(format!("pulling {reference} made no progress for {limit:?}")));
            }
        }
    }
}
