//! Probes of a cluster's API while something is done to the cluster.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    api::{GetParams, Request},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{runtime, task::JoinSet, time};

/// Interval of the probes.
const EVERY: Duration = Duration::from_millis(200);
/// Timeout of a probe.
const LIMIT: Duration = Duration::from_secs(2);

/// Results of the probes.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub asked: usize,
    pub failed: usize,
    /// The longest time from the first of several failed probes to the next successful one.
    pub longest: Duration,
}

/// Runs `act` while it probes the readiness of the API of this kubeconfig five times a second, regardless of earlier
/// probes, each time through a new connection. kubectl would start five processes a second, which are a load of their
/// own.
pub fn probed(kubeconfig: &str, act: impl FnOnce()) -> Answers {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let runtime =
                runtime::Builder::new_current_thread().enable_all().build().expect("there are threads");
            runtime.block_on(ask(kubeconfig, &ended))
        });
        let done = catch_unwind(AssertUnwindSafe(act));
        ended.store(true, Ordering::Relaxed);
        let answers = asking.join().expect("the thread does not panic");
        done.unwrap_or_else(|panic| resume_unwind(panic));
        answers
    })
}

async fn ask(kubeconfig: &str, ended: &AtomicBool) -> Answers {
    let file = Kubeconfig::from_yaml(kubeconfig).expect("it is a kubeconfig");
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let mut config = config.expect("it is a whole one");
    config.default_retry = false;
    let began = Instant::now();
    let mut questions = JoinSet::new();
    let mut clock = time::interval(EVERY);
    while !ended.load(Ordering::Relaxed) {
        clock.tick().await;
        let (config, at) = (config.clone(), began.elapsed());
        questions.spawn(async move {
            let answer = time::timeout(LIMIT, once(config)).await;
            (at, answer.unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs()))))
        });
    }
    let mut answers = questions.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    summarize(&answers)
}

async fn once(config: Config) -> Result<(), String> {
    let client = Client::try_from(config).map_err(|e| e.to_string())?;
    let request = Request::new("").get("readyz", &GetParams::default()).map_err(|e| e.to_string())?;
    client.request_text(request).await.map(drop).map_err(|e| e.to_string())
}

fn summarize(answers: &[(Duration, Result<(), String>)]) -> Answers {
    let mut summary = Answers { asked: answers.len(), ..Answers::default() };
    let mut since: Option<Duration> = None;
    let mut gaps = Vec::new();
    let mut why = BTreeSet::new();
    for (at, answer) in answers {
        match answer {
            Ok(()) => {
                if let Some(since) = since.take() {
                    summary.longest = summary.longest.max(*at - since);
                    gaps.push(format!("{:.1}..{:.1} s", since.as_secs_f32(), at.as_secs_f32()));
                }
            }
            Err(error) => {
                summary.failed += 1;
                since.get_or_insert(*at);
                // The response of an API server that is not ready lists its checks.
                why.insert(error.chars().take(80).collect::<String>());
            }
        }
    }
    println!("        {} of {} probes failed: {gaps:?} {why:?}", summary.failed, summary.asked);
    summary
}
