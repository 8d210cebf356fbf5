//! The shortest script that still fails.

use super::op::Op;

/// Leaves out whatever a failure does not need: halves, quarters, …, single operations, and then what remains of each.
pub fn shrink(script: &[Op], fails: impl Fn(&[Op]) -> bool) -> Vec<Op> {
    let mut script = script.to_vec();
    let mut size = script.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let mut left_out = false;
        while at < script.len() {
            let end = (at + size).min(script.len());
            let without = [&script[..at], &script[end..]].concat();
            if fails(&without) {
                (script, left_out) = (without, true);
            } else {
                at = end;
            }
        }
        if !left_out || size > 1 {
            size /= 2;
        }
    }
    for at in 0..script.len() {
        for simpler in simpler(&script[at]) {
            let mut other = script.clone();
            other[at] = simpler;
            if fails(&other) {
                script = other;
                break;
            }
        }
    }
    script
}

/// Simpler operations in the place of one.
fn simpler(op: &Op) -> Vec<Op> {
    match op {
        Op::Ticks(many) => (1..*many).map(Op::Ticks).collect(),
        Op::Meanwhile(_, op) => vec![(**op).clone()],
        Op::Crash(after, _) => vec![Op::Crash(*after, false)],
        _ => Vec::new(),
    }
}

#[test]
fn only_what_a_failure_needs_is_left() {
    let script: Vec<Op> = (0..20).map(Op::Ticks).chain([Op::Reboot, Op::HangUp]).collect();
    let fails = |s: &[Op]| s.contains(&Op::Ticks(7)) && s.contains(&Op::HangUp);
    assert_eq!(shrink(&script, fails), [Op::Ticks(7), Op::HangUp]);
    assert_eq!(shrink(&[Op::Ticks(9)], |s| s.iter().any(|op| matches!(op, Op::Ticks(3..)))), [Op::Ticks(3)]);
}
