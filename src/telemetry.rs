//! Log lines, on stderr: stdout is for what a command was asked to print.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogFormat;

/// A log that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not in EnvFilter's syntax.
    #[error(
        "the log filter {0:?} can't be read ({1}): write a level such as info, or localcluster_operator=debug,warn"
    )]
    Filter(String, String),
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice,
}

/// What the Kubernetes client says of answers from 500 up and of cut connections. A created cluster that starts does both for a
/// while: nothing is wrong, and what is wrong comes back as an error that is told with its context.
const NOISE: &str = "kube_client::client=off";

/// Sets up the process's log. To be called once.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Error> {
    let filter = parse(filter)?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    }
    .map_err(|_| Error::Twice)
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    let quiet = if filter.contains("kube_client") { filter.to_owned() } else { format!("{NOISE},{filter}") };
    EnvFilter::try_new(quiet).map_err(|e| Error::Filter(filter.to_owned(), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_names_the_client_is_left_as_it_is() {
        assert_eq!(parse("kube_client=debug").unwrap().to_string(), "kube_client=debug");
        assert!(parse("info").unwrap().to_string().contains(NOISE));
    }

    #[test]
    fn a_bad_filter_is_named_as_it_was_written() {
        let told = parse("info,[").unwrap_err().to_string();
        assert!(told.contains("\"info,[\"") && told.contains("write a level"), "{told}");
    }
}
