//! Registries and pull-through caches that clusters use, and the names of their images.

use std::net::Ipv4Addr;

use super::{DOCKER_HUB, Registries, endpoint};

/// A registry on the Docker network of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mirrored {
    /// Name of the container, which resolves on the network of the cluster.
    pub hostname: String,
    /// Port that the registry listens on in its container.
    pub port: u16,
    /// Address on the Docker host, as returned by [`on_host`], if known.
    pub host: Option<String>,
    /// Scheme of its URL.
    pub scheme: Scheme,
    /// Registry that this one is a pull-through cache of, as it appears in image names.
    pub upstream: Option<String>,
}

/// Scheme of the URL of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    Http,
    /// TLS.
    Https,
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

impl Mirrored {
    /// Returns the host name and port on the network of the cluster.
    pub fn address(&self) -> String {
        format!("{}:{}", self.hostname, self.port)
    }

    /// Returns the registry names that its images can be pulled with: an image that was pushed with any of them, from
    /// the host or from a container, can be pulled with any of them.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec![self.address()];
        if let Some(host) = &self.host {
            let by_name = host.rsplit_once(':').map(|(_, port)| format!("{}:{port}", self.hostname));
            for name in by_name.into_iter().chain([host.clone()]) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Returns the URL for the nodes. Only the URL selects `http`; K3s uses HTTPS for everything else.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }
}

