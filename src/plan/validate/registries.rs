//! Parsing of the registries of a LocalCluster and of the files for its nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, ValidRegistry, is, pattern, text};
use crate::{
    api::{
        LocalClusterSpec,
        local_cluster::{FileEntry, KeyRef, NodeSet, RegistryConfig, TextSource},
        names, rules,
    },
    k3s::registries::{Auth, HostConfig, Mirror, Registries, Tls, check_part},
};

/// Registries that the nodes pull from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidRegistries {
    /// Registry objects in use, in order, with the Registry of the cluster itself at the end.
    pub used: Vec<RegistryKey>,
    /// Registry of the cluster itself: its name and its parsed spec.
    pub own: Option<(RegistryKey, Box<ValidRegistry>)>,
    /// Unmanaged containers.
    pub containers: Vec<ValidContainer>,
    /// Mirrors and TLS settings of the spec. Credentials and files are in [`ValidRegistries::hosts`].
    pub typed: Registries,
    /// Hosts with settings in other objects.
    pub hosts: Vec<ValidHost>,
    /// Registries file of the user.
    pub config: Option<Text>,
    /// True if nodes fall back to the registry itself after its mirrors.
    pub default_endpoint: bool,
}

/// A Registry object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryKey {
    /// Namespace of the Registry.
    pub namespace: String,
    /// Name of the Registry.
    pub name: String,
}

/// A registry in an unmanaged container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidContainer {
    /// Name of the container.
    pub name: String,
    /// Port that it listens on.
    pub port: u16,
    /// Host port that forwards to it.
    pub host_port: Option<u16>,
}

/// References of the settings of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidHost {
    /// Host with its port.
    pub host: String,
    /// Secret with credentials.
    pub auth: Option<String>,
    /// CA certificates.
    pub ca: Option<Text>,
    /// Secret with the client certificate of nodes.
    pub client: Option<String>,
}

/// Source of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// In the spec.
    Inline(String),
    /// In a Secret.
    Secret(KeyRef),
    /// In a ConfigMap.
    ConfigMap(KeyRef),
}

/// A file for nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidFile {
    /// Path of the file.
    pub path: String,
    /// Content of the file.
    pub content: Text,
    /// Nodes that receive it.
    pub nodes: NodeSet,
}

impl ValidFile {
    /// Returns the mode of the file.
    pub fn mode(&self) -> u32 {
        if matches!(self.content, Text::Secret(_)) { 0o600 } else { 0o644 }
    }
}

/// Directory of the certificates of typed hosts, with a subdirectory for each host.
pub const CERTIFICATES: &str = "/etc/rancher/k3s/registries.d";

/// Returns the path of a certificate file of a host: `ca.crt`, `client.crt` or `client.key`.
pub fn certificate(host: &str, kind: &str) -> String {
    let dir = if host == "*" { "_default" } else { host };
    format!("{CERTIFICATES}/{dir}/{kind}")
}

