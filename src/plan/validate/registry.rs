//! Parsing of the spec of a Registry.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{Checker, Problems, is};
use crate::{
    api::{
        RegistrySpec,
        names::{self, MAX_HOSTNAME},
        registry::{AuthSpec, ProxySpec, StorageSpec, TlsSpec},
        rules::{self, pattern, text},
    },
    k3s::registries::upstream_of,
};

/// Parsed spec of a Registry.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidRegistry {
    /// Name of the container, which is its DNS name in clusters.
    pub hostname: String,
    /// Image, if the spec names one.
    pub image: Option<String>,
    /// Host address.
    pub host_ip: Ipv4Addr,
    /// Host port, if the spec names one.
    pub host_port: Option<u16>,
    /// True if the volume is kept when the object is deleted.
    pub retain: bool,
    /// Volume of the user, which is never removed.
    pub volume_name: Option<String>,
    /// Host directory instead of a volume.
    pub host_path: Option<String>,
    /// Upstream registry of a cache.
    pub proxy: Option<ValidProxy>,
    /// Authentication.
    pub auth: Option<AuthSpec>,
    /// TLS settings.
    pub tls: Option<TlsSpec>,
    /// True if clients may delete images.
    pub delete_enabled: bool,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Memory limit in bytes.
    pub memory: Option<i64>,
}

/// Parsed settings of a pull-through cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidProxy {
    /// URL of the registry.
    pub remote_url: String,
    /// Prefix of the names of its images.
    pub upstream: String,
    /// Secret with the credentials.
    pub credentials_secret: Option<String>,
    /// Time that images are cached.
    pub ttl: Option<String>,
}

/// Parses the spec of a Registry.
pub fn registry(namespace: &str, name: &str, spec: &RegistrySpec) -> Result<ValidRegistry, Problems> {
    // Every field is named: a new one does not compile until it is validated.
    let RegistrySpec {
        image,
        hostname,
        host_ip,
        host_port,
        storage,
        proxy,
        auth,
        tls,
        delete_enabled,
        env,
        memory,
        allowed_namespaces,
        local_registry_hosting: _,
    } = spec;
    let StorageSpec { retain, volume_name, host_path } = storage;
    let mut c = Checker::default();
    c.check(name.len() <= 63, "metadata.name", text::REGISTRY_NAME);
    if let Some(i) = image {
        c.shape("spec.image", i, pattern::IMAGE, 512, text::IMAGE);
    }
    if let Some(h) = hostname {
        c.shape("spec.hostname", h, pattern::DNS, MAX_HOSTNAME, text::HOSTNAME);
        c.check(h != "localhost", "spec.hostname", text::HOSTNAME);
    }
    if let Some(v) = volume_name {
        c.shape("spec.storage.volumeName", v, pattern::VOLUME_NAME, 253, text::VOLUME_NAME);
    }
    if let Some(path) = host_path {
        c.shape("spec.storage.hostPath", path, pattern::HOST_PATH, 1024, text::HOST_PATH);
        let steps = path.split('/').any(|part| matches!(part, "." | ".."));
        c.check(!steps, "spec.storage.hostPath", text::HOST_PATH);
        let alone = volume_name.is_none() && !retain;
        c.check(alone, "spec.storage", text::HOST_PATH_ALONE);
    }
    let proxy = proxy.as_ref().and_then(|p| c.proxy("spec.proxy", p));
    if let Some(AuthSpec { htpasswd_secret, client_secret }) = auth {
        c.secret("spec.auth.htpasswdSecret", Some(htpasswd_secret));
        c.secret("spec.auth.clientSecret", client_secret.as_ref());
    }
    if let Some(TlsSpec { secret_name, ca_secret_name }) = tls {
        c.secret("spec.tls.secretName", Some(secret_name));
        c.secret("spec.tls.caSecretName", ca_secret_name.as_ref());
    }
    for (i, namespace) in allowed_namespaces.iter().enumerate() {
        if namespace != "*" {
            let path = format!("spec.allowedNamespaces[{i}]");
            c.shape(&path, namespace, pattern::LABEL, 63, text::ALLOWED_NAMESPACE);
        }
    }
    let host_ip = c.host_ip("spec.hostIP", host_ip);
    let host_port = host_port.map(|p| c.port("spec.hostPort", p));
    let env = c.env("spec.env", env, rules::REGISTRY_ENV);
    let memory = c.memory("spec.memory", memory.as_deref());
    c.done(ValidRegistry {
        hostname: names::registry(namespace, name, hostname.as_deref()),
        image: image.clone(),
        host_ip,
        host_port,
        retain: *retain,
        volume_name: volume_name.clone(),
        host_path: host_path.clone(),
        proxy,
        auth: auth.clone(),
        tls: tls.clone(),
        delete_enabled: *delete_enabled,
        env,
        memory,
    })
}

impl Checker {
    fn secret(&mut self, path: &str, name: Option<&String>) {
        if let Some(name) = name {
            self.shape(path, name, pattern::DNS, 253, text::OBJECT_NAME);
        }
    }