/// Returns the address of a port on the Docker host: `localhost`, unless the port is bound to another address, where
/// nothing listens on `localhost`.
pub fn on_host(ip: Ipv4Addr, port: u16) -> String {
    if ip == Ipv4Addr::LOCALHOST || ip.is_unspecified() {
        format!("localhost:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

/// Returns the mirrors of all registries. If two have the same name, the first one is used. Caches of a registry are
/// tried in the order of the list, and before the registry if the list contains it too.
pub fn of_registries(list: &[Mirrored]) -> Registries {
    let mut all = Registries::default();
    for registry in list {
        for name in registry.names() {
            let mirror = all.mirrors.entry(name).or_default();
            if mirror.endpoints.is_empty() {
                mirror.endpoints.push(registry.endpoint());
            }
        }
    }
    for cache in list.iter().rev() {
        let Some(upstream) = &cache.upstream else { continue };
        let endpoints = &mut all.mirrors.entry(upstream.clone()).or_default().endpoints;
        endpoints.retain(|e| *e != cache.endpoint());
        endpoints.insert(0, cache.endpoint());
    }
    all
}

/// Returns the registry behind the `remoteURL` of a pull-through cache, as it appears in image names. The error says
/// what to write instead.
pub fn upstream_of(remote_url: &str) -> Result<String, String> {
    const SHAPE: &str = "must be the URL of a whole registry: https://host[:port]";
    let (scheme, rest) = remote_url.split_once("://").ok_or(SHAPE)?;
    let default_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return Err(SHAPE.into()),
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if !endpoint::is_host(host) {
        return Err(if host.starts_with('[') {
            "K3s does not support IPv6 addresses here; use a host name that resolves to the address".into()
        } else if host.contains('@') {
            format!("{SHAPE}; move the credentials to credentialsSecret")
        } else {
            SHAPE.into()
        });
    }
    let host = host.to_ascii_lowercase();
    let host = match endpoint::port(&host) {
        Some(port) if port == default_port => endpoint::name(&host),
        _ => &host,
    };
    Ok(match host {
        "registry-1.docker.io" | "index.docker.io" => DOCKER_HUB.into(),
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(hostname: &str, host_port: Option<u16>) -> Mirrored {
        let host = host_port.map(|port| on_host(Ipv4Addr::LOCALHOST, port));
        Mirrored { hostname: hostname.into(), port: 5000, host, scheme: Scheme::Http, upstream: None }
    }

    fn cache(hostname: &str, upstream: &str) -> Mirrored {
        Mirrored { upstream: Some(upstream.into()), ..registry(hostname, None) }
    }

    /// k3d-io/k3d#763 and #192: images pushed to localhost:5050 could not be pulled with that name.
    #[test]
    fn k3d_22_every_name_leads_to_the_registry() {
        insta::assert_snapshot!(of_registries(&[registry("k3d-registry", Some(5050))]).render(), @r#"
        # Written by localcluster-operator.
        mirrors:
          "k3d-registry:5000":
            endpoint:
              - "http://k3d-registry:5000"
          "k3d-registry:5050":
            endpoint:
              - "http://k3d-registry:5000"
          "localhost:5050":
            endpoint:
              - "http://k3d-registry:5000"
        "#);
        insta::assert_snapshot!(of_registries(&[]).render(), @r"
        # Written by localcluster-operator.
        mirrors: {}
        ");
    }

    #[test]
    fn names_are_there_once_and_only_when_known() {
        assert_eq!(registry("r", None).names(), ["r:5000"]);
        assert_eq!(registry("r", Some(5000)).names(), ["r:5000", "localhost:5000"]);
        assert_eq!(registry("r", Some(1)).names(), ["r:5000", "r:1", "localhost:1"]);
        let secure = Mirrored { scheme: Scheme::Https, port: 443, ..registry("r", None) };
        assert_eq!(secure.endpoint(), "https://r:443");
    }

    /// tilt-dev/tilt#4970: tools used localhost, where nothing listened.
    #[test]
    fn an_address_of_its_own_takes_the_place_of_localhost() {
        let at = |ip: [u8; 4]| on_host(ip.into(), 5050);
        assert_eq!(at([127, 0, 0, 1]), "localhost:5050");
        assert_eq!(at([0, 0, 0, 0]), "localhost:5050");
        assert_eq!(at([127, 0, 0, 3]), "127.0.0.3:5050");
        let other = Mirrored { host: Some(at([192, 0, 2, 20])), ..registry("r", None) };
        assert_eq!(other.names(), ["r:5000", "r:5050", "192.0.2.20:5050"]);
    }

    #[test]
    fn the_first_one_wins_a_name() {
        let all = of_registries(&[registry("a", Some(5050)), registry("b", Some(5050))]);
        assert_eq!(all.mirrors["localhost:5050"].endpoints, ["http://a:5000"]);
        assert_eq!(all.mirrors["b:5050"].endpoints, ["http://b:5000"]);
    }

    /// k3d-io/k3d#1419 and #1070: a cache was created that no cluster used.
    #[test]
    fn k3d_12_a_cache_is_used_for_what_it_caches() {
        let upstream = upstream_of("https://registry-1.docker.io").unwrap();
        let all = of_registries(&[cache("hub", &upstream)]);
        assert_eq!(all.mirrors["docker.io"].endpoints, ["http://hub:5000"]);
        assert_eq!(all.mirrors["hub:5000"].endpoints, ["http://hub:5000"]);
    }

    /// k3d-io/k3d#1346 and #1214: a registry and several caches in one cluster.
    #[test]
    fn k3d_13_a_registry_and_several_caches() {
        let all = of_registries(&[
            cache("hub", "docker.io"),
            registry("mine", Some(5050)),
            cache("quay", "quay.io"),
            cache("hub2", "docker.io"),
            cache("near", "mine:5000"),
        ]);
        assert_eq!(all.mirrors["docker.io"].endpoints, ["http://hub:5000", "http://hub2:5000"]);
        assert_eq!(all.mirrors["quay.io"].endpoints, ["http://quay:5000"]);
        assert_eq!(all.mirrors["mine:5000"].endpoints, ["http://near:5000", "http://mine:5000"]);
        assert_eq!(all.mirrors["localhost:5050"].endpoints, ["http://mine:5000"]);
    }

    #[test]
    fn the_registry_behind_a_remote_url() {
        for (url, registry) in [
            ("https://registry-1.docker.io", "docker.io"),
            ("https://index.docker.io/", "docker.io"),
            ("https://docker.io", "docker.io"),
            ("https://registry-1.docker.io:443", "docker.io"),
            ("https://Quay.io/", "quay.io"),
            ("https://quay.io:443", "quay.io"),
            ("https://quay.io:80", "quay.io:80"),
            ("http://r:80", "r"),
            ("http://r:443/", "r:443"),
            ("http://k3d-up:5000", "k3d-up:5000"),
            ("https://10.0.0.1:8443", "10.0.0.1:8443"),
        ] {
            assert_eq!(upstream_of(url).as_deref(), Ok(registry), "{url}");
        }
        for url in [
            "",
            "quay.io",
            "ftp://quay.io",
            "HTTPS://quay.io",
            "https://",
            "https:///",
            "https://quay.io//",
            "https://quay.io/v2",
            "https://quay.io/?a",
            "https://quay.io?a=b",
            "https://quay.io#a",
            "https://u:p@quay.io",
            "https://[::1]:5000",
            "https://quay.io:0",
            "https://quay.io:99999",
            "https://quay.io ",
        ] {
            let told = upstream_of(url).unwrap_err();
            assert!(
                (told.contains("must be") || told.contains("use a host name")) && !told.contains("u:p"),
                "{url}: \
                {told}"
            );
        }
    }
}
