//! The admin kubeconfig: read as K3s wrote it, written as users get it.

use serde::{Deserialize, Serialize};

/// What K3s's kubeconfig holds, base64 as in the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The cluster's CA certificates.
    pub ca: String,
    /// The client certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct File {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(rename = "certificate-authority-data")]
    ca: String,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
struct User {
    #[serde(rename = "client-certificate-data")]
    certificate: String,
    #[serde(rename = "client-key-data")]
    key: String,
}

/// The credentials in K3s's file; `None` while it is not whole.
pub fn parse(text: &str) -> Option<Credentials> {
    let file: File = serde_saphyr::from_str(text).ok()?;
    let user = file.users.into_iter().next()?.user;
    let ca = file.clusters.into_iter().next()?.cluster.ca;
    Some(Credentials { ca, certificate: user.certificate, key: user.key })
}

/// A self-contained kubeconfig for `server`. The certificate is checked against the load balancer's name, so that
/// the file works with every address that leads there.
pub fn render(credentials: &Credentials, cluster: &str, server: &str, tls_server_name: &str) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Out<'a> {
        #[serde(rename = "apiVersion")]
        api_version: &'a str,
        kind: &'a str,
        clusters: [serde_json::Value; 1],
        contexts: [serde_json::Value; 1],
        current_context: &'a str,
        users: [serde_json::Value; 1],
    }
    let name = format!("k3d-{cluster}");
    let user = format!("admin@{name}");
    let out = Out {
        api_version: "v1",
        kind: "Config",
        clusters: [serde_json::json!({"name": name, "cluster": {
            "certificate-authority-data": credentials.ca, "server": server, "tls-server-name": tls_server_name}})],
        contexts: [serde_json::json!({"name": name, "context": {"cluster": name, "user": user}})],
        current_context: &name,
        users: [serde_json::json!({"name": user, "user": {
            "client-certificate-data": credentials.certificate, "client-key-data": credentials.key}})],
    };
    serde_saphyr::to_string(&out).expect("plain values always serialize")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_K3S: &str = "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
users:
- name: default
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
";

    #[test]
    fn what_k3s_wrote_comes_out_for_another_address() {
        let credentials = parse(FROM_K3S).unwrap();
        let text = render(&credentials, "dev", "https://127.0.0.1:20001", "k3d-dev-serverlb");
        assert_eq!(parse(&text).unwrap(), credentials);
        insta::assert_snapshot!(text);
        assert_eq!(format!("{credentials:?}"), "Credentials { .. }");
    }

    #[test]
    fn half_a_file_is_none() {
        assert!(parse(&FROM_K3S[..FROM_K3S.len() / 2]).is_none());
        assert!(parse("").is_none());
    }
}
