//! Client of an engine: every call is limited in time and number, and measured.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error as Failure, models::ExecConfig};

use tokio::time::timeout;

use super::{
    engine::Result,
    error::Error,
    events::OwnExecs,
    fault,
    host::DockerHost,
    listing::Listing,
    share::{Limits, Shares},
    tls,
};
use crate::metrics::Metrics;

/// Maximum numbers of concurrent calls: bollard opens a connection for each. Calls to a container that hangs last until
/// their timeouts, and delay only those for the same object, and in numbers those for the same namespace.
const CALLS: Limits = Limits { object: 4, namespace: 8, all: 24 };

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

/// Client of an engine: the limits and metrics of its calls. Each call has its own connection.
pub(super) struct Client {
    host: DockerHost,
    /// Directory with the certificates of connections over TCP.
    certificates: PathBuf,
    pub(super) timeouts: Timeouts,
    calls: Shares,
    pub(super) metrics: Metrics,
    /// Commands that it ran in containers.
    pub(super) execs: Arc<OwnExecs>,
    /// Created on first use, since there is no client for a socket or a certificate that does not exist.
    docker: OnceLock<Docker>,
}

impl Client {
    /// Returns the client of the engine at this address.
    pub(super) fn connect(host: &str, certificates: Option<&Path>) -> Result<Self> {
        let host: DockerHost =
            host.parse().map_err(|e| Error::Invalid(format!("invalid Docker host {host:?}: {e}")))?;
        let certificates = match (&host, certificates) {
            (DockerHost::Tcp(_), None) => {
                return Err(Error::Invalid(format!(
                    "{host} needs the certificates of a client: set --docker-cert-path to a directory with ca.pem, \
                     cert.pem and key.pem"
                )));
            }
            (_, given) => given.unwrap_or(Path::new("")).to_owned(),
        };
        Ok(Self {
            host,
            certificates,
            timeouts: Timeouts::default(),
            calls: Shares::new(CALLS),
            metrics: Metrics::new(),
            execs: Arc::default(),
            docker: OnceLock::new(),
        })
    }

    /// Returns the client of bollard, for responses that take as long as they need.
    pub(super) fn docker(&self) -> Result<Docker> {
        if let Some(client) = self.docker.get() {
            return Ok(client.clone());
        }
        // The timeout of bollard only covers the headers of the response; the one here covers all of it.
        const NO_TIMEOUT: u64 = 365 * 24 * 3600;
        let client = match &self.host {
            DockerHost::Socket(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), NO_TIMEOUT, API_DEFAULT_VERSION)
                    .map_err(|failure| fault::error("connect", failure))?
            }
            DockerHost::Tcp(authority) => {
                tls::connect(authority, &self.certificates, NO_TIMEOUT).map_err(Error::Unavailable)?
            }
        };
        let client = client.with_request_modifier(url_safe_auth);
        Ok(self.docker.get_or_init(|| client).clone())
    }

    /// Prepares a command in a container, and returns its ID.
    pub(super) async fn create_exec(
        &self,
        docker: &Docker,
        container: &str,
        config: ExecConfig,
    ) -> std::result::Result<String, Failure> {
        let id = docker.create_exec(container, config).await?.id;
        self.execs.note(&id);
        Ok(id)
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
        let _turn = self.calls.acquire().await;
        self.measured(what, limit, call(client), failed).await
    }

    /// Executes a call that has its turn.
    async fn measured<T>(
        &self,
        what: &'static str,
        limit: Duration,
        call: impl Future<Output = std::result::Result<T, Failure>>,
        failed: impl FnOnce(&str, Failure) -> Error,
    ) -> Result<T> {
        let began = Instant::now();
        let answer = match timeout(limit, call).await {
            Ok(answer) => answer.map_err(|failure| failed(what, failure)),
            Err(_) => Err(Error::Timeout(format!("{} took longer than {limit:?}", fault::words(what)))),
        };
        self.metrics.docker_call(what, answer.as_ref().map_or_else(Error::name, |_| "ok"), began.elapsed());
        answer
    }

    /// Executes a call that lists all objects of a kind, or waits for one of another caller that begins from now on.
    /// Whoever waits has its turn already, so that it never waits for a namespace whose calls hang; the time that it waits
    /// is no part of its own call's.
    pub(super) async fn list<T: Clone, F>(
        &self,
        what: &'static str,
        listing: &Listing<T>,
        call: impl FnOnce(Docker) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Failure>>,
    {
        let client = self.docker()?;
        let _turn = self.calls.acquire().await;
        listing.ask(self.measured(what, self.timeouts.quick, call(client), fault::error)).await
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
