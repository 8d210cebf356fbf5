//! Asks a registry whether it answers: a seam, so that tests can stand in for the registries.

use std::{error::Error as StdError, net::Ipv4Addr, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
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
use crate::{k3s::registries::REGISTRY_PORT, plan::registry::config::Login};

/// rustls's name for a server's certificate that says of itself to be a CA's.
const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

/// A question to a registry: what it answers to `GET /v2/`.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its name, for which its certificate has to be valid.
    pub hostname: &'a str,
    /// The CA by which it is trusted, as PEM; `None` for plain HTTP.
    pub ca: Option<&'a [u8]>,
    /// What to log in with.
    pub login: Option<&'a Login>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It does not answer, or not in time.
    Silent(String),
    /// Its certificate is not to be trusted.
    Certificate(String),
}

/// Something that asks.
#[async_trait]
pub trait Probe: Send + Sync {
    /// The status code of the answer, or why there is none.
    async fn ask(&self, question: &Question<'_>) -> Result<u16, Trouble>;
}

/// By HTTP and HTTPS.
pub struct Http;

#[async_trait]
impl Probe for Http {
    async fn ask(&self, question: &Question<'_>) -> Result<u16, Trouble> {
        let mut http = HttpConnector::new();
        let Some(ca) = question.ca else { return get(http, "http", question).await };
        let config = trusting(ca).map_err(Trouble::Certificate)?;
        let name = ServerName::try_from(question.hostname.to_owned())
            .map_err(|error| Trouble::Certificate(format!("{}: {error}", question.hostname)))?;
        http.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .with_server_name_resolver(FixedServerNameResolver::new(name))
            .enable_http1()
            .wrap_connector(http);
        get(https, "https", question).await
    }
}

async fn get<C>(connector: C, scheme: &str, question: &Question<'_>) -> Result<u16, Trouble>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let mut request = axum::http::Request::get(format!("{scheme}://{}:{REGISTRY_PORT}/v2/", question.ip))
        .header("Host", format!("{}:{REGISTRY_PORT}", question.hostname));
    if let Some(Login { username, password }) = question.login {
        let basic = BASE64_STANDARD.encode(format!("{username}:{password}"));
        request = request.header("Authorization", format!("Basic {basic}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| Trouble::Silent(e.to_string()))?;
    // No pool: a kept connection would say that a registry answers which no longer accepts new ones.
    let client: Client<C, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    match tokio::time::timeout(times::REGISTRY_ANSWER, client.request(request)).await {
        Ok(Ok(answer)) => Ok(answer.status().as_u16()),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_) => Err(Trouble::Silent(format!("no answer within {} s", times::REGISTRY_ANSWER.as_secs()))),
    }
}

/// What a failed request means. The words of the innermost cause are the ones that tell something.
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
        // An io::Error that wraps another one does not tell of it as its source.
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

/// A client that trusts this CA and nobody else.
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

/// Trusts what containerd trusts: what the CA has signed, and a certificate that is trusted itself, which mostly is
/// one that `openssl req -x509` made and that says of itself to be a CA. rustls alone refuses that.
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
            // Its time of validity was looked at before that was found.
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
