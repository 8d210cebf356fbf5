//! Whether a test notices a change.

use std::{
    path::Path,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Settings,
    list::Change,
    reach::Test,
    results::{Results, Verdict},
    run::{Ended, run},
};

/// Judges changes, several at a time.
pub fn judge(settings: &Settings, changes: &[&Change], tests: &[Test], results: &mut Results) {
    let queue = Mutex::new(changes.iter());
    let done = Mutex::new((results, 0));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..settings.jobs {
            scope.spawn(|| {
                while let Some(change) = { queue.lock().expect("a queue").next() } {
                    let (verdict, test) = one(settings, change, tests);
                    let (results, count) = &mut *done.lock().expect("the results");
                    results.add(&change.name, verdict, &test);
                    *count += 1;
                    if *count % 100 == 0 {
                        println!("{count} of {} after {} s", changes.len(), began.elapsed().as_secs());
                    }
                }
            });
        }
    });
}

/// Runs the tests that reach a change until one fails.
fn one(settings: &Settings, change: &Change, tests: &[Test]) -> (Verdict, String) {
    let reaching: Vec<_> = tests.iter().filter(|test| test.reaches.contains(&change.id)).collect();
    if reaching.is_empty() {
        return (Verdict::Unreached, String::new());
    }
    let id = change.id.to_string();
    for group in groups(reaching, &module(&change.file)) {
        let names: Vec<_> = group.iter().map(|test| &*test.name).collect();
        match run(&settings.tree, &group[0].program, &names, limit(&group), &[("MUTANT", &id)]) {
            Ended::Passed => {}
            Ended::Failed => return (Verdict::Caught, names.join(" ")),
            Ended::TimedOut => return (Verdict::TimedOut, names.join(" ")),
        }
    }
    (Verdict::Missed, String::new())
}

/// What tests may take: much more than they do, as other programs may run beside them.
fn limit(group: &[&Test]) -> Duration {
    Duration::from_secs(10) + total(group) * 20
}

fn total(group: &[&Test]) -> Duration {
    group.iter().map(|test| test.takes).sum()
}

/// Returns the path of a file's module with `::` at its end.
fn module(file: &str) -> String {
    let path = Path::new(file).with_extension("");
    let parts = path.iter().skip(1).filter_map(|part| part.to_str()).filter(|part| *part != "mod");
    parts.map(|part| format!("{part}::")).collect()
}

/// Divides tests into groups that run in one process: the tests beside the code first, and then the quickest. As the first
/// ones usually notice a change, the groups grow.
fn groups<'a>(mut tests: Vec<&'a Test>, module: &str) -> Vec<Vec<&'a Test>> {
    tests.sort_by_key(|test| (!(test.inner && test.name.starts_with(module)), !test.inner, test.takes));
    let mut groups: Vec<Vec<&Test>> = Vec::new();
    let mut most = Duration::from_millis(50);
    for test in tests {
        match groups.last_mut() {
            Some(group)
                if group[0].program == test.program
                    && group.len() < 200
                    && total(group) + test.takes <= most =>
            {
                group.push(test);
            }
            _ => {
                if !groups.is_empty() {
                    most = (most * 2).min(Duration::from_secs(5));
                }
                groups.push(vec![test]);
            }
        }
    }
    groups
}
