//! Whether a test notices a change.

use std::{
    collections::BTreeMap,
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

/// Runs the tests that reach a change until one fails, or the time for it is over.
fn one(settings: &Settings, change: &Change, tests: &[Test]) -> (Verdict, String) {
    let reaching: Vec<_> = tests.iter().filter(|test| test.reaches.contains(&change.id)).collect();
    if reaching.is_empty() {
        return (Verdict::Unreached, String::new());
    }
    let id = change.id.to_string();
    let mut spent = Duration::ZERO;
    for group in groups(reaching, &module(&change.file)) {
        if spent > settings.budget {
            break;
        }
        spent += total(&group);
        let names: Vec<_> = group.iter().map(|test| &*test.name).collect();
        match run(&settings.tree, &group[0].program, &names, limit(&group), &[("MUTANT", &id)]).0 {
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
    let rank = |test: &Test| (!(test.inner && test.name.starts_with(module)), !test.inner);
    tests.sort_by_key(|test| (rank(test), test.takes));
    let (mut groups, mut rest) = (Vec::new(), &tests[..]);
    let mut most = Duration::from_millis(50);
    while let Some(first) = rest.first() {
        let mut sum = Duration::ZERO;
        let fits = |test: &&&Test| {
            sum += test.takes;
            rank(test) == rank(first) && (sum <= most || std::ptr::eq(**test, *first))
        };
        let (now, later) = rest.split_at(rest.iter().take_while(fits).take(200).count());
        let mut by_program: BTreeMap<_, Vec<&Test>> = BTreeMap::new();
        for test in now {
            by_program.entry(&test.program).or_default().push(test);
        }
        groups.extend(by_program.into_values());
        most = (most * 2).min(Duration::from_secs(2));
        rest = later;
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tests_beside_the_code_come_first_and_then_the_quickest() {
        let test = |program: &str, name: &str, takes| Test {
            program: program.into(),
            name: name.into(),
            inner: program == "lib",
            takes: Duration::from_millis(takes),
            reaches: BTreeSet::new(),
        };
        let tests = [
            test("plan", "slow", 500),
            test("policy", "quick", 1),
            test("plan", "quick", 2),
            test("lib", "plan::steps::tests::a", 40),
            test("lib", "plan::step::tests::b", 3),
            test("lib", "plan::step::tests::c", 4),
        ];
        let groups = groups(tests.iter().collect(), &module("src/plan/step/mod.rs"));
        let names: Vec<_> =
            groups.iter().map(|group| group.iter().map(|test| &*test.name).collect::<Vec<_>>()).collect();
        let expected = [
            &["plan::step::tests::b", "plan::step::tests::c"][..],
            &["plan::steps::tests::a"],
            &["quick"],
            &["quick"],
            &["slow"],
        ];
        assert_eq!(names, expected);
        assert_eq!(module("src/status.rs"), "status::");
    }
}
