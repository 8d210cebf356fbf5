//! Lives of many objects in one process, from one seed each, in virtual time: the real reconciles of both kinds over the
//! fakes of Docker and of both Kubernetes APIs, while users edit, strangers interfere, calls fail and processes die.

#[path = "simulation/allocator.rs"]
mod allocator;
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
#[path = "simulation/pools.rs"]
mod pools;
#[path = "simulation/shot.rs"]
mod shot;
#[path = "simulation/shrink.rs"]
mod shrink;
#[path = "simulation/specs.rs"]
mod specs;
#[path = "simulation/sum.rs"]
mod sum;
mod support;

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use life::live;
use op::{Op, script};
use sum::{Kept, Sum};

/// A life copies and drops small values most of the time, which takes half as long as with the system's allocator.
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// How many lives a run has that is given no minutes.
const LIVES: u64 = 40;
/// How many failures end a run.
const FAILURES: usize = 5;
/// How long a failing script is made shorter.
const SHRINKING: Duration = Duration::from_secs(60);
/// How often a run says how far it is, and keeps that.
const TOLD: Duration = Duration::from_secs(60);

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

/// Many lives, on several cores.
struct Run {
    /// The seed of the next life.
    next: AtomicU64,
    began: Instant,
    lasts: Option<Duration>,
    last: u64,
    all: Mutex<Progress>,
}

/// What lives have come to.
struct Progress {
    sum: Sum,
    kept: Option<Kept>,
    /// Lives of this run.
    lived: u64,
    failures: usize,
    told: Instant,
}

impl Run {
    /// `SEED=` is the first of the `LIVES=`, or of those in `MINUTES=`; what a run in the directory `SUM=` has lived is left
    /// out. `SEED=` alone is one life.
    fn asked_for() -> Self {
        let (seed, lives, minutes) = (number("SEED"), number("LIVES"), number("MINUTES"));
        let first = seed.unwrap_or(1);
        let most =
            lives.unwrap_or(if minutes.is_some() { u64::MAX - first } else { seed.map_or(LIVES, |_| 1) });
        let directory = env::var("SUM").ok().filter(|text| !text.is_empty());
        let (kept, sum) = match directory.map(|text| Kept::open(Path::new(&text))) {
            Some((kept, sum)) => (Some(kept), sum),
            None => (None, Sum::default()),
        };
        let began = Instant::now();
        Self {
            next: AtomicU64::new(first),
            began,
            lasts: minutes.map(|minutes| Duration::from_secs(60 * minutes)),
            last: first + (most - 1),
            all: Mutex::new(Progress { sum, kept, lived: 0, failures: 0, told: began }),
        }
    }

    /// Lives seeds until the run ends, or several failed.
    fn explore(&self) {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed > self.last || self.lasts.is_some_and(|lasts| self.began.elapsed() > lasts) {
                return;
            }
            let all = self.all.lock().unwrap();
            if all.failures >= FAILURES {
                return;
            }
            let is_known = all.sum.seeds.contains(seed);
            drop(all);
            if is_known {
                continue;
            }
            let (began, script, mut sum) = (on_a_core(), script(seed), Sum::default());
            let failure = failure(&script, &mut sum);
            sum.on_a_core = on_a_core().saturating_sub(began);
            self.all.lock().unwrap().add(seed, sum, failure.is_some(), self.began);
            if let Some(failure) = failure {
                println!("{}", report(seed, &script, &failure));
            }
        }
    }
}

impl Progress {
    fn add(&mut self, seed: u64, sum: Sum, failed: bool, began: Instant) {
        self.sum.add(sum);
        self.sum.seeds.insert(seed);
        self.lived += 1;
        if failed {
            self.sum.failed.insert(seed);
            self.failures += 1;
        }
        if self.told.elapsed() > TOLD {
            self.told = Instant::now();
            self.tell(began);
        }
    }

    /// Says what all lives add up to, and keeps it.
    fn tell(&mut self, began: Instant) {
        let Self { sum, lived, .. } = self;
        println!(
            "{sum}, {:.1} lives a second, failed: {:?}",
            *lived as f64 / began.elapsed().as_secs_f64(),
            sum.failed
        );
        if let Some(kept) = &mut self.kept {
            kept.store(&mut self.sum);
        }
    }
}

/// Lives what [`Run::asked_for`] says, with `MINUTES=` or `LIVES=` on all cores, or a `SCRIPT=`. `TELL=1` says what happens.
#[test]
fn lives_go_well() {
    if let Some(text) = env::var("SCRIPT").ok().filter(|text| !text.is_empty()) {
        let script: Vec<Op> = serde_json::from_str(&text).unwrap();
        let failure = failure(&script, &mut Sum::default());
        assert!(failure.is_none(), "{}", failure.unwrap());
        return;
    }
    let run = Run::asked_for();
    let many = number("MINUTES").or(number("LIVES"));
    let cores = many.and_then(|_| thread::available_parallelism().ok()).map_or(1, |n| n.get());
    // What panics is told with its script.
    panic::set_hook(Box::new(|_| {}));
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| run.explore());
        }
    });
    drop(panic::take_hook());
    let mut all = run.all.into_inner().unwrap();
    all.tell(run.began);
    assert!(all.sum.failed.is_empty(), "failing seeds: {:?}", all.sum.failed);
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
