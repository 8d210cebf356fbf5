//! Rules of published ports.

use kube::core::Rule;

use super::{rule, shape};
use crate::api::rules::{self, format, text};

/// CEL expression for the last port of a range.
const END: &str = "(has(self.endPort) ? self.endPort : self.port)";

pub fn port_name() -> Rule {
    shape(&format::PORT_NAME)
}

pub fn host_ip() -> Rule {
    rule("isIP(self) && ip(self).family() == 4", text::HOST_IP)
}

pub fn not_the_api() -> Rule {
    rule(format!("self.port > 6443 || {END} < 6443 || {} != 'TCP'", protocol("self")), text::API_PORT)
        .field_path(".port")
}

pub fn port_range() -> Rule {
    rule("!has(self.endPort) || self.endPort >= self.port", text::END_PORT)
}

pub fn host_range() -> Rule {
    rule(
        format!("!has(self.endPort) || (has(self.hostPort) && self.hostPort + ({END} - self.port) <= 65535)"),
        text::HOST_RANGE,
    )
}

pub fn ports_in_all() -> Rule {
    rule(format!("self.map(p, {} + 1).sum() <= {}", further("p"), rules::MAX_PORTS), text::PORTS_IN_ALL)
}

/// Returns the number of ports in a range after the first one.
fn further(port: &str) -> String {
    format!("(has({port}.endPort) && {port}.endPort > {port}.port ? {port}.endPort - {port}.port : 0)")
}

// The schema has no defaults in lists.
fn protocol(port: &str) -> String {
    format!("(has({port}.protocol) ? {port}.protocol : 'TCP')")
}

/// Returns an expression for two conflicting host port ranges: the range of `port`, and the one that starts at `other`
/// and has `length` more ports. The address 0.0.0.0 conflicts with every other address.
fn clash(port: &str, other: &str, length: &str) -> String {
    let ip = |of: &str| format!("(has({of}.hostIP) ? {of}.hostIP : '127.0.0.1')");
    let (own, others) = (ip(port), ip(other));
    format!(
        "has({port}.hostPort) && has({other}.hostPort) && {port}.hostPort <= {other}.hostPort + {length} && \
         {other}.hostPort <= {port}.hostPort + {} && \
         ({own} == {others} || {own} == '0.0.0.0' || {others} == '0.0.0.0')",
        further(port)
    )
}

// It has no reason "duplicate", for which the API server omits the message.
pub fn host_ports() -> Rule {
    rule(
        format!(
            "self.all(p, !has(p.hostPort) || self.exists_one(q, {} == {} && {}))",
            protocol("p"),
            protocol("q"),
            clash("p", "q", &further("q"))
        ),
        text::HOST_PORT_TWICE,
    )
}

pub fn api_host_port() -> Rule {
    rule(
        format!(
            "!has(self.ports) || !self.ports.exists(p, {} == 'TCP' && {})",
            protocol("p"),
            clash("p", "self.api", "0")
        ),
        text::API_HOST_PORT,
    )
    .field_path(".ports")
}
