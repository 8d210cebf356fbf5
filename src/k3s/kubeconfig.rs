//! The admin kubeconfig: parsed as K3s writes it, and rendered for users.
//!
//! The file is read from a container that others can write to, so only the certificates and the key are used: the
//! parser of kube would also run the commands (`exec`) and open the files that a kubeconfig can reference.

use serde::{Deserialize, Serialize};

/// Credentials in the kubeconfig of K3s, in base64 as in the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// CA certificates of the cluster.
    pub ca: String,
    /// Client certificate.
    pub certificate: String,
    /// Key of the client certificate.
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    /// Formats the credentials without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Error of an incomplete kubeconfig.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The file is not a kubeconfig. K3s may be writing it at this moment.
    #[error("cannot parse the kubeconfig: {0}")]
    Unreadable(String),
    /// A required field is missing.
    #[error("the kubeconfig has no {0}")]
    Missing(&'static str),
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

/// Returns the API server of a file that was created by [`render`] or [`render_token`].
pub fn server(yaml: &str) -> Option<&str> {
    value(yaml, "server: ")
}

/// Returns the token of a file that was created by [`render_token`].
pub fn token(yaml: &str) -> Option<&str> {
    value(yaml, "token: ")
}

/// Returns the client certificate of a file that was created by [`render`].
pub fn certificate(yaml: &str) -> Option<&str> {
    value(yaml, "client-certificate-data: ")
}

fn value<'a>(yaml: &'a str, key: &str) -> Option<&'a str> {
    yaml.lines().find_map(|line| line.trim().strip_prefix(key))
}

/// Parses the credentials of the current context.
pub fn parse(yaml: &str) -> Result<Credentials, Error> {
    let file: File =
        serde_saphyr::from_str(yaml).map_err(|e| Error::Unreadable(first_line(&e.to_string())))?;
    let context = named(file.contexts, &file.current_context).ok_or(Error::Missing("current context"))?;
    let cluster = named(file.clusters, &context.cluster).ok_or(Error::Missing("cluster of its context"))?;
    let user = named(file.users, &context.user).ok_or(Error::Missing("user of its context"))?;
    Ok(Credentials {
        ca: cluster.certificate_authority_data.ok_or(Error::Missing("certificate-authority-data"))?,
        certificate: user.client_certificate_data.ok_or(Error::Missing("client-certificate-data"))?,
        key: user.client_key_data.ok_or(Error::Missing("client-key-data"))?,
    })
}

fn named<T>(list: Vec<Named<T>>, name: &str) -> Option<T> {
    list.into_iter().find(|entry| entry.name == name).map(|entry| entry.of)
}

/// Returns the message of a parser without the excerpt of the file that follows it, which may contain the key.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// Place of the API of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// CA certificates of the cluster, in base64.
    pub ca: &'a str,
    /// Name of the cluster on the Docker host.
    pub cluster: &'a str,
    /// URL.
    pub server: &'a str,
    /// Name of the load balancer, which the certificate is verified against, so that the file works with every address of
    /// it.
    pub tls_server_name: &'a str,
}

/// Renders a self-contained kubeconfig with the client certificate of the admin.
pub fn render(credentials: &Credentials, place: Place<'_>) -> String {
    render_as(&format!("k3d-{}", place.cluster), credentials, place)
}

/// Renders a self-contained kubeconfig with the client certificate of the admin, and this name of context and cluster.
pub fn render_as(name: &str, credentials: &Credentials, place: Place<'_>) -> String {
    let (certificate, key) = (&credentials.certificate, &credentials.key);
    let user = serde_json::json!({"client-certificate-data": certificate, "client-key-data": key});
    file(place, name, "admin", &user)
}

/// Renders a self-contained kubeconfig with a token.
pub fn render_token(token: &str, user: &str, place: Place<'_>) -> String {
    file(place, &format!("k3d-{}", place.cluster), user, &serde_json::json!({"token": token}))
}

fn file(place: Place<'_>, name: &str, user: &str, credentials: &serde_json::Value) -> String {
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
    let Place { ca, cluster: _, server, tls_server_name } = place;
    let user = format!("{user}@{name}");
    let out = Out {
        api_version: "v1",
        kind: "Config",
        clusters: [serde_json::json!({"name": name, "cluster": {
            "certificate-authority-data": ca, "server": server, "tls-server-name": tls_server_name}})],
        contexts: [serde_json::json!({"name": name, "context": {"cluster": name, "user": user}})],
        current_context: name,
        users: [serde_json::json!({"name": user, "user": credentials})],
    };
    // Each value is on the line of its key, as scripts expect; by default long values are folded.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&out, options).expect("plain values always serialize")
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

    const PLACE: Place<'_> = Place {
        ca: "Q0E=",
        cluster: "dev",
        server: "https://127.0.0.1:20001",
        tls_server_name: "k3d-dev-serverlb",
    };

    #[test]
    fn a_token_takes_the_place_of_the_certificate() {
        let token = format!("ey{}.-_.x", "J0".repeat(600));
        let text = render_token(&token, "view", PLACE);
        assert_eq!((super::token(&text), server(&text)), (Some(token.as_str()), Some(PLACE.server)));
        assert_eq!(certificate(&text), None);
        assert!(text.contains("user: view@k3d-dev\n") && !text.contains("client-"), "{text}");
        let told = parse(&text).err().unwrap().to_string();
        assert_eq!(told, "the kubeconfig has no client-certificate-data");
    }

    #[test]
    fn what_k3s_wrote_comes_out_for_another_address() {
        let credentials = parse(FROM_K3S).unwrap();
        let text = render(&credentials, PLACE);
        assert_eq!((token(&text), certificate(&text)), (None, Some("Q0VSVA==")));
        assert_eq!(parse(&text).unwrap(), credentials);
        assert_eq!(server(&text), Some("https://127.0.0.1:20001"));
        insta::assert_snapshot!(text);
        assert_eq!(format!("{credentials:?}"), "Credentials { .. }");
    }

    #[test]
    fn long_values_stay_on_the_lines_of_their_keys() {
        let key = "S0VZ".repeat(400);
        let credentials = Credentials { ca: "Q0E=".into(), certificate: "Q0VSVA==".into(), key };
        let text = render(&credentials, PLACE);
        assert!(text.contains(&format!("client-key-data: {}\n", credentials.key)), "{text}");
    }

    #[test]
    fn half_a_file_is_an_error() {
        for end in 0..FROM_K3S.len() - "client-key-data: S0VZ\n".len() {
            assert!(parse(&FROM_K3S[..end]).is_err(), "{}", &FROM_K3S[..end]);
        }
    }

    #[test]
    fn errors_show_nothing_of_the_file() {
        let told = parse("users: [secret-key-here").err().unwrap().to_string();
        assert!(!told.contains("secret") && told.lines().count() == 1, "{told}");
        assert!(told.contains("line 1"), "{told}");
    }
}
