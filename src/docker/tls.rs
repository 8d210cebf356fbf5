//! Connection to an engine over TCP. Both sides present certificates, since whoever may call an engine is root on its
//! host.
//!
//! Only the CA in `ca.pem` is trusted, as by the Docker CLI; bollard's own TLS client also trusts those of the system.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Timeout of a TCP connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Time without data after which a connection is probed: a stream of events may be silent for hours, and a machine that
/// loses power closes nothing.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Number of probes without a reply after which a connection is closed.
const PROBES: u32 = 4;

/// Returns a client of the engine at `HOST:PORT`, with the `ca.pem`, `cert.pem` and `key.pem` in this directory. Fails
/// with a message if they cannot be used. `seconds` is bollard's timeout.
pub fn connect(authority: &str, certificates: &Path, seconds: u64) -> Result<Docker, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    http.set_keepalive(Some(KEEPALIVE));
    http.set_keepalive_interval(Some(KEEPALIVE));
    http.set_keepalive_retries(Some(PROBES));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(config(certificates)?)
        .https_only()
        .enable_http1()
        .wrap_connector(http);
    // No pool: each call has its own connection, as over the socket.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https);
    let transport = move |request: BollardRequest| {
        let answer = client.request(request);
        Box::pin(async move { answer.await.map_err(bollard::errors::Error::from) }) as std::pin::Pin<Box<_>>
    };
    let url = format!("https://{authority}");
    Docker::connect_with_custom_transport(transport, Some(url), seconds, API_DEFAULT_VERSION)
        .map_err(|error| error.to_string())
}

fn config(certificates: &Path) -> Result<ClientConfig, String> {
    let read = |name: &str| -> Result<(PathBuf, Vec<u8>), String> {
        let path = certificates.join(name);
        let bytes = fs::read(&path).map_err(|e: io::Error| format!("{}: {e}", path.display()))?;
        Ok((path, bytes))
    };
    let (ca, cert, key) = (read("ca.pem")?, read("cert.pem")?, read("key.pem")?);
    let mut roots = RootCertStore::empty();
    for authority in chain(&ca)? {
        roots.add(authority).map_err(|e| invalid(&ca.0, &e))?;
    }
    let (path, bytes) = &key;
    let secret = PrivateKeyDer::from_pem_slice(bytes).map_err(|e| invalid(path, &e))?;
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(&cert)?, secret)
        .map_err(|e| invalid(&cert.0, &e))
}

/// Returns the certificates of a file.
fn chain((path, bytes): &(PathBuf, Vec<u8>)) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match all.map_err(|e| invalid(path, &e))? {
        none if none.is_empty() => Err(format!("{} contains no certificate in PEM format", path.display())),
        all => Ok(all),
    }
}

fn invalid(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{} cannot be used: {error}", path.display())
}
