//! How tools such as Tilt and Skaffold find a cluster's registry: the ConfigMap of KEP-1755.

/// Its namespace, which everyone may read.
pub const NAMESPACE: &str = "kube-public";
/// Its name.
pub const CONFIG_MAP: &str = "local-registry-hosting";
/// The key of the first, and only, version.
pub const KEY: &str = "localRegistryHosting.v1";

/// Where people read on.
const HELP: &str = "https://github.com/kubernetes/enhancements/tree/master/keps/sig-cluster-lifecycle/generic/1755-communicating-a-local-registry";

/// The registry that a cluster advertises. The KEP knows only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Its container's name, which nodes and Pods resolve.
    pub hostname: String,
    /// Its port in the container.
    pub port: u16,
    /// Its port on the Docker host; `None` while it is not known.
    pub host_port: Option<u16>,
}

/// The content of the key; `None` while the port is not known.
pub fn render(registry: &Advertised) -> Option<String> {
    let Advertised { hostname, port, host_port } = registry;
    let host_port = (*host_port)?;
    // JSON strings are YAML.
    let quoted = |text: String| serde_json::Value::from(text).to_string();
    let (host, inside) = (quoted(format!("localhost:{host_port}")), quoted(format!("{hostname}:{port}")));
    let help = quoted(HELP.to_owned());
    Some(format!(
        "host: {host}\nhostFromContainerRuntime: {inside}\nhostFromClusterNetwork: {inside}\nhelp: {help}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kep_has_it() {
        let mut registry =
            Advertised { hostname: "k3d-registry.localhost".into(), port: 5000, host_port: Some(12345) };
        insta::assert_snapshot!(render(&registry).unwrap(), @r#"
        host: "localhost:12345"
        hostFromContainerRuntime: "k3d-registry.localhost:5000"
        hostFromClusterNetwork: "k3d-registry.localhost:5000"
        help: "https://github.com/kubernetes/enhancements/tree/master/keps/sig-cluster-lifecycle/generic/1755-communicating-a-local-registry"
        "#);
        registry.host_port = None;
        assert_eq!(render(&registry), None);
    }
}
