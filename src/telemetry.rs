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

/// Filter for messages of the Kubernetes client, which applies whatever the user sets. It logs the whole body of a response
/// that it cannot decode, which may be a Secret. It also logs responses with status 500 and above and closed connections,
/// which a created cluster that is starting causes for a while: this is normal, and real failures are returned as errors,
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
    // Of two directives for the same target, the last one applies.
    EnvFilter::try_new(format!("{filter},{NOISE}"))
        .map_err(|e| Error::Filter(filter.to_owned(), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it logs may contain Secrets.
    #[test]
    fn no_filter_lets_the_client_log() {
        for filter in ["info", "kube_client=debug", "kube_client::client=trace", "trace"] {
            let parsed = parse(filter).unwrap().to_string();
            assert!(parsed.contains(NOISE), "{parsed}");
            assert!(!parsed.contains("kube_client::client=trace"), "{parsed}");
        }
        assert!(parse("kube_client=debug").unwrap().to_string().contains("kube_client=debug"));
    }

    #[test]
    fn a_bad_filter_is_named_as_it_was_written() {
        let told = parse("info,[").unwrap_err().to_string();
        assert!(told.contains("\"info,[\"") && told.contains("use a level"), "{told}");
    }
}
