//! Runs tests.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// How tests ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Passed,
    Failed,
    TimedOut,
}

/// Runs tests of a program one after the other, in a process group that is killed once the time is over. A change may
/// fill the memory, which has a limit as well. Returns how they ended, and the CPU time that they took, which does not
/// depend on what else runs.
pub fn run(
    tree: &Path,
    program: &Path,
    tests: &[&str],
    limit: Duration,
    environment: &[(&str, &str)],
) -> (Ended, Duration) {
    let script = "ulimit -v 8000000; timeout -s KILL \"$@\" >/dev/null 2>&1; code=$?; times; exit $code";
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(format!("{}", limit.as_secs_f64()))
        .arg(program)
        .args(["--exact", "--test-threads=1", "-q"])
        .args(tests)
        .current_dir(tree)
        .env("CARGO_MANIFEST_DIR", tree)
        .env("INSTA_UPDATE", "no")
        .env("INSTA_FORCE_PASS", "0")
        .env("RUST_BACKTRACE", "0")
        .env("PROPTEST_RNG_SEED", "1")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("a test program runs");
    let ended = match output.status.code() {
        Some(0) => Ended::Passed,
        // `timeout` is killed with the group.
        Some(124 | 137) | None => Ended::TimedOut,
        Some(_) => Ended::Failed,
    };
    (ended, of_children(&String::from_utf8_lossy(&output.stdout)))
}

/// Returns the CPU time of the children of a shell, from what its `times` prints: user and system time, of the shell in the
/// first line and of its children in the second.
fn of_children(times: &str) -> Duration {
    let time = |text: &str| {
        let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
        Some(60.0 * minutes.parse::<f64>().ok()? + seconds.parse::<f64>().ok()?)
    };
    let second = times.lines().nth(1).unwrap_or_default();
    Duration::from_secs_f64(second.split_whitespace().filter_map(time).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_children_is_read() {
        assert_eq!(of_children("0m9.00s 0m9.00s\n1m2.50s 0m0.25s\n"), Duration::from_millis(62750));
        assert_eq!(of_children(""), Duration::ZERO);
    }
}
