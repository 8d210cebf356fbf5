//! How full the storage of a registry with `spec.storage.maxSize` is, and what follows from it: a garbage collection from
//! [`NEAR`] on, and no more pushes from [`FULL`] on until less than [`ROOM`] is used.
//!
//! The size is measured in the container of the registry. While it is unknown, all stays as it is.

use super::{Subject, config::DATA};
use crate::{
    api::{names, reason::Reason},
    docker::engine::ContainerDetail,
    plan::{observed::Host, validate::quantity},
};

/// Percentage of the maximum size from which on the storage is nearly full.
const NEAR: i64 = 90;
/// Percentage from which on pushes are refused.
const FULL: i64 = 100;
/// Percentage below which they are taken again. Another one than [`FULL`], since each change replaces the container.
const ROOM: i64 = 95;
/// Percentage of the maximum size by which the storage has to grow until another garbage collection begins because of it.
/// Each one stops the registry, and one that has nothing to remove would have nothing to remove an hour later.
const GROWTH: i64 = 5;

/// Command that measures the storage in the container of a registry. The engine could too, but only all volumes at once, and
/// no directory of the host.
pub const COMMAND: [&str; 3] = ["du", "-sk", DATA];

/// Returns the size in bytes that the command printed; `None` if it did not. Its exit code says nothing about that: it is
/// 1 if a file was gone when its turn came, as those of a push are.
pub fn parse(output: &str) -> Option<i64> {
    let kibibytes: i64 = output.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024).filter(|bytes| *bytes >= 0)
}

/// How full a storage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    used: i64,
    max: i64,
}

impl Fill {
    /// Returns how full the storage is with so many bytes; `None` without a maximum size.
    pub fn of(used: i64, max: Option<i64>) -> Option<Self> {
        max.filter(|max| *max > 0).map(|max| Self { used, max })
    }

    /// Returns how full the storage is, by the last measurement or else by the last status.
    fn known(subject: &Subject<'_>) -> Option<Self> {
        let before = || quantity::bytes(&subject.previous.storage.as_ref()?.used);
        Self::of(subject.used.or_else(before)?, subject.valid.max_size)
    }

    fn percent(self) -> i64 {
        i64::try_from(i128::from(self.used) * 100 / i128::from(self.max)).unwrap_or(i64::MAX)
    }

    /// Returns the size that is used, rounded down to a hundredth of the maximum size, so that few pushes change it.
    pub fn told(self) -> String {
        told(i64::try_from(i128::from(self.max) * i128::from(self.percent()) / 100).unwrap_or(i64::MAX))
    }

    /// Returns the status of the condition `StorageFull`, its reason and its message.
    pub fn judge(self, is_cache: bool) -> (bool, Reason, String) {
        let (percent, used, max) = (self.percent(), self.told(), told(self.max));
        let holds = format!("the storage holds {used} of {max} ({percent} %)");
        if percent < NEAR {
            return (false, Reason::BelowMaxSize, String::new());
        }
        let reason = if percent < FULL { Reason::NearMaxSize } else { Reason::MaxSizeExceeded };
        let message = match (is_cache, reason) {
            (true, _) => format!(
                "{holds}, and the cache goes on caching: shorten spec.proxy.ttl, which applies to images that are cached \
                 from then on, or raise spec.storage.maxSize"
            ),
            (false, Reason::NearMaxSize) => format!(
                "{holds}, and pushes are refused at {FULL} %: delete images and collect garbage, set spec.retention, or \
                 raise spec.storage.maxSize"
            ),
            (false, _) => format!(
                "pushes and deletions are refused until less than {ROOM} % is used: {holds}; raise \
                 spec.storage.maxSize, or set spec.retention and request a garbage collection"
            ),
        };
        (true, reason, message)
    }
}

/// Returns a size in the largest unit in which it has two digits, with one decimal: rounded by less than a hundredth.
fn told(bytes: i64) -> String {
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes >= 10_i64 << shift);
    let (unit, shift) = unit.unwrap_or(("Ki", 10));
    let tenths = (i128::from(bytes) * 10 + (1_i128 << (shift - 1))) >> shift;
    let (whole, tenth) = (tenths / 10, tenths % 10);
    if tenth == 0 { format!("{whole}{unit}") } else { format!("{whole}.{tenth}{unit}") }
}

