//! The load balancer's configuration: nginx's stream module, with the nodes' pinned addresses as upstreams, so that
//! it starts and works without any name being resolved.

use std::{fmt::Write, net::Ipv4Addr};

use crate::api::local_cluster::Protocol;

/// The configuration file, where the official nginx image looks for it.
pub const CONFIG_FILE: &str = "/etc/nginx/nginx.conf";
/// Holds the hash of the configuration that nginx was last told to load. It is written after the signal, so that an
/// operator that dies between the two does both again.
pub const APPLIED_FILE: &str = "/etc/nginx/applied";

/// A port that is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The port of the load balancer's container.
    pub listen: u16,
    /// The transport.
    pub protocol: Protocol,
    /// The port of the nodes.
    pub port: u16,
    /// The nodes. None: nothing listens, so that connections are refused.
    pub nodes: Vec<Ipv4Addr>,
}

/// The file. Connections live as long as both ends keep them: a `kubectl logs -f` may be silent for hours.
pub fn render(forwards: &[Forward]) -> String {
    let mut out = String::from(
        "# Written by localcluster-operator.\n\
         worker_processes 1;\n\
         error_log /dev/stderr warn;\n\
         events {\n  worker_connections 4096;\n}\n\
         stream {\n  proxy_connect_timeout 2s;\n",
    );
    for forward in forwards.iter().filter(|f| !f.nodes.is_empty()) {
        let Forward { listen, protocol, port, nodes } = forward;
        let name = format!("{}_{listen}", protocol.docker());
        writeln!(out, "  upstream {name} {{").expect("writing to a String never fails");
        for node in nodes {
            writeln!(out, "    server {node}:{port} max_fails=1 fail_timeout=2s;").expect("as above");
        }
        let (udp, timeout) = match protocol {
            Protocol::Tcp => ("", "24h"),
            Protocol::Udp => (" udp reuseport", "30s"),
        };
        write!(
            out,
            "  }}\n  server {{\n    listen {listen}{udp};\n    proxy_pass {name};\n    proxy_timeout {timeout};\n  }}\n"
        )
        .expect("as above");
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_and_ports() {
        let ip = |i| Ipv4Addr::new(172, 31, 0, i);
        insta::assert_snapshot!(render(&[
            Forward { listen: 6443, protocol: Protocol::Tcp, port: 6443, nodes: vec![ip(10)] },
            Forward { listen: 53, protocol: Protocol::Udp, port: 30053, nodes: vec![ip(10), ip(20)] },
            Forward { listen: 80, protocol: Protocol::Tcp, port: 80, nodes: vec![] },
        ]));
    }
}
