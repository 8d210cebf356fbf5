//! Identity of a created cluster and the credentials of its admin.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::k3s::kubeconfig::{self, Credentials};

/// Error of an invalid kubeconfig.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The file is invalid.
    #[error(transparent)]
    File(#[from] kubeconfig::Error),
    /// The CA is invalid.
    #[error("invalid certificate-authority-data in the kubeconfig: must be PEM certificates in base64")]
    Authority,
}

/// Identity of a cluster and the credentials of its admin.
#[derive(Clone)]
pub struct Identity {
    /// CA certificates in DER that must have signed the certificate of the cluster.
    pub authority: Vec<Vec<u8>>,
    /// Certificate and key of the admin.
    pub admin: Credentials,
}

/// Parses the kubeconfig of K3s.
pub fn parse(yaml: &str) -> Result<Identity, Error> {
    let admin = kubeconfig::parse(yaml)?;
    Ok(Identity { authority: certificates(&admin.ca).ok_or(Error::Authority)?, admin })
}

/// Converts PEM certificates in base64 to DER; `None` if there is none or one is invalid.
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
