//! Expiry of a cluster, and the notice before it.

use jiff::{SignedDuration, Timestamp};

use crate::api::{HOLD_ANNOTATION, LocalCluster};

/// Notice period before the expiry: a tenth of the time to live, within these bounds.
const NOTICE: (SignedDuration, SignedDuration) =
    (SignedDuration::from_mins(1), SignedDuration::from_hours(1));

/// Expiry of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Time of the deletion.
    pub at: Timestamp,
    /// Time of the notice.
    pub notice: Timestamp,
}

/// Action that is due for an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing until then.
    Nothing(Timestamp),
    /// The notice; nothing else until then.
    Notice(Timestamp),
    /// The deletion.
    End,
}

impl Expiry {
    /// Returns what is due at `now`.
    pub fn due(self, now: Timestamp) -> Due {
        if now >= self.at {
            Due::End
        } else if now >= self.notice {
            Due::Notice(self.at)
        } else {
            Due::Nothing(self.notice)
        }
    }
}

/// Returns the expiry of a cluster; `None` without a valid time to live, or while the annotation holds the cluster.
/// The validity of the rest of the spec does not matter.
pub fn of(cluster: &LocalCluster) -> Option<Expiry> {
    let annotations = cluster.metadata.annotations.as_ref();
    let held = annotations.and_then(|a| a.get(HOLD_ANNOTATION)).is_some_and(|v| v != "false");
    let ttl = parse(cluster.spec.ttl.as_deref()?)?;
    let created = cluster.metadata.creation_timestamp.as_ref()?.0;
    let at = created.checked_add(ttl).ok().filter(|_| !held)?;
    // Never before its creation, however short its life.
    let notice = at.checked_sub((ttl / 10).clamp(NOTICE.0, NOTICE.1)).ok()?.max(created);
    Some(Expiry { at, notice })
}

/// Parses a time to live such as `1h30m`: hours, minutes and seconds in this order, more than zero in total.
pub fn parse(ttl: &str) -> Option<SignedDuration> {
    let mut rest = ttl;
    let mut seconds = 0;
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        let Some((number, after)) = rest.split_once(unit) else { continue };
        if number.is_empty() || number.len() > 6 || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        seconds += number.parse::<i64>().ok()? * length;
        rest = after;
    }
    (rest.is_empty() && seconds > 0).then(|| SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn cluster(ttl: Option<&str>, hold: Option<&str>) -> LocalCluster {
        let mut cluster = LocalCluster::default();
        cluster.metadata.creation_timestamp = Some(Time(at(1000)));
        cluster.metadata.annotations =
            hold.map(|v| [(HOLD_ANNOTATION.to_owned(), v.to_owned())].into_iter().collect());
        cluster.spec.ttl = ttl.map(str::to_owned);
        cluster
    }

    #[test]
    fn times_to_live_are_read() {
        for (text, want) in [
            ("8h", Some(8 * 3600)),
            ("1h30m", Some(5400)),
            ("1h1s", Some(3601)),
            ("90s", Some(90)),
            ("999999h999999m999999s", Some(999_999 * 3661)),
            ("0h5m", Some(300)),
            ("0s", None),
            ("0h0m0s", None),
            ("", None),
            ("8", None),
            ("h", None),
            ("1m1h", None),
            ("1d", None),
            ("-1h", None),
            ("1.5h", None),
            ("+1h", None),
            ("1000000h", None),
            ("1h ", None),
        ] {
            assert_eq!(parse(text), want.map(SignedDuration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn the_notice_is_a_tenth_of_the_life_within_bounds() {
        let of = |ttl| {
            let expiry = of(&cluster(Some(ttl), None)).unwrap();
            (expiry.at.as_second() - 1000, expiry.at.as_second() - expiry.notice.as_second())
        };
        assert_eq!(of("1h"), (3600, 360));
        assert_eq!(of("8h"), (8 * 3600, 2880));
        assert_eq!(of("100h"), (360_000, 3600));
        assert_eq!(of("5m"), (300, 60));
        assert_eq!(of("20s"), (20, 20));
    }

    #[test]
    fn each_is_due_from_its_second_on() {
        let expiry = of(&cluster(Some("10m"), None)).unwrap();
        for (now, want) in [
            (1000, Due::Nothing(at(1540))),
            (1539, Due::Nothing(at(1540))),
            (1540, Due::Notice(at(1600))),
            (1599, Due::Notice(at(1600))),
            (1600, Due::End),
            (9999, Due::End),
        ] {
            assert_eq!(expiry.due(at(now)), want, "{now}");
        }
    }

    #[test]
    fn any_hold_but_false_holds() {
        let ends = |hold| of(&cluster(Some("1h"), hold)).is_some();
        assert!(ends(None) && ends(Some("false")));
        assert!(!ends(Some("true")) && !ends(Some("")) && !ends(Some("until friday")));
        assert!(of(&cluster(None, None)).is_none() && of(&cluster(Some("soon"), None)).is_none());
    }
}
