//! Whether a node's kube-proxy has set up the cluster's Services, so that NodePorts answer on it.
//!
//! Its `/healthz` is no sign of that: it is 200 while it starts, and before v1.35 told nothing else. Its metrics have the
//! time of the last synchronization that succeeded, of which the first comes once it has all Services and their
//! endpoints (KEP-3836 has no more to say of a start).

/// The metric. It is 0, or not there, until then; of each IP family since v1.33.
const METRIC: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

/// What a kube-proxy tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Told {
    /// It has set up Services since it was started.
    Synced,
    /// It has not yet.
    Behind,
    /// It does not tell: it does not run, or its metrics are served elsewhere.
    Nothing,
}

/// The argument by which K3s runs none.
const DISABLED: &str = "disable-kube-proxy";

/// Whether the cluster has no kube-proxy, by its servers' arguments. Something else does its work then.
pub fn is_disabled(args: &[String]) -> bool {
    args.iter()
        .filter_map(|arg| arg.strip_prefix("--")?.strip_prefix(DISABLED))
        .any(|rest| matches!(rest, "" | "=true" | "=1" | "=t" | "=T" | "=TRUE" | "=True"))
}

/// Asks the kube-proxy of the node that it is run in. K3s's metrics are those of all its parts, which is why only the one
/// comes out, and an exit code other than 0 says that there were none.
pub fn ask() -> Vec<String> {
    let script = format!(
        "set -o pipefail; k3s kubectl --server=http://127.0.0.1:10249 get --raw /metrics --request-timeout=5s | sed -n \
         '/^{METRIC}/p'"
    );
    ["sh", "-c", &script].map(str::to_owned).into()
}

/// What the answer says.
pub fn told(code: i64, output: &str) -> Told {
    let time = |line: &str| {
        let rest = line.strip_prefix(METRIC)?;
        rest.split_whitespace().next_back()?.parse::<f64>().ok()
    };
    match code {
        0 if output.lines().filter_map(time).any(|seconds| seconds > 0.0) => Told::Synced,
        0 => Told::Behind,
        _ => Told::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_metric_says() {
        for (code, output, wanted) in [
            (0, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.7959e+09\n", Told::Synced),
            (
                0,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.7959e+09\n",
                Told::Synced,
            ),
            (
                0,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.7e+09\n\
                 kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv6\"} 0\n",
                Told::Synced,
            ),
            (0, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 0\n", Told::Behind),
            (0, "", Told::Behind),
            (1, "Error from server: connection refused", Told::Nothing),
            (127, "sh: k3s: not found", Told::Nothing),
        ] {
            assert_eq!(told(code, output), wanted, "{output}");
        }
    }

    #[test]
    fn a_cluster_may_have_none() {
        let disabled = |arg: &str| is_disabled(&[arg.to_owned()]);
        assert!(disabled("--disable-kube-proxy") && disabled("--disable-kube-proxy=true"));
        assert!(!disabled("--disable-kube-proxy=false") && !disabled("--disable=kube-proxy"));
    }
}