impl Checker {
    pub(super) fn registries(
        &mut self,
        namespace: &str,
        cluster: &str,
        spec: &LocalClusterSpec,
    ) -> ValidRegistries {
        let registries = &spec.registries;
        let mut used: Vec<RegistryKey> = Vec::new();
        for (i, r) in registries.used.iter().enumerate() {
            let path = format!("spec.registries.use[{i}]");
            self.shape(&format!("{path}.name"), &r.name, pattern::DNS, 253, text::OBJECT_NAME);
            if !r.namespace.is_empty() {
                self.shape(&format!("{path}.namespace"), &r.namespace, pattern::LABEL, 63, text::NAMESPACE);
            }
            let at = if r.namespace.is_empty() { namespace } else { &r.namespace };
            let key = RegistryKey { namespace: at.to_owned(), name: r.name.clone() };
            self.check(!used.contains(&key), "spec.registries.use", text::TWICE);
            used.push(key);
        }
        let own = registries.create.as_ref().and_then(|create| {
            let key = RegistryKey { namespace: namespace.to_owned(), name: names::own_registry(cluster) };
            match super::registry(namespace, &key.name, create) {
                Ok(valid) => Some((key, Box::new(valid))),
                Err(problems) => {
                    let under = |p: String| match p.strip_prefix("spec.") {
                        Some(rest) => format!("spec.registries.create.{rest}"),
                        None => p,
                    };
                    self.problems.extend(problems.into_iter().map(under));
                    None
                }
            }
        });
        if let Some((key, _)) = &own
            && !used.contains(key)
        {
            used.push(key.clone());
        }
        let containers: Vec<ValidContainer> = registries
            .containers
            .iter()
            .enumerate()
            .map(|(i, c)| {
                let path = format!("spec.registries.containers[{i}]");
                let sound = c.name != "localhost";
                self.check(sound, format_args!("{path}.name"), text::HOSTNAME);
                self.shape(&format!("{path}.name"), &c.name, pattern::DNS, 63, text::HOSTNAME);
                ValidContainer {
                    name: c.name.clone(),
                    port: self.port(&format!("{path}.port"), c.port),
                    host_port: c.host_port.map(|p| self.port(&format!("{path}.hostPort"), p)),
                }
            })
            .collect();
        self.distinct(
            "spec.registries.containers",
            &containers.iter().map(|c| c.name.clone()).collect::<Vec<_>>(),
        );
        let before = self.problems.len();
        let (typed, hosts) = self.typed(spec);
        if self.problems.len() == before {
            // The credentials are in Secrets; their existence is sufficient. The operator creates the referenced
            // files itself.
            let mut whole = typed.clone();
            for host in hosts.iter().filter(|h| h.auth.is_some()) {
                let login = Auth { identity_token: Some(String::from("…")), ..Auth::default() };
                whole.configs.entry(host.host.clone()).or_default().auth = Some(login);
            }
            for problem in check_part(&whole, &|_| true) {
                self.problems.push(format!("spec.registries: {problem}"));
            }
        }
        ValidRegistries {
            used,
            own,
            containers,
            typed,
            hosts,
            config: registries.config.as_ref().and_then(|c| self.text("spec.registries.config", c)),
            default_endpoint: registries.default_endpoint,
        }
    }

    fn typed(&mut self, spec: &LocalClusterSpec) -> (Registries, Vec<ValidHost>) {
        let mut typed = Registries::default();
        for (i, m) in spec.registries.mirrors.iter().enumerate() {
            let path = format!("spec.registries.mirrors[{i}]");
            let hub = ["index.docker.io", "registry-1.docker.io"].contains(&m.registry.as_str());
            self.check(!hub, format_args!("{path}.registry"), text::MIRRORED);
            if m.registry != "*" {
                let path = format!("{path}.registry");
                self.shape(&path, &m.registry, pattern::HOST, 260, text::MIRRORED);
                self.check(rules::begins_names(&m.registry), &path, text::MIRRORED_WORD);
            }
            for (j, endpoint) in m.endpoints.iter().enumerate() {
                let path = format!("{path}.endpoints[{j}]");
                self.shape(&path, endpoint, pattern::ENDPOINT, 270, text::ENDPOINT);
                self.check(is(pattern::ENDPOINT_PATH, endpoint), &path, text::ENDPOINT_PATH);
            }
            for (j, rewrite) in m.rewrites.iter().enumerate() {
                let path = format!("{path}.rewrites[{j}]");
                let slash = rewrite.pattern.starts_with("^/") && !rewrite.pattern.contains('|');
                self.check(!slash, format_args!("{path}.pattern"), text::PATTERN_SLASH);
                let slash = rewrite.replacement.starts_with('/') && rules::matches_at_start(&rewrite.pattern);
                self.check(!slash, format_args!("{path}.replacement"), text::REPLACEMENT_SLASH);
            }
            let rewrites: BTreeMap<_, _> =
                m.rewrites.iter().map(|r| (r.pattern.clone(), r.replacement.clone())).collect();
            let mirror = Mirror { endpoints: m.endpoints.clone(), rewrites };
            let twice = typed.mirrors.insert(m.registry.clone(), mirror).is_some();
            self.check(!twice, "spec.registries.mirrors", text::TWICE);
        }
        let mut hosts = Vec::new();
        for (i, c) in spec.registries.configs.iter().enumerate() {
            let path = format!("spec.registries.configs[{i}]");
            self.check(c.host != "index.docker.io", format_args!("{path}.host"), text::CONFIG_HOST);
            if c.host != "*" {
                self.shape(&format!("{path}.host"), &c.host, pattern::HOST, 260, text::CONFIG_HOST);
            }
            let (config, host) = self.host(&path, c);
            let twice = typed.configs.insert(c.host.clone(), config).is_some();
            self.check(!twice, "spec.registries.configs", text::TWICE);
            hosts.push(host);
        }
        (typed, hosts)
    }

