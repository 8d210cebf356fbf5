//! Configuration of the load balancer: the stream module of nginx, with the fixed addresses of the nodes as upstreams,
//! so that it starts and works without name resolution.

use std::{collections::BTreeSet, fmt::Write, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::API_PORT;
use crate::api::local_cluster::Protocol;

/// Configuration file, where the official nginx image expects it.
pub const CONFIG_FILE: &str = "/etc/nginx/nginx.conf";
/// File with the hash of the configuration that nginx last loaded. It is written after the signal, so that an operator
/// that is interrupted between the two repeats both.
pub const APPLIED_FILE: &str = "/etc/nginx/applied";

/// Port on which it answers DNS queries of the nodes and their Pods.
pub const DNS_PORT: u16 = 53;
/// The resolver that Docker provides in each container. It answers the names of containers and forwards all others to
/// the resolvers of the host as they were when the container started, see `plan/resolvers.rs`. Pods cannot reach it in
/// their node.
const RESOLVER: &str = "127.0.0.11:53";
/// Limit of concurrent DNS queries. Each occupies two connections of nginx for as long as the resolver does not answer,
/// and the API and the published ports need some too.
const QUERIES: u16 = 1024;

/// A forwarded port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Port of the load balancer container.
    pub listen: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the nodes.
    pub port: u16,
    /// Addresses of the nodes. If empty, nothing listens and connections are refused.
    pub nodes: Vec<Ipv4Addr>,
    /// True if the nodes are known to respond. If not, they are all candidates, since none is known to.
    pub placed: bool,
}

/// Comment before nodes that are not known to respond.
const UNKNOWN: &str = "# None of these is known to answer.";

/// Returns the name of an upstream.
fn name(protocol: Protocol, listen: u16) -> String {
    format!("{}_{listen}", protocol.docker())
}

/// Returns the nodes that the file marks as responding, for any port but that of the API.
pub fn placed(file: &str) -> BTreeSet<Ipv4Addr> {
    let api = name(Protocol::Tcp, API_PORT);
    let mut found = BTreeSet::new();
    let mut counts = false;
    for line in file.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("upstream"), Some(name)) => counts = name != api,
            (Some("server"), Some(node)) if counts => {
                found.extend(node.split(':').next().and_then(|ip| ip.parse::<Ipv4Addr>().ok()));
            }
            _ if line.trim() == UNKNOWN => counts = false,
            _ => {}
        }
    }
    found
}

/// Renders the file. Connections stay open as long as both ends keep them: a `kubectl logs -f` may be silent for hours.
/// `clients` may query Docker's resolver; if `None`, nobody may.
pub fn render(forwards: &[Forward], clients: Option<Ipv4Net>) -> String {
    let mut out = String::from(
        "# Written by localcluster-operator.\n\
         worker_processes 1;\n\
         error_log /dev/stderr warn;\n\
         events {\n  worker_connections 4096;\n}\n\
         stream {\n  proxy_connect_timeout 2s;\n",
    );
    for forward in forwards.iter().filter(|f| !f.nodes.is_empty()) {
        let Forward { listen, protocol, port, nodes, placed } = forward;
        let name = name(*protocol, *listen);
        writeln!(out, "  upstream {name} {{").expect("writing to a String never fails");
        if !placed {
            writeln!(out, "    {UNKNOWN}").expect("as above");
        }
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
    out.extend(clients.map(dns));
    out.push_str("}\n");
    out
}

/// Renders the server that forwards DNS queries to Docker's resolver. Only the network of the cluster may use it, since
/// the container is on the networks of others too. It does not log errors: every query would be one while the host's
/// resolvers do not answer.
fn dns(clients: Ipv4Net) -> String {
    format!(
        "  limit_conn_zone $server_port zone=dns:64k;\n  server {{\n    listen {DNS_PORT};\n    listen {DNS_PORT} udp \
         reuseport;\n    allow {clients};\n    deny all;\n    limit_conn dns {QUERIES};\n    error_log /dev/stderr \
         crit;\n    proxy_pass {RESOLVER};\n    proxy_timeout 10s;\n    proxy_responses 1;\n  }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_and_ports() {
        let ip = |i| Ipv4Addr::new(172, 31, 0, i);
        let forward = |listen, protocol, port, nodes: &[u8]| Forward {
            listen,
            protocol,
            port,
            nodes: nodes.iter().map(|i| ip(*i)).collect(),
            placed: true,
        };
        let mut forwards = [
            forward(6443, Protocol::Tcp, 6443, &[10]),
            forward(53, Protocol::Udp, 30053, &[11, 20]),
            forward(80, Protocol::Tcp, 80, &[]),
        ];
        let file = render(&forwards, None);
        insta::assert_snapshot!(file);
        assert_eq!(placed(&file), [ip(11), ip(20)].into());
        forwards[1].placed = false;
        let file = render(&forwards, None);
        assert!(file.contains(
            "  upstream udp_53 {\n    # None of these is known to answer.\n    server 172.31.0.11:"
        ));
        assert_eq!(placed(&file), BTreeSet::new());
        let others = "upstream tcp_80 {\n  # written by hand\n  server 172.31.0.11:80;\n";
        assert_eq!(placed(others), [ip(11)].into());
        assert_eq!(placed("nonsense\n  upstream x {\n server y;\n"), BTreeSet::new());
    }

    #[test]
    fn only_the_network_of_the_cluster_may_query_the_resolver() {
        let file = render(&[], Some("172.31.0.0/24".parse().unwrap()));
        insta::assert_snapshot!(file, @r"
        # Written by localcluster-operator.
        worker_processes 1;
        error_log /dev/stderr warn;
        events {
          worker_connections 4096;
        }
        stream {
          proxy_connect_timeout 2s;
          limit_conn_zone $server_port zone=dns:64k;
          server {
            listen 53;
            listen 53 udp reuseport;
            allow 172.31.0.0/24;
            deny all;
            limit_conn dns 1024;
            error_log /dev/stderr crit;
            proxy_pass 127.0.0.11:53;
            proxy_timeout 10s;
            proxy_responses 1;
          }
        }
        ");
        assert_eq!(placed(&file), BTreeSet::new());
    }
}
