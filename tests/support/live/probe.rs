//! Whether a cluster's API answers while something is done to it.

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

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(200);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(2);

/// What came of the questions.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub asked: usize,
    pub failed: usize,
    /// From the first question of a row that were not answered to the next one that was.
    pub longest: Duration,
}

/// Does something while the API of this kubeconfig is asked whether it is ready, five times a second whatever became of
/// the questions before, each time by a new connection. Not by kubectl: five processes a second are a load of their own.
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
        let answers = asking.join().expect("it only asks");
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
    tell(&answers)
}

async fn once(config: Config) -> Result<(), String> {
    let client = Client::try_from(config).map_err(|e| e.to_string())?;
    let request = Request::new("").get("readyz", &GetParams::default()).map_err(|e| e.to_string())?;
    client.request_text(request).await.map(drop).map_err(|e| e.to_string())
}

fn tell(answers: &[(Duration, Result<(), String>)]) -> Answers {
    let mut told = Answers { asked: answers.len(), ..Answers::default() };
    let mut since: Option<Duration> = None;
    let mut gaps = Vec::new();
    let mut why = BTreeSet::new();
    for (at, answer) in answers {
        match answer {
            Ok(()) => {
                if let Some(since) = since.take() {
                    told.longest = told.longest.max(*at - since);
                    gaps.push(format!("{:.1}..{:.1} s", since.as_secs_f32(), at.as_secs_f32()));
                }
            }
            Err(error) => {
                told.failed += 1;
                since.get_or_insert(*at);
                // An API server that is not ready tells of each of its parts.
                why.insert(error.chars().take(80).collect::<String>());
            }
        }
    }
    println!("        {} of {} questions were not answered: {gaps:?} {why:?}", told.failed, told.asked);
    told
}