/// Reports whether a garbage collection is due because the storage is nearly full, and has grown since the last one.
pub fn collects(subject: &Subject<'_>) -> bool {
    let Some(fill) = Fill::known(subject).filter(|fill| fill.percent() >= NEAR) else { return false };
    let has_grown = |least: i64| {
        i128::from(fill.used) - i128::from(least) >= i128::from(fill.max) * i128::from(GROWTH) / 100
    };
    subject.valid.proxy.is_none()
        && match &subject.previous.garbage_collection {
            None => true,
            // It counts from the first measurement after it.
            Some(done) => done.used.as_deref().and_then(quantity::bytes).is_some_and(has_grown),
        }
}

/// Returns the smallest size since a garbage collection, from which growth counts.
pub fn least(before: Option<&str>, now: Fill) -> String {
    let smaller = before.filter(|before| quantity::bytes(before).is_some_and(|before| before <= now.used));
    smaller.map_or_else(|| now.told(), str::to_owned)
}

/// Reports whether the registry refuses pushes. It begins to if a garbage collection has not made room.
pub fn is_read_only(subject: &Subject<'_>, host: &Host) -> bool {
    let valid = subject.valid;
    if valid.proxy.is_some() || valid.max_size.is_none() {
        return false;
    }
    if host.own_named(&valid.hostname).is_some_and(refuses) {
        return Fill::known(subject).is_none_or(|fill| fill.percent() >= ROOM);
    }
    // What is in the status may be from before a garbage collection.
    let measured = subject.used.and_then(|used| Fill::of(used, valid.max_size));
    measured.is_some_and(|fill| fill.percent() >= FULL) && super::collection::requested(subject).is_none()
}

/// Reports whether the container of a registry refuses pushes.
pub fn refuses(detail: &ContainerDetail) -> bool {
    detail.container.labels.contains_key(names::READ_ONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_the_first_number() {
        for (output, bytes) in [
            ("20\t/var/lib/registry\n", Some(20 << 10)),
            ("0\t/var/lib/registry", Some(0)),
            ("", None),
            ("sh: du: not found", None),
            ("-4\t/var/lib/registry", None),
            ("99999999999999999\t/", None),
        ] {
            assert_eq!(parse(output), bytes, "{output:?}");
        }
    }

    #[test]
    fn sizes_are_told_in_three_digits_and_read_back() {
        for (bytes, text) in [
            (0, "0Ki"),
            (512, "0.5Ki"),
            (9 << 30, "9216Mi"),
            (10 << 30, "10Gi"),
            ((182 << 30) / 10, "18.2Gi"),
            (1_500_000_000, "1430.5Mi"),
            (11 << 40, "11Ti"),
        ] {
            assert_eq!(told(bytes), text);
            let back = quantity::bytes(text).unwrap();
            assert!((bytes - back).abs() <= bytes / 200, "{text}");
        }
    }

    #[test]
    fn few_pushes_change_what_is_told() {
        let max = Some(20 << 30);
        let of = |used: i64| Fill::of(used, max).unwrap();
        assert_eq!(Fill::of(1, None), None);
        assert_eq!(of(18 << 30).told(), "18Gi");
        assert_eq!(of((18 << 30) + (100 << 20)).told(), "18Gi");
        assert_eq!(of((18 << 30) + (205 << 20)).told(), "18.2Gi");
        assert_eq!(of(i64::MAX).judge(false).1, Reason::MaxSizeExceeded);
    }

    #[test]
    fn it_is_full_in_two_steps() {
        let judged = |percent: i64, cache| Fill::of(percent << 30, Some(100 << 30)).unwrap().judge(cache);
        for (percent, full, reason) in [
            (0, false, Reason::BelowMaxSize),
            (89, false, Reason::BelowMaxSize),
            (90, true, Reason::NearMaxSize),
            (99, true, Reason::NearMaxSize),
            (100, true, Reason::MaxSizeExceeded),
            (250, true, Reason::MaxSizeExceeded),
        ] {
            for cache in [false, true] {
                let (is, why, message) = judged(percent, cache);
                assert_eq!((is, why), (full, reason), "{percent}");
                assert_eq!(message.is_empty(), !full, "{message}");
                assert_eq!(message.contains("refused"), full && !cache, "{message}");
                assert!(
                    !full || message.contains(&format!("{percent}Gi of 100Gi ({percent} %)")),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn what_is_recorded_is_the_least() {
        let now = |gibibytes: i64| Fill::of(gibibytes << 30, Some(100 << 30)).unwrap();
        for (before, of, is) in [
            (Some("80Gi"), 90, "80Gi"),
            (Some("80Gi"), 70, "70Gi"),
            (None, 70, "70Gi"),
            (Some("?"), 70, "70Gi"),
        ] {
            assert_eq!(least(before, now(of)), is);
        }
    }
}
