//! Lives of many objects in one process, from one seed each, in virtual time: the real reconciles of both kinds over the
//! fakes of Docker and of both Kubernetes APIs, while users edit, strangers interfere, calls fail and processes die.

#[path = "simulation/desk.rs"]
mod desk;
#[path = "simulation/events.rs"]
mod events;
#[path = "simulation/life.rs"]
mod life;
#[path = "simulation/op.rs"]
mod op;
#[path = "simulation/operator.rs"]
mod operator;
#[path = "simulation/policy.rs"]
mod policy;
#[path = "simulation/shot.rs"]
mod shot;
#[path = "simulation/shrink.rs"]
mod shrink;
#[path = "simulation/specs.rs"]
mod specs;
mod support;

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use life::{Sum, live};
use op::{Op, script};

/// How many lives a run has that is given no minutes.
const LIVES: u64 = 40;
/// How many failures end a run.
const FAILURES: usize = 5;
/// How long a failing script is made shorter.
const SHRINKING: Duration = Duration::from_secs(60);

/// What failed once, by what it is about, and the script for it.
const KNOWN: [(&str, &str); 5] = [
    (
        "of two voters the surplus one is killed after it was asked to leave etcd",
        r#"[{"Put":[3,16403581499804737291]},{"Put":[1,16608863562231534615]},{"Ticks":3},{"Meanwhile":[6,{"Pause":[2,false]}]},{"Put":[3,17141198323535259623]},{"Ticks":3},{"Outside":20893}]"#,
    ),
    (
        "of two voters one is lost while a third server waits to join",
        r#"[{"Put":[1,17327745660623525254]},{"Put":[0,6943528016907110479]},{"Put":[3,8691867382502995470]},"StrangersLeave",{"Ticks":1},{"Ticks":1},{"Outside":28254}]"#,
    ),
    (
        "the first voter is lost while a third server waits to join",
        r#"[{"Put":[1,15402082130405850758]},{"Put":[0,11325835195932240696]},{"Put":[4,6327169657218792606]},{"Ticks":1},{"Ticks":1},{"Outside":27850}]"#,
    ),
    (
        "networks of registries are no clusters",
        r#"[{"Put":[4,9593184917587624510]},{"Policy":2},{"Put":[2,14041308226652312842]}]"#,
    ),
    (
        "a cluster waits for a registry that waits for its user",
        r#"[{"Put":[4,3275553859487780038]},{"Put":[3,16939498822808489917]},{"Put":[1,12320023745368445659]}]"#,
    ),
];

/// Lives a script; the failure, if it fails, be it a panic.
fn failure(script: &[Op], sum: &mut Sum) -> Option<String> {
    match panic::catch_unwind(AssertUnwindSafe(|| live(script, sum))) {
        Ok(result) => result.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
            Some(format!("a panic: {}", text.unwrap_or_default()))
        }
    }
}

/// What a failure is about: names and numbers may differ when operations are left out.
fn about(failure: &str) -> String {
    failure.lines().next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Says how to repeat a failure, with the shortest script for it that is found in a while.
fn report(seed: u64, script: &[Op], failure: &str) -> String {
    let about = self::about(failure);
    let until = Instant::now() + SHRINKING;
    let fails = |s: &[Op]| {
        Instant::now() < until
            && self::failure(s, &mut Sum::default()).is_some_and(|f| self::about(&f) == about)
    };
    let (short, steady) = match fails(script) {
        true => (shrink::shrink(script, fails), ""),
        false => (script.to_vec(), " (not each time)"),
    };
    let again = self::failure(&short, &mut Sum::default()).unwrap_or_else(|| failure.to_owned());
    let text = serde_json::to_string(&short).unwrap();
    format!("SEED={seed}{steady}: {again}\n\nSCRIPT='{text}'\n")
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

/// Returns the time that this thread had a core.
fn on_a_core() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default())
}

/// Lives seeds until one of the `ends` is reached, or several failed. Returns those that failed.
fn explore(next: &AtomicU64, is_over: impl Fn(u64) -> bool, all: &Mutex<Sum>, failed: &Mutex<Vec<u64>>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if is_over(seed) || failed.lock().unwrap().len() >= FAILURES {
            return;
        }
        let (began, script, mut sum) = (on_a_core(), script(seed), Sum::default());
        let failure = failure(&script, &mut sum);
        sum.on_a_core = on_a_core().saturating_sub(began);
        all.lock().unwrap().add(sum);
        if let Some(failure) = failure {
            failed.lock().unwrap().push(seed);
            println!("{}", report(seed, &script, &failure));
        }
    }
}

/// `SEED=` lives one seed, or all from it on with `MINUTES=`, on all cores; `SCRIPT=` a script. `TELL=1` says what happens.
#[test]
fn lives_go_well() {
    if let Some(text) = env::var("SCRIPT").ok().filter(|text| !text.is_empty()) {
        let script: Vec<Op> = serde_json::from_str(&text).unwrap();
        let failure = failure(&script, &mut Sum::default());
        assert!(failure.is_none(), "{}", failure.unwrap());
        return;
    }
    let (seed, minutes) = (number("SEED"), number("MINUTES"));
    let first = seed.unwrap_or(1);
    let last = if seed.is_some() { first } else { first + LIVES - 1 };
    let (began, next) = (Instant::now(), AtomicU64::new(first));
    let most = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let is_over = |seed| most.map_or(seed > last, |most| began.elapsed() > most);
    let (all, failed) = (Mutex::new(Sum::default()), Mutex::new(Vec::new()));
    let cores = minutes.and_then(|_| thread::available_parallelism().ok()).map_or(1, |n| n.get());
    // What panics is told with its script.
    panic::set_hook(Box::new(|_| {}));
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| explore(&next, is_over, &all, &failed));
        }
    });
    drop(panic::take_hook());
    let all = all.into_inner().unwrap();
    println!("{all}, {:.1} lives a second", all.lives as f64 / began.elapsed().as_secs_f64());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
}

/// Scripts that failed once.
#[test]
fn what_failed_once_goes_well() {
    for (name, text) in KNOWN {
        let script: Vec<Op> = serde_json::from_str(text).unwrap();
        let failure = failure(&script, &mut Sum::default());
        assert!(failure.is_none(), "{name}: {}", failure.unwrap());
    }
}
