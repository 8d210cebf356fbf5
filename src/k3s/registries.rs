//! The registries file of K3s, `registries.yaml`: mirrors, credentials and TLS configuration.
//!
//! The entries that the operator generates, the lists of the spec and the user's own file are each a [`Registries`];
//! they are merged, checked and rendered into one file.

mod check;
mod endpoint;
mod host_images;
mod mirrored;
mod parse;
mod render;
mod rewrite;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

pub use check::{check, check_part};
pub(crate) use endpoint::{DOCKER_HUB, DOCKER_HUB_HOST, Endpoint};
pub use mirrored::{Mirrored, Scheme, of_registries, on_host, upstream_of};
pub use parse::{parse, parse_rendered};

pub use super::hosts_toml::neutral_hosts;

/// Port that a registry listens on in its container.
pub const REGISTRY_PORT: u16 = 5000;
/// Argument of servers with which nodes ask each other for images.
pub const EMBEDDED_REGISTRY: &str = "--embedded-registry";

/// Content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// Mirrors by registry as it appears in image names, or `*` for all registries without an entry.
    pub mirrors: BTreeMap<String, Mirror>,
    /// Configurations by the host of an endpoint with its port, as in its URL.
    pub configs: BTreeMap<String, HostConfig>,
}

/// Mirrors that are tried before a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// URLs of the mirrors in the order in which they are tried.
    pub endpoints: Vec<String>,
    /// Replacements by regular expressions on the name of the image without registry and tag.
    pub rewrites: BTreeMap<String, String>,
}

/// Credentials and TLS configuration of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// Credentials.
    pub auth: Option<Auth>,
    /// TLS configuration.
    pub tls: Option<Tls>,
}

/// Credentials in one of three forms: username and password, both in one value (`auth`), or a token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// Username.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// `name:password` in base64.
    pub auth: Option<String>,
    /// Token that is exchanged for access tokens.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for Auth {
    /// Formats the names of the fields that are set, without their values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = [
            ("username", &self.username),
            ("password", &self.password),
            ("auth", &self.auth),
            ("identity_token", &self.identity_token),
        ];
        f.debug_set().entries(fields.iter().filter(|(_, v)| v.is_some()).map(|(name, _)| name)).finish()
    }
}

/// Certificates to trust and to present, as paths in the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities to trust.
    pub ca_file: Option<String>,
    /// Client certificate of the node.
    pub cert_file: Option<String>,
    /// Key of the client certificate.
    pub key_file: Option<String>,
    /// Skips verification.
    pub insecure_skip_verify: Option<bool>,
}

impl Registries {
    /// Merges `over` into the file with precedence. Entries that only one of the two has are kept, and different keys
    /// do not affect each other. For the same key, each field that `over` sets takes precedence: lists of endpoints and
    /// of rewrites as a whole, since a mixture would match neither; fields of `tls` individually; those of `auth` too,
    /// within the limits of [`Auth::merge`].
    pub fn merge(&mut self, mut over: Registries) {
        self.name_docker_hub();
        over.name_docker_hub();
        for (name, mirror) in over.mirrors {
            let base = self.mirrors.entry(name).or_default();
            if !mirror.endpoints.is_empty() {
                base.endpoints = mirror.endpoints;
            }
            if !mirror.rewrites.is_empty() {
                base.rewrites = mirror.rewrites;
            }
        }
        for (host, config) in over.configs {
            let base = self.configs.entry(host).or_default();
            if let Some(auth) = config.auth {
                base.auth.get_or_insert_default().merge(auth);
            }
            if let Some(tls) = config.tls {
                base.tls.get_or_insert_default().merge(tls);
            }
        }
    }

    /// Returns all credentials by host. K3s copies them into the configuration of containerd when it starts, so nodes
    /// must be restarted when they change, and for nothing else in the file.
    pub fn auth(&self) -> BTreeMap<String, Auth> {
        self.configs
            .iter()
            .filter_map(|(host, config)| Some((host.clone(), config.auth.clone()?)))
            .filter(|(_, auth)| !auth.is_empty())
            .collect()
    }

    /// Moves the credentials for Docker Hub to the key that containerd looks up: the host that it connects to and not,
    /// as with TLS, the name of the registry, where K3s silently accepts them without effect (k3s-io/k3s#3937,
    /// k3d-io/k3d#1557).
    fn name_docker_hub(&mut self) {
        let Some(hub) = self.configs.get_mut(DOCKER_HUB) else { return };
        let Some(auth) = hub.auth.take() else { return };
        if *hub == HostConfig::default() {
            self.configs.remove(DOCKER_HUB);
        }
        self.configs.entry(DOCKER_HUB_HOST.into()).or_default().auth.get_or_insert(auth);
    }
}

impl Auth {
    /// Merges `over` into the credentials with precedence. If it sets any field, it determines which of the three forms
    /// is used, and the other two are removed: containerd prefers a username to a token and a token to `auth`, so a
    /// remaining one would override the user's. Username and password take precedence individually.
    fn merge(&mut self, over: Auth) {
        if over.is_empty() {
            return;
        }
        let named = over.username.is_some() || over.password.is_some();
        let below = std::mem::take(self);
        let (username, password) = if named { (below.username, below.password) } else { (None, None) };
        *self = Auth {
            username: over.username.or(username),
            password: over.password.or(password),
            auth: over.auth,
            identity_token: over.identity_token,
        };
    }

