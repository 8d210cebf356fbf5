//! Judges changes of the pure core: which of them does no test notice?
//!
//! cargo-mutants says what is changed. It builds the crate once for each change; here, all changes are compiled in, and an
//! environment variable chooses one of them at run time:
//!
//! ```text
//! changes ──sites──▶ sites ──rewrite──▶ a copy of the tree ──compile──▶ test programs ──reach──▶ tests of each change ──judge──▶ results
//! ```

mod compile;
mod judge;
mod list;
mod reach;
mod report;
mod results;
mod rewrite;
mod run;
mod sites;
mod tree;

use std::{collections::BTreeSet, env, fs, path::PathBuf, process::ExitCode, time::Duration};

use results::{Results, Verdict};

/// Where to work, and with which tests.
pub struct Settings {
    /// The directory of the results.
    pub out: PathBuf,
    /// The copy of the sources.
    pub tree: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
    /// The programs in tests/ that judge, besides the tests in src/.
    pub programs: Vec<String>,
    /// How many changes are judged at a time.
    pub jobs: usize,
    /// CPU time of the tests that judge one change.
    pub budget: Duration,
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Arguments: the list of changes (the JSON of cargo-mutants), and the names of the programs in tests/. The current
/// directory is the repository.
fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let list = arguments.next().expect("the first argument is the list of changes");
    let here = env::current_dir().expect("the current directory");
    let settings = Settings {
        out: here.join("target/mutants"),
        tree: here.join("target/mutants/tree"),
        target: here.join("target"),
        programs: arguments.collect(),
        jobs: number("JOBS", 2) as usize,
        budget: Duration::from_secs(number("BUDGET", 20)),
    };
    let changes = list::parse(&fs::read_to_string(list).expect("the list of changes"));
    let digest = tree::digest(&here);
    let mut results = Results::open(&settings.out.join("results.jsonl"), digest, env::var("LEFT").is_ok());
    let mut dropped: BTreeSet<u32> = changes
        .iter()
        .filter(|change| results.is_dropped(&change.name) || !change.expressible())
        .map(|change| change.id)
        .collect();
    let (sites, constant) = compile::rewritten(&settings, &here, &changes, &mut dropped);
    for change in changes.iter().filter(|change| dropped.contains(&change.id)) {
        let compiles = !change.expressible() || constant.contains(&change.id);
        if results.of(&change.name).is_none() {
            results.add(&change.name, if compiles { Verdict::NotJudged } else { Verdict::Unviable }, "");
        }
    }
    println!(
        "{} of {} changes are compiled in, at {} sites",
        changes.len() - dropped.len(),
        changes.len(),
        sites
    );
    let programs = compile::programs(&settings);
    let only = env::var("ONLY").unwrap_or_default();
    let left: Vec<_> = changes
        .iter()
        .filter(|change| results.of(&change.name).is_none() && change.file.starts_with(&only))
        .collect();
    if !left.is_empty() {
        let tests = reach::tests(&settings, &programs, list::digest(&changes, (digest, &programs)));
        judge::judge(&settings, &left, &tests, &mut results);
    }
    report::print(&settings.out, &changes, &results)
}
