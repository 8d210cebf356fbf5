//! Which changes each test reaches, and how long it takes.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Settings,
    run::{Ended, run},
};

/// Longer tests judge nothing.
const LONGEST: Duration = Duration::from_secs(3);

/// A test that passes without a change.
pub struct Test {
    pub program: PathBuf,
    pub name: String,
    /// Whether it is in src/.
    pub inner: bool,
    pub takes: Duration,
    pub reaches: BTreeSet<u32>,
}

/// Runs each test alone. Those that fail are left out, too: some read the sources.
pub fn tests(settings: &Settings, programs: &[(String, PathBuf)]) -> Vec<Test> {
    let names = programs.iter().flat_map(|(program, path)| {
        let inner = !settings.programs.contains(program);
        names(settings, path).into_iter().map(move |name| (path.clone(), name, inner))
    });
    let queue = Mutex::new(names.collect::<Vec<_>>());
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for worker in 0..settings.jobs {
            let (queue, found) = (&queue, &found);
            scope.spawn(move || {
                let record = settings.out.join(format!("reached-{worker}"));
                while let Some((program, name, inner)) = { queue.lock().expect("a queue").pop() } {
                    let test = alone(settings, &record, program, name, inner);
                    found.lock().expect("a list").extend(test);
                }
            });
        }
    });
    let mut tests = found.into_inner().expect("a list");
    tests.sort_by_key(|test| test.takes);
    let total: Duration = tests.iter().map(|test| test.takes).sum();
    println!("{} tests judge; all of them take {:.0} s", tests.len(), total.as_secs_f64());
    tests
}

fn names(settings: &Settings, program: &PathBuf) -> BTreeSet<String> {
    let list = |more: &[&str]| {
        let output = Command::new(program)
            .args(["--list", "--format=terse"])
            .args(more)
            .current_dir(&settings.tree)
            .output()
            .expect("a test program runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    &list(&[]) - &list(&["--ignored"])
}

fn alone(settings: &Settings, record: &PathBuf, program: PathBuf, name: String, inner: bool) -> Option<Test> {
    let _ = fs::remove_file(record);
    let began = Instant::now();
    let path = record.to_str().expect("a path that is UTF-8");
    let ended = run(&settings.tree, &program, &[&name], LONGEST, &[("MUTANTS_REACHED", path)]);
    let takes = began.elapsed();
    if ended != Ended::Passed {
        println!("leaves out {name}: {ended:?}");
        return None;
    }
    let reached = fs::read_to_string(record).unwrap_or_default();
    let reaches = reached.lines().filter_map(|line| line.parse().ok()).collect();
    Some(Test { program, name, inner, takes, reaches })
}
