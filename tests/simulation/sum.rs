//! What lives add up to, also over several runs: it is kept in a directory, from which the next run goes on.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Seeds, as the end of each range by its first one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeds(BTreeMap<u64, u64>);

impl Seeds {
    pub fn contains(&self, seed: u64) -> bool {
        self.0.range(..=seed).next_back().is_some_and(|(_, end)| seed < *end)
    }

    pub fn insert(&mut self, seed: u64) {
        if self.contains(seed) {
            return;
        }
        let end = self.0.remove(&(seed + 1)).unwrap_or(seed + 1);
        match self.0.range_mut(..seed).next_back().filter(|(_, before)| **before == seed) {
            Some((_, before)) => *before = end,
            None => drop(self.0.insert(seed, end)),
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Whose lives are part of it.
    pub seeds: Seeds,
    /// Those of them that failed.
    pub failed: BTreeSet<u64>,
    pub lives: u64,
    pub ops: u64,
    pub calls: u64,
    pub on_a_core: Duration,
    pub covered: BTreeSet<(String, String)>,
    /// Millions after a long run, which have a file of their own.
    #[serde(skip)]
    pub states: HashSet<u64>,
    /// Those that are not in the file yet.
    #[serde(skip)]
    fresh: Vec<u64>,
}

impl Sum {
    /// Adds what other lives add up to.
    pub fn add(&mut self, mut other: Self) {
        self.lives += other.lives;
        self.ops += other.ops;
        self.calls += other.calls;
        self.on_a_core += other.on_a_core;
        self.covered.append(&mut other.covered);
        self.fresh.extend(other.states.into_iter().filter(|state| self.states.insert(*state)));
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lives, ops, calls, on_a_core, .. } = self;
        let (states, pairs) = (self.states.len(), self.covered.len());
        let each = on_a_core.as_secs_f64() * 1000.0 / (*lives).max(1) as f64;
        write!(
            f,
            "{lives} lives of {each:.1} ms, {ops} operations, {calls} calls, {states} distinct states, \
             {pairs} pairs of call and fault"
        )
    }
}

/// A directory with a sum. Only one run at a time adds to it.
pub struct Kept {
    directory: PathBuf,
    states: File,
}

impl Kept {
    /// Opens a directory, or makes it, and reads the sum.
    pub fn open(directory: &Path) -> (Self, Sum) {
        fs::create_dir_all(directory).unwrap();
        let path = directory.join("states");
        let mut states = OpenOptions::new().create(true).read(true).append(true).open(path).unwrap();
        let busy = "another run adds to the directory SUM: wait for its end, or choose another directory";
        states.try_lock().expect(busy);
        let mut bytes = Vec::new();
        states.read_to_end(&mut bytes).unwrap();
        let (whole, rest) = bytes.as_chunks::<8>();
        // A run that was killed may have left a part of the last one.
        states.set_len((bytes.len() - rest.len()) as u64).unwrap();
        let mut sum = match fs::read(directory.join("sum.json")) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(_) => Sum::default(),
        };
        sum.states = whole.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        (Self { directory: directory.to_owned(), states }, sum)
    }

    /// Writes the sum. The states are first: the seeds of a sum that was not written are lived again, and have the same.
    pub fn store(&mut self, sum: &mut Sum) {
        let bytes: Vec<u8> = sum.fresh.drain(..).flat_map(u64::to_le_bytes).collect();
        self.states.write_all(&bytes).unwrap();
        let (path, new) = (self.directory.join("sum.json"), self.directory.join("sum.json.new"));
        fs::write(&new, serde_json::to_string_pretty(sum).unwrap()).unwrap();
        fs::rename(new, path).unwrap();
    }
}

#[test]
fn neighbours_are_one_range() {
    let mut seeds = Seeds::default();
    for seed in [5, 1, 3, 2, 7, 2] {
        seeds.insert(seed);
    }
    assert_eq!(seeds, Seeds([(1, 4), (5, 6), (7, 8)].into()));
    assert!((0..9).filter(|seed| seeds.contains(*seed)).eq([1, 2, 3, 5, 7]));
}

#[test]
fn a_run_goes_on_from_the_sum_of_the_last() {
    let directory = tempfile::tempdir().unwrap();
    let life = |seed: u64| Sum {
        lives: 1,
        states: [seed, 100].into(),
        covered: [("start".to_owned(), format!("fault {}", seed % 2))].into(),
        ..Sum::default()
    };
    for (seed, states) in [(1, 2), (2, 3), (3, 4)] {
        let (mut kept, mut sum) = Kept::open(directory.path());
        sum.add(life(seed));
        sum.seeds.insert(seed);
        kept.store(&mut sum);
        // What is killed while it writes.
        kept.states.write_all(&[1, 2, 3]).unwrap();
        assert_eq!((sum.lives, sum.states.len()), (seed, states));
    }
    let (_kept, sum) = Kept::open(directory.path());
    assert_eq!((sum.lives, sum.states.len(), sum.covered.len()), (3, 4, 2));
    assert_eq!(sum.seeds, Seeds([(1, 4)].into()));
}
