//! Failures of the command, and the codes that it exits with.

use std::process::ExitCode;

use super::kubeconfig;

/// Exit code of everything that failed. Wrong usage exits with 2, by clap.
const FAILED: u8 = 1;
/// Exit code if the object is not as it should be.
const NOT_READY: u8 = 3;

/// Why a command fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It could not be done.
    Failed(String),
    /// The object exists and is not Ready, or not stopped, or not deleted.
    NotReady(String),
    /// The command that ran in a container failed with this code, and has said why itself.
    Ended(u8),
}

/// Result of a command.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Returns the exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => FAILED,
            Self::NotReady(_) => NOT_READY,
            Self::Ended(code) => *code,
        })
    }
}

impl std::fmt::Display for Failure {
    /// Writes the message on one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let message = match self {
            Self::Failed(message) | Self::NotReady(message) => message,
            Self::Ended(code) => return write!(f, "the command exited with code {code}"),
        };
        let words: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        f.write_str(&words.join(" "))
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::Failed(message.to_owned())
    }
}

impl From<kubeconfig::Error> for Failure {
    fn from(error: kubeconfig::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<crate::docker::error::Error> for Failure {
    fn from(error: crate::docker::error::Error) -> Self {
        Self::Failed(super::engine::words(&error))
    }
}

impl From<std::io::Error> for Failure {
    /// Converts an error of standard output.
    fn from(error: std::io::Error) -> Self {
        Self::Failed(format!("cannot write the output: {error}; check where it goes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let told = Failure::from("cannot do it:\n  why;\n\n  what to do\n").to_string();
        assert_eq!(told, "cannot do it: why; what to do");
    }
}
