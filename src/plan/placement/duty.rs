//! What the agent of a host has to do for an object.

use k8s_openapi::api::core::v1::Pod;

use super::{Object, pod};

/// What the agent of a host has to do for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It makes the object and keeps it as its spec says.
    Run,
    /// It keeps the object stopped on this host and writes its status, with the reason why the object does not run.
    Rest(String),
    /// The object is bound to another host: what is left of it on this one is removed.
    Elsewhere {
        /// True if its volumes stay.
        keeps_data: bool,
    },
    /// The object is bound to no host: what is left of it on this one does not run.
    Unbound,
    /// It removes what the object created on this host.
    Delete {
        /// True if the object may be gone then: it is bound to this host.
        last: bool,
    },
}

impl Duty {
    /// Reports whether the agent writes the status of the object, since the object is bound to its host.
    pub fn is_here(&self) -> bool {
        match self {
            Self::Run | Self::Rest(_) | Self::Delete { last: true } => true,
            Self::Elsewhere { .. } | Self::Unbound | Self::Delete { last: false } => false,
        }
    }
}

/// Returns what the agent of the host `node` has to do for an object. `pod` is the placeholder of the object, if it is
/// bound to that host.
///
/// An object runs only while both its status and its placeholder say that it is here: the status alone may be out of
/// date, and the host of a placeholder alone is not recorded yet.
pub fn duty(object: &Object, node: &str, pod: Option<&Pod>) -> Duty {
    let here = object.host.as_deref() == Some(node);
    if object.deleting {
        return Duty::Delete { last: here };
    }
    let (placeholder, noun) = (object.placeholder(), object.kind.noun());
    match pod {
        Some(pod) if here && pod::is_terminating(pod) => {
            Duty::Rest(format!("its placeholder Pod {placeholder} is being deleted"))
        }
        Some(pod) if here && pod::is_over(pod) => {
            Duty::Rest(format!("its placeholder Pod {placeholder} has ended"))
        }
        Some(pod) if here && pod::phase(pod) == "Running" => Duty::Run,
        Some(_) if here => Duty::Rest(format!("its placeholder Pod {placeholder} does not run yet")),
        None if here => Duty::Rest(format!(
            "it has no placeholder Pod {placeholder} on this host; the {noun} starts again with one"
        )),
        _ if object.host.is_some() => Duty::Elsewhere { keeps_data: object.is_sticky() },
        _ => Duty::Unbound,
    }
}
