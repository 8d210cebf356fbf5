//! What the run shows.

use std::{collections::BTreeMap, fs, path::Path, process::ExitCode};

use crate::{
    list::Change,
    results::{Results, Verdict},
};

#[derive(Default)]
struct Row {
    noticed: usize,
    left: usize,
    unviable: usize,
    not_judged: usize,
}

impl Row {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Caught | Verdict::TimedOut => self.noticed += 1,
            Verdict::Missed | Verdict::Unreached => self.left += 1,
            Verdict::Unviable => self.unviable += 1,
            Verdict::NotJudged => self.not_judged += 1,
        }
    }

    fn line(&self, name: &str) -> String {
        let Self { noticed, left, unviable, not_judged } = self;
        let percent = match noticed + left {
            0 => 100.0,
            judged => *noticed as f64 * 100.0 / judged as f64,
        };
        format!("{name:<24} {noticed:>6} {left:>6} {percent:>6.1} % {unviable:>8} {not_judged:>10}")
    }
}

/// Returns the directory of a file.
fn module(file: &str) -> &str {
    let file = file.strip_suffix(".rs").unwrap_or(file);
    match file {
        "src/status" | "src/api/rules" => file,
        _ => file.rsplit_once('/').map_or(file, |(directory, _)| directory),
    }
}

/// Prints a table and the changes that are left, and writes the latter to `missed.txt`.
pub fn print(out: &Path, changes: &[Change], results: &Results) -> ExitCode {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut sum = Row::default();
    let (mut missed, mut not_judged) = (String::new(), String::new());
    for change in changes {
        let Some(verdict) = results.of(&change.name) else { continue };
        rows.entry(module(&change.file)).or_default().add(verdict);
        sum.add(verdict);
        match verdict {
            Verdict::Missed => missed += &format!("{}\n", change.name),
            Verdict::Unreached => missed += &format!("{} (no test reaches it)\n", change.name),
            Verdict::NotJudged => not_judged += &format!("{}\n", change.name),
            _ => {}
        }
    }
    fs::write(out.join("missed.txt"), &missed).expect("the list of what is missed");
    fs::write(out.join("not-judged.txt"), &not_judged).expect("the list of what is not judged");
    println!("{:<24} {:>6} {:>6} {:>8} {:>8} {:>10}", "", "caught", "missed", "", "unviable", "not judged");
    for (name, row) in &rows {
        println!("{}", row.line(name));
    }
    println!("{}", sum.line("all"));
    if missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("no test notices these changes:\n{missed}");
    ExitCode::from(2)
}
