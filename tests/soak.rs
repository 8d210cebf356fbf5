//! A long time on the test world in which everything is done to a cluster that may be done to it, by a plan that is a
//! function of a seed (`soak/plan.rs`). At the end it is whole, with the data of the beginning, nothing that is
//! somebody else's was touched, and a deletion leaves nothing.
//!
//! `make soak SEED=1 MINUTES=60`. With SEED=known, the seeds that failed once.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

#[path = "support/live/mod.rs"]
mod live;
#[path = "soak/outside.rs"]
mod outside;
#[path = "soak/plan.rs"]
mod plan;
#[path = "soak/strangers.rs"]
mod strangers;
#[path = "soak/witnesses.rs"]
mod witnesses;

use live::cluster::nodes_are_ready;
use live::scene::{Scene, is_ready};
use live::{eventually, install, pause, world};
use outside::{engine, evidence, no_evidence, perform};
use plan::{Act, Plan, Spec};
use strangers::Strangers;
use witnesses::Witnesses;

/// Seeds that failed once, and in how many minutes they did. One is added with the fix of what it found, and stays
/// until a change of the plan makes another plan of it.
const KNOWN: &[(u64, u64)] = &[(12, 60)];

/// How long a cluster may take until it is whole: some edits, of which each replaces all nodes one after the other,
/// may have to be done one after the other.
const WHOLE: u64 = 900;

fn main() -> ExitCode {
    let number = |name: &str| {
        let text = env::var(name).ok().filter(|text| !text.is_empty());
        text.map(|t| t.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number and not {t}")))
    };
    if env::args().any(|a| a == "--list") {
        println!("soak: test");
        return ExitCode::SUCCESS;
    }
    if env::var("SEED").is_ok_and(|s| s == "known") {
        let failed = KNOWN.iter().filter(|(seed, minutes)| !passes(*seed, *minutes)).count();
        println!("{failed} of {} known seeds failed", KNOWN.len());
        return if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let seed = number("SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        // Few digits, since people copy it.
        u64::from(now.subsec_micros())
    });
    if passes(seed, number("MINUTES").unwrap_or(60)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was done and when, printed as it happens and once more when it fails.
struct Log {
    began: Instant,
    lines: Vec<String>,
}

impl Log {
    fn add(&mut self, line: &str) {
        let line = format!("{:>6.1} s  {line}", self.began.elapsed().as_secs_f64());
        println!("{line}");
        self.lines.push(line);
    }
}

/// One soak.
fn passes(seed: u64, minutes: u64) -> bool {
    let repeat = format!("make soak SEED={seed} MINUTES={minutes}");
    println!("to repeat: {repeat}");
    let mut log = Log { began: Instant::now(), lines: Vec::new() };
    let ended = catch_unwind(AssertUnwindSafe(|| soak(seed, minutes, &mut log)));
    if ended.is_err() {
        println!("\nwhat was done:\n{}", log.lines.join("\n"));
        println!("\nsoak ... FAILED; to repeat: {repeat}");
        return false;
    }
    println!("soak ... ok, seed {seed}, {minutes} minutes, {} lines of log", log.lines.len());
    true
}

fn soak(seed: u64, minutes: u64, log: &mut Log) {
    let restarts = env::var("DOCKER_RESTART").is_ok_and(|v| v == "1");
    // Where others use the engine meanwhile, what is there besides changes without our doing.
    let shared = env::var("SHARED").is_ok_and(|v| v == "1");
    no_evidence(seed);
    install();
    let before = engine();
    {
        let scene = Scene::new("soak");
        let done = catch_unwind(AssertUnwindSafe(|| life(&scene, seed, minutes, restarts, log)));
        if let Err(panic) = done {
            println!("what may explain it: {}", evidence(&scene, seed).display());
            // The scene is dropped by it, and explains what it sees.
            resume_unwind(panic);
        }
    }
    if !shared {
        assert_eq!(engine(), before, "Docker has not what it had before");
    }
}

fn life(scene: &Scene, seed: u64, minutes: u64, restarts: bool, log: &mut Log) {
    scene.apply("Registry", "r", "{}");
    scene.apply(
        "LocalCluster",
        "c",
        "{servers: {count: 3, args: [\"--disable=traefik,metrics-server,servicelb\"]}, agents: {count: 1}, \
         ports: [{name: web, port: 30080}], registries: {use: [{name: r}]}}",
    );
    scene.ready("lc/c");
    let witnesses = Witnesses::new(scene);
    let mut strangers = Strangers::new(scene);
    log.add("the cluster is Ready, with three servers and an agent");

    let mut whole = Whole { scene, witnesses: &witnesses, asked: 0 };
    let mut plan = Plan::new(seed);
    let until = Instant::now() + Duration::from_secs(minutes * 60);
    while Instant::now() < until {
        let step = plan.next().expect("it has no end");
        pause(step.pause);
        match step.act {
            Act::RestartDocker if !restarts => {
                log.add("restart Docker: left out");
                continue;
            }
            // The one before must be made good, or data is lost that nothing could bring back.
            Act::Lose(_) => whole.wait(&plan.spec, log),
            _ => {}
        }
        // What nobody promises to take is no finding: a container that is gone already can't be stopped.
        let said = perform(scene, seed, &step.act);
        log.add(&format!("{}{}", step.act, said.map_or_else(|e| format!(": {e}"), |()| String::new())));
        // Notes the volumes that the end has to find gone.
        scene.containers();
        if step.act == Act::RestartDocker {
            strangers.were_started_anew();
        }
        strangers.are_untouched();
        strangers.guest_is_there();
    }
    if !plan.spec.running {
        plan.spec.running = true;
        let edit = Act::Edit(r#"{"state": "Running"}"#.into());
        perform(scene, seed, &edit).unwrap_or_else(|e| panic!("{e}"));
        log.add(&edit.to_string());
    }
    log.add("the time is over");
    whole.wait(&plan.spec, log);
    witnesses.image_is_intact();
    strangers.are_untouched();
    scene.end();
    strangers.are_untouched();
    log.add("all is deleted, and nothing is left");
}

/// The proof that all is well, as often as it is asked for.
struct Whole<'a> {
    scene: &'a Scene,
    witnesses: &'a Witnesses,
    asked: u32,
}

impl Whole<'_> {
    /// Waits for Ready and looks whether it is true.
    fn wait(&mut self, spec: &Spec, log: &mut Log) {
        let began = Instant::now();
        // Ready may be what an operator saw that was killed since. An edit of what needs no restart is one that it has
        // to see first.
        self.asked += 1;
        let look = format!(r#"{{"servers": {{"labels": {{"soak/look": "{}"}}}}}}"#, self.asked);
        self.scene.patch("lc/c", &look);
        eventually(WHOLE, "the cluster and its registry are Ready", || {
            self.scene.attempt(&["wait", "--for=condition=Ready", "lc/c", "lreg/r", "--timeout=30s"])?;
            is_ready(&self.scene.try_get("lreg/r")?)?;
            is_ready(&self.scene.try_get("lc/c")?)
        });
        let took = began.elapsed().as_secs_f64();
        log.add(&format!("Ready {took:.1} s after it was asked for"));
        let version = world(if spec.upgraded { "NODE_VERSION_2" } else { "NODE_VERSION" });
        let count = usize::try_from(spec.servers + spec.agents).expect("they are few");
        let nodes = || nodes_are_ready(&self.scene.child("c"), count, &version);
        if let Err(why) = nodes() {
            log.add(&format!("Ready was said too early: {why}"));
            panic!("Ready was said too early: {why}");
        }
        self.witnesses.data_is_there(self.scene);
    }
}
