//! K3s's `registries.yaml`.

use std::{collections::BTreeMap, fmt::Write};

/// A registry that nodes pull from by plain HTTP on the cluster's network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mirrored {
    /// Its container's name, which resolves on the cluster's network.
    pub hostname: String,
    /// Its port on the Docker host.
    pub host_port: u16,
}

/// The port that a registry listens on in its container.
pub const REGISTRY_PORT: u16 = 5000;

impl Mirrored {
    /// The registry names under which its images can be pulled: what was pushed as any of them, from the host or
    /// from a container, can be pulled as any of them.
    pub fn names(&self) -> [String; 3] {
        [
            format!("{}:{REGISTRY_PORT}", self.hostname),
            format!("{}:{}", self.hostname, self.host_port),
            format!("localhost:{}", self.host_port),
        ]
    }

    /// Where the nodes find it. `http` is told by the URL alone; K3s takes HTTPS for everything else.
    pub fn endpoint(&self) -> String {
        format!("http://{}:{REGISTRY_PORT}", self.hostname)
    }
}

/// The file. It is written even when there is nothing in it, since it replaces an earlier one on a node's volume.
pub fn render(registries: &[Mirrored]) -> String {
    let mut mirrors = BTreeMap::new();
    for registry in registries {
        for name in registry.names() {
            mirrors.entry(name).or_insert_with(|| registry.endpoint());
        }
    }
    let mut out = String::from("# Written by localcluster-operator.\n");
    if mirrors.is_empty() {
        out.push_str("mirrors: {}\n");
        return out;
    }
    out.push_str("mirrors:\n");
    for (name, endpoint) in mirrors {
        writeln!(out, "  {}:\n    endpoint:\n      - {}", quoted(&name), quoted(&endpoint))
            .expect("writing to a String never fails");
    }
    out
}

/// A YAML double-quoted scalar: JSON strings are a subset.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_the_registry() {
        let registry = Mirrored { hostname: "k3d-registry".into(), host_port: 5050 };
        insta::assert_snapshot!(render(&[registry]), @r#"
        # Written by localcluster-operator.
        mirrors:
          "k3d-registry:5000":
            endpoint:
              - "http://k3d-registry:5000"
          "k3d-registry:5050":
            endpoint:
              - "http://k3d-registry:5000"
          "localhost:5050":
            endpoint:
              - "http://k3d-registry:5000"
        "#);
        insta::assert_snapshot!(render(&[]), @r"
        # Written by localcluster-operator.
        mirrors: {}
        ");
    }
}
