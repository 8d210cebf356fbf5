//! Expiry of a cluster, and the notice before it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::policy::{standing::Standing, term::Term};
use crate::api::{HOLD_ANNOTATION, LocalCluster, LocalClusterStatus};

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

/// Reports whether the annotation [`HOLD_ANNOTATION`] keeps an object beyond its life.
pub fn is_held(meta: &ObjectMeta) -> bool {
    let annotations = meta.annotations.as_ref();
    annotations.and_then(|all| all.get(HOLD_ANNOTATION)).is_some_and(|value| value != "false")
}

/// Returns the expiry of a cluster; `None` without a valid time to live, or while the annotation holds the cluster. The
/// default of its policy is that of a spec without one. The validity of the rest of the spec does not matter.
pub fn of(cluster: &LocalCluster, default: Option<Term>) -> Option<Expiry> {
    let life = match cluster.spec.ttl.as_deref() {
        Some(ttl) => Term { since: created(cluster)?, length: parse(ttl)? },
        None => default?,
    };
    let at = life.end().filter(|_| !is_held(&cluster.metadata))?;
    // Never before its beginning, however short its life.
    let notice = at.checked_sub((life.length / 10).clamp(NOTICE.0, NOTICE.1)).ok()?.max(life.since);
    Some(Expiry { at, notice })
}

/// Time for which a cluster is new: a default of its policy counts from its creation then.
const NEW: SignedDuration = SignedDuration::from_mins(1);

/// Returns the time to live that the policy sets for a cluster without one. `status` is the last one.
pub fn default(
    cluster: &LocalCluster,
    status: &LocalClusterStatus,
    standing: &Standing,
    now: Timestamp,
) -> Option<Term> {
    let recorded = recorded(status);
    if cluster.spec.ttl.is_some() {
        return None;
    }
    if standing.is_unknown() {
        return recorded;
    }
    let begin = created(cluster).filter(|created| now.duration_since(*created) < NEW).unwrap_or(now);
    Some(Term::of(recorded, standing.rules.default_ttl?, (begin, now)))
}

/// Returns the default time to live that a status records.
pub fn recorded(status: &LocalClusterStatus) -> Option<Term> {
    let effective = status.effective.as_ref()?;
    Some(Term { since: effective.ttl_since.as_ref()?.0, length: parse(effective.ttl.as_deref()?)? })
}

fn created(cluster: &LocalCluster) -> Option<Timestamp> {
    Some(cluster.metadata.creation_timestamp.as_ref()?.0)
}

/// Returns a time to live as users write it.
pub fn text(ttl: SignedDuration) -> String {
    let seconds = ttl.as_secs();
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect()
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
    use crate::api::local_cluster::Effective;

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
            let expiry = of(&cluster(Some(ttl), None), None).unwrap();
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
        let expiry = of(&cluster(Some("10m"), None), None).unwrap();
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
        let ends = |hold| of(&cluster(Some("1h"), hold), None).is_some();
        assert!(ends(None) && ends(Some("false")));
        assert!(!ends(Some("true")) && !ends(Some("")) && !ends(Some("until friday")));
        assert!(of(&cluster(None, None), None).is_none() && of(&cluster(Some("soon"), None), None).is_none());
    }

    fn standing(rules: &str) -> Standing {
        let spec = serde_saphyr::from_str(&format!("{{namespaceSelector: {{}}, {rules}}}")).unwrap();
        let policies = [crate::plan::policy::parse::policy("teams", &spec)];
        Standing::of(&policies, ("default", Some(&Default::default())), Default::default())
    }

    /// The status after a look at this time.
    fn after(status: &LocalClusterStatus, standing: &Standing, now: i64) -> LocalClusterStatus {
        let term = default(&cluster(None, None), status, standing, at(now));
        let effective = term.map(|term| Effective {
            ttl: Some(text(term.length)),
            ttl_since: Some(Time(term.since)),
            ..Effective::default()
        });
        LocalClusterStatus { effective, ..LocalClusterStatus::default() }
    }

    #[test]
    fn a_default_counts_from_the_creation_or_from_when_it_first_applied() {
        let end = |status: &LocalClusterStatus| {
            of(&cluster(None, None), recorded(status)).map(|expiry| expiry.at.as_second())
        };
        let (policy, none) = (standing("defaults: {ttl: 1h}"), LocalClusterStatus::default());
        assert_eq!(end(&after(&none, &policy, 1010)), Some(1000 + 3600));
        let old = after(&none, &policy, 90_000);
        assert_eq!((end(&old), end(&after(&old, &policy, 91_000))), (Some(93_600), Some(93_600)));
        // What is unknown changes nothing, and a policy without a default ends nothing.
        for (rules, kept) in [("quota: {memory: much}", true), ("priority: 1", false)] {
            assert_eq!(end(&after(&old, &standing(rules), 92_000)).is_some(), kept, "{rules}");
        }
        assert_eq!(end(&after(&old, &standing("defaults: {ttl: 2h}"), 92_000)), Some(97_200));
        assert_eq!(end(&after(&old, &standing("defaults: {ttl: 10m}"), 92_000)), Some(92_600));
        // The spec has precedence.
        assert_eq!(default(&cluster(Some("5h"), None), &old, &policy, at(92_000)), None);
    }

    #[test]
    fn a_time_to_live_is_written_as_it_is_read() {
        for ttl in ["72h", "1h30m", "5s", "1h1s", "999999h59m59s"] {
            assert_eq!(text(parse(ttl).unwrap()), ttl);
        }
    }
}
