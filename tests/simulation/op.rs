//! What happens in a life, as values that can be written down and left out.

use serde::{Deserialize, Serialize};

use super::pools;
use crate::support::{fakes::faults::Fault, model::lab::Chance};

/// The objects of all lives: kind, namespace and name.
pub const OBJECTS: [(&str, &str, &str); 5] = [
    ("localclusters", "default", "dev"),
    ("registries", "default", "images"),
    ("localclusters", "team", "dev"),
    ("localclusters", "default", "two"),
    ("registries", "team", "cache"),
];

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// So many ticks go by.
    Ticks(u8),
    /// A user applies the object with this number, with a spec of chance.
    Put(u8, u64),
    /// A user deletes it.
    Delete(u8),
    /// A user has the operator leave it alone, or no longer.
    Pause(u8, bool),
    /// The object is lost without its finalizer, and made again from a backup to take over what it left.
    Restore(u8),
    /// A user changes the Secrets, or removes them.
    Secrets(u8),
    /// An administrator sets one of a few HostPolicies, or removes it.
    Policy(u8),
    /// Somebody does one of the things that are possible then.
    Outside(u16),
    /// Somebody else takes a name, a port or a subnet.
    Stranger(u8, u8),
    /// All of those take their things away.
    StrangersLeave,
    /// After so many calls, one goes wrong.
    Fault(u8, Wrong),
    /// After so many calls, the process dies; whether the last one still takes effect.
    Crash(u8, bool),
    /// After so many calls, the process loses its Lease while a call to Docker is on its way. It lands after so many ticks
    /// of the next process.
    Handover(u8, u8),
    /// After so many calls, this happens before the next one.
    Meanwhile(u8, Box<Op>),
    /// The host starts again.
    Reboot,
    /// Docker goes away, or is back.
    Away(bool),
    /// The created clusters are not reached, or are again.
    Unreachable(bool),
    /// The watch of a kind is late, or no longer.
    Lag(u8, bool),
    /// Docker's events get lost, or no longer.
    Silence(bool),
    /// The stream of Docker's events breaks.
    HangUp,
    /// The clock jumps by so many minutes.
    Clock(i8),
    /// The image of a node is in no registry, or is again.
    Image(bool),
    /// A user applies the pool with this number, with a spec of chance.
    Pool(u8, u64),
    /// A user deletes it.
    PoolGone(u8),
    /// A user creates the claim with this number, with a spec of chance.
    Claim(u8, u64),
    /// A user deletes it.
    ClaimGone(u8),
    /// A user deletes one of the clusters that pools made.
    Member(u8),
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wrong {
    NotFound,
    Conflict,
    Refused,
    Timeout,
    Lost,
    Void,
}

const WRONGS: [Wrong; 6] =
    [Wrong::NotFound, Wrong::Conflict, Wrong::Refused, Wrong::Timeout, Wrong::Lost, Wrong::Void];

impl From<Wrong> for Fault {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::NotFound => Self::NotFound,
            Wrong::Conflict => Self::Conflict,
            Wrong::Refused => Self::Refused,
            Wrong::Timeout => Self::Timeout,
            Wrong::Lost => Self::Lost,
            Wrong::Void => Self::Void,
        }
    }
}

pub fn byte(chance: &mut Chance, below: usize) -> u8 {
    u8::try_from(chance.below(below)).unwrap()
}

pub fn whole(chance: &mut Chance) -> u64 {
    (0..4).fold(0, |all, _| all << 16 | u64::try_from(chance.below(1 << 16)).unwrap())
}

/// One of so many lives has pools, which take twice the time.
const POOLED: u64 = 10;

/// Returns the life of a seed: a few objects, and what happens to them.
pub fn script(seed: u64) -> Vec<Op> {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed);
    chance.below(2);
    let many = 1 + chance.below(3);
    let mut ops = Vec::new();
    for _ in 0..many {
        ops.push(Op::Put(byte(&mut chance, OBJECTS.len()), whole(&mut chance)));
    }
    if chance.below(3) > 0 {
        ops.push(Op::Ticks(1 + byte(&mut chance, 8)));
    }
    for _ in 0..3 + chance.below(16) {
        ops.push(any(&mut chance));
    }
    if seed.is_multiple_of(POOLED) { pools::among(ops, &mut chance) } else { ops }
}

fn any(chance: &mut Chance) -> Op {
    match chance.below(40) {
        0..=7 => Op::Ticks(1 + byte(chance, 5)),
        8..=12 => fault(chance),
        13..=15 => Op::Crash(byte(chance, 60), chance.below(2) == 0),
        16 => Op::Handover(byte(chance, 30), byte(chance, 3)),
        17..=19 => Op::Meanwhile(byte(chance, 60), Box::new(others(chance))),
        20 => Op::Reboot,
        21 => Op::Away(chance.below(2) == 0),
        22 => Op::Unreachable(chance.below(2) == 0),
        23..=24 => Op::Lag(byte(chance, 4), chance.below(2) == 0),
        25 => Op::Silence(chance.below(2) == 0),
        26 => Op::HangUp,
        27 => Op::Clock(i8::try_from(chance.below(41)).unwrap() - 20),
        28 => Op::Image(chance.below(2) == 0),
        _ => others(chance),
    }
}

fn fault(chance: &mut Chance) -> Op {
    Op::Fault(byte(chance, 60), WRONGS[chance.below(WRONGS.len())])
}

/// What others do, which may happen at any moment.
fn others(chance: &mut Chance) -> Op {
    match chance.below(16) {
        0..=3 => Op::Put(byte(chance, OBJECTS.len()), whole(chance)),
        4..=5 => Op::Delete(byte(chance, OBJECTS.len())),
        6 => Op::Pause(byte(chance, OBJECTS.len()), chance.below(2) == 0),
        7 => Op::Secrets(byte(chance, 4)),
        8 => Op::Policy(byte(chance, 8)),
        9..=10 => Op::Stranger(byte(chance, 6), byte(chance, 64)),
        11 => Op::StrangersLeave,
        12 => Op::Restore(byte(chance, OBJECTS.len())),
        _ => Op::Outside(u16::try_from(chance.below(1 << 16)).unwrap()),
    }
}
