//! Logging to stderr: stdout is for the output of commands.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogFormat;

/// Error of the log setup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not valid in the syntax of EnvFilter.
    #[error("invalid log filter {0:?}: {1}; use a level such as info, or localcluster_operator=debug,warn")]
    Filter(String, String),
    /// Logging is set up already.
    #[error("logging is set up already")]
    Twice,
}

/// Filter for messages of the Kubernetes client about responses with status 500 and above and closed connections. A
/// created cluster that is starting causes both for a while: this is normal, and real failures are returned as errors,
/// which are logged with their context.
const NOISE: &str = "kube_client::client=off";

/// Sets up logging of the process. Must be called once.
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
        assert!(told.contains("\"info,[\"") && told.contains("use a level"), "{told}");
    }
}
