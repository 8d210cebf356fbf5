//! Standard streams of commands in containers.

use std::io;

use bollard::{container::LogOutput, errors::Error, models::ExecConfig};
use futures::{Stream, StreamExt};
use tokio::io::AsyncWrite;
use tokio_util::compat::TokioAsyncWriteCompatExt;

use super::engine::Attached;

/// Returns the configuration of a command with attached output.
pub fn config(command: &[String]) -> ExecConfig {
    ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..Default::default()
    }
}

/// Returns the streams of a started command.
pub fn streams(
    output: impl Stream<Item = Result<LogOutput, Error>> + Send + 'static,
    input: impl AsyncWrite + Send + 'static,
) -> Attached {
    let read = |record: Result<LogOutput, Error>| match record.map_err(io::Error::other)? {
        LogOutput::StdOut { message } => Ok(message),
        LogOutput::StdIn { message } | LogOutput::StdErr { message } | LogOutput::Console { message } => {
            Err(io::Error::other(String::from_utf8_lossy(&message).trim().to_owned()))
        }
    };
    Attached { input: Box::pin(input.compat_write()), output: output.map(read).boxed() }
}

#[cfg(test)]
mod tests {
    use futures::{TryStreamExt, stream};

    use super::*;

    #[tokio::test]
    async fn standard_error_and_messages_of_the_engine_are_errors() {
        let records = [
            Ok(LogOutput::StdOut { message: "a".into() }),
            Ok(LogOutput::StdErr { message: "no such address\n".into() }),
            Ok(LogOutput::Console { message: "exec failed: no such file\r\n".into() }),
        ];
        let output = streams(stream::iter(records), tokio::io::sink()).output;
        let read: Vec<_> = output.map(|r| r.map_err(|e| e.to_string())).collect().await;
        let failed = |words: &str| Err(words.to_owned());
        assert_eq!(read, [Ok("a".into()), failed("no such address"), failed("exec failed: no such file")]);
        let ended = streams(stream::iter([Err(Error::RequestTimeoutError)]), tokio::io::sink()).output;
        assert!(ended.try_collect::<Vec<_>>().await.is_err());
    }
}
