//! Parsing of the spec of a Registry.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::checker::{Checker, Problems, is};
use crate::{
    api::{
        RegistrySpec, names,
        registry::{AuthSpec, GarbageCollectionSpec, ProxySpec, RetentionSpec, StorageSpec, TlsSpec},
        rules::{self, format, hostnames, pattern, text},
    },
    docker::spec::RestartPolicy,
    k3s::registries::upstream_of,
    plan::{
        expiry,
        registry::{retention::Retention, schedule::Schedule},
    },
};

/// Parsed spec of a Registry.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidRegistry {
    /// Name of the container, which is its DNS name in clusters.
    pub hostname: String,
    /// Restart policy of the container.
    pub restart: RestartPolicy,
    /// Image, if the spec names one.
    pub image: Option<String>,
    /// Host address.
    pub host_ip: Ipv4Addr,
    /// Host port, if the spec names one.
    pub host_port: Option<u16>,
    /// Storage of the images.
    pub storage: Storage,
    /// Size in bytes up to which the storage may grow.
    pub max_size: Option<i64>,
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
    /// Times of garbage collections.
    pub schedule: Option<Schedule>,
    /// What garbage collections keep; `None` for all tags.
    pub retention: Option<Retention>,
}

/// Storage of the images of a Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A volume that the operator creates; kept when the object is deleted if `retain` is true.
    Managed {
        /// True if the volume is kept.
        retain: bool,
    },
    /// A volume of the user, which is never removed.
    Volume(String),
    /// A host directory, which is never removed.
    HostPath(String),
}

impl Storage {
    /// Parses the storage of a spec, which need not be valid.
    pub fn of(spec: &StorageSpec) -> Self {
        let StorageSpec { retain, volume_name, host_path, max_size: _ } = spec;
        match (host_path, volume_name) {
            (Some(path), _) => Self::HostPath(path.clone()),
            (None, Some(name)) => Self::Volume(name.clone()),
            (None, None) => Self::Managed { retain: *retain },
        }
    }

    /// Reports whether the images remain when the object is deleted.
    pub fn is_kept(&self) -> bool {
        match self {
            Self::Managed { retain } => *retain,
            Self::Volume(_) | Self::HostPath(_) => true,
        }
    }

    /// Returns the volume of the registry `hostname`; `None` if the images are in a host directory.
    pub fn volume<'a>(&'a self, hostname: &'a str) -> Option<&'a str> {
        match self {
            Self::Managed { .. } => Some(hostname),
            Self::Volume(name) => Some(name),
            Self::HostPath(_) => None,
        }
    }

    /// Returns the host directory, if the images are in one.
    pub fn host_path(&self) -> Option<&str> {
        match self {
            Self::HostPath(path) => Some(path),
            Self::Managed { .. } | Self::Volume(_) => None,
        }
    }
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
        garbage_collection,
        retention,
        memory,
        allowed_namespaces,
        local_registry_hosting: _,
        placement: _,
    } = spec;
    let mut c = Checker::default();
    c.check(name.len() <= 63, "metadata.name", text::REGISTRY_NAME);
    if let Some(i) = image {
        c.fits("spec.image", i, &format::IMAGE);
    }
    let (path, called) = match hostname {
        Some(explicit) => ("spec.hostname", explicit),
        // Dots in the name of the object make a domain of it.
        None => ("metadata.name", &names::registry(namespace, name, None)),
    };
    c.own_hostname(path, called);
    let max_size = c.max_size("spec.storage.maxSize", storage.max_size.as_deref());
    let storage = c.storage("spec.storage", storage);
    let proxy = proxy.as_ref().and_then(|p| c.proxy("spec.proxy", p));
    if let Some(AuthSpec { htpasswd_secret, client_secret }) = auth {
        c.object_name("spec.auth.htpasswdSecret", Some(htpasswd_secret));
        c.object_name("spec.auth.clientSecret", client_secret.as_ref());
    }
    if let Some(TlsSpec { secret_name, ca_secret_name }) = tls {
        c.object_name("spec.tls.secretName", Some(secret_name));
        c.object_name("spec.tls.caSecretName", ca_secret_name.as_ref());
    }
    c.allowed_namespaces("spec.allowedNamespaces", allowed_namespaces);
    c.check(garbage_collection.is_none() || proxy.is_none(), "spec", text::SCHEDULE_OF_CACHE);
    c.check(retention.is_none() || proxy.is_none(), "spec", text::RETENTION_OF_CACHE);
    let valid = ValidRegistry {
        hostname: names::registry(namespace, name, hostname.as_deref()),
        restart: RestartPolicy::UnlessStopped,
        image: image.clone(),
        host_ip: c.host_ip("spec.hostIP", host_ip),
        host_port: host_port.map(|p| c.port("spec.hostPort", p)),
        storage,
        max_size,
        proxy,
        auth: auth.clone(),
        tls: tls.clone(),
        delete_enabled: *delete_enabled,
        env: c.env("spec.env", env, rules::REGISTRY_ENV),
        memory: c.memory("spec.memory", memory.as_deref()),
        schedule: c.schedule("spec.garbageCollection.schedule", garbage_collection.as_ref()),
        retention: c.retention("spec.retention", retention.as_ref()),
    };
    c.done(valid)
}

