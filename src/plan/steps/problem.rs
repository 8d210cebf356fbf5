//! Reasons why an object is not as desired.

use crate::api::{condition::ConditionType, reason::Reason};

/// A reason why the object is not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Type of the condition that is not met.
    pub condition: ConditionType,
    /// Reason of the condition.
    pub reason: Reason,
    /// Message for users.
    pub message: String,
    /// Effect on the condition.
    pub verdict: Verdict,
}

/// Effect of a problem on its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// False for now: the operator is working on it, or the cause may be temporary.
    Waits,
    /// False until the user changes the spec or the host.
    Stalls,
    /// Unknown: the source of the information does not respond or is not observed.
    Unknown,
}

impl Problem {
    /// Creates a problem that needs no intervention.
    pub fn waits(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), verdict: Verdict::Waits }
    }

    /// Creates a problem that needs user intervention.
    pub fn stalls(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), verdict: Verdict::Stalls }
    }

    /// Creates a problem for a condition that cannot be evaluated.
    pub fn unknown(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), verdict: Verdict::Unknown }
    }

    /// Reports whether the problem needs user intervention.
    pub fn stalled(&self) -> bool {
        self.verdict == Verdict::Stalls
    }
}
