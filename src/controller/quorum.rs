//! Observation of the quorum of etcd while the API of a cluster with several servers does not respond, and until all of
//! them have a leader again: each running server is asked inside its container whether its etcd has one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::join_all;
use tokio::time::Instant;

use super::{pulls::Wake, times};
use crate::{
    api::names::ClusterNames,
    child::state::Child,
    docker::{
        engine::{ContainerDetail, Engine, State},
        share,
    },
    k3s::etcd,
    plan::{
        observed::{Host, Reached},
        owner::Owner,
        servers::is_made_for_etcd,
    },
};

/// The last responses of the servers of each cluster, by its UID.
#[derive(Clone)]
pub struct Quorum {
    engine: Arc<dyn Engine>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// Responses of the servers of a cluster.
#[derive(Default)]
struct Known {
    /// Time at which the servers were last asked.
    asked: Option<Instant>,
    /// Time of the responses.
    at: Option<Instant>,
    /// Whether etcd has a leader, by container ID.
    has_leader: BTreeMap<String, bool>,
    /// Number of times that the API has responded: responses to an earlier question are out of date.
    episode: u64,
}

impl Quorum {
    /// Creates an instance without responses.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, known: Arc::default() }
    }

    /// Asks in the background, since nothing waits for it, if so few servers run that the API will not respond. Calls to
    /// it last for seconds then, so that the responses are there before.
    pub fn expect(&self, owner: &Owner, names: &ClusterNames, host: &Host, wake: Wake) {
        let servers = servers(names, host);
        if servers.len() > 1 && running(&servers).len() * 2 <= servers.len() {
            self.ask(owner, &servers, wake);
        }
    }

    /// Returns whether etcd has a leader according to the running servers that responded, by name. Asks again in the
    /// background if the responses are old, and wakes the object if they changed. Nothing is asked while the API responds
    /// and no server was without a leader: one that is cut off makes a part of the requests fail, and is found by that.
    pub fn observe(
        &self,
        owner: &Owner,
        names: &ClusterNames,
        reached: &Reached,
        wake: Wake,
    ) -> BTreeMap<String, bool> {
        let servers = servers(names, reached);
        let silent = matches!(reached.child, Child::Unreachable(_));
        if servers.len() < 2 || !silent && !self.lacks_leader(owner, &running(&servers)) {
            self.forget(owner);
            return BTreeMap::new();
        }
        self.ask(owner, &servers, wake);
        let known = self.lock();
        let fresh = |known: &&Known| known.at.is_some_and(|at| at.elapsed() < times::LEADER_TRUSTED);
        let Some(known) = known.get(&owner.uid).filter(fresh) else { return BTreeMap::new() };
        let response = |(name, id): (String, String)| Some((name, *known.has_leader.get(&id)?));
        running(&servers).into_iter().filter_map(response).collect()
    }

    /// Reports whether one of these servers was without a leader when it was last asked.
    fn lacks_leader(&self, owner: &Owner, running: &BTreeMap<String, String>) -> bool {
        let known = self.lock();
        let Some(last) = known.get(&owner.uid) else { return false };
        running.values().any(|id| last.has_leader.get(id) == Some(&false))
    }

    /// Forgets the responses of a cluster, but not that it was asked just now.
    fn forget(&self, owner: &Owner) {
        let mut known = self.lock();
        let Some(last) = known.get_mut(&owner.uid) else { return };
        if last.is_due() {
            known.remove(&owner.uid);
        } else {
            *last = Known { asked: last.asked, episode: last.episode + 1, ..Known::default() };
        }
    }

    fn ask(&self, owner: &Owner, servers: &[&ContainerDetail], wake: Wake) {
        let mut known = self.lock();
        let last = known.entry(owner.uid.clone()).or_default();
        if !last.is_due() {
            return;
        }
        last.asked = Some(Instant::now());
        let (quorum, uid, running, episode) =
            (self.clone(), owner.uid.clone(), running(servers), last.episode);
        share::spawn(async move {
            let responses = join_all(running.into_values().map(async |id| {
                let asked = quorum.engine.exec_within(&id, &etcd::ask(), times::LEADER_ANSWER).await;
                Some((id, etcd::has_leader(&asked.ok()?.stdout)?))
            }));
            let has_leader = responses.await.into_iter().flatten().collect();
            let mut known = quorum.lock();
            if let Some(last) = known.get_mut(&uid).filter(|last| last.episode == episode) {
                last.at = Some(Instant::now());
                if last.has_leader != has_leader {
                    last.has_leader = has_leader;
                    wake();
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Reports whether the servers were not asked just now.
    fn is_due(&self) -> bool {
        self.asked.is_none_or(|at| at.elapsed() >= times::ASK_LEADER)
    }
}

/// Returns the servers with etcd that were started.
fn servers<'a>(names: &ClusterNames, host: &'a Host) -> Vec<&'a ContainerDetail> {
    let is_server =
        |d: &&ContainerDetail| names.parse_server(&d.container.name).is_some() && d.started_at.is_some();
    host.own.values().filter(is_server).filter(|d| is_made_for_etcd(d)).collect()
}

/// Returns the IDs of running servers by name.
fn running(servers: &[&ContainerDetail]) -> BTreeMap<String, String> {
    let up = servers.iter().map(|d| &d.container).filter(|c| c.state == State::Running);
    up.map(|c| (c.name.clone(), c.id.clone())).collect()
}