    fn host(&mut self, path: &str, c: &RegistryConfig) -> (HostConfig, ValidHost) {
        let mut host = ValidHost { host: c.host.clone(), ..ValidHost::default() };
        let name = |checker: &mut Self, field: &str, name: &Option<String>| {
            if let Some(name) = name {
                checker.shape(&format!("{path}.{field}"), name, pattern::DNS, 253, text::OBJECT_NAME);
            }
        };
        host.auth = c.auth.as_ref().map(|a| a.secret_name.clone());
        name(self, "auth.secretName", &host.auth);
        let Some(tls) = &c.tls else { return (HostConfig::default(), host) };
        name(self, "tls.caSecretName", &tls.ca_secret_name);
        name(self, "tls.caConfigMapName", &tls.ca_config_map_name);
        name(self, "tls.clientSecretName", &tls.client_secret_name);
        let one = tls.ca_secret_name.is_none() || tls.ca_config_map_name.is_none();
        self.check(one, format_args!("{path}.tls"), text::ONE_CA);
        let key = |name: &String| KeyRef { name: name.clone(), key: "ca.crt".into() };
        let secret = tls.ca_secret_name.as_ref().map(key).map(Text::Secret);
        host.ca = secret.or_else(|| tls.ca_config_map_name.as_ref().map(key).map(Text::ConfigMap));
        host.client.clone_from(&tls.client_secret_name);
        let path = |kind: &str| certificate(&c.host, kind);
        let config = Tls {
            ca_file: host.ca.as_ref().map(|_| path("ca.crt")),
            cert_file: host.client.as_ref().map(|_| path("client.crt")),
            key_file: host.client.as_ref().map(|_| path("client.key")),
            insecure_skip_verify: tls.insecure_skip_verify.then_some(true),
        };
        let tls = (config != Tls::default()).then_some(config);
        (HostConfig { auth: None, tls }, host)
    }

    fn text(&mut self, path: &str, source: &TextSource) -> Option<Text> {
        let key = |name: &String| KeyRef {
            name: name.clone(),
            key: source.key.clone().unwrap_or_else(|| "registries.yaml".into()),
        };
        let given: Vec<Text> = [
            source.inline.clone().map(Text::Inline),
            source.secret_name.as_ref().map(key).map(Text::Secret),
            source.config_map_name.as_ref().map(key).map(Text::ConfigMap),
        ]
        .into_iter()
        .flatten()
        .collect();
        let keyed = source.key.is_none() || source.inline.is_none();
        self.check(given.len() == 1 && keyed, path, text::ONE_SOURCE);
        let text = given.into_iter().next()?;
        self.key_ref(path, &text);
        Some(text)
    }

    fn key_ref(&mut self, path: &str, text: &Text) {
        if let Text::Secret(r) | Text::ConfigMap(r) = text {
            self.shape(path, &r.name, pattern::DNS, 253, text::OBJECT_NAME);
            self.shape(path, &r.key, pattern::SECRET_KEY, 253, text::SECRET_KEY);
        }
    }

