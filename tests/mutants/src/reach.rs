//! Which changes each test reaches, and how long it takes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    Settings,
    run::{Ended, run},
};

/// Tests that take more CPU time judge nothing: a change that is left is judged by all that reach it.
const LONGEST: Duration = Duration::from_millis(600);

/// A test that passes without a change.
pub struct Test {
    pub program: PathBuf,
    pub name: String,
    /// Whether it is in src/.
    pub inner: bool,
    pub takes: Duration,
    pub reaches: BTreeSet<u32>,
}

/// Returns what each test reaches: from a file if the tests and changes are the same, and else by running them.
pub fn tests(settings: &Settings, programs: &[(String, PathBuf)], digest: u64) -> Vec<Test> {
    let file = settings.out.join("reached.jsonl");
    let mut tests = read(&file, digest).unwrap_or_else(|| {
        let tests = measured(settings, programs);
        let lines: String = tests.iter().map(|test| format!("{}\n", test.line())).collect();
        fs::write(&file, format!("{}\n{lines}", json!({ "digest": digest })))
            .expect("what is reached is written");
        tests
    });
    tests.sort_by_key(|test| test.takes);
    let total: Duration = tests.iter().map(|test| test.takes).sum();
    println!("{} tests judge; all of them take {:.0} s", tests.len(), total.as_secs_f64());
    tests
}

impl Test {
    fn line(&self) -> Value {
        let Self { program, name, inner, takes, reaches } = self;
        json!({"program": program, "name": name, "inner": inner, "micros": takes.as_micros() as u64, "reaches": reaches})
    }

    fn of_line(line: &Value) -> Option<Self> {
        let reaches = line["reaches"].as_array()?.iter();
        Some(Self {
            program: line["program"].as_str()?.into(),
            name: line["name"].as_str()?.to_owned(),
            inner: line["inner"].as_bool()?,
            takes: Duration::from_micros(line["micros"].as_u64()?),
            reaches: reaches.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect(),
        })
    }
}

fn read(file: &Path, digest: u64) -> Option<Vec<Test>> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
    (lines.next()?["digest"] == digest).then(|| lines.map(|line| Test::of_line(&line)).collect())?
}

/// Runs each test alone. Those that fail are left out, too: some read the sources. A file names those that take too long, so
/// that they need not be run again.
fn measured(settings: &Settings, programs: &[(String, PathBuf)]) -> Vec<Test> {
    let names = programs.iter().flat_map(|(program, path)| {
        let inner = !settings.programs.contains(program);
        names(settings, path).into_iter().map(move |name| (path.clone(), name, inner))
    });
    let slow_file = settings.out.join("slow.txt");
    let mut slow = lines(&slow_file);
    let queue = Mutex::new(names.filter(|(_, name, _)| !slow.contains(name)).collect::<Vec<_>>());
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for worker in 0..settings.jobs {
            let (queue, found) = (&queue, &found);
            scope.spawn(move || {
                let record = settings.out.join(format!("reached-{worker}"));
                while let Some((program, name, inner)) = { queue.lock().expect("a queue").pop() } {
                    let test = alone(settings, &record, program, name, inner);
                    found.lock().expect("a list").push(test);
                }
            });
        }
    });
    let (mut tests, mut failed) = (Vec::new(), BTreeSet::new());
    for one in found.into_inner().expect("a list") {
        match one {
            Ok(test) => tests.push(test),
            Err((name, Ended::Failed)) => drop(failed.insert(name)),
            Err((name, Ended::Passed | Ended::TimedOut)) => drop(slow.insert(name)),
        }
    }
    fs::write(slow_file, slow.iter().map(|name| format!("{name}\n")).collect::<String>()).expect("a list");
    println!("{} tests take too long; these fail without a change: {failed:?}", slow.len());
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

fn lines(file: &Path) -> BTreeSet<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Returns a test, or its name and how it ended if it cannot judge.
fn alone(
    settings: &Settings,
    record: &Path,
    program: PathBuf,
    name: String,
    inner: bool,
) -> Result<Test, (String, Ended)> {
    let _ = fs::remove_file(record);
    let path = record.to_str().expect("a path that is UTF-8");
    let environment = [("MUTANTS_REACHED", path)];
    let (ended, takes) = run(&settings.tree, &program, &[&name], LONGEST * 15, &environment);
    if ended != Ended::Passed || takes > LONGEST {
        return Err((name, ended));
    }
    let reaches = lines(record).iter().filter_map(|line| line.parse().ok()).collect();
    Ok(Test { program, name, inner, takes, reaches })
}