impl Checker {
    /// Checks the host name of a registry.
    pub(super) fn hostname(&mut self, path: &str, name: &str) {
        self.fits(path, name, &format::HOSTNAME);
        self.check(name != "localhost", path, text::HOSTNAME);
    }

    /// Checks the name of a container of the operator, which clusters resolve before any other name.
    fn own_hostname(&mut self, path: &str, name: &str) {
        self.hostname(path, name);
        self.refuse(path, name, hostnames::REGISTRIES, "");
        self.check(!is(pattern::NODE, name), path, text::HOSTNAME_OF_NODE);
    }

    fn storage(&mut self, path: &str, spec: &StorageSpec) -> Storage {
        let StorageSpec { retain, volume_name, host_path, max_size: _ } = spec;
        if let Some(name) = volume_name {
            self.fits(format_args!("{path}.volumeName"), name, &format::VOLUME_NAME);
        }
        if let Some(directory) = host_path {
            self.host_path(format_args!("{path}.hostPath"), directory);
            self.check(volume_name.is_none() && !retain, path, text::HOST_PATH_ALONE);
        }
        Storage::of(spec)
    }

    fn schedule(&mut self, path: &str, spec: Option<&GarbageCollectionSpec>) -> Option<Schedule> {
        let GarbageCollectionSpec { schedule } = spec?;
        self.fits(path, schedule, &format::SCHEDULE);
        let parsed = Schedule::parse(schedule);
        // A text of that form may still have a field that is out of range.
        self.check(parsed.is_some() || !is(pattern::SCHEDULE, schedule), path, text::SCHEDULE);
        parsed
    }

