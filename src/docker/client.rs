//! Client of an engine: every call is limited in time and number, and measured.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error as Failure};
use tokio::{sync::Semaphore, time::timeout};

use super::{engine::Result, error::Error, fault};
use crate::metrics::Metrics;

/// Maximum number of concurrent calls: bollard opens a connection for each.
const CALLS: usize = 8;

/// Timeouts of calls.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Calls without a timeout of their own, including the body.
    pub quick: Duration,
    /// Start of a container, which on an overloaded host, as when many clusters start at once, takes more than 30
    /// seconds.
    pub start: Duration,
    /// Stop of a container, in addition to its grace period.
    pub stop: Duration,
    /// Time between two progress records of a pull.
    pub pull: Duration,
    /// Command in a container.
    pub command: Duration,
    /// Time without output of a command that has read all of an image.
    pub unpack: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            quick: Duration::from_secs(30),
            start: Duration::from_secs(120),
            stop: Duration::from_secs(10),
            pull: Duration::from_secs(120),
            command: Duration::from_secs(60),
            unpack: Duration::from_secs(600),
        }
    }
}

/// Client of an engine at a Unix socket: the limits and metrics of its calls. Each call has its own connection.
pub(super) struct Client {
    socket: String,
    pub(super) timeouts: Timeouts,
    calls: Arc<Semaphore>,
    pub(super) metrics: Metrics,
    /// Created on first use, since bollard creates no client for a socket that does not exist.
    docker: OnceLock<Docker>,
}

impl Client {
    /// Returns the engine at `unix:///path`.
    pub(super) fn connect(host: &str) -> Result<Self> {
        match host.strip_prefix("unix://") {
            Some(socket) if socket.starts_with('/') => Ok(Self {
                socket: socket.to_owned(),
                timeouts: Timeouts::default(),
                calls: Arc::new(Semaphore::new(CALLS)),
                metrics: Metrics::new(),
                docker: OnceLock::new(),
            }),
            _ => Err(Error::Invalid(format!("invalid Docker host {host:?}: must be unix:///path"))),
        }
    }

    /// Returns the client of bollard, for responses that take as long as they need.
    pub(super) fn docker(&self) -> Result<Docker> {
        if let Some(client) = self.docker.get() {
            return Ok(client.clone());
        }
        // The timeout of bollard only covers the headers of the response; the one here covers all of it.
        const NO_TIMEOUT: u64 = 365 * 24 * 3600;
        let client = Docker::connect_with_unix(&self.socket, NO_TIMEOUT, API_DEFAULT_VERSION)
            .map_err(|failure| fault::error("connect", failure))?
            .with_request_modifier(url_safe_auth);
        Ok(self.docker.get_or_init(|| client).clone())
    }

    /// Executes a call within its timeout and the limit of concurrent calls. `failed` converts its error.
    pub(super) async fn call_or<T, F>(
        &self,
        what: &'static str,
        limit: Duration,
        call: impl FnOnce(Docker) -> F,
        failed: impl FnOnce(&str, Failure) -> Error,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Failure>>,
    {
        let client = self.docker()?;
        let _turn = self.calls.acquire().await.map_err(|_| Error::Unavailable("shutting down".into()))?;
        let began = Instant::now();
        let answer = match timeout(limit, call(client)).await {
            Ok(answer) => answer.map_err(|failure| failed(what, failure)),
            Err(_) => Err(Error::Timeout(format!("{} took longer than {limit:?}", fault::words(what)))),
        };
        self.metrics.docker_call(what, answer.as_ref().map_or_else(Error::name, |_| "ok"), began.elapsed());
        answer
    }

    /// Executes a call within the timeout of calls without one of their own.
    pub(super) async fn call<T, F>(&self, what: &'static str, call: impl FnOnce(Docker) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Failure>>,
    {
        self.call_or(what, self.timeouts.quick, call, fault::error).await
    }
}

/// Re-encodes credentials, for which bollard uses plain Base64 where the engine expects the URL-safe alphabet
/// (bollard#169, moby#33434). The engine treats invalid encodings as no credentials, so some passwords would not be
/// sent.
fn url_safe_auth(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("X-Registry-Auth") {
        let text = value.to_str().unwrap_or_default().replace('+', "-").replace('/', "_");
        if let Ok(safe) = text.parse() {
            *value = safe;
            value.set_sensitive(true);
        }
    }
    request
}
