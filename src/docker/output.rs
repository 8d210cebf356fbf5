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
    /// Reads the output until the command exits, at most about `limit` bytes of each stream, and no more than several
    /// times that: a command that does not stop writing would occupy the engine until its timeout.
    pub async fn read(
        output: &mut (impl Stream<Item = Result<LogOutput, Error>> + Unpin),
        limit: usize,
    ) -> Result<Self, Error> {
        let mut rest = limit.saturating_mul(ENDLESS);
        let mut read = Self::default();
        while let Some(record) = output.try_next().await? {
            rest = rest.checked_sub(record.as_ref().len()).ok_or_else(endless)?;
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

/// An output that is so many times larger than what is read of it has no end.
const ENDLESS: usize = 16;

fn endless() -> Error {
    Error::DockerStreamError { error: "the command does not stop writing".to_owned() }
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

    #[tokio::test]
    async fn an_output_without_end_ends() {
        let word = || Ok(LogOutput::StdOut { message: "y\n".into() });
        let failed = Output::read(&mut stream::repeat_with(word), 7).await.unwrap_err();
        assert!(failed.to_string().contains("does not stop writing"), "{failed}");
        let many = stream::iter((0..7 * ENDLESS / 2).map(|_| word()));
        assert_eq!(Output::read(&mut Box::pin(many), 7).await.unwrap().stdout.len(), 8);
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
