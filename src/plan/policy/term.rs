//! A period that a HostPolicy begins for an object that exists already.
//!
//! It is counted from when the policy first applied to the object, so that a new or a stricter policy does nothing at once.

use jiff::{SignedDuration, Timestamp};

/// A period of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Its beginning.
    pub since: Timestamp,
    /// Its length.
    pub length: SignedDuration,
}

impl Term {
    /// Returns its end; `None` beyond the end of time.
    pub fn end(self) -> Option<Timestamp> {
        self.since.checked_add(self.length).ok()
    }

    /// Returns the period for a policy with this length, which begins at `begin` if there was none. A longer one moves the
    /// end of the one before, and a shorter one begins now, but ends no later.
    pub fn of(previous: Option<Self>, length: SignedDuration, (begin, now): (Timestamp, Timestamp)) -> Self {
        // Whole seconds, as in the API: the value equals the one that is read back.
        let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
        let (begin, now) = (whole(begin), whole(now));
        let Some(previous) = previous else { return Self { since: begin, length } };
        if length >= previous.length {
            return Self { length, ..previous };
        }
        let same_end = previous.end().and_then(|end| end.checked_sub(length).ok());
        Self { since: same_end.map_or(now, |since| since.min(now)), length }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn hours(hours: i64) -> SignedDuration {
        SignedDuration::from_hours(hours)
    }

    #[test]
    fn a_longer_term_moves_the_end_and_a_shorter_one_begins_again() {
        let hour = 3600;
        let term = Term::of(None, hours(10), (at(5), at(9)));
        assert_eq!((term.since, term.end()), (at(5), Some(at(5 + 10 * hour))));
        let again = |term, length, now| Term::of(Some(term), hours(length), (at(0), at(now)));
        assert_eq!(again(term, 10, 8 * hour), term);
        assert_eq!(again(term, 20, 8 * hour), Term { since: at(5), length: hours(20) });
        // There is time for what is announced, and the end is never later than before.
        assert_eq!(again(term, 1, 8 * hour).end(), Some(at(9 * hour)));
        assert_eq!(again(term, 9, 8 * hour).end(), term.end());
    }

    proptest! {
        #[test]
        fn a_change_leaves_its_length_or_the_end_before(since in 0..9_999_i64, old in 1..99_i64, new in 1..99_i64, now in 0..99_999_i64) {
            let before = Term { since: at(since), length: hours(old) };
            let after = Term::of(Some(before), hours(new), (at(now), at(now)));
            prop_assert!(after.end() >= before.end().min(at(now).checked_add(hours(new)).ok()));
            prop_assert!(new > old || after.end() <= before.end());
        }
    }
}
