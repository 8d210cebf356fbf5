//! Asks an HTTP server whether it answers: a seam, so that tests can stand in for the registries.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Something that asks.
#[async_trait]
pub trait Probe: Send + Sync {
    /// The status code of a GET request, or why there is none.
    async fn get(&self, url: &str) -> Result<u16, String>;
}

/// By HTTP.
pub struct Http;

#[async_trait]
impl Probe for Http {
    async fn get(&self, url: &str) -> Result<u16, String> {
        get(url).await
    }
}

async fn get(url: &str) -> Result<u16, String> {
    let url = url.parse().map_err(|e| format!("{url}: {e}"))?;
    // No pool: a kept connection would say that a registry answers which no longer accepts new ones.
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    match tokio::time::timeout(LIMIT, client.get(url)).await {
        Ok(Ok(answer)) => Ok(answer.status().as_u16()),
        Ok(Err(error)) => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            Err(cause.to_string())
        }
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}
