//! Question to the etcd of a server: whether it has a leader. Without one there is no quorum, and the API does not
//! respond.
//!
//! K3s serves the metrics of its etcd in plain HTTP on the loopback address, also while there is no leader. Of a server
//! whose arguments move them, it stays unknown.

/// Name of the metric: 1 with a leader, 0 without one.
const METRIC: &str = "etcd_server_has_leader";

/// Returns the command that asks the etcd of the server it runs in. Only its line of the metrics is needed.
pub fn ask() -> Vec<String> {
    let script = format!(
        "k3s kubectl --server=http://127.0.0.1:2381 get --raw /metrics --request-timeout=3s | sed -n '/^{METRIC} /p'"
    );
    ["sh", "-c", &script].map(str::to_owned).into()
}

/// Reports whether a command is this question.
pub fn asks(command: &[String]) -> bool {
    command.last().is_some_and(|script| script.contains(METRIC))
}

/// Reports whether etcd has a leader by the output of the command; `None` if it did not respond.
pub fn has_leader(output: &str) -> Option<bool> {
    let value = output.lines().find_map(|line| line.strip_prefix(METRIC)?.strip_prefix(' '))?;
    match value.trim() {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_metric_says() {
        for (output, wanted) in [
            ("etcd_server_has_leader 1\n", Some(true)),
            ("etcd_server_has_leader 0\n", Some(false)),
            ("etcd_server_has_leader_changes 1\netcd_server_has_leader 0\n", Some(false)),
            ("etcd_server_has_leader x\n", None),
            ("", None),
        ] {
            assert_eq!(has_leader(output), wanted, "{output}");
        }
        assert!(asks(&ask()) && !asks(&["rm".to_owned()]));
    }
}
