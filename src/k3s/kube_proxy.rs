//! Whether NodePorts answer on a node: its kube-proxy has set up the cluster's Services, and the Pods of other nodes are
//! reached from it.
//!
//! kube-proxy's `/healthz` is no sign of that: it is 200 while it starts, and before v1.35 told nothing else. Its metrics
//! have the time of the last synchronization that succeeded, of which the first comes once it has all Services and their
//! endpoints. The way to the Pods of another node, and back, is there when both have heard of each other: flannel's own
//! end on the other one, the first address of its Pods' network, answers then.

use std::net::Ipv4Addr;

/// The metric. It is 0, or not there, until then; of each IP family since v1.33.
const METRIC: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

/// What a node tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Told {
    /// NodePorts answer.
    Answers,
    /// Its kube-proxy has not set up the Services since it was started.
    Behind,
    /// Nobody knows: its kube-proxy does not run or its metrics are served elsewhere, or another node's end of the Pods'
    /// network does not answer, which there may be none of where that is not K3s's own.
    Unsure,
}

/// The argument by which K3s runs none.
const DISABLED: &str = "disable-kube-proxy";

/// Whether the cluster has no kube-proxy, by its servers' arguments. Something else does its work then.
pub fn is_disabled(args: &[String]) -> bool {
    args.iter()
        .filter_map(|arg| arg.strip_prefix("--")?.strip_prefix(DISABLED))
        .any(|rest| matches!(rest, "" | "=true" | "=1" | "=t" | "=T" | "=TRUE" | "=True"))
}

/// Whether the Pods' network is K3s's own, by the servers' arguments.
pub fn is_flannel(args: &[String]) -> bool {
    super::args::value(args, "flannel-backend") != Some("none")
}

/// The exit code that says that an address did not answer.
const SILENT: i64 = 3;

/// Asks the kube-proxy of the node that it is run in, and then these addresses. K3s's metrics are those of all its parts,
/// which is why only the one comes out. Where a network has no end at its first address (flannel's `host-gw`), the second
/// one is that of its Pods' bridge.
pub fn ask(beyond: &[Ipv4Addr]) -> Vec<String> {
    let second = |ip: &Ipv4Addr| Ipv4Addr::from(u32::from(*ip).saturating_add(1));
    let pings: String = beyond
        .iter()
        .map(|ip| {
            let other = second(ip);
            format!(
                "; ping -c1 -W1 {ip} >/dev/null 2>&1 || ping -c1 -W1 {other} >/dev/null 2>&1 || exit {SILENT}"
            )
        })
        .collect();
    let script = format!(
        "set -o pipefail; k3s kubectl --server=http://127.0.0.1:10249 get --raw /metrics --request-timeout=5s | sed -n \
         '/^{METRIC}/p' || exit 1{pings}"
    );
    ["sh", "-c", &script].map(str::to_owned).into()
}

/// Whether this is such a question.
pub fn asks(command: &[String]) -> bool {
    command.last().is_some_and(|script| script.contains(METRIC))
}

/// What the answer says.
pub fn told(code: i64, output: &str) -> Told {
    let time = |line: &str| {
        let rest = line.strip_prefix(METRIC)?;
        rest.split_whitespace().next_back()?.parse::<f64>().ok()
    };
    let synced = output.lines().filter_map(time).any(|seconds| seconds > 0.0);
    match code {
        0 if synced => Told::Answers,
        0 | SILENT if !synced => Told::Behind,
        _ => Told::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_metric_says() {
        for (code, output, wanted) in [
            (0, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.7959e+09\n", Told::Answers),
            (
                0,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.7959e+09\n",
                Told::Answers,
            ),
            (
                0,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.7e+09\n\
                 kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv6\"} 0\n",
                Told::Answers,
            ),
            (0, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 0\n", Told::Behind),
            (0, "", Told::Behind),
            (1, "Error from server: connection refused", Told::Unsure),
            (127, "sh: k3s: not found", Told::Unsure),
            (3, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.7959e+09\n", Told::Unsure),
            (3, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 0\n", Told::Behind),
        ] {
            assert_eq!(told(code, output), wanted, "{output}");
        }
    }

    #[test]
    fn both_ways_are_asked() {
        let alone = ask(&[]);
        assert_eq!(alone[..2], ["sh", "-c"]);
        assert!(alone[2].ends_with("|| exit 1") && asks(&alone), "{alone:?}");
        let far = ask(&[Ipv4Addr::new(10, 42, 1, 0)]);
        let pings = "|| exit 1; ping -c1 -W1 10.42.1.0 >/dev/null 2>&1 || ping -c1 -W1 10.42.1.1 >/dev/null 2>&1 || exit 3";
        assert!(far[2].ends_with(pings), "{far:?}");
        assert!(is_flannel(&[]) && is_flannel(&["--flannel-backend=host-gw".into()]));
        assert!(!is_flannel(&["--flannel-backend=none".into()]));
    }

    #[test]
    fn a_cluster_may_have_none() {
        let disabled = |arg: &str| is_disabled(&[arg.to_owned()]);
        assert!(disabled("--disable-kube-proxy") && disabled("--disable-kube-proxy=true"));
        assert!(!disabled("--disable-kube-proxy=false") && !disabled("--disable=kube-proxy"));
    }
}
