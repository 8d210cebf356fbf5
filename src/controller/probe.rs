//! Client for registry health checks. A trait, so that tests can replace the registries.

use std::{error::Error as StdError, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder, builderstates::WantsProtocols2};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use super::times;
use crate::{
    docker::tunnel::{Connector, Dial},
    k3s::registries::REGISTRY_PORT,
    plan::registry::config::Login,
};

/// rustls's name for a server certificate with the CA flag.
const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

/// Destination of a request.
#[derive(Clone)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// The registry in its own container, through the engine.
    Tunnel(Arc<dyn Dial>),
}

/// A request `GET /v2/` to a registry.
#[derive(Clone)]
pub struct Question<'a> {
    /// Destination.
    pub to: Target,
    /// Hostname for which the certificate must be valid.
    pub hostname: &'a str,
    /// Trusted CA as PEM; `None` for plain HTTP.
    pub ca: Option<&'a [u8]>,
    /// Credentials.
    pub login: Option<&'a Login>,
}

/// Reason for a missing response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No response, or none within the timeout.
    Silent(String),
    /// Untrusted certificate.
    Certificate(String),
}

/// Client for registry health checks.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Returns the status code of the response.
    async fn ask(&self, question: &Question<'_>) -> Result<u16, Trouble>;
}

/// Client for HTTP and HTTPS.
pub struct Http;

#[async_trait]
impl Probe for Http {
    async fn ask(&self, question: &Question<'_>) -> Result<u16, Trouble> {
        let tls = question.ca.map(|ca| tls(ca, question.hostname)).transpose()?;
        match (&question.to, tls) {
            (Target::Address(_), None) => get(HttpConnector::new(), "http", question).await,
            (Target::Address(_), Some(tls)) => {
                let mut http = HttpConnector::new();
                http.enforce_http(false);
                get(tls.wrap_connector(http), "https", question).await
            }
            (Target::Tunnel(dial), None) => get(Connector(dial.clone()), "http", question).await,
            (Target::Tunnel(dial), Some(tls)) => {
                get(tls.wrap_connector(Connector(dial.clone())), "https", question).await
            }
        }
    }
}

/// Returns the TLS of connections to a registry with a certificate of this CA.
fn tls(ca: &[u8], hostname: &str) -> Result<HttpsConnectorBuilder<WantsProtocols2>, Trouble> {
    let config = trusting(ca).map_err(Trouble::Certificate)?;
    let name = ServerName::try_from(hostname.to_owned())
        .map_err(|error| Trouble::Certificate(format!("{hostname}: {error}")))?;
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .with_server_name_resolver(FixedServerNameResolver::new(name))
        .enable_http1())
}

async fn get<C>(connector: C, scheme: &str, question: &Question<'_>) -> Result<u16, Trouble>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let host = match question.to {
        Target::Address(address) => address.to_string(),
        // The connector ignores it.
        Target::Tunnel(_) => question.hostname.to_owned(),
    };
    let mut request = axum::http::Request::get(format!("{scheme}://{host}/v2/"))
        .header("Host", format!("{}:{REGISTRY_PORT}", question.hostname));
    if let Some(Login { username, password }) = question.login {
        let basic = BASE64_STANDARD.encode(format!("{username}:{password}"));
        request = request.header("Authorization", format!("Basic {basic}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| Trouble::Silent(e.to_string()))?;
    // No pool: an open connection would respond even if the registry no longer accepts new ones.
    let client: Client<C, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    match tokio::time::timeout(times::REGISTRY_ANSWER, client.request(request)).await {
        Ok(Ok(answer)) => Ok(answer.status().as_u16()),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_) => Err(Trouble::Silent(format!("no answer within {} s", times::REGISTRY_ANSWER.as_secs()))),
    }
}

/// Returns the meaning of a failed request. The innermost cause has the most specific message.
fn trouble(error: &(dyn StdError + 'static)) -> Trouble {
    let mut cause = error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(error)) = cause.downcast_ref() {
            let words = error.to_string();
            return Trouble::Certificate(if words.contains(CA_AS_SERVER) {
                "it is a certificate of a CA, and not one that is trusted itself".into()
            } else {
                words
            });
        }
        // An io::Error does not return the error that it wraps as its source.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let deeper = match inner {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => cause.source(),
        };
        match deeper {
            Some(deeper) => cause = deeper,
            None => return Trouble::Silent(cause.to_string()),
        }
    }
}

/// Returns a TLS configuration that trusts only this CA.
fn trusting(ca: &[u8]) -> Result<ClientConfig, String> {
    let certificates: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(ca).collect();
    let certificates = certificates.map_err(|error| format!("the CA can't be read: {error}"))?;
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| format!("the CA can't be used: {error}"))?;
    }
    let by_ca = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .map_err(|error| format!("the CA can't be used: {error}"))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let verifier = Arc::new(Verifier { by_ca, certificates });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Trusts the same certificates as containerd: those that the CA has signed, and a trusted certificate itself, usually
/// one from `openssl req -x509` with the CA flag. rustls alone rejects the latter.
#[derive(Debug)]
struct Verifier {
    by_ca: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.by_ca.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // rustls checks the validity period before this error.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if format!("{other:?}").contains(CA_AS_SERVER)
                    && self.certificates.iter().any(|trusted| trusted == certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_ca.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_ca.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_ca.supported_verify_schemes()
    }
}
