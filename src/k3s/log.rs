//! The log of K3s: its last messages before it exits.

use jiff::{SignedDuration, Timestamp};

use crate::time::after;

/// Maximum length of a message.
const MAX: usize = 300;

/// Returns the reason why a node exited, from the last lines of its log, oldest first: the fatal message, or the
/// component that exited (K3s then exits with code 0), or the last error. The time is removed, so that the same cause
/// has the same message.
pub fn last_words(lines: &[String]) -> Option<String> {
    let find = |what: &str| lines.iter().rev().find(|line| line.contains(what));
    let line =
        find("level=fatal").or_else(|| find("Shutdown request received")).or_else(|| find("level=error"))?;
    let message = line.split_once("msg=").map_or(line.as_str(), |(_, message)| message);
    // logrus quotes as Go does, which for plain text equals JSON.
    let message =
        serde_json::from_str::<String>(message).unwrap_or_else(|_| message.trim_matches('"').to_owned());
    Some(message.chars().take(MAX).collect())
}

/// Messages of K3s and its components about invalid arguments. Retrying gives the same result.
const REFUSED: [&str; 7] = [
    "flag provided but not defined",
    "invalid argument \"",
    "invalid value \"",
    "must share the same IP version",
    "unknown flag: ",
    "unknown shorthand flag",
    "failed to validate kubelet flags",
];

/// Returns the message with which K3s rejects its arguments, if it does.
pub fn refused_arguments(lines: &[String]) -> Option<String> {
    last_words(lines).filter(|words| REFUSED.iter().any(|refused| words.contains(refused)))
}

/// Reports whether the cluster has rejected the password of a node since this time.
pub fn rejected_since(lines: &[String], since: Timestamp) -> bool {
    let at = |line: &str| line.strip_prefix("time=\"")?.split_once('"')?.0.parse::<Timestamp>().ok();
    // Log lines have a resolution of one second.
    let recent = |at: Timestamp| after(at, SignedDuration::from_secs(1)) >= since;
    lines.iter().any(|line| line.contains("Node password rejected") && at(line).is_some_and(recent))
}

/// Reports whether a server that was run with `--cluster-reset` did reset etcd, in this run or, if it refuses to repeat
/// it, in an earlier one.
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
    fn refused_arguments_are_told_from_what_passes() {
        let refused = |message: &str| {
            let line = format!("time=\"x\" level=fatal msg={}", serde_json::to_string(message).unwrap());
            refused_arguments(&[line, "   --help, -h  show help".into()])
        };
        for message in [
            "Error: flag provided but not defined: -no-deploy",
            "Error: invalid value \"x\" for flag -v: parse error",
            "flannel exited: cluster-cidr: 10.42.0.0/16 and node-ip: fd00::1, must share the same IP version",
            "Shutdown request received: \"kubelet exited: failed to parse kubelet flag: unknown flag: --max-pod\"",
        ] {
            assert_eq!(refused(message).as_deref(), Some(message));
        }
        for message in [
            "Error: preparing server: failed to bootstrap cluster data: failed to get CA certs: connection refused",
            "Shutdown request received: \"etcd cluster join failed: duplicate node name found\"",
        ] {
            assert_eq!(refused(message), None);
        }
    }

    #[test]
    fn only_a_refusal_since_the_last_start_counts() {
        let line = |at: &str, message: &str| format!("time=\"{at}\" level=info msg=\"{message}\"");
        let refused =
            "Waiting to retrieve agent configuration; server is not ready: Node password rejected, duplicate";
        let lines =
            [line("2026-11-25T04:08:38Z", refused), line("2026-11-25T04:08:50Z", "Starting k3s agent")];
        let since = |at: &str| rejected_since(&lines, at.parse().unwrap());
        assert!(since("2026-11-25T04:08:38.900Z") && since("2026-11-25T04:00:00Z"));
        assert!(!since("2026-11-25T04:08:49Z"));
        assert!(!rejected_since(&["Node password rejected".into()], Timestamp::MIN));
    }

    #[test]
    fn a_reset_is_told_then_and_when_it_is_asked_for_again() {
        let said =
            |line: &str| was_reset(&["level=info msg=\"ETCD server is now running\"".into(), line.into()]);
        assert!(said(
            "level=info msg=\"Managed etcd cluster membership has been reset, restart without --cluster-reset flag \
             now.\""
        ));
        assert!(said(
            "level=fatal msg=\"Managed etcd cluster membership was previously reset, please remove the cluster-reset \
             flag \
             and start k3s normally.\""
        ));
        assert!(!said("level=fatal msg=\"Error: --server is to be empty with --cluster-reset\""));
    }
}
