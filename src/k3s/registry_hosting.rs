//! The ConfigMap of KEP-1755, by which tools such as Tilt and Skaffold discover the registry of a cluster.

/// Namespace of the ConfigMap, which everyone may read.
pub const NAMESPACE: &str = "kube-public";
/// Name of the ConfigMap.
pub const CONFIG_MAP: &str = "local-registry-hosting";
/// Key of the first and only version.
pub const KEY: &str = "localRegistryHosting.v1";

/// URL of the documentation for users.
const HELP: &str = "https://github.com/kubernetes/enhancements/tree/master/keps/sig-cluster-lifecycle/generic/1755-communicating-a-local-registry";

/// Registry that a cluster advertises. The KEP supports only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Name of the container, which nodes and Pods resolve.
    pub hostname: String,
    /// Port in the container.
    pub port: u16,
    /// Address on the Docker host; `None` while it is unknown.
    pub host: Option<String>,
}

/// Returns the value of the key; `None` while the address of the registry is unknown.
pub fn render(registry: &Advertised) -> Option<String> {
    let Advertised { hostname, port, host } = registry;
    let host = host.clone()?;
    // JSON strings are YAML.
    let quoted = |text: String| serde_json::Value::from(text).to_string();
    let (host, inside) = (quoted(host), quoted(format!("{hostname}:{port}")));
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
        let mut registry = Advertised {
            hostname: "k3d-registry.localhost".into(),
            port: 5000,
            host: Some("localhost:12345".into()),
        };
        insta::assert_snapshot!(render(&registry).unwrap(), @r#"
        host: "localhost:12345"
        hostFromContainerRuntime: "k3d-registry.localhost:5000"
        hostFromClusterNetwork: "k3d-registry.localhost:5000"
        help: "https://github.com/kubernetes/enhancements/tree/master/keps/sig-cluster-lifecycle/generic/1755-communicating-a-local-registry"
        "#);
        registry.host = None;
        assert_eq!(render(&registry), None);
    }
}
