//! Delays per failed object. kube has only one delay for a whole controller, so that one failing object would delay all
//! others.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::times;

/// Bounds of a delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Delay after the first failure. Each further failure doubles it.
    pub first: Duration,
    /// Maximum.
    pub last: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        times::DOCKER
    }
}

/// Delays of objects, by key.
#[derive(Debug, Default)]
pub struct Backoff<K> {
    limits: Limits,
    failing: Mutex<HashMap<K, Failing>>,
}

impl<K: Eq + Hash> Backoff<K> {
    /// Creates delays with these bounds.
    pub fn new(limits: Limits) -> Self {
        Self { limits, failing: Mutex::default() }
    }

    /// Records a failure and returns the delay from `now` on. `jitter` (0 to 1) shortens it by up to a fifth, so that
    /// objects that failed together are not retried together.
    pub fn failed(&self, key: K, now: Instant, jitter: f64) -> Duration {
        let mut failing = self.lock();
        let next = Failing::next(failing.get(&key), self.limits, now, jitter);
        failing.insert(key, next);
        next.due.saturating_duration_since(now)
    }

    /// Removes an object that succeeded or is deleted. Reports whether it had been failing.
    pub fn cleared(&self, key: &K) -> bool {
        self.lock().remove(key).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Failing>> {
        // Each change is one insert or remove: a panic elsewhere leaves no partial change.
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Delays of objects whose passes took too long, by UID.
#[derive(Debug)]
pub struct Overdue(pub Backoff<String>);

impl Default for Overdue {
    fn default() -> Self {
        Self(Backoff::new(times::OVERDUE))
    }
}

/// A failed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failing {
    /// Number of failures after an elapsed delay.
    times: u32,
    /// Time of the next attempt.
    due: Instant,
}

impl Failing {
    /// Returns the state after one more failure at `now`. A failure before the delay has elapsed comes from another
    /// trigger and does not count: otherwise an object with frequent events would wait for minutes within a second.
    fn next(previous: Option<&Self>, limits: Limits, now: Instant, jitter: f64) -> Self {
        let times = match previous {
            Some(early) if now < early.due => return *early,
            Some(previous) => previous.times.saturating_add(1),
            None => 0,
        };
        Self { times, due: now + delay(limits, times).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 5.0) }
    }
}

/// Returns the delay after this number of failures before the last one.
pub fn delay(limits: Limits, times: u32) -> Duration {
    let factor = 2u32.checked_pow(times);
    let delay = factor.and_then(|factor| limits.first.checked_mul(factor));
    delay.map_or(limits.last, |delay| delay.min(limits.last))
}

/// Returns a random number from 0 to 1. The hashers of the standard library have sufficiently random seeds.
pub fn jitter() -> f64 {
    RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { first: Duration::from_secs(1), last: Duration::from_secs(10) };

    fn secs(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    #[test]
    fn doubles_up_to_the_cap_for_ever() {
        let backoff = Backoff::new(LIMITS);
        let mut now = Instant::now();
        let delays: Vec<_> = (0..40)
            .map(|_| {
                let delay = backoff.failed("a", now, 0.0);
                now += delay;
                delay.as_secs()
            })
            .collect();
        assert_eq!(delays[..6], [1, 2, 4, 8, 10, 10]);
        assert_eq!(delays[39], 10);
    }

    #[test]
    fn a_failure_before_the_delay_is_over_raises_nothing_and_keeps_the_appointment() {
        let backoff = Backoff::new(LIMITS);
        let start = Instant::now();
        assert_eq!(backoff.failed("a", start, 0.0), secs(1.0));
        assert_eq!(backoff.failed("a", start + secs(0.25), 0.0), secs(0.75));
        assert_eq!(backoff.failed("a", start + secs(0.5), 0.0), secs(0.5));
        assert_eq!(backoff.failed("a", start + secs(1.0), 0.0), secs(2.0));
    }

    #[test]
    fn success_starts_over() {
        let backoff = Backoff::new(LIMITS);
        let start = Instant::now();
        backoff.failed("a", start, 0.0);
        backoff.failed("a", start + secs(5.0), 0.0);
        assert!(backoff.cleared(&"a"));
        assert!(!backoff.cleared(&"a"));
        assert_eq!(backoff.failed("a", start + secs(5.0), 0.0), secs(1.0));
    }

    #[test]
    fn objects_do_not_wait_for_each_other() {
        let backoff = Backoff::new(LIMITS);
        let start = Instant::now();
        backoff.failed("a", start, 0.0);
        backoff.failed("a", start + secs(1.0), 0.0);
        assert_eq!(backoff.failed("b", start + secs(1.0), 0.0), secs(1.0));
    }

    #[test]
    fn jitter_only_shortens() {
        let now = Instant::now();
        assert_eq!(Backoff::new(LIMITS).failed("a", now, 1.0), secs(0.8));
        assert_eq!(Backoff::new(LIMITS).failed("a", now, 7.0), secs(0.8));
        assert!((0.0..=1.0).contains(&super::jitter()));
    }
}
