//! Containers whose processes do not wait for the disk.

use serde_json::{Value, json};

use crate::docker::spec::ContainerSpec;

/// System calls with which a process waits until the disk has what it wrote, as `--suppress-sync` of systemd-nspawn lists
/// them.
const FLUSHES: [&str; 7] =
    ["fdatasync", "fsync", "msync", "sync", "sync_file_range", "sync_file_range2", "syncfs"];

/// Returns the option with which flushes do nothing and succeed, for a container that skips them.
///
/// A datastore on a tmpfs would be lost with each restart of the container, since the engine empties a tmpfs then; so would
/// be the CA, and with it every kubeconfig and every agent. What is only not flushed is in the page cache of the host, where
/// it outlives all containers. K3s has no setting for it: `--etcd-arg=unsafe-no-fsync` covers etcd but neither `SQLite` nor
/// containerd, and would not come off without another command line.
///
/// Without privileges, the profile would replace the one by which the engine restricts the container. A privileged container
/// has none, so this one only takes away. Engines before 27 ignore it there (moby/moby#47500).
pub fn skipped(spec: &ContainerSpec) -> Option<Vec<String>> {
    (spec.skips_flushes && spec.privileged).then(|| vec![format!("seccomp={}", profile())])
}

/// Returns a seccomp profile that allows everything and skips flushes. Without the second architectures of a processor, the
/// kernel would kill programs of 32 bits.
fn profile() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        // An error that is none: the call returns 0.
        "syscalls": [{"names": FLUSHES, "action": "SCMP_ACT_ERRNO", "errnoRet": 0}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::local_cluster::NodeRole, docker::spec::Role};

    fn option(skips_flushes: bool, privileged: bool) -> Option<Vec<String>> {
        let node = ContainerSpec::bare("n", Role::Node(NodeRole::Server), "i:1");
        skipped(&ContainerSpec { skips_flushes, privileged, ..node })
    }

    #[test]
    fn a_profile_takes_flushes_away_and_nothing_else() {
        let option = option(true, true).unwrap();
        let profile: Value = serde_json::from_str(option[0].strip_prefix("seccomp=").unwrap()).unwrap();
        assert_eq!((option.len(), &profile["defaultAction"]), (1, &json!("SCMP_ACT_ALLOW")));
        let [rule] = &profile["syscalls"].as_array().unwrap()[..] else { panic!("{profile}") };
        assert_eq!(
            (&rule["action"], &rule["errnoRet"]),
            (&json!("SCMP_ACT_ERRNO"), &json!(0)),
            "it succeeds"
        );
        assert!(rule["names"].as_array().unwrap().iter().all(|name| name.as_str().unwrap().contains("sync")));
    }

    #[test]
    fn a_container_that_the_engine_restricts_keeps_its_profile() {
        assert_eq!(option(true, false), None);
        assert_eq!(option(false, true), None);
    }
}
