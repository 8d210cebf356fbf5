//! Memory and CPU quantities.

use super::checker::{Checker, is};
use crate::api::{
    registry::MAX_SIZE,
    rules::{self, pattern, text},
};

impl Checker {
    /// Parses a quantity of memory as bytes.
    pub(super) fn memory(&mut self, path: &str, memory: Option<&str>) -> Option<i64> {
        self.size((path, text::MEMORY), memory?, rules::MEMORY)
    }

    /// Parses the maximum size of a storage as bytes.
    pub(super) fn max_size(&mut self, path: &str, size: Option<&str>) -> Option<i64> {
        self.size((path, text::MAX_SIZE), size?, MAX_SIZE)
    }

    fn size(&mut self, (path, message): (&str, &str), size: &str, (least, most): (i64, i64)) -> Option<i64> {
        let bytes = bytes(size).filter(|bytes| (least..=most).contains(bytes));
        self.check(bytes.is_some(), path, message);
        bytes
    }

    /// Parses a number of CPUs as billionths.
    pub(super) fn nano_cpus(&mut self, path: &str, cpus: Option<&str>) -> Option<i64> {
        let nano = nano_cpus(cpus?).filter(|n| (rules::NANO_CPUS.0..=rules::NANO_CPUS.1).contains(n));
        self.check(nano.is_some(), path, text::CPUS);
        nano
    }
}

/// Returns the bytes of a quantity such as `2Gi`, `1.5G` or `536870912`, rounded up as Kubernetes does, or of a size as Docker
/// has it, such as `2g` or `512m`. `k` is 1000, as it was before there were those of Docker: only a unit that no quantity of
/// memory has is one of Docker.
pub fn bytes(quantity: &str) -> Option<i64> {
    if !is(pattern::MEMORY, quantity) {
        return None;
    }
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: i128 = match &quantity[digits.len()..] {
        "" | "b" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" | "m" => 1 << 20,
        "Gi" | "g" => 1 << 30,
        "Ti" | "t" => 1 << 40,
        _ => return None,
    };
    const NANO: i128 = 1_000_000_000;
    let nano = billionths(digits)?.checked_mul(unit)?;
    ((nano + NANO - 1) / NANO).try_into().ok()
}

/// Returns the billionths of CPUs such as `1.5`.
pub fn nano_cpus(cpus: &str) -> Option<i64> {
    if is(pattern::CPUS, cpus) { billionths(cpus)?.try_into().ok() } else { None }
}

/// Returns a decimal number in billionths.
fn billionths(decimal: &str) -> Option<i128> {
    let (whole, part) = decimal.split_once('.').unwrap_or((decimal, ""));
    let part: i128 = format!("{part:0<9}").parse().ok()?;
    Some(whole.parse::<i128>().ok()? * 1_000_000_000 + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_bytes() {
        for (text, want) in [
            ("2Gi", Some(2 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("512Mi", Some(512 << 20)),
            ("1024Ki", Some(1 << 20)),
            ("1Ti", Some(1 << 40)),
            ("1k", Some(1_000)),
            ("2M", Some(2_000_000)),
            ("1.5G", Some(1_500_000_000)),
            ("1T", Some(1_000_000_000_000)),
            ("536870912", Some(536_870_912)),
            ("512m", Some(512 << 20)),
            ("2g", Some(2 << 30)),
            ("1.5g", Some(3 << 29)),
            ("1t", Some(1 << 40)),
            ("7000000b", Some(7_000_000)),
            ("1024k", Some(1_024_000)),
            ("512mb", None),
            ("2gib", None),
            ("2GiB", None),
            ("0.1", Some(1)),
            ("999999999999999Ti", None),
            ("2 Gi", None),
            ("2gi", None),
            ("2GB", None),
            ("-1", None),
            ("1.", None),
            (".5Gi", None),
            ("", None),
            ("1e3", None),
        ] {
            assert_eq!(bytes(text), want, "{text}");
        }
    }

    #[test]
    fn cores_become_billionths() {
        for (text, want) in [
            ("1.5", Some(1_500_000_000)),
            ("2", Some(2_000_000_000)),
            ("0.000000001", Some(1)),
            ("0.0000000001", None),
            ("500m", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(nano_cpus(text), want, "{text}");
        }
    }
}
