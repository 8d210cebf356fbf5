//! Resources of the host that the kubelet of a node reserves.
//!
//! A kubelet in a container sees the whole host as its capacity, regardless of the limits of the container, so the
//! scheduler would assign Pods for all of it, which would be killed or starve. Resources beyond the limits of the
//! container are reserved, so that `status.allocatable` of the Node equals the limit.

/// The kubelet flag for reservations.
const FLAG: &str = "system-reserved";

/// Resource limits of a node; `None` means unlimited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<i64>,
    /// CPUs in billionths.
    pub nano_cpus: Option<i64>,
}

/// Returns the K3s argument for a node with these limits on a host with `memory` bytes and `cpus` CPUs, 0 if unknown.
/// Returns `None` if nothing needs to be reserved: without limits, with limits at or above the capacity, or if the
/// user's arguments contain a reservation.
pub fn argument(limits: Limits, memory: i64, cpus: i64, own: &[String]) -> Option<String> {
    if own.iter().any(|arg| is_reservation(arg)) {
        return None;
    }
    let beyond =
        |limit: Option<i64>, capacity: i64| limit.map(|l| capacity.saturating_sub(l)).filter(|r| *r > 0);
    let memory = beyond(limits.memory, memory).map(|bytes| format!("memory={bytes}"));
    // In thousandths, rounded down.
    let cpus = beyond(limits.nano_cpus, cpus.saturating_mul(1_000_000_000)).map(|nano| nano / 1_000_000);
    let cpus = cpus.filter(|milli| *milli > 0).map(|milli| format!("cpu={milli}m"));
    let parts: Vec<String> = memory.into_iter().chain(cpus).collect();
    (!parts.is_empty()).then(|| format!("--kubelet-arg={FLAG}={}", parts.join(",")))
}

/// Reports whether a K3s argument sets the kubelet flag: K3s accepts it with two leading hyphens, and with `+` or `-`
/// before the value.
fn is_reservation(arg: &str) -> bool {
    arg.strip_prefix("--kubelet-arg=").is_some_and(|flag| {
        let name = flag.trim_start_matches("--").split('=').next().unwrap_or_default();
        name.trim_end_matches(['+', '-']) == FLAG
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GI: i64 = 1 << 30;

    fn said(memory: Option<i64>, nano_cpus: Option<i64>) -> Option<String> {
        argument(Limits { memory, nano_cpus }, 8 * GI, 4, &[])
    }

    #[test]
    fn what_is_beyond_the_limits_is_reserved() {
        let both = "--kubelet-arg=system-reserved=memory=6442450944,cpu=2500m";
        assert_eq!(said(Some(2 * GI), Some(1_500_000_000)).as_deref(), Some(both));
        assert_eq!(
            said(Some(2 * GI), None).as_deref(),
            Some("--kubelet-arg=system-reserved=memory=6442450944")
        );
        assert_eq!(said(None, Some(500_000_000)).as_deref(), Some("--kubelet-arg=system-reserved=cpu=3500m"));
        // Rounded so that the limit can be used in full.
        assert_eq!(said(None, Some(500_000_001)).as_deref(), Some("--kubelet-arg=system-reserved=cpu=3499m"));
    }

    #[test]
    fn nothing_is_reserved_where_there_is_nothing_beyond() {
        for (memory, cpus) in [
            (None, None),
            (Some(8 * GI), Some(4_000_000_000)),
            (Some(16 * GI), Some(5_000_000_000)),
            (None, Some(3_999_999_999)),
        ] {
            assert_eq!(said(memory, cpus), None, "{memory:?} {cpus:?}");
        }
        let limits = Limits { memory: Some(GI), nano_cpus: Some(1) };
        assert_eq!(argument(limits, 0, 0, &[]), None, "the engine did not tell what there is");
    }

    #[test]
    fn the_users_own_word_wins() {
        let limits = Limits { memory: Some(GI), nano_cpus: None };
        for (own, wins) in [
            ("--kubelet-arg=system-reserved=memory=1Gi", true),
            ("--kubelet-arg=--system-reserved=memory=1Gi", true),
            ("--kubelet-arg=system-reserved+=,cpu=1", true),
            ("--kubelet-arg=system-reserved-cgroup=/x", false),
            ("--kubelet-arg=kube-reserved=memory=1Gi", false),
            ("--kube-proxy-arg=system-reserved=memory=1Gi", false),
        ] {
            assert_eq!(argument(limits, 8 * GI, 4, &[own.to_owned()]).is_none(), wins, "{own}");
        }
    }
}
