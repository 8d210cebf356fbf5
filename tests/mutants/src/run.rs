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
/// fill the memory, which has a limit as well.
pub fn run(
    tree: &Path,
    program: &Path,
    tests: &[&str],
    limit: Duration,
    environment: &[(&str, &str)],
) -> Ended {
    let status = Command::new("sh")
        .args(["-c", "ulimit -v 8000000; exec timeout -s KILL \"$@\"", "sh"])
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
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a test program runs");
    match status.code() {
        Some(0) => Ended::Passed,
        // `timeout` is killed with the group.
        Some(124 | 137) | None => Ended::TimedOut,
        Some(_) => Ended::Failed,
    }
}
