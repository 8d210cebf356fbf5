//! Who a created cluster is, and how to prove to be its admin.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::k3s::kubeconfig::{self, Credentials};

/// A kubeconfig without what is needed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The file is not as it should be.
    #[error(transparent)]
    File(#[from] kubeconfig::Error),
    /// The CA is not what it should be.
    #[error("the kubeconfig's certificate-authority-data is not base64 of PEM certificates")]
    Authority,
}

/// Who the cluster is and how to prove to be its admin.
#[derive(Clone)]
pub struct Identity {
    /// The certificates in DER that the cluster's own certificate must be signed by.
    pub authority: Vec<Vec<u8>>,
    /// The admin's certificate and key.
    pub admin: Credentials,
}

/// Reads it from K3s's kubeconfig.
pub fn parse(yaml: &str) -> Result<Identity, Error> {
    let admin = kubeconfig::parse(yaml)?;
    Ok(Identity { authority: certificates(&admin.ca).ok_or(Error::Authority)?, admin })
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
        assert_eq!((identity.admin.certificate.as_str(), identity.admin.key.as_str()), ("Y2VydA==", "a2V5"));
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
}
