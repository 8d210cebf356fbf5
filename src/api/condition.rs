//! Condition types and reasons (they are API), and how a condition is set.
