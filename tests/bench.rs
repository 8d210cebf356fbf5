//! How long things take on the test world, next to the bare node image or K3s's own time in the same run: a table, and
//! a line of JSON for each figure in `target/bench.jsonl`.
//!
//! `make bench` runs all of it; `make bench BENCH="life drift" KILLS=10` chooses by name, with a smaller number.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
};

use clap::{Parser, ValueEnum};

#[path = "bench/calls.rs"]
mod calls;
#[path = "bench/clock.rs"]
mod clock;
#[path = "bench/create.rs"]
mod create;
#[path = "bench/drift.rs"]
mod drift;
#[path = "bench/figures.rs"]
mod figures;
#[path = "bench/images.rs"]
mod images;
#[path = "bench/life.rs"]
mod life;
#[path = "bench/listen.rs"]
mod listen;
#[path = "support/live/mod.rs"]
mod live;
#[path = "bench/many.rs"]
mod many;
#[path = "bench/noise.rs"]
mod noise;
#[path = "bench/own_time.rs"]
mod own_time;
#[path = "bench/paths.rs"]
mod paths;
#[path = "bench/pool.rs"]
mod pool;
#[path = "bench/ready.rs"]
mod ready;
#[path = "bench/registries.rs"]
mod registries;
#[path = "bench/tools.rs"]
mod tools;

use figures::Report;
use live::operator::{Operator, Victim};

/// Measures how long things take.
#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    /// The benches to run; none is all of them
    benches: Vec<Bench>,
    #[command(flatten)]
    scale: Scale,
    /// Lists the benches
    #[arg(long)]
    list: bool,
    /// Runs the operator as a process in place of the installed Pod: what was built just now, without an image of it
    #[arg(long)]
    process: bool,
}

/// How much is measured.
#[derive(clap::Args)]
pub struct Scale {
    /// Rounds: 3 of `create`, `ready` and `images`, 1 of `registries`
    #[arg(long, env = "ROUNDS")]
    rounds: Option<usize>,
    /// Agents of `life`
    #[arg(long, env = "AGENTS", default_value_t = 3)]
    agents: usize,
    /// Kills of each container of `drift`
    #[arg(long, env = "KILLS", default_value_t = 100)]
    kills: usize,
    /// Megabytes of the image: 200 of `registries`; `images` has one of 10 and one of 1000
    #[arg(long, env = "SIZE")]
    size: Option<u64>,
    /// Minutes without a change of `calls`, a part of an hour
    #[arg(long, env = "IDLE", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    idle: u64,
    /// Clusters of `many`, with half a GB of memory each
    #[arg(long, env = "MANY", default_value_t = 20)]
    many: usize,
    /// Claims of `pool`, with and without a port
    #[arg(long, env = "CLAIMS", default_value_t = 25)]
    claims: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    Create,
    Life,
    Drift,
    Registries,
    Many,
    Paths,
    Calls,
    Pool,
    Ready,
    Images,
}

impl Bench {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Life => "life",
            Self::Drift => "drift",
            Self::Registries => "registries",
            Self::Many => "many",
            Self::Paths => "paths",
            Self::Calls => "calls",
            Self::Pool => "pool",
            Self::Ready => "ready",
            Self::Images => "images",
        }
    }

    fn run(self, scale: &Scale, report: &mut Report) {
        match self {
            Self::Create => create::run(scale, report),
            Self::Life => life::run(scale, report),
            Self::Drift => drift::run(scale, report),
            Self::Registries => registries::run(scale, report),
            Self::Many => many::run(scale, report),
            Self::Paths => paths::run(scale, report),
            Self::Calls => calls::run(scale, report),
            Self::Pool => pool::run(scale, report),
            Self::Ready => ready::run(scale, report),
            Self::Images => images::run(scale, report),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let wanted = |bench: &Bench| args.benches.is_empty() || args.benches.contains(bench);
    let benches: Vec<Bench> = Bench::value_variants().iter().copied().filter(wanted).collect();
    if args.list {
        for bench in benches {
            println!("{}: test", bench.name());
        }
        return ExitCode::SUCCESS;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's target directory");
    let path = target.join("bench.jsonl");
    let mut report = Report::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // One has a hub with an operator of its own, and measures what a machine does that has nothing else.
    if benches.iter().any(|bench| *bench != Bench::Ready) {
        live::install();
    }
    let _operator = args.process.then(|| {
        let operator = Operator::new(&live::world("DOCKER_HOST"), &[], Victim::default());
        operator.start();
        operator
    });
    let mut failed = Vec::new();
    for bench in benches {
        report.begin(bench.name());
        // What it made is removed by what was dropped.
        if catch_unwind(AssertUnwindSafe(|| bench.run(&args.scale, &mut report))).is_err() {
            failed.push(bench.name());
        }
    }
    println!("\nfigures: {}", path.display());
    for name in &failed {
        println!("failed: {name}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the spec of a cluster of one server with as little as possible besides Kubernetes, with further fields.
#[must_use]
pub fn small_cluster(agents: usize, more: &str) -> String {
    let servers = r#"{count: 1, args: ["--disable=traefik,metrics-server,servicelb"]}"#;
    format!("{{servers: {servers}, agents: {{count: {agents}}}, {more}}}")
}
