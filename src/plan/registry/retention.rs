//! Retention: which tags and images a garbage collection keeps.
//!
//! The collecting container applies the rules itself, with a script, since only there the times of the pushes are known:
//! they are the modification times of files in the data of the registry, whose API does not tell them. The creation time in
//! an image would not do: reproducible builds set it to 1970. The registry is stopped meanwhile, so that what the rules are
//! applied to is what is swept. The deletion by the API of the registry would need a running one with `deleteEnabled`, and
//! version 2 of it deletes all tags of an image with one of them.

use jiff::SignedDuration;

use crate::docker::spec::{FileChange, FileSpec};

/// The script in a collecting container.
pub const SCRIPT_FILE: &str = "/etc/localcluster/retention.sh";
/// Content of the script.
pub const SCRIPT: &str = include_str!("retention.sh");

/// Parsed rules, of which there is at least one. A tag is removed if no rule keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Number of tags to keep in each repository.
    pub keep_tags: Option<u32>,
    /// Time to keep a tag after its last push.
    pub keep_for: Option<SignedDuration>,
}

impl Retention {
    /// Returns the command that applies the rules to the data of a registry and then runs the garbage collection `collect`.
    /// The time is that of the container: a command with a time in it would be another one each time it is planned.
    pub fn command(&self, data: &str, collect: Vec<String>) -> Vec<String> {
        let (tags, seconds) =
            (self.keep_tags.unwrap_or_default(), self.keep_for.map_or(0, |time| time.as_secs()));
        let begin = ["sh", SCRIPT_FILE, data].map(str::to_owned);
        let rules = [tags.to_string(), seconds.to_string(), "registry".to_owned()];
        begin.into_iter().chain(rules).chain(collect).collect()
    }
}

/// Returns the file with the script.
pub fn script() -> FileSpec {
    let (path, content) = (SCRIPT_FILE.into(), SCRIPT.as_bytes().to_vec());
    FileSpec { path, mode: 0o600, content, change: FileChange::Replace }
}

/// Returns the numbers of tags and images that were removed, by a line of the output; `None` if that is another line, or
/// nothing was removed.
pub fn removed(line: &str) -> Option<(u64, u64)> {
    let (tags, rest) = line.strip_prefix("retention: ")?.split_once(" tags and ")?;
    let numbers = (tags.parse().ok()?, rest.strip_suffix(" images removed")?.parse().ok()?);
    (numbers != (0, 0)).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_is_not_given_keeps_nothing() {
        let command = |keep_tags, keep_for: Option<i64>| {
            let keep_for = keep_for.map(SignedDuration::from_hours);
            Retention { keep_tags, keep_for }.command("/data", vec!["garbage-collect".into()]).join(" ")
        };
        let begin = "sh /etc/localcluster/retention.sh /data";
        assert_eq!(command(Some(3), None), format!("{begin} 3 0 registry garbage-collect"));
        assert_eq!(command(None, Some(2)), format!("{begin} 0 7200 registry garbage-collect"));
        assert_eq!(command(Some(1), Some(720)), format!("{begin} 1 2592000 registry garbage-collect"));
    }
}
