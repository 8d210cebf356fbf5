//! Saturating arithmetic on timestamps.
//!
//! Timestamps come from outside: from Nodes, Leases, ConfigMaps and files of created clusters, which their users can
//! edit freely. The operators of [`Timestamp`] panic beyond the year 9999 and must not be used (`clippy.toml` has a
//! lint for them).

use jiff::{SignedDuration, Timestamp};

/// Returns the time `wait` after `at`, limited to the first and last possible timestamp.
pub fn after(at: Timestamp, wait: SignedDuration) -> Timestamp {
    let beyond = if wait.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    at.checked_add(wait).unwrap_or(beyond)
}

/// Returns `wait`, doubled `times` times.
pub fn doubled(wait: SignedDuration, times: u32) -> SignedDuration {
    let factor = 1i32.checked_shl(times.min(30)).unwrap_or(i32::MAX);
    wait.checked_mul(factor).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sum_has_an_answer() {
        let second = SignedDuration::from_secs(1);
        let at = Timestamp::from_second(10).unwrap();
        assert_eq!(after(at, second), Timestamp::from_second(11).unwrap());
        assert_eq!(after(Timestamp::MAX, second), Timestamp::MAX);
        assert_eq!(after(at, SignedDuration::MAX), Timestamp::MAX);
        assert_eq!(after(Timestamp::MIN, -second), Timestamp::MIN);
        assert_eq!(after(at, SignedDuration::MIN), Timestamp::MIN);
    }

    #[test]
    fn every_doubling_has_an_answer() {
        let second = SignedDuration::from_secs(1);
        assert_eq!((doubled(second, 0), doubled(second, 3)), (second, second * 8));
        assert_eq!(doubled(second, u32::MAX), second * (1 << 30));
        assert_eq!(doubled(SignedDuration::MAX, 1), SignedDuration::MAX);
    }
}
