//! Runs the tests one after the other, in groups that share a scene: creating a cluster takes half a minute, and
//! there are two cores. libtest supports neither a fixture that tests share nor a teardown that checks them.

use std::{
    env,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{scene::Scene, shared_file};

/// A test and its name.
pub type Test = (&'static str, fn(&Scene));

/// Tests that share a scene.
pub struct Group {
    pub name: &'static str,
    /// Creates what the tests need.
    pub setup: fn() -> Scene,
    /// The tests, in this order. Each restores the scene, so that each of them can also run alone.
    pub tests: &'static [Test],
}

/// Runs the tests with a `group::name` that contains one of the arguments, or all. While a test of `alone` measures
/// durations, no test of another run of this program runs. Tests of `long` only run with E2E_ALL or by name.
pub fn main(groups: &[Group], alone: &[&str], long: &[&str]) -> ExitCode {
    let names = || groups.iter().flat_map(|g| g.tests.iter().map(|(test, _)| format!("{}::{test}", g.name)));
    alone.iter().chain(long).for_each(|name| assert!(names().any(|n| n == *name), "there is no {name}"));
    let args: Vec<String> = env::args().skip(1).collect();
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| {
        let mut matching = filters.iter().filter(|f| name.contains(f.as_str())).peekable();
        let named = matching.peek().is_some();
        let short = all() || !long.contains(&name) || matching.any(|f| !f.ends_with("::"));
        short && (named || filters.is_empty())
    };
    let mut outcome = Outcome::default();
    let began = Instant::now();
    for group in groups {
        let full = |test: &str| format!("{}::{test}", group.name);
        let tests: Vec<_> = group.tests.iter().filter(|(test, _)| wanted(&full(test))).collect();
        if args.iter().any(|a| a == "--list") {
            tests.iter().for_each(|(test, _)| println!("{}: test", full(test)));
            continue;
        }
        if tests.is_empty() {
            continue;
        }
        let mut scene = None;
        {
            let _room = Room::shared();
            outcome.run(&full("setup"), || scene = Some((group.setup)()), || {});
        }
        let Some(scene) = scene else { continue };
        // Waiting for an empty room can take as long as another run's test, so the room is kept for the next test
        // that needs it.
        let mut room: Option<Room> = None;
        for (test, run) in tests {
            let name = full(test);
            let wants = alone.contains(&name.as_str());
            room = room.filter(|room| wants && room.is_alone());
            room = Some(room.unwrap_or_else(|| if wants { Room::alone() } else { Room::shared() }));
            outcome.run(&name, || run(&scene), || scene.explain());
        }
        drop(room);
        let _room = Room::shared();
        outcome.run(&full("nothing_is_left"), || scene.end(), || scene.explain());
    }
    println!(
        "\n{} passed, {} failed, in {} s",
        outcome.passed,
        outcome.failed.len(),
        began.elapsed().as_secs()
    );
    outcome.failed.iter().for_each(|name| println!("failed: {name}"));
    if outcome.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reports whether the tests run at full length.
pub fn all() -> bool {
    env::var_os("E2E_ALL").is_some()
}

/// Returns the limit for something that takes at most `quiet` on an idle machine, as with E2E_ALL. On a busy machine
/// it is twice that: an idle machine would cost two fifths of the time of all tests.
pub fn within(quiet: Duration) -> Duration {
    if all() { quiet } else { 2 * quiet }
}

/// The machine. Runs of this program share it through locks on files, which end with the process.
struct Room {
    /// Held by a run that is alone or waits for that, so that runs that share the machine cannot starve it.
    door: Option<File>,
    _room: File,
}

impl Room {
    fn shared() -> Self {
        let (door, room) = Self::files();
        door.lock().expect("a file can be locked");
        room.lock_shared().expect("a file can be locked");
        Self { door: None, _room: room }
    }

    fn alone() -> Self {
        let (door, room) = Self::files();
        door.lock().expect("a file can be locked");
        room.lock().expect("a file can be locked");
        Self { door: Some(door), _room: room }
    }

    fn is_alone(&self) -> bool {
        self.door.is_some()
    }

    fn files() -> (File, File) {
        let open = |name| {
            File::create(shared_file(name)).expect("cargo's directory for temporary files is writable")
        };
        (open("e2e-door.lock"), open("e2e-room.lock"))
    }
}

#[derive(Default)]
struct Outcome {
    passed: usize,
    failed: Vec<String>,
}

impl Outcome {
    fn run(&mut self, name: &str, test: impl FnOnce(), explain: impl FnOnce()) {
        let began = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(test));
        let seconds = began.elapsed().as_secs_f32();
        if ended.is_ok() {
            println!("test {name} ... ok ({seconds:.1} s)");
            self.passed += 1;
        } else {
            explain();
            println!("test {name} ... FAILED ({seconds:.1} s)");
            self.failed.push(name.to_owned());
        }
    }
}
