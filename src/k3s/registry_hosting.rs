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
    /// Where it is reached on the Docker host; `None` while that is not known.
    pub host: Option<String>,
}

/// The content of the key; `None` while it is not known where the registry is reached.
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
