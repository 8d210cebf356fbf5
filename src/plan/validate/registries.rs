//! Parsing of the registries of a LocalCluster.

use super::{
    checker::{Checker, is},
    contents::Text,
    registry::{ValidRegistry, registry},
};
use crate::{
    api::{
        RegistrySpec,
        local_cluster::{
            KeyRef, MirrorSpec, RegistriesSpec, RegistryConfig, RegistryContainer, RegistryRef, RegistryTls,
            Rewrite, SecretRef,
        },
        names,
        rules::{self, format, pattern, text},
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

/// Directory of the certificates of typed hosts, with a subdirectory for each host.
pub const CERTIFICATES: &str = "/etc/rancher/k3s/registries.d";

/// Returns the path of a certificate file of a host: `ca.crt`, `client.crt` or `client.key`.
pub fn certificate(host: &str, kind: &str) -> String {
    let dir = if host == "*" { "_default" } else { host };
    format!("{CERTIFICATES}/{dir}/{kind}")
}

impl Checker {
    /// Parses the registries that the nodes of `cluster` pull from.
    pub(super) fn registries(
        &mut self,
        namespace: &str,
        cluster: &str,
        registries: &RegistriesSpec,
    ) -> ValidRegistries {
        // Every field is named: a new one does not compile until it is validated.
        let RegistriesSpec { used, create, containers, mirrors, configs, config, default_endpoint } =
            registries;
        let mut used = self.used(namespace, used);
        let own = create.as_ref().and_then(|create| self.own(namespace, cluster, create));
        if let Some((key, _)) = &own
            && !used.contains(key)
        {
            used.push(key.clone());
        }
        let containers = self.containers(containers);
        let (typed, hosts) = self.typed(mirrors, configs);
        let config = config.as_ref().and_then(|c| self.text("spec.registries.config", c));
        ValidRegistries { used, own, containers, typed, hosts, config, default_endpoint: *default_endpoint }
    }

    /// Parses the references to Registries.
    fn used(&mut self, namespace: &str, used: &[RegistryRef]) -> Vec<RegistryKey> {
        let mut keys: Vec<RegistryKey> = Vec::new();
        for (i, RegistryRef { name, namespace: other }) in used.iter().enumerate() {
            let path = format!("spec.registries.use[{i}]");
            self.object_name(format_args!("{path}.name"), Some(name));
            if !other.is_empty() {
                self.fits(format_args!("{path}.namespace"), other, &format::NAMESPACE);
            }
            let at = if other.is_empty() { namespace } else { other };
            let key = RegistryKey { namespace: at.to_owned(), name: name.clone() };
            self.check(!keys.contains(&key), "spec.registries.use", text::TWICE);
            keys.push(key);
        }
        keys
    }

    /// Parses the spec of the cluster's own Registry.
    fn own(
        &mut self,
        namespace: &str,
        cluster: &str,
        create: &RegistrySpec,
    ) -> Option<(RegistryKey, Box<ValidRegistry>)> {
        let key = RegistryKey { namespace: namespace.to_owned(), name: names::own_registry(cluster) };
        match registry(namespace, &key.name, create) {
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
    }

    /// Parses the unmanaged containers.
    fn containers(&mut self, containers: &[RegistryContainer]) -> Vec<ValidContainer> {
        let mut valid = Vec::new();
        for (i, RegistryContainer { name, port, host_port }) in containers.iter().enumerate() {
            let path = format!("spec.registries.containers[{i}]");
            self.hostname(&format!("{path}.name"), name);
            valid.push(ValidContainer {
                name: name.clone(),
                port: self.port(&format!("{path}.port"), *port),
                host_port: host_port.map(|p| self.port(&format!("{path}.hostPort"), p)),
            });
        }
        self.distinct("spec.registries.containers", containers.iter().map(|c| &c.name));
        valid
    }

    /// Parses mirrors and configs, and checks them as the part of a registries file that they are.
    fn typed(&mut self, mirrors: &[MirrorSpec], configs: &[RegistryConfig]) -> (Registries, Vec<ValidHost>) {
        let before = self.problems.len();
        let mut typed = Registries::default();
        for (i, mirror) in mirrors.iter().enumerate() {
            let parsed = self.mirror(&format!("spec.registries.mirrors[{i}]"), mirror);
            let twice = typed.mirrors.insert(mirror.registry.clone(), parsed).is_some();
            self.check(!twice, "spec.registries.mirrors", text::TWICE);
        }
        let mut hosts = Vec::new();
        for (i, config) in configs.iter().enumerate() {
            let (parsed, host) = self.host(&format!("spec.registries.configs[{i}]"), config);
            let twice = typed.configs.insert(config.host.clone(), parsed).is_some();
            self.check(!twice, "spec.registries.configs", text::TWICE);
            hosts.push(host);
        }
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
        (typed, hosts)
    }

    fn mirror(&mut self, path: &str, mirror: &MirrorSpec) -> Mirror {
        let MirrorSpec { registry, endpoints, rewrites } = mirror;
        let field = format!("{path}.registry");
        let hub = ["index.docker.io", "registry-1.docker.io"].contains(&registry.as_str());
        self.check(!hub, &field, text::MIRRORED);
        if registry != "*" {
            self.fits(&field, registry, &format::MIRRORED);
            self.check(rules::begins_names(registry), &field, text::MIRRORED_WORD);
        }
        for (i, endpoint) in endpoints.iter().enumerate() {
            let path = format!("{path}.endpoints[{i}]");
            self.fits(&path, endpoint, &format::ENDPOINT);
            self.check(is(pattern::ENDPOINT_PATH, endpoint), &path, text::ENDPOINT_PATH);
        }
        for (i, Rewrite { pattern, replacement }) in rewrites.iter().enumerate() {
            let path = format!("{path}.rewrites[{i}]");
            let slash = pattern.starts_with("^/") && !pattern.contains('|');
            self.check(!slash, format_args!("{path}.pattern"), text::PATTERN_SLASH);
            let slash = replacement.starts_with('/') && rules::matches_at_start(pattern);
            self.check(!slash, format_args!("{path}.replacement"), text::REPLACEMENT_SLASH);
        }
        let rewrites = rewrites.iter().map(|r| (r.pattern.clone(), r.replacement.clone())).collect();
        Mirror { endpoints: endpoints.clone(), rewrites }
    }

    fn host(&mut self, path: &str, config: &RegistryConfig) -> (HostConfig, ValidHost) {
        let RegistryConfig { host, auth, tls } = config;
        let field = format!("{path}.host");
        self.check(host != "index.docker.io", &field, text::CONFIG_HOST);
        if host != "*" {
            self.fits(&field, host, &format::CONFIG_HOST);
        }
        let auth = auth.as_ref().map(|SecretRef { secret_name }| secret_name.clone());
        self.object_name(format_args!("{path}.auth.secretName"), auth.as_ref());
        let mut valid = ValidHost { host: host.clone(), auth, ca: None, client: None };
        let Some(tls) = tls else { return (HostConfig::default(), valid) };
        let RegistryTls { ca_secret_name, ca_config_map_name, client_secret_name, insecure_skip_verify } =
            tls;
        self.object_name(format_args!("{path}.tls.caSecretName"), ca_secret_name.as_ref());
        self.object_name(format_args!("{path}.tls.caConfigMapName"), ca_config_map_name.as_ref());
        self.object_name(format_args!("{path}.tls.clientSecretName"), client_secret_name.as_ref());
        let one = ca_secret_name.is_none() || ca_config_map_name.is_none();
        self.check(one, format_args!("{path}.tls"), text::ONE_CA);
        let key = |name: &String| KeyRef { name: name.clone(), key: "ca.crt".into() };
        let secret = ca_secret_name.as_ref().map(key).map(Text::Secret);
        valid.ca = secret.or_else(|| ca_config_map_name.as_ref().map(key).map(Text::ConfigMap));
        valid.client.clone_from(client_secret_name);
        let path = |kind: &str| certificate(host, kind);
        let config = Tls {
            ca_file: valid.ca.as_ref().map(|_| path("ca.crt")),
            cert_file: valid.client.as_ref().map(|_| path("client.crt")),
            key_file: valid.client.as_ref().map(|_| path("client.key")),
            insecure_skip_verify: insecure_skip_verify.then_some(true),
        };
        let tls = (config != Tls::default()).then_some(config);
        (HostConfig { auth: None, tls }, valid)
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
            // Other parts of the spec may give it an endpoint, which is checked later.
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
