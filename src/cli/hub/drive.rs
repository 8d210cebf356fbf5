//! Observes, executes the next step, and observes again, until nothing is left to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{execute::execute, observe};
use crate::{
    cli::engine,
    docker::{engine::Engine, error::Error},
    plan::hub::{
        desired::{self, HubNames, Wanted},
        down::{self, Clusters, Objects},
        manifests::Installation,
        observed::{Api, Observed},
        step::{Next, Step},
        up,
    },
};

/// Interval of observations of what takes its time.
const POLL: Duration = Duration::from_millis(500);
/// Time after which something that does not change is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Executions of the same step in a row after which it is taken to be without effect.
const WITHOUT_EFFECT: u32 = 3;
/// Lines of a log that a failure shows.
const LINES: u32 = 10;

/// A line of progress.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// A hub that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// True if something had to be done.
    pub changed: bool,
    /// Kubeconfig of its administrator.
    pub kubeconfig: String,
}

/// Brings a hub to the wanted state.
pub async fn up(engine: &dyn Engine, wanted: &Wanted, say: Say<'_>) -> Result<Up, String> {
    let installation = Installation::of_this_version();
    let mut pace = Pace::new(say);
    let (mut taken_ports, mut restarts) = (BTreeSet::new(), BTreeMap::new());
    loop {
        let observed = observe_all(engine, wanted, installation, &taken_ports).await.map_err(words)?;
        match up::next(wanted, installation, &observed) {
            Next::Step(step) => match pace.execute(engine, &step).await {
                // Only binding shows whether a port is free.
                Err(Error::PortTaken(_)) if matches!(step, Step::Start(_)) => {
                    taken_ports.extend(observed.host.server.as_ref().and_then(up::port));
                }
                Err(error) => return Err(format!("{step}: {}{}", words(error), advice(&step))),
                Ok(()) => {}
            },
            Next::Wait(what) => {
                for (container, number) in up::restarts(&observed) {
                    restarts.entry(container).or_insert(number);
                }
                if let Some(failing) = up::failing(&observed, &restarts) {
                    let name = &failing.container.name;
                    let error = format!("{what}: container {name} exits each time Docker starts it");
                    return Err(with_log(engine, name, error).await);
                }
                if let Err(late) = pace.wait(&what).await {
                    return Err(because(engine, &observed, late).await);
                }
            }
            Next::Refused(why) => return Err(why),
            Next::Done => {
                let kubeconfig = kubeconfig(&wanted.names, &observed).ok_or("the hub has no kubeconfig")?;
                return Ok(Up { changed: pace.changed, kubeconfig });
            }
        }
    }
}

/// Removes a hub. Reports whether there was something to remove.
pub async fn down(
    engine: &dyn Engine,
    names: &HubNames,
    clusters: Clusters,
    say: Say<'_>,
) -> Result<bool, String> {
    let (mut pace, mut none) = (Pace::new(say), false);
    loop {
        let host = observe::host(engine, names, &[]).await.map_err(words)?;
        let mut objects = match clusters {
            Clusters::Keep => Objects::Unknown,
            Clusters::Refuse | Clusters::Delete => observe::objects(engine, &host).await.map_err(words)?,
        };
        none |= objects == Objects::Known(BTreeSet::new());
        if none && host.server.is_none() {
            // It had none when its container was removed.
            objects = Objects::Known(BTreeSet::new());
        }
        match down::next(names, clusters, &host, &objects) {
            Next::Step(step) => {
                pace.execute(engine, &step).await.map_err(|error| format!("{step}: {}", words(error)))?;
            }
            Next::Wait(what) => pace.wait(&what).await.map_err(|late| match &objects {
                Objects::Silent(why) => format!(
                    "{late}: {why}; `localcluster up` repairs the hub, and `localcluster down --keep-clusters` removes it \
                     without looking"
                ),
                Objects::Unknown | Objects::Known(_) => late,
            })?,
            Next::Refused(why) => return Err(why),
            Next::Done => return Ok(pace.changed),
        }
    }
}

async fn observe_all(
    engine: &dyn Engine,
    wanted: &Wanted,
    installation: &Installation,
    taken_ports: &BTreeSet<u16>,
) -> Result<Observed, Error> {
    let host = observe::host(engine, &wanted.names, &[&wanted.image, &wanted.operator_image]).await?;
    let api = observe::api(engine, &host, installation).await?;
    let given = observe::given(engine, &host).await?;
    Ok(Observed { host, api, given, taken_ports: taken_ports.clone() })
}

fn kubeconfig(names: &HubNames, observed: &Observed) -> Option<String> {
    let Api::Answers(answer) = &observed.api else { return None };
    let port = observed.host.server.as_ref().and_then(up::port)?;
    Some(desired::admin_kubeconfig(names, port, answer.credentials.as_ref()?))
}

/// Steps and waits so far.
struct Pace<'a> {
    say: Say<'a>,
    changed: bool,
    last: Option<(Step, u32)>,
    waiting: Option<(String, Instant)>,
}

impl<'a> Pace<'a> {
    fn new(say: Say<'a>) -> Self {
        Self { say, changed: false, last: None, waiting: None }
    }

    async fn execute(&mut self, engine: &dyn Engine, step: &Step) -> Result<(), Error> {
        let times = self.last.take().filter(|(last, _)| last == step).map_or(1, |(_, times)| times + 1);
        if times > WITHOUT_EFFECT {
            return Err(Error::Engine("Docker reports success, and nothing changes".to_owned()));
        }
        (self.last, self.waiting, self.changed) = (Some((step.clone(), times)), None, true);
        (self.say)(&step.to_string());
        execute(engine, step).await
    }

    /// Waits for a moment; fails if the same has been waited for too long.
    async fn wait(&mut self, what: &str) -> Result<(), String> {
        self.last = None;
        let since = match &self.waiting {
            Some((last, since)) if last == what => *since,
            _ => {
                (self.say)(what);
                let now = Instant::now();
                self.waiting = Some((what.to_owned(), now));
                now
            }
        };
        if since.elapsed() > PATIENCE {
            return Err(format!("{what}: nothing has changed for {} minutes", PATIENCE.as_secs() / 60));
        }
        sleep(POLL).await;
        Ok(())
    }
}

/// Returns an error about a wait with what is known of its cause.
async fn because(engine: &dyn Engine, observed: &Observed, late: String) -> String {
    let host = &observed.host;
    let on = match &observed.api {
        Api::Answers(_) => host.operator.as_ref(),
        Api::Away | Api::Silent(_) => host.server.as_ref(),
    };
    let late = match &observed.api {
        Api::Silent(why) => format!("{late}: {why}"),
        Api::Away | Api::Answers(_) => late,
    };
    match on {
        Some(detail) => with_log(engine, &detail.container.name, late).await,
        None => late,
    }
}

async fn with_log(engine: &dyn Engine, container: &str, error: String) -> String {
    let lines = engine.logs(container, LINES).await.unwrap_or_default();
    if lines.is_empty() {
        return error;
    }
    format!("{error}; `docker logs {container}` ends with:\n  {}", lines.join("\n  "))
}

fn words(error: Error) -> String {
    engine::words(&error)
}

fn advice(step: &Step) -> &'static str {
    match step {
        Step::Pull(_) => {
            "; load it into Docker, or name another with --image for the hub or --operator-image for the operator"
        }
        Step::Start(_) => {
            "; `docker logs` of the container may tell more. After the cause is removed, run the command again"
        }
        _ => "; run the command again to continue",
    }
}
