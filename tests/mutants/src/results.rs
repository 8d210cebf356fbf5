//! What is known about each change. A file holds it, so that an interrupted run goes on where it was.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
};

use serde_json::{Value, json};

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// A test fails.
    Caught,
    /// The tests do not end.
    TimedOut,
    /// All tests that reach it pass.
    Missed,
    /// No test reaches it.
    Unreached,
    /// It does not compile.
    Unviable,
    /// It cannot be compiled in beside the original.
    NotJudged,
}

const NAMES: [(Verdict, &str); 6] = [
    (Verdict::Caught, "caught"),
    (Verdict::TimedOut, "timed out"),
    (Verdict::Missed, "missed"),
    (Verdict::Unreached, "unreached"),
    (Verdict::Unviable, "unviable"),
    (Verdict::NotJudged, "not judged"),
];

impl Verdict {
    /// Reports whether the tests do not notice the change.
    pub fn is_left(self) -> bool {
        matches!(self, Self::Missed | Self::Unreached)
    }
}

pub struct Results {
    verdicts: BTreeMap<String, Verdict>,
    file: File,
}

impl Results {
    /// Opens a file of results. Results of other sources count only for changes that were not left, and only if `left`.
    pub fn open(path: &Path, digest: u64, left: bool) -> Self {
        let old = fs::read_to_string(path).unwrap_or_default();
        let mut lines = old.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let same = lines.next().is_some_and(|head| head["digest"] == digest);
        let mut verdicts = BTreeMap::new();
        for line in lines {
            let verdict = NAMES.iter().find(|(_, name)| line["verdict"] == *name);
            if let (Some((verdict, _)), Some(name)) = (verdict, line["change"].as_str()) {
                verdicts.insert(name.to_owned(), *verdict);
            }
        }
        verdicts.retain(
            |_, verdict| if same { !(left && verdict.is_left()) } else { left && !verdict.is_left() },
        );
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory is made");
        fs::write(path, format!("{}\n", json!({ "digest": digest }))).expect("the file of results");
        let file = OpenOptions::new().append(true).open(path).expect("the file of results");
        let mut results = Self { verdicts: BTreeMap::new(), file };
        for (change, verdict) in verdicts {
            results.add(&change, verdict, "");
        }
        results
    }

    pub fn of(&self, change: &str) -> Option<Verdict> {
        self.verdicts.get(change).copied()
    }

    /// Reports whether a change is known not to compile.
    pub fn is_dropped(&self, change: &str) -> bool {
        matches!(self.of(change), Some(Verdict::Unviable | Verdict::NotJudged))
    }

    pub fn add(&mut self, change: &str, verdict: Verdict, test: &str) {
        if self.verdicts.insert(change.to_owned(), verdict) == Some(verdict) {
            return;
        }
        let name = NAMES.iter().find(|(other, _)| *other == verdict).expect("each verdict has a name").1;
        let line = json!({ "change": change, "verdict": name, "test": test });
        writeln!(self.file, "{line}").expect("a result is written");
    }
}
