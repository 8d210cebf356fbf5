//! The Docker Engine that a verb speaks to itself, without the operator.

use std::{path::PathBuf, str::FromStr};

use clap::Args;

use crate::docker::{bollard::BollardEngine, error::Error, host::DockerHost};

/// Which engine.
#[derive(Args, Clone, Debug)]
pub struct EngineArgs {
    /// Docker Engine: unix://<path of its socket>, or tcp://<host>:<port> on another machine, with TLS
    #[arg(
        long,
        env = "DOCKER_HOST",
        default_value = "unix:///var/run/docker.sock",
        value_name = "URL",
        value_parser = DockerHost::from_str
    )]
    pub docker_host: DockerHost,

    /// Directory with ca.pem, cert.pem and key.pem for an engine at tcp://
    #[arg(long, env = "DOCKER_CERT_PATH", value_name = "PATH")]
    pub docker_cert_path: Option<PathBuf>,
}

impl EngineArgs {
    /// Returns the engine, which need not run.
    pub fn engine(&self) -> Result<BollardEngine, String> {
        let certificates = match &self.docker_host {
            DockerHost::Socket(_) => None,
            DockerHost::Tcp(_) => self.docker_cert_path.as_deref(),
        };
        BollardEngine::connect_with(&self.docker_host.to_string(), certificates).map_err(|e| e.to_string())
    }
}

/// Returns an error of the engine with what a user of the command does about it.
pub fn words(error: &Error) -> String {
    match error {
        Error::Denied(_) => format!(
            "{error}; run the command as a user who may use the socket, in a container with `docker run --user 0`"
        ),
        Error::Unavailable(_) => format!("{error}; start Docker, or name its address with --docker-host"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::failures;

    /// One error, and two who may have to do something about it.
    #[test]
    fn the_command_and_the_operator_say_what_fits_each() {
        let denied = Error::Denied("client error (Connect): Permission denied (os error 13)".into());
        let told = words(&denied);
        assert!(told.starts_with("cannot connect to Docker: client error"), "{told}");
        assert!(told.contains("as a user who may use the socket") && !told.contains("Helm"), "{told}");
        let remedy = failures::remedy(&denied);
        assert!(remedy.contains("supplementalGroups") && !remedy.contains("--user"), "{remedy}");
        let away = Error::Unavailable("connection refused".into());
        assert!(words(&away).ends_with("name its address with --docker-host"));
        assert_eq!((failures::remedy(&away), words(&Error::Engine("no".into()))), ("", "no".into()));
    }
}
