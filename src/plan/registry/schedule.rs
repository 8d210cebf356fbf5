//! Times at which garbage collections begin by themselves.

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::{SignedDuration, Timestamp};

/// Time after which a missed garbage collection is skipped: nobody expects it then.
const LATE: SignedDuration = SignedDuration::from_hours(1);

/// A parsed cron expression, in UTC.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    times: Crontab,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Schedule {
    /// Parses a cron expression of five fields; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let times = cronexpr::parse_crontab_with(text, options).ok()?;
        Some(Self { text: text.to_owned(), times })
    }

    /// Returns the first time after another one; `None` if there is none within years.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        self.times.find_next(MakeTimestamp(time)).ok().map(|next| next.timestamp())
    }

    /// Returns the time that a garbage collection is due for, if none has been completed since then. `last` is the time of
    /// the last completion, or of the creation of the Registry.
    pub fn due(&self, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let earliest = now.checked_sub(LATE).ok()?;
        let since = last.map_or(earliest, |last| last.max(earliest));
        self.after(since).filter(|time| *time <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2026-11-30T{time}Z").parse().unwrap()
    }

    #[test]
    fn a_time_is_due_for_an_hour_unless_one_was_completed_since() {
        let daily = Schedule::parse("0 3 * * *").unwrap();
        let three = Some(at("03:00:00"));
        assert_eq!(daily.due(None, at("02:59:59")), None);
        assert_eq!(daily.due(None, at("03:00:00")), three);
        assert_eq!(daily.due(None, at("03:59:59")), three);
        assert_eq!(daily.due(None, at("04:00:01")), None, "it was missed");
        assert_eq!(daily.due(Some(at("02:00:00")), at("03:10:00")), three);
        assert_eq!(daily.due(Some(at("03:00:20")), at("03:10:00")), None, "it is done");
        // The clock was put back.
        assert_eq!(daily.due(Some(at("09:00:00")), at("03:10:00")), None);
        assert_eq!(daily.after(at("03:00:00")), Some("2026-12-01T03:00:00Z".parse().unwrap()));
        let often = Schedule::parse("*/10 * * * *").unwrap();
        assert_eq!(often.due(Some(at("03:09:00")), at("03:25:00")), Some(at("03:10:00")));
    }

    #[test]
    fn what_is_no_cron_expression_is_refused() {
        for bad in
            ["", "daily", "0 3 * *", "60 3 * * *", "0 24 * * *", "0 3 * * MOO", "0 3 0 * *", "H 3 * * *"]
        {
            assert_eq!(Schedule::parse(bad), None, "{bad}");
        }
        for good in ["0 3 * * *", "*/15 0-6 1,15 * MON-FRI", "0 3 29 2 *"] {
            assert!(Schedule::parse(good).is_some(), "{good}");
        }
        let three = Schedule::parse("0 3 * * *");
        assert!(three == Schedule::parse("0 3 * * *") && three != Schedule::parse("0 4 * * *"));
        let never = Schedule::parse("0 3 31 2 *");
        assert_eq!(never.and_then(|never| never.after(at("00:00:00"))), None);
    }
}
