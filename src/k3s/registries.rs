//! K3s's `registries.yaml`: where nodes look for images, how they log in there and whom they trust.
//!
//! What the operator knows, what the spec lists and what the user's own file says are each a [`Registries`]; they are
//! merged, checked and written as one.

mod check;
mod endpoint;
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

/// The port that a registry listens on in its container.
pub const REGISTRY_PORT: u16 = 5000;

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// By registry as image names begin, or `*` for all that have no entry.
    pub mirrors: BTreeMap<String, Mirror>,
    /// By the host of an endpoint with its port, as in its URL.
    pub configs: BTreeMap<String, HostConfig>,
}

/// Where a registry's images are looked for before the registry itself is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// The URLs, in the order in which they are asked.
    pub endpoints: Vec<String>,
    /// Replacements by regular expressions on the image's name without registry and tag.
    pub rewrites: BTreeMap<String, String>,
}

/// How a host is talked to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// The login.
    pub auth: Option<Auth>,
    /// Whom to trust.
    pub tls: Option<Tls>,
}

/// A login. There are three ways to say it: name and password, both in one (`auth`), or a token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// The name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// `name:password` in base64.
    pub auth: Option<String>,
    /// A token to get access tokens with.
    pub identity_token: Option<String>,
}

impl std::fmt::Debug for Auth {
    /// Which of them there are, and nothing of what they say.
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

/// Whom to trust, and how to prove who the node is. Paths are those in the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificate authorities.
    pub ca_file: Option<String>,
    /// The node's certificate.
    pub cert_file: Option<String>,
    /// Its key.
    pub key_file: Option<String>,
    /// Trust anyone.
    pub insecure_skip_verify: Option<bool>,
}

impl Registries {
    /// Puts `over` on top. Nothing that only one of the two names is lost, and no key touches another. On one key each
    /// field of `over` wins where it is set: a list of endpoints or of rewrites as a whole, since half of either would
    /// be nobody's; fields of `tls` one by one; those of `auth` too, as far as [`Auth::merge`] lets them.
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

    /// All logins, by host. K3s copies them into containerd's configuration when it starts, so that nodes have to be
    /// restarted when these differ, and for nothing else in the file.
    pub fn auth(&self) -> BTreeMap<String, Auth> {
        self.configs
            .iter()
            .filter_map(|(host, config)| Some((host.clone(), config.auth.clone()?)))
            .filter(|(_, auth)| !auth.is_empty())
            .collect()
    }

    /// Moves the login for Docker Hub to where containerd looks for it: under the host that it talks to and not, as
    /// with TLS, under the registry's name, where K3s takes it without a word and nobody reads it
    /// (k3s-io/k3s#3937, k3d-io/k3d#1557).
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
    /// Puts `over` on top. Where it says anything, it decides by which of the three ways to log in, and what was there
    /// of the other two goes: containerd takes a name before a token and a token before `auth`, so that one left behind
    /// would beat the user's. Within name and password each wins by itself.
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
    /// The paths of all files that it names.
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

    /// k3d-io/k3d#1291: an entry of the user's emptied the endpoints that were there.
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
