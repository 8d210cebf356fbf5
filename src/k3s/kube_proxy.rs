//! Probe for NodePorts on a node: its kube-proxy has programmed the Services of the cluster, and the node can reach the
//! Pods of other nodes.
//!
//! The `/healthz` endpoint of kube-proxy does not show this: it returns 200 during startup, and before v1.35 reported
//! nothing else. Its metrics contain the time of the last successful synchronization, of which the first happens once
//! it has all Services and their endpoints. The path to the Pods of another node, and back, works when both nodes know
//! each other: the flannel interface of the other node, the first address of its Pod network, then responds.

use std::net::Ipv4Addr;

/// Name of the metric. Its value is 0, or it is missing, until then; one value per IP family since v1.33.
const METRIC: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

/// Result of the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeResult {
    /// NodePorts respond.
    Answers,
    /// The kube-proxy has not programmed the Services since it was started.
    Behind,
    /// The result is unknown: kube-proxy is not running or serves its metrics elsewhere, or the Pod network interface
    /// of another node does not respond, which may not exist with a Pod network other than that of K3s.
    Unsure,
}

/// The argument that disables kube-proxy.
const DISABLED: &str = "disable-kube-proxy";

/// Reports whether the arguments of the servers disable kube-proxy. Another component replaces it then.
pub fn is_disabled(args: &[String]) -> bool {
    args.iter()
        .filter_map(|arg| arg.strip_prefix("--")?.strip_prefix(DISABLED))
        .any(|rest| matches!(rest, "" | "=true" | "=1" | "=t" | "=T" | "=TRUE" | "=True"))
}

/// Reports whether the Pod network is that of K3s, by the arguments of the servers.
pub fn is_flannel(args: &[String]) -> bool {
    super::args::value(args, "flannel-backend") != Some("none")
}

/// Exit code if an address did not respond.
const SILENT: i64 = 3;

/// Returns the command that probes the kube-proxy of the node it runs in, and then these addresses. The metrics
/// endpoint of K3s has the metrics of all components, so the output is filtered. If a network has no interface at its
/// first address (`host-gw` of flannel), the second one is that of the Pod bridge.
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

/// Reports whether a command is such a probe.
pub fn asks(command: &[String]) -> bool {
    command.last().is_some_and(|script| script.contains(METRIC))
}

/// Evaluates the result of the command.
pub fn evaluate(code: i64, output: &str) -> ProbeResult {
    let time = |line: &str| {
        let rest = line.strip_prefix(METRIC)?;
        rest.split_whitespace().next_back()?.parse::<f64>().ok()
    };
    let synced = output.lines().filter_map(time).any(|seconds| seconds > 0.0);
    match code {
        0 if synced => ProbeResult::Answers,
        0 | SILENT if !synced => ProbeResult::Behind,
        _ => ProbeResult::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_metric_says() {
        for (code, output, wanted) in [
            (0, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.7959e+09\n", ProbeResult::Answers),
            (
                0,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.7959e+09\n",
                ProbeResult::Answers,
            ),
            (
                0,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.7e+09\n\
                 kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv6\"} 0\n",
                ProbeResult::Answers,
            ),
            (0, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 0\n", ProbeResult::Behind),
            (0, "", ProbeResult::Behind),
            (1, "Error from server: connection refused", ProbeResult::Unsure),
            (127, "sh: k3s: not found", ProbeResult::Unsure),
            (3, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.7959e+09\n", ProbeResult::Unsure),
            (3, "kubeproxy_sync_proxy_rules_last_timestamp_seconds 0\n", ProbeResult::Behind),
        ] {
            assert_eq!(evaluate(code, output), wanted, "{output}");
        }
    }

    #[test]
    fn both_ways_are_asked() {
        let alone = ask(&[]);
        assert_eq!(alone[..2], ["sh", "-c"]);
        assert!(alone[2].ends_with("|| exit 1") && asks(&alone), "{alone:?}");
        assert!(!asks(&[]) && !asks(&["sh".into(), "-c".into(), "k3s kubectl get nodes".into()]));
        let far = ask(&[Ipv4Addr::new(10, 42, 1, 0)]);
        let pings = "|| exit 1; ping -c1 -W1 10.42.1.0 >/dev/null 2>&1 || ping -c1 -W1 10.42.1.1 >/dev/null 2>&1 || \
            exit 3";
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
