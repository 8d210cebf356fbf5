//! Address of an engine.

use std::{fmt, path::PathBuf, str::FromStr};

/// Address of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerHost {
    /// Absolute path of a Unix socket on this machine.
    Socket(PathBuf),
    /// `HOST:PORT`, with TLS.
    Tcp(String),
}

impl DockerHost {
    /// Returns the host of an engine that is reached over the network, without its port.
    pub fn remote(&self) -> Option<&str> {
        match self {
            Self::Socket(_) => None,
            Self::Tcp(authority) => authority.rsplit_once(':').map(|(host, _)| host),
        }
    }
}

impl FromStr for DockerHost {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if let Some(path) = s.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Socket(path.into()));
        }
        let is_valid = |authority: &&str| {
            let has_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && host != "0.0.0.0" && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            // Without user, path and query.
            has_port
                && authority.parse().is_ok_and(|parsed: http::uri::Authority| !parsed.as_str().contains('@'))
        };
        match s.strip_prefix("tcp://").filter(is_valid) {
            Some(authority) => Ok(Self::Tcp(authority.into())),
            None => Err("must be unix://<absolute path> or tcp://<host>:<port>, for example \
                unix:///var/run/docker.sock or tcp://10.0.0.5:2376"
                .into()),
        }
    }
}

impl fmt::Display for DockerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_addresses() {
        for good in [
            "unix:///run/user/1000/docker.sock",
            "tcp://10.0.0.5:2376",
            "tcp://docker.test:2376",
            "tcp://[fd00::5]:2376",
        ] {
            assert_eq!(good.parse::<DockerHost>().unwrap().to_string(), good);
        }
        let remote = |s: &str| s.parse::<DockerHost>().unwrap().remote().map(str::to_owned);
        assert_eq!(remote("unix:///var/run/docker.sock"), None);
        assert_eq!(remote("tcp://docker.test:2376").as_deref(), Some("docker.test"));
        assert_eq!(remote("tcp://[fd00::5]:2376").as_deref(), Some("[fd00::5]"));
        for bad in [
            "",
            "/var/run/docker.sock",
            "unix://",
            "unix://docker.sock",
            "tcp://10.0.0.5",
            "tcp://10.0.0.5:0",
            "tcp://:2376",
            "tcp://0.0.0.0:2376",
            "tcp://me@10.0.0.5:2376",
            "tcp://10.0.0.5:2376/path",
            "ssh://me@host",
            "http://10.0.0.5:2376",
        ] {
            let error = bad.parse::<DockerHost>().unwrap_err();
            assert!(
                error.contains("unix:///var/run/docker.sock") && error.contains("tcp://10.0.0.5:2376"),
                "{bad:?}"
            );
        }
    }
}