    fn retention(&mut self, path: &str, spec: Option<&RetentionSpec>) -> Option<Retention> {
        let RetentionSpec { keep_tags, keep_for } = spec?;
        self.check(keep_tags.is_some() || keep_for.is_some(), path, text::RETENTION);
        let tags = keep_tags.and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=10_000).contains(n));
        self.check(tags.is_some() == keep_tags.is_some(), format_args!("{path}.keepTags"), text::KEEP_TAGS);
        let time = keep_for.as_deref().and_then(expiry::parse);
        self.check(time.is_some() == keep_for.is_some(), format_args!("{path}.keepFor"), text::KEEP_FOR);
        Some(Retention { keep_tags: tags, keep_for: time })
    }

    fn allowed_namespaces(&mut self, path: &str, namespaces: &[String]) {
        for (i, namespace) in namespaces.iter().enumerate().filter(|(_, namespace)| *namespace != "*") {
            self.fits(format_args!("{path}[{i}]"), namespace, &format::ALLOWED_NAMESPACE);
        }
    }

    fn proxy(&mut self, path: &str, proxy: &ProxySpec) -> Option<ValidProxy> {
        let ProxySpec { remote_url, credentials_secret, ttl } = proxy;
        let url = format!("{path}.remoteURL");
        self.fits(&url, remote_url, &format::REMOTE_URL);
        let upstream = upstream_of(remote_url);
        if let Err(why) = &upstream
            && is(pattern::REMOTE_URL, remote_url)
        {
            self.check(false, &url, why);
        }
        self.object_name(format_args!("{path}.credentialsSecret"), credentials_secret.as_ref());
        if let Some(ttl) = ttl {
            let path = format!("{path}.ttl");
            self.fits(&path, ttl, &format::TTL);
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
    use jiff::SignedDuration;

    use super::*;
    use crate::{api::local_cluster::NodeRole, k3s::NODE_VOLUMES};

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
    fn a_retention_has_rules() {
        let retained = |keep_tags: Option<i32>, keep_for: Option<&str>| {
            let retention = RetentionSpec { keep_tags, keep_for: keep_for.map(str::to_owned) };
            RegistrySpec { retention: Some(retention), ..RegistrySpec::default() }
        };
        let hours = SignedDuration::from_hours;
        for (tags, time, want) in [
            (Some(1), None, (Some(1), None)),
            (None, Some("720h"), (None, Some(hours(720)))),
            (Some(10_000), Some("0h60m"), (Some(10_000), Some(hours(1)))),
        ] {
            let valid = registry("default", "images", &retained(tags, time)).unwrap();
            assert_eq!(valid.retention, Some(Retention { keep_tags: want.0, keep_for: want.1 }));
        }
        for tags in [i32::MIN, 0, 10_001] {
            let want = [format!("spec.retention.keepTags: {}", text::KEEP_TAGS)];
            assert_eq!(problems(retained(Some(tags), None)), want);
        }
        for time in ["", "0s", "30d", "1h "] {
            let want = [format!("spec.retention.keepFor: {}", text::KEEP_FOR)];
            assert_eq!(problems(retained(None, Some(time))), want, "{time:?}");
        }
        assert_eq!(problems(retained(None, None)), [format!("spec.retention: {}", text::RETENTION)]);
        let of_cache =
            RegistrySpec { retention: retained(Some(1), None).retention, ..proxy("https://q", None) };
        assert_eq!(problems(of_cache), [format!("spec: {}", text::RETENTION_OF_CACHE)]);
    }

    #[test]
    fn a_storage_has_room_for_an_image() {
        let sized = |size: &str| {
            let storage = StorageSpec { max_size: Some(size.into()), ..StorageSpec::default() };
            RegistrySpec { storage, ..RegistrySpec::default() }
        };
        for (size, bytes) in [("20Gi", 20 << 30), ("1Mi", 1 << 20), ("1.5G", 1_500_000_000)] {
            assert_eq!(registry("default", "images", &sized(size)).unwrap().max_size, Some(bytes), "{size}");
        }
        for size in ["", "0", "1023Ki", "much", "20GB", "2000Ti"] {
            let want = [format!("spec.storage.maxSize: {}", text::MAX_SIZE)];
            assert_eq!(problems(sized(size)), want, "{size:?}");
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
    fn a_registry_has_no_name_that_means_something_else() {
        let named =
            |hostname: &str| RegistrySpec { hostname: Some(hostname.into()), ..RegistrySpec::default() };
        for (hostname, says) in [
            ("localhost", text::HOSTNAME),
            ("kubernetes.default", "Services and Pods"),
            ("vault.prod.svc", "Services and Pods"),
            ("vault.prod.svc.cluster.local", "Services and Pods"),
            ("host.k3d.internal", "the Docker host"),
            ("host.docker.internal", "the Docker host"),
            ("docker.io", "spec.proxy"),
            ("registry-1.docker.io", "spec.proxy"),
            ("europe-docker.pkg.dev", "spec.proxy"),
            ("registry.k8s.io", "spec.proxy"),
            ("k3d-dev-server-0", text::HOSTNAME_OF_NODE),
            ("k3d-dev-agent-31-state", text::HOSTNAME_OF_NODE),
            ("k3d-dev-serverlb", text::HOSTNAME_OF_NODE),
        ] {
            let told = problems(named(hostname));
            assert!(told.len() == 1 && told[0].starts_with("spec.hostname: "), "{hostname}: {told:?}");
            assert!(told[0].contains(says), "{hostname}: {told:?}");
        }
        for hostname in [
            "registry",
            "registry.localhost",
            "images.registry.internal",
            "registry.corp.example",
            "registry.mydocker.io",
            "docker.io.corp.example",
            "k3d-server-0",
            "k3d-my-server-images",
            "k3d-dev-server-0-registry",
            "mysvc",
        ] {
            assert_eq!(problems(named(hostname)), [""; 0], "{hostname}");
        }
        // Names of objects have dots too.
        let called =
            |name: &str| registry("default", name, &RegistrySpec::default()).err().unwrap_or_default();
        for name in ["vault.prod.svc.cluster.local", "x.docker.io", "dev-server-0"] {
            let told = called(name);
            assert!(told.len() == 1 && told[0].starts_with("metadata.name: "), "{name}: {told:?}");
        }
        for name in ["docker.io", "images.localhost", "kubernetes.default"] {
            assert_eq!(called(name), [""; 0], "k3d-{name} is another name");
        }
    }

    /// The names of a cluster start with k3d- and have no dot, whatever its clusterName is.
    #[test]
    fn names_of_clusters_are_nobody_elses() {
        for cluster in ["docker", "x", "svc", "kubernetes", "a-server-0"] {
            let names = names::ClusterNames::new(cluster);
            let mut all = vec![names.load_balancer()];
            for role in [NodeRole::Server, NodeRole::Agent] {
                let node = names.node(role, 12);
                all.extend(NODE_VOLUMES.map(|(kind, _)| names::volume(&node, kind)));
                all.push(node);
            }
            for name in all {
                assert!(is(pattern::NODE, &name), "{name} could be a Registry's");
                assert!(!hostnames::REGISTRIES.iter().any(|refused| refused.has(&name)), "{name}");
            }
        }
    }

    #[test]
    fn only_the_volume_of_the_operator_goes_with_the_object() {
        let (mine, path) = (Some("mine".to_owned()), Some("/srv/images".to_owned()));
        for (retain, volume_name, host_path, volume, kept) in [
            (false, None, None, Some("images"), false),
            (true, None, None, Some("images"), true),
            (false, mine.clone(), None, Some("mine"), true),
            (true, mine.clone(), None, Some("mine"), true),
            (false, None, path.clone(), None, true),
            // A spec that is older than the rule against it.
            (false, mine, path, None, true),
        ] {
            let spec = StorageSpec { retain, volume_name, host_path, max_size: None };
            let storage = Storage::of(&spec);
            assert_eq!((storage.volume("images"), storage.is_kept()), (volume, kept), "{spec:?}");
            assert_eq!(storage.host_path().is_some(), spec.host_path.is_some(), "{spec:?}");
        }
    }

    #[test]
    fn a_schedule_is_a_cron_expression_of_a_registry_that_is_no_cache() {
        let with = |schedule: &str| RegistrySpec {
            garbage_collection: Some(GarbageCollectionSpec { schedule: schedule.into() }),
            ..RegistrySpec::default()
        };
        assert_eq!(problems(with("0 3 * * *")), [""; 0]);
        for bad in ["daily", "0 3 * * * UTC", "0 25 * * *", "* * * *", ""] {
            assert_eq!(problems(with(bad)), [format!("spec.garbageCollection.schedule: {}", text::SCHEDULE)]);
        }
        let cache = RegistrySpec {
            garbage_collection: with("0 3 * * *").garbage_collection,
            ..proxy("https://quay.io", None)
        };
        assert_eq!(problems(cache), [format!("spec: {}", text::SCHEDULE_OF_CACHE)]);
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