    fn is_empty(&self) -> bool {
        *self == Auth::default()
    }
}

impl Tls {
    /// Returns the paths of all referenced files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten().map(String::as_str)
    }

    fn merge(&mut self, over: Tls) {
        let below = std::mem::take(self);
        *self = Tls {
            ca_file: over.ca_file.or(below.ca_file),
            cert_file: over.cert_file.or(below.cert_file),
            key_file: over.key_file.or(below.key_file),
            insecure_skip_verify: over.insecure_skip_verify.or(below.insecure_skip_verify),
        };
    }
}

/// The paths that the registries file names, so that a change there needs no restart.
pub fn named(merged: &Registries) -> BTreeSet<&str> {
    let tls = merged.configs.values().filter_map(|c| c.tls.as_ref());
    tls.flat_map(Tls::files).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Registries {
        parse(text, &|_| true).unwrap()
    }

    fn merged(base: &str, over: &str) -> String {
        let mut base = read(base);
        base.merge(read(over));
        base.render()
    }

    #[test]
    fn the_users_fields_win_one_by_one() {
        let base = r#"
            mirrors:
              docker.io: {endpoint: ["http://cache:5000"]}
              quay.io: {endpoint: ["http://quay:5000"], rewrite: {"^a": "b"}}
            configs:
              reg:5000: {auth: {username: operator, password: generated}, tls: {ca_file: /ca, insecure_skip_verify: true}}
        "#;
        let over = r#"
            mirrors:
              docker.io: {rewrite: {"^library/(.*)": "hub/$1"}}
              quay.io: {endpoint: ["https://other"]}
            configs:
              reg:5000: {auth: {password: mine}, tls: {insecure_skip_verify: false}}
        "#;
        insta::assert_snapshot!(merged(base, over), @r#"
        # Written by localcluster-operator.
        mirrors:
          "docker.io":
            endpoint:
              - "http://cache:5000"
            rewrite:
              "^library/(.*)": "hub/$1"
          "quay.io":
            endpoint:
              - "https://other"
            rewrite:
              "^a": "b"
        configs:
          "reg:5000":
            auth:
              username: "operator"
              password: "mine"
            tls:
              ca_file: "/ca"
              insecure_skip_verify: false
        "#);
    }

    #[test]
    fn the_files_that_it_names_are_those_of_all_hosts() {
        let all = read("configs: {r: {tls: {ca_file: /ca}}, s: {tls: {cert_file: /c, key_file: /k}}, t: {}}");
        assert_eq!(named(&all), ["/c", "/ca", "/k"].into());
    }

    #[test]
    fn one_way_to_log_in_does_not_mix_with_another() {
        let with = |auth: &str| format!("configs: {{r: {{auth: {auth}}}}}");
        let merged = |base: &str, over: &str| {
            let mut base = read(&with(base));
            base.merge(read(&with(over)));
            base.auth().remove("r").unwrap()
        };
        let token = Auth { identity_token: Some("t".into()), ..Default::default() };
        let named = Auth { username: Some("u".into()), password: Some("p".into()), ..Default::default() };
        assert!(merged("{username: u, password: p}", "{identity_token: t}") == token);
        assert!(merged("{identity_token: t}", "{username: u, password: p}") == named);
        assert!(merged("{auth: dTpw}", "{username: u, password: p}") == named);
        assert!(merged("{username: u, password: other}", "{password: p}") == named);
        assert!(merged("{username: u, password: p}", "{}") == named);
    }

    /// k3d-io/k3d#1291: an entry of the user emptied the existing endpoints.
    #[test]
    fn k3d_9_no_endpoint_list_is_emptied() {
        let mut base = of_registries(&[Mirrored {
            hostname: "cache".into(),
            port: 5000,
            host: None,
            scheme: Scheme::Http,
            upstream: Some("docker.io".into()),
        }]);
        base.merge(read("mirrors: {docker.io: {}, quay.io: }"));
        assert_eq!(base.mirrors["docker.io"].endpoints, ["http://cache:5000"]);
        assert!(!base.render().contains("[]"), "{}", base.render());
    }

    #[test]
    fn docker_hubs_login_goes_where_containerd_looks_for_it() {
        let hub = read("configs: {docker.io: {auth: {username: u, password: p}, tls: {ca_file: /ca}}}");
        assert_eq!(hub.auth().into_keys().collect::<Vec<_>>(), ["registry-1.docker.io"]);
        assert!(hub.configs["docker.io"].tls.is_some());
        let both = read(
            "configs: {docker.io: {auth: {username: no, password: p}}, \
             registry-1.docker.io: {auth: {username: yes, password: p}}}",
        );
        assert_eq!(both.auth()["registry-1.docker.io"].username.as_deref(), Some("yes"));
        assert!(!both.configs.contains_key("docker.io"));
    }

    #[test]
    fn debug_tells_no_secret() {
        let all =
            read("configs: {r: {auth: {username: alice, password: hunter2, auth: YWxpY2U6aHVudGVyMg==}}}");
        assert_eq!(format!("{:?}", all.auth()["r"]), r#"{"username", "password", "auth"}"#);
        let token = read("configs: {r: {auth: {identity_token: hunter2}}}");
        assert!(!format!("{token:?}").contains("hunter2"));
    }
}
