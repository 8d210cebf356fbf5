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

/// Whether a server that was run with `--cluster-reset` did reset etcd, then or, where it refuses to do it twice, before.
pub fn was_reset(lines: &[String]) -> bool {
    const SAID: [&str; 2] = ["cluster membership has been reset", "please remove the cluster-reset flag"];
    lines.iter().any(|line| SAID.iter().any(|said| line.contains(said)))
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

    #[test]
    fn a_reset_is_told_then_and_when_it_is_asked_for_again() {
        let said =
            |line: &str| was_reset(&["level=info msg=\"ETCD server is now running\"".into(), line.into()]);
        assert!(said(
            "level=info msg=\"Managed etcd cluster membership has been reset, restart without --cluster-reset flag now.\""
        ));
        assert!(said(
            "level=fatal msg=\"Managed etcd cluster membership was previously reset, please remove the cluster-reset flag \
             and start k3s normally.\""
        ));
        assert!(!said("level=fatal msg=\"Error: --server is to be empty with --cluster-reset\""));
    }
}
