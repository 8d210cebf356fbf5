//! What is taken from the kubeconfig that K3s wrote.
//!
//! The file comes out of a container that others can write to, so nothing but the certificates and the key is taken:
//! kube's own reader would also run the commands (`exec`) and open the files that a kubeconfig can name.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

/// A kubeconfig without what is needed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Not a kubeconfig at all. K3s may be writing it right now.
    #[error("the kubeconfig can't be read: {0}")]
    Unreadable(String),
    /// A part is missing.
    #[error("the kubeconfig has no {0}")]
    Missing(&'static str),
    /// The CA is not what it should be.
    #[error("the kubeconfig's certificate-authority-data is not base64 of PEM certificates")]
    Authority,
}

/// Who the cluster is and how to prove to be its admin.
#[derive(Clone)]
pub struct Identity {
    /// The certificates in DER that the cluster's own certificate must be signed by.
    pub authority: Vec<Vec<u8>>,
    /// The admin's certificate: base64 of PEM, as in the file.
    pub certificate: String,
    /// The admin's key: base64 of PEM, as in the file.
    pub key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    current_context: String,
    contexts: Vec<Named<Context>>,
    clusters: Vec<Named<Cluster>>,
    users: Vec<Named<User>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    of: T,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Reads the current context's identity.
pub fn parse(yaml: &str) -> Result<Identity, Error> {
    let file: File =
        serde_saphyr::from_str(yaml).map_err(|e| Error::Unreadable(first_line(&e.to_string())))?;
    let context = named(file.contexts, &file.current_context).ok_or(Error::Missing("current context"))?;
    let cluster = named(file.clusters, &context.cluster).ok_or(Error::Missing("cluster of its context"))?;
    let user = named(file.users, &context.user).ok_or(Error::Missing("user of its context"))?;
    let authority = cluster.certificate_authority_data.ok_or(Error::Missing("certificate-authority-data"))?;
    Ok(Identity {
        authority: certificates(&authority).ok_or(Error::Authority)?,
        certificate: user.client_certificate_data.ok_or(Error::Missing("client-certificate-data"))?,
        key: user.client_key_data.ok_or(Error::Missing("client-key-data"))?,
    })
}

fn named<T>(list: Vec<Named<T>>, name: &str) -> Option<T> {
    list.into_iter().find(|entry| entry.name == name).map(|entry| entry.of)
}

/// The certificates in base64 of PEM, as DER; `None` when there is none or one is broken.
fn certificates(data: &str) -> Option<Vec<Vec<u8>>> {
    let pem = String::from_utf8(BASE64_STANDARD.decode(data.trim()).ok()?).ok()?;
    let ders: Option<Vec<_>> = pem
        .split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .map(|block| {
            let (body, _) = block.split_once("-----END CERTIFICATE-----")?;
            let body: String = body.split_whitespace().collect();
            BASE64_STANDARD.decode(body).ok()
        })
        .collect();
    ders.filter(|ders| !ders.is_empty())
}

/// A parser's message without the excerpt of the file that follows it: the excerpt may hold the key.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(authority: &str) -> String {
        let authority = BASE64_STANDARD.encode(authority);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: default\npreferences: {{}}\n\
             clusters:\n- cluster:\n    certificate-authority-data: {authority}\n    server: https://127.0.0.1:6443\n  name: default\n\
             contexts:\n- context:\n    cluster: default\n    user: default\n  name: default\n\
             users:\n- name: other\n  user: {{}}\n- name: default\n  user:\n    client-certificate-data: Y2VydA==\n    client-key-data: a2V5\n"
        )
    }

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";

    #[test]
    fn what_k3s_writes() {
        let identity = parse(&file(&PEM.repeat(2))).unwrap();
        assert_eq!(identity.authority, [[1, 2, 3], [1, 2, 3]]);
        assert_eq!((identity.certificate.as_str(), identity.key.as_str()), ("Y2VydA==", "a2V5"));
    }

    #[test]
    fn half_a_file_is_an_error() {
        let whole = file(PEM);
        for end in 0..whole.len() - "client-key-data: a2V5\n".len() {
            assert!(parse(&whole[..end]).is_err(), "{}", &whole[..end]);
        }
    }

    #[test]
    fn an_authority_without_certificates_is_refused() {
        for bad in [
            "no PEM",
            "-----BEGIN CERTIFICATE-----\nAQID\n",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
        ] {
            assert_eq!(parse(&file(bad)).err(), Some(Error::Authority), "{bad:?}");
        }
    }

    #[test]
    fn errors_show_nothing_of_the_file() {
        let told = parse("users: [secret-key-here").err().unwrap().to_string();
        assert!(!told.contains("secret") && told.lines().count() == 1, "{told}");
    }
}
