//! URLs of endpoints, as K3s interprets them.

use std::{net::IpAddr, sync::LazyLock};

use regex::Regex;

use crate::api::rules::pattern;

/// Docker Hub as it appears in image names.
pub(crate) const DOCKER_HUB: &str = "docker.io";
/// Host that serves Docker Hub.
pub(crate) const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

static HOST: LazyLock<Regex> = LazyLock::new(|| whole(pattern::HOST));
static PATH: LazyLock<Regex> = LazyLock::new(|| whole("(/[-A-Za-z0-9._~/]*)?"));

fn whole(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).expect("the patterns are constants")
}

/// A server that images are pulled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `http` or `https`.
    scheme: &'static str,
    /// Host, with its port if the URL has one.
    host: String,
    path: String,
}

impl Endpoint {
    /// Parses a URL. Without a scheme it is HTTPS, except for HTTP to the node itself on ports other than 443.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some("http"), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some("https"), rest),
            Some(_) => return None,
            None => (None, text),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !is_host(host) || !PATH.is_match(path) {
            return None;
        }
        let odd_port = port(host).is_some_and(|p| p != 443);
        let scheme = scheme.unwrap_or(if is_this_node(name(host)) && odd_port { "http" } else { "https" });
        Some(Self { scheme, host: host.into(), path: path.into() })
    }

    /// Returns the endpoint that is tried after all mirrors of a registry.
    pub fn default_of(registry: &str) -> Option<Self> {
        Self::parse(registry).filter(|e| e.host == registry)
    }

    /// Returns the URL as K3s writes it.
    pub fn url(&self) -> String {
        let host = if self.host == DOCKER_HUB { DOCKER_HUB_HOST } else { &self.host };
        let path = if self.overrides_path() { &self.path } else { "/v2" };
        format!("{}://{host}{path}", self.scheme)
    }

    /// Reports whether the API is not at the default path.
    pub fn overrides_path(&self) -> bool {
        !matches!(self.path.as_str(), "" | "/" | "/v2")
    }

    /// Returns the URL to use instead of one without /v2 in its path, where registries do not respond.
    pub fn below_v2(&self) -> Option<String> {
        let outside = self.overrides_path() && !self.path.split('/').any(|part| part == "v2");
        outside.then(|| format!("{}://{}/v2{}", self.scheme, self.host, self.path))
    }

    /// Returns the host with its port, as in the keys of `configs`.
    pub fn host(&self) -> &str {
        if self.host == DOCKER_HUB_HOST { DOCKER_HUB } else { &self.host }
    }
}

/// Reports whether `text` is a host or `host:port`.
pub(crate) fn is_host(text: &str) -> bool {
    HOST.is_match(text) && (!text.contains(':') || port(text).is_some_and(|p| p != 0))
}

/// Returns the host without its port.
pub(crate) fn name(host: &str) -> &str {
    host.split_once(':').map_or(host, |(name, _)| name)
}

/// Returns the port of a host that has one.
pub(crate) fn port(host: &str) -> Option<u16> {
    host.split_once(':')?.1.parse().ok()
}

fn is_this_node(name: &str) -> bool {
    name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_k3s_reads_them() {
        for (text, url, host) in [
            ("registry.example", "https://registry.example/v2", "registry.example"),
            ("https://registry.example", "https://registry.example/v2", "registry.example"),
            ("https://registry.example/", "https://registry.example/v2", "registry.example"),
            ("https://registry.example/v2", "https://registry.example/v2", "registry.example"),
            ("https://registry.example/v2/", "https://registry.example/v2/", "registry.example"),
            ("HTTP://r:80/harbor/v2/p", "http://r:80/harbor/v2/p", "r:80"),
            ("docker.io", "https://registry-1.docker.io/v2", "docker.io"),
            ("https://registry-1.docker.io", "https://registry-1.docker.io/v2", "docker.io"),
            ("registry-1.docker.io:443", "https://registry-1.docker.io:443/v2", "registry-1.docker.io:443"),
            ("1.2.3.4:443", "https://1.2.3.4:443/v2", "1.2.3.4:443"),
            ("localhost", "https://localhost/v2", "localhost"),
            ("localhost:443", "https://localhost:443/v2", "localhost:443"),
            ("localhost:80", "http://localhost:80/v2", "localhost:80"),
            ("localhost:5000", "http://localhost:5000/v2", "localhost:5000"),
            ("127.0.0.2:5000", "http://127.0.0.2:5000/v2", "127.0.0.2:5000"),
            ("https://localhost:5000", "https://localhost:5000/v2", "localhost:5000"),
            ("registry.localhost:5000", "https://registry.localhost:5000/v2", "registry.localhost:5000"),
        ] {
            let read = Endpoint::parse(text).unwrap();
            assert_eq!((read.url().as_str(), read.host()), (url, host), "{text}");
        }
        for text in [
            "",
            "ftp://r",
            "http://",
            "https://u:p@r",
            "r?x",
            "r/#",
            "[::1]:5000",
            "r:",
            "r:0",
            "r:65536",
            "a b",
        ] {
            assert_eq!(Endpoint::parse(text), None, "{text}");
        }
        for (text, instead) in [
            ("https://r/google_containers", Some("https://r/v2/google_containers")),
            ("r:5000/a/b/", Some("https://r:5000/v2/a/b/")),
            ("http://r/v1/a", Some("http://r/v2/v1/a")),
            ("r/", None),
            ("r/v2/", None),
            ("r/v2/a", None),
            // As in Artifactory, Nexus and others.
            ("r/artifactory/api/docker/hub/v2", None),
            ("r/harbor/v2/p", None),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().below_v2().as_deref(), instead, "{text}");
        }
        assert_eq!(Endpoint::default_of("r/v2"), None);
        assert_eq!(Endpoint::default_of("http://r"), None);
    }
}