    /// Returns the one content that is given.
    pub(super) fn content(
        &mut self,
        at: &str,
        inline: Option<&String>,
        secret: Option<&KeyRef>,
        config_map: Option<&KeyRef>,
    ) -> Option<Text> {
        let given: Vec<Text> = [
            inline.cloned().map(Text::Inline),
            secret.cloned().map(Text::Secret),
            config_map.cloned().map(Text::ConfigMap),
        ]
        .into_iter()
        .flatten()
        .collect();
        self.check(given.len() == 1, at, text::ONE_CONTENT);
        let content = given.into_iter().next()?;
        self.key_ref(at, &content);
        Some(content)
    }

    pub(super) fn files(&mut self, files: &[FileEntry]) -> Vec<ValidFile> {
        let mut paths = BTreeSet::new();
        let mut valid = Vec::new();
        for (i, file) in files.iter().enumerate() {
            let at = format!("spec.files[{i}]");
            self.shape(&format!("{at}.path"), &file.path, pattern::FILE_PATH, 255, text::FILE_PATH);
            self.refuse(&format!("{at}.path"), &file.path, rules::FILES, "");
            self.check(paths.insert(&file.path), "spec.files", text::TWICE);
            let (inline, secret, map) = (&file.inline, &file.secret, &file.config_map);
            let Some(content) = self.content(&at, inline.as_ref(), secret.as_ref(), map.as_ref()) else {
                continue;
            };
            valid.push(ValidFile { path: file.path.clone(), content, nodes: file.nodes });
        }
        valid
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        api::local_cluster::{RegistriesSpec, RegistryRef},
        plan::validate::tests::problems,
    };

    fn told(registries: &str) -> Vec<String> {
        let registries: RegistriesSpec = serde_saphyr::from_str(registries).unwrap();
        problems(|s| s.registries = registries)
    }

    #[test]
    fn lists_are_held_to_what_files_are() {
        for (registries, words) in [
            (
                "{mirrors: [{registry: r.test, endpoints: ['https://m.test']}], configs: [{host: r.test, auth: {secretName: a}}]}",
                "use configs[\"m.test\"]",
            ),
            (
                "{mirrors: [{registry: docker.io, endpoints: [m.test]}], configs: [{host: docker.io, tls: {insecureSkipVerify: true}}]}",
                "use configs[\"m.test\"]",
            ),
            ("{configs: [{host: '*', auth: {secretName: a}}]}", "never under *"),
            (
                "{mirrors: [{registry: r.test, endpoints: [m.test], rewrites: [{pattern: '^a:(.*)', replacement: b}]}]}",
                "contain no colon",
            ),
        ] {
            let found = told(registries);
            assert!(found.len() == 1 && found[0].contains(words), "{registries}: {found:#?}");
        }
        for registries in [
            "{mirrors: [{registry: docker.io, endpoints: [m.test]}], configs: [{host: docker.io, auth: {secretName: a}}]}",
            "{mirrors: [{registry: r.test, endpoints: [m.test, r.test], rewrites: [{pattern: a, replacement: b}]}], \
             configs: [{host: r.test, auth: {secretName: a}}]}",
            // Whether something else gives it an endpoint is known later.
            "{use: [{name: cache}], mirrors: [{registry: docker.io, rewrites: [{pattern: a, replacement: b}]}]}",
        ] {
            assert_eq!(told(registries), [""; 0], "{registries}");
        }
    }

    #[test]
    fn a_registry_is_used_once() {
        let used = |namespace: &str| RegistryRef { name: "r".into(), namespace: namespace.into() };
        let of = |used: &[RegistryRef]| problems(|s| s.registries.used = used.to_vec());
        assert_eq!(of(&[used(""), used("other")]), [""; 0]);
        for again in ["", "default"] {
            assert_eq!(of(&[used(""), used(again)]).len(), 1, "{again:?}");
        }
    }
}
