//! K3s's log: what it says before it ends.

/// The longest words that are worth telling.
const MAX: usize = 300;

/// Why a node ended, by the last lines of its log, oldest first: what it calls fatal, or the component that ended
/// (K3s then ends with exit code 0), or its last error. Without the time, so that the same cause reads the same.
pub fn last_words(lines: &[String]) -> Option<String> {
    let find = |what: &str| lines.iter().rev().find(|line| line.contains(what));
    let line =
        find("level=fatal").or_else(|| find("Shutdown request received")).or_else(|| find("level=error"))?;
    let message = line.split_once("msg=").map_or(line.as_str(), |(_, message)| message);
    // logrus quotes as Go does, which for plain text is as JSON does.
    let message =
        serde_json::from_str::<String>(message).unwrap_or_else(|_| message.trim_matches('"').to_owned());
    Some(message.chars().take(MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_in_the_noise() {
        let said = |lines: &[&str]| last_words(&lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            said(&[
                r#"time="2026-11-25T04:08:38Z" level=error msg="Pod network is not ready""#,
                r#"time="2026-11-25T04:08:38Z" level=error msg="Shutdown request received: \"kubelet exited: exit status 1\"""#,
                "I1125 04:08:38.310378      51 reflector.go:664] watch ended",
            ])
            .as_deref(),
            Some("Shutdown request received: \"kubelet exited: exit status 1\"")
        );
        assert_eq!(
            said(&[r#"time="x" level=fatal msg="Error: flag provided but not defined: -foo""#, "help"])
                .as_deref(),
            Some("Error: flag provided but not defined: -foo")
        );
        assert_eq!(said(&["I1125 fine"]), None);
    }
}