    fn proxy(&mut self, path: &str, proxy: &ProxySpec) -> Option<ValidProxy> {
        let ProxySpec { remote_url, credentials_secret, ttl } = proxy;
        let url = format!("{path}.remoteURL");
        self.shape(&url, remote_url, pattern::REMOTE_URL, 270, text::REMOTE_URL);
        let upstream = upstream_of(remote_url);
        if let Err(why) = &upstream
            && is(pattern::REMOTE_URL, remote_url)
        {
            self.check(false, &url, why);
        }
        self.secret(&format!("{path}.credentialsSecret"), credentials_secret.as_ref());
        if let Some(ttl) = ttl {
            let path = format!("{path}.ttl");
            self.shape(&path, ttl, pattern::TTL, 32, text::TTL);
            self.check(!ttl.is_empty(), &path, text::TTL);
        }
        Some(ValidProxy {
            remote_url: remote_url.clone(),
            upstream: upstream.ok()?,
            credentials_secret: credentials_secret.clone(),
            ttl: ttl.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(spec: RegistrySpec) -> Problems {
        registry("default", "images", &spec).err().unwrap_or_default()
    }

    fn proxy(url: &str, ttl: Option<&str>) -> RegistrySpec {
        let (remote_url, ttl) = (url.to_owned(), ttl.map(str::to_owned));
        let proxy = ProxySpec { remote_url, credentials_secret: None, ttl };
        RegistrySpec { proxy: Some(proxy), ..RegistrySpec::default() }
    }

    fn stored(path: &str) -> RegistrySpec {
        let storage = StorageSpec { host_path: Some(path.into()), ..StorageSpec::default() };
        RegistrySpec { storage, ..RegistrySpec::default() }
    }

    #[test]
    fn a_cache_knows_what_it_caches() {
        for (url, upstream) in [
            ("https://registry-1.docker.io", "docker.io"),
            ("https://quay.io", "quay.io"),
            ("https://quay.io:443", "quay.io"),
            ("http://upstream:5000", "upstream:5000"),
        ] {
            let valid = registry("default", "cache", &proxy(url, Some("1h30m"))).unwrap();
            assert_eq!(valid.proxy.unwrap().upstream, upstream, "{url}");
        }
    }

    #[test]
    fn what_no_cache_can_be_of_is_refused() {
        for url in [
            "",
            "quay.io",
            "ftp://quay.io",
            "https://",
            "https://quay.io/",
            "https://quay.io/v2",
            "https://u:p@q",
        ] {
            assert_eq!(
                problems(proxy(url, None)),
                [format!("spec.proxy.remoteURL: {}", text::REMOTE_URL)],
                "{url}"
            );
        }
        for ttl in ["", "7d", "168", "1m1h", "-1h", "1.5h", "h"] {
            assert_eq!(
                problems(proxy("https://q", Some(ttl))),
                [format!("spec.proxy.ttl: {}", text::TTL)],
                "{ttl:?}"
            );
        }
    }

    #[test]
    fn paths_lead_where_they_say() {
        for path in ["/srv/registry", "/srv/a.b/..c", "/a"] {
            assert_eq!(problems(stored(path)), [] as [String; 0], "{path}");
        }
        for path in [
            "",
            "srv",
            "/",
            "/srv/",
            "//srv",
            "/srv//a",
            "/srv/../etc",
            "/srv/..",
            "/./srv",
            "/srv/a b",
            "/srv/a:b",
            "/srv/\n",
        ] {
            let told = problems(stored(path));
            let want = format!("spec.storage.hostPath: {}", text::HOST_PATH);
            assert!(!told.is_empty() && told.iter().all(|t| *t == want), "{path:?}: {told:?}");
        }
        let mut kept = stored("/srv/registry");
        kept.storage.retain = true;
        assert_eq!(problems(kept), [format!("spec.storage: {}", text::HOST_PATH_ALONE)]);
    }

    #[test]
    fn namespaces_and_secrets_have_names() {
        let bad = RegistrySpec {
            allowed_namespaces: vec!["*".into(), "team-a".into(), "Team".into(), "a*".into()],
            auth: Some(AuthSpec { htpasswd_secret: "A".into(), client_secret: Some("b c".into()) }),
            tls: Some(TlsSpec { secret_name: String::new(), ca_secret_name: Some("ca".into()) }),
            ..RegistrySpec::default()
        };
        assert_eq!(
            problems(bad),
            [
                format!("spec.auth.htpasswdSecret: {}", text::OBJECT_NAME),
                format!("spec.auth.clientSecret: {}", text::OBJECT_NAME),
                format!("spec.tls.secretName: {}", text::OBJECT_NAME),
                format!("spec.allowedNamespaces[2]: {}", text::ALLOWED_NAMESPACE),
                format!("spec.allowedNamespaces[3]: {}", text::ALLOWED_NAMESPACE),
            ]
        );
    }
}
