//! Resolves a Registry's references: the Secrets with its users, its certificate and the client credentials.

use k8s_openapi::api::core::v1::Secret;

use super::{
    context::Context,
    kube_io::{self, Error},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    plan::{
        registry::config::{Login, Secrets, Tls, htpasswd_problem},
        steps::Problem,
        validate::ValidRegistry,
    },
};

/// Returns the contents of all Secrets. `None` if one is missing, which the plan reports. It may be applied shortly
/// after the Registry, so this is not an error yet.
pub async fn secrets(
    ctx: &Context,
    namespace: &str,
    valid: &ValidRegistry,
) -> Result<Result<Secrets, Vec<Problem>>, Error> {
    let mut reader = Reader { ctx, namespace, problems: Vec::new() };
    let mut secrets = Secrets::default();
    if let Some(name) = valid.proxy.as_ref().and_then(|p| p.credentials_secret.as_deref()) {
        secrets.upstream = reader.login(name, "for the registry that is cached").await?;
    }
    if let Some(auth) = &valid.auth {
        secrets.htpasswd = reader.htpasswd(&auth.htpasswd_secret).await?;
        if let Some(name) = &auth.client_secret {
            secrets.client = reader.login(name, "that clusters log in with").await?;
        }
    }
    if let Some(tls) = &valid.tls {
        secrets.tls = reader.tls(&tls.secret_name, tls.ca_secret_name.as_deref()).await?;
    }
    Ok(if reader.problems.is_empty() { Ok(secrets) } else { Err(reader.problems) })
}

struct Reader<'a> {
    ctx: &'a Context,
    namespace: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    async fn secret(&mut self, name: &str, what: &str) -> Result<Option<Secret>, Error> {
        let secret = kube_io::secret(&self.ctx.client, self.namespace, name).await?;
        if secret.is_none() {
            let message = format!("there is no Secret {name} in namespace {} with {what}", self.namespace);
            self.problem(Reason::SecretNotFound, message);
        }
        Ok(secret)
    }

    fn problem(&mut self, reason: Reason, message: String) {
        self.problems.push(Problem::waits(ConditionType::ResolvedRefs, reason, message));
    }

    fn invalid(&mut self, name: &str, what: &str) {
        self.problem(Reason::SecretInvalid, format!("the Secret {name} {what}"));
    }

    async fn login(&mut self, name: &str, what: &str) -> Result<Option<Login>, Error> {
        let Some(secret) = self.secret(name, &format!("the credentials {what}")).await? else {
            return Ok(None);
        };
        let text = |key| kube_io::data(&secret, key).and_then(|d| String::from_utf8(d.to_vec()).ok());
        let login = match (text("username"), text("password")) {
            (Some(username), Some(password)) if !username.is_empty() => Some(Login { username, password }),
            _ => None,
        };
        if login.is_none() {
            let write = "has no username and password: make it of type kubernetes.io/basic-auth, with `kubectl create \
                         secret generic --type=kubernetes.io/basic-auth`";
            self.invalid(name, write);
        }
        Ok(login)
    }

    async fn htpasswd(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(secret) = self.secret(name, "the users, in the key htpasswd").await? else {
            return Ok(None);
        };
        let Some(content) = kube_io::data(&secret, "htpasswd") else {
            self.invalid(
                name,
                "has no key htpasswd: put a line for each user there, as `htpasswd -Bbn NAME PASSWORD` prints it",
            );
            return Ok(None);
        };
        if let Some(problem) = htpasswd_problem(content) {
            self.invalid(name, &format!("has no list of users in its key htpasswd: {problem}"));
            return Ok(None);
        }
        Ok(Some(content.to_vec()))
    }

    async fn tls(&mut self, name: &str, ca_name: Option<&str>) -> Result<Option<Tls>, Error> {
        let secret = self.secret(name, "the registry's certificate").await?;
        let ca_secret = match ca_name {
            Some(ca_name) => {
                let Some(secret) = self.secret(ca_name, "the CA, in the key ca.crt").await? else {
                    return Ok(None);
                };
                Some(secret)
            }
            None => None,
        };
        let Some(secret) = secret else { return Ok(None) };
        let pair = (pem(&secret, "tls.crt", CERTIFICATE), pem(&secret, "tls.key", "PRIVATE KEY-----"));
        let (Some(certificate), Some(key)) = pair else {
            self.invalid(
                name,
                "has no certificate in tls.crt and no key in tls.key: make it with `kubectl create secret tls`",
            );
            return Ok(None);
        };
        let Some(ca) = ca(ca_secret.as_ref().unwrap_or(&secret), ca_secret.is_some()) else {
            self.invalid(ca_name.unwrap_or(name), "has no certificate in its key ca.crt, in PEM");
            return Ok(None);
        };
        Ok(Some(Tls { certificate, key, ca }))
    }
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Returns the CA that clients of a registry trust: `ca.crt` of a Secret, or else its certificate, unless the Secret is
/// a `separate` one for the CA.
pub fn ca(secret: &Secret, separate: bool) -> Option<Vec<u8>> {
    let own = || if separate { None } else { pem(secret, "tls.crt", CERTIFICATE) };
    pem(secret, "ca.crt", CERTIFICATE).or_else(own)
}

/// Returns the value of a key of a Secret if it contains this kind of PEM block.
fn pem(secret: &Secret, key: &str, kind: &str) -> Option<Vec<u8>> {
    let pem = kube_io::data(secret, key)?;
    pem.windows(kind.len()).any(|w| w == kind.as_bytes()).then(|| pem.to_vec())
}
