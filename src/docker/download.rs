//! Reading of files in containers.

use std::collections::BTreeMap;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures::TryStreamExt;

use super::{archive, client::Client, engine::Result, error::Error, fault};

/// Size that an archive of files within their limit may have in addition, for the headers of files and directories.
const HEADERS: usize = 256 << 10;

/// Reads a regular file of at most `limit` bytes; `None` if it does not exist.
pub(super) async fn file(
    client: &Client,
    container: &str,
    path: &str,
    limit: usize,
) -> Result<Option<Vec<u8>>> {
    let bytes = download(client, container, path, limit).await?;
    match archive::single(&bytes) {
        Ok(Some(content)) if content.len() > limit => Err(too_large(path, limit)),
        Ok(content) => Ok(content),
        Err(error) => Err(Error::Engine(format!("cannot read {path}: {error}"))),
    }
}

/// Reads the regular files below a directory, of at most `limit` bytes together, by absolute path.
pub(super) async fn tree(
    client: &Client,
    container: &str,
    path: &str,
    limit: usize,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let bytes = download(client, container, path, limit).await?;
    archive::tree(&bytes, path).map_err(|error| Error::Engine(format!("cannot read {path}: {error}")))
}

/// Returns an archive of a path in a container with files of at most `limit` bytes; empty if the path does not exist.
async fn download(client: &Client, container: &str, path: &str, limit: usize) -> Result<Vec<u8>> {
    let most = limit.saturating_add(HEADERS);
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let quick = client.timeouts.quick;
    let read = client.call_into(container, "read_file", quick, |docker| async move {
        let mut chunks = docker.download_from_container(container, Some(options));
        let mut bytes = Vec::new();
        while let Some(chunk) = fault::found(chunks.try_next().await)?.flatten() {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > most {
                break;
            }
        }
        Ok(bytes)
    });
    let bytes = read.await?;
    if bytes.len() > most { Err(too_large(path, limit)) } else { Ok(bytes) }
}

fn too_large(path: &str, limit: usize) -> Error {
    Error::Invalid(format!("{path} is larger than {} KiB, of which the operator reads no more", limit >> 10))
}
