//! Output of a command in a container.

use bollard::{container::LogOutput, errors::Error};
use futures::{Stream, TryStreamExt};

use super::engine::Ended;

/// Output of a command.
#[derive(Debug, Default)]
pub struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    /// Reads the output until the command exits, at most about `limit` bytes of each stream.
    pub async fn read(
        output: &mut (impl Stream<Item = Result<LogOutput, Error>> + Unpin),
        limit: usize,
    ) -> Result<Self, Error> {
        let mut read = Self::default();
        while let Some(record) = output.try_next().await? {
            let of = match &record {
                LogOutput::StdErr { .. } => &mut read.stderr,
                _ => &mut read.stdout,
            };
            if of.len() < limit {
                of.extend_from_slice(&record.into_bytes());
            }
        }
        Ok(read)
    }

    /// Returns the output with the exit code.
    pub fn ended(self, code: i64) -> Ended {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended { code, stdout: text(self.stdout), stderr: text(self.stderr) }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_warning_in_the_middle_is_no_part_of_the_answer() {
        let out = |message: &'static str| Ok(LogOutput::StdOut { message: message.into() });
        let err = |message: &'static str| Ok(LogOutput::StdErr { message: message.into() });
        let records = [out("{\"a\":"), err("level=warning\n"), out("1}"), err("level=info\n"), out("beyond")];
        let output = Output::read(&mut stream::iter(records), 7).await.unwrap();
        assert_eq!(output.ended(0).succeeded().unwrap(), "{\"a\":1}");
    }

    #[test]
    fn a_failure_is_reported_by_its_last_words() {
        let failed = |stdout: &str, stderr: &str| {
            let output = Output { stdout: stdout.into(), stderr: stderr.into() };
            output.ended(3).succeeded().unwrap_err().to_string()
        };
        assert!(failed("half of it", "a\nb: not found\n\n").ends_with("exit code 3: b: not found"));
        // Docker reports a command that cannot be started on stdout.
        assert!(
            failed("exec failed: no such file\r\n", "").ends_with("exit code 3: exec failed: no such file")
        );
        assert!(failed("", "").ends_with("exit code 3"));
    }
}
