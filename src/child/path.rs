//! Path of a connection to a created cluster. Pure.

use std::{fmt, net::SocketAddr};

/// Path of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// A route to this address.
    Direct(SocketAddr),
    /// The engine, which runs a forwarder in a container.
    Tunnel,
}

impl Path {
    /// Returns the name for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct(_) => "direct",
            Self::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(address) => address.fmt(f),
            Self::Tunnel => f.write_str("through Docker"),
        }
    }
}
