//! **Pure**: `-p` and the node filters of k3d, as fields of a LocalCluster.

use serde_json::{Map, Value, json};

/// Nodes that a filter selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nodes {
    All,
    Servers,
    Agents,
}

/// Parses a node filter such as `servers:*`.
pub(super) fn filter(text: &str) -> Result<Nodes, String> {
    let plain = text.strip_suffix(":proxy").unwrap_or(text);
    match plain.strip_suffix(":*").unwrap_or(plain) {
        "all" | "loadbalancer" => Ok(Nodes::All),
        "server" | "servers" => Ok(Nodes::Servers),
        "agent" | "agents" => Ok(Nodes::Agents),
        _ => Err(format!(
            "the node filter @{text} is not possible: the nodes of a role are all alike; write @servers, @agents or @all"
        )),
    }
}

/// Parses `[HOST-IP:][HOST-PORT:]PORT[/udp][@NODES]`, where ports may be ranges.
pub(super) fn port(text: &str) -> Result<Map<String, Value>, String> {
    let refused = |why: &str| {
        format!("-p {text}: {why}; write [HOST-IP:][HOST-PORT:]PORT[/udp][@NODES], such as 8080:80")
    };
    let (mapping, nodes) = match text.split_once('@') {
        Some((mapping, nodes)) => (mapping, filter(nodes).map_err(|why| format!("-p {text}: {why}"))?),
        None => (text, Nodes::All),
    };
    let (mapping, protocol) = match mapping.split_once('/') {
        None | Some((_, "tcp" | "TCP")) => (mapping.split('/').next().unwrap_or_default(), "TCP"),
        Some((mapping, "udp" | "UDP")) => (mapping, "UDP"),
        Some(_) => return Err(refused("the protocol is neither tcp nor udp")),
    };
    let parts: Vec<&str> = mapping.split(':').collect();
    let (ip, host, inner) = match parts[..] {
        [inner] => (None, None, inner),
        [host, inner] => (None, Some(host), inner),
        [ip, host, inner] => (Some(ip), Some(host), inner),
        _ => return Err(refused("it has too many parts")),
    };
    let range = |text: &str| {
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first), number(last));
        first
            .zip(last)
            .filter(|(first, last)| first <= last)
            .ok_or_else(|| refused("a port is a number from 1 to 65535"))
    };
    let (first, last) = range(inner)?;
    let mut port = Map::new();
    port.insert("port".into(), first.into());
    if last > first {
        port.insert("endPort".into(), last.into());
    }
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        let (from, to) = range(host)?;
        if to - from != last - first {
            return Err(refused("the two ranges have different lengths"));
        }
        port.insert("hostPort".into(), from.into());
    }
    if let Some(ip) = ip {
        port.insert("hostIP".into(), ip.into());
    }
    if protocol == "UDP" {
        port.insert("protocol".into(), protocol.into());
    }
    match nodes {
        Nodes::All => {}
        Nodes::Servers => drop(port.insert("nodes".into(), "Servers".into())),
        Nodes::Agents => drop(port.insert("nodes".into(), "Agents".into())),
    }
    Ok(port)
}

/// Gives each port a name that is unique in the list: `tcp-80`, or with its number on the host if there are several.
pub(super) fn named(ports: Vec<Map<String, Value>>) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for mut port in ports {
        let text = |key: &str| port.get(key).map(|value| value.to_string().trim_matches('"').to_lowercase());
        let number = text("port").unwrap_or_default();
        let first = format!("{}-{number}", text("protocol").unwrap_or_else(|| "tcp".into()));
        let second = text("hostPort").map(|host| format!("{first}-{host}"));
        let more = (2..).map(|n| format!("{first}-n{n}"));
        let mut names = [first.clone()].into_iter().chain(second).chain(more);
        let name = names.find(|name| all.iter().all(|other| other["name"] != name.as_str()));
        port.insert("name".into(), json!(name));
        all.push(Value::Object(port));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_for_k3d() {
        for (text, expected) in [
            ("80", json!({"port": 80})),
            ("8080:80", json!({"port": 80, "hostPort": 8080})),
            ("8080:80@loadbalancer", json!({"port": 80, "hostPort": 8080})),
            ("8080:80/tcp", json!({"port": 80, "hostPort": 8080})),
            (
                "0.0.0.0:53:5353/udp@agents:*",
                json!({"port": 5353, "hostPort": 53, "hostIP": "0.0.0.0", "protocol": "UDP", "nodes": "Agents"}),
            ),
            ("127.0.0.1::80", json!({"port": 80, "hostIP": "127.0.0.1"})),
            (
                "30000-30010:30000-30010@server:*:proxy",
                json!({"port": 30000, "endPort": 30010, "hostPort": 30000, "nodes": "Servers"}),
            ),
        ] {
            assert_eq!(port(text).map(Value::Object), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, expected) in [
            ("", "a port is a number from 1 to 65535"),
            ("0", "a port is a number from 1 to 65535"),
            ("8080:http", "a port is a number from 1 to 65535"),
            ("70000:80", "a port is a number from 1 to 65535"),
            ("80:90-80", "a port is a number from 1 to 65535"),
            ("1-3:1-2", "the two ranges have different lengths"),
            ("80/sctp", "the protocol is neither tcp nor udp"),
            ("[::1]:80:80", "it has too many parts"),
            ("80@server:0:direct", "the node filter @server:0:direct is not possible"),
            ("80@agent:1", "the node filter @agent:1 is not possible"),
        ] {
            let told = port(text).unwrap_err();
            assert!(told.contains(expected) && told.contains("; write"), "{text}: {told}");
        }
    }

    #[test]
    fn names_are_unique() {
        let ports = ["8080:80", "8081:80", "80", "80", "53:53/udp"].map(|text| port(text).unwrap());
        let names: Vec<Value> = named(ports.into()).iter().map(|port| port["name"].clone()).collect();
        assert_eq!(names, ["tcp-80", "tcp-80-8081", "tcp-80-n2", "tcp-80-n3", "udp-53"]);
    }
}
