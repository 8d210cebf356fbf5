//! Time as the benches take it: in seconds since 1970, as the engine's times are.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Returns the time.
pub fn clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64()
}

/// Reads a time in the form of Docker and Kubernetes.
pub fn time(text: &str) -> Result<f64, String> {
    let time: Timestamp = text.parse().map_err(|e| format!("{text}: {e}"))?;
    Ok(time.as_duration().as_secs_f64())
}

/// Returns how many seconds something takes.
pub fn timed(act: impl FnOnce()) -> f64 {
    let began = Instant::now();
    act();
    began.elapsed().as_secs_f64()
}

/// Asks until the answer is there, without a pause: the moment of the answer is what is measured, and each question is
/// a process of its own.
pub fn promptly<T>(seconds: u64, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) => {
                let late = began.elapsed() > Duration::from_secs(seconds);
                assert!(!late, "not within {seconds} s: {what}: {why}");
            }
        }
    }
}
