//! Queue of starting clusters: a limited number at a time, fair by namespace.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{pulls::Wake, times};
use crate::plan::queue::{self, Free, Request, Served, Wait};

/// Starting and waiting clusters, by UID.
#[derive(Default)]
pub struct Turns(Mutex<State>);

#[derive(Default)]
struct State {
    starting: HashMap<String, Starting>,
    /// In the order of their requests.
    waiting: Vec<Waiting>,
    /// Number of the last turn of each namespace that has one or waits.
    last: HashMap<String, u64>,
    /// Number of turns so far.
    turns: u64,
    /// Number of clusters that may start at a time, according to the last request.
    most: usize,
}

struct Starting {
    namespace: String,
    since: Instant,
    idle: bool,
}

struct Waiting {
    uid: String,
    namespace: String,
    /// Number of clusters of its namespace that may start at a time.
    most: usize,
    idle: bool,
    asked: Instant,
    wake: Option<Wake>,
}

/// A cluster that wants to start.
pub struct Ask<'a> {
    /// Its UID.
    pub uid: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Number of clusters that may start at a time on the host.
    pub host: usize,
    /// The same for its namespace, if that is limited.
    pub own: Option<usize>,
    /// Nobody waits for it: it is for a pool.
    pub idle: bool,
}

impl State {
    fn forget_old(&mut self) {
        self.starting.retain(|_, starting| starting.since.elapsed() < times::TURN);
        self.waiting.retain(|w| w.asked.elapsed() < times::TURN);
        let (starting, waiting) = (&self.starting, &self.waiting);
        self.last.retain(|namespace, _| {
            starting.values().any(|s| s.namespace == *namespace)
                || waiting.iter().any(|w| w.namespace == *namespace)
        });
    }

    fn served(&self) -> BTreeMap<&str, Served> {
        let mut served: BTreeMap<&str, Served> = BTreeMap::new();
        for (namespace, last) in &self.last {
            served.insert(namespace, Served { running: 0, last: *last });
        }
        for starting in self.starting.values() {
            served.entry(&starting.namespace).or_default().running += 1;
        }
        served
    }

    /// Returns the places in the queue of the clusters whose turn it is. One that has not asked for a while, since its
    /// reconciliation waits for something, keeps its place, but delays nobody.
    fn next(&self) -> Vec<usize> {
        let asking: Vec<usize> =
            (0..self.waiting.len()).filter(|i| self.waiting[*i].asked.elapsed() < times::ASKS).collect();
        let requests: Vec<Request<'_>> = asking.iter().map(|i| self.waiting[*i].request()).collect();
        let idle = self.starting.values().filter(|starting| starting.idle).count();
        let free = Free::of(self.most, self.starting.len(), idle);
        queue::next(&requests, &self.served(), free).into_iter().map(|i| asking[i]).collect()
    }
}

impl Waiting {
    fn request(&self) -> Request<'_> {
        Request { namespace: &self.namespace, most: self.most, idle: self.idle }
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the numbers of starting and of waiting clusters.
    pub fn counts(&self) -> (usize, usize) {
        let mut state = self.lock();
        state.forget_old();
        (state.starting.len(), state.waiting.len())
    }

    /// Returns what this cluster waits for; `None` if it may start. Otherwise calls `wake` when it may.
    pub fn take(&self, ask: &Ask<'_>, wake: Wake) -> Option<Wait> {
        let mut state = self.lock();
        state.forget_old();
        if state.starting.contains_key(ask.uid) {
            return None;
        }
        state.most = ask.host;
        let most = ask.own.unwrap_or(usize::MAX);
        let (uid, namespace, asked) = (ask.uid.to_owned(), ask.namespace.to_owned(), Instant::now());
        let idle = ask.idle;
        let new = Waiting { uid, namespace: namespace.clone(), most, idle, asked, wake: Some(wake) };
        let place = match state.waiting.iter().position(|w| w.uid == ask.uid) {
            Some(place) => {
                state.waiting[place] = new;
                place
            }
            None => {
                state.waiting.push(new);
                state.waiting.len() - 1
            }
        };
        if !state.next().contains(&place) {
            return Some(queue::wait(state.waiting[place].request(), &state.served()));
        }
        state.waiting.remove(place);
        state.turns += 1;
        let turn = state.turns;
        state.last.insert(namespace.clone(), turn);
        state.starting.insert(ask.uid.to_owned(), Starting { namespace, since: asked, idle });
        None
    }

    /// Removes a cluster that has started or no longer wants to, and wakes those whose turn it is.
    pub fn done(&self, uid: &str) {
        let mut state = self.lock();
        let before = state.waiting.len();
        state.waiting.retain(|w| w.uid != uid);
        if state.starting.remove(uid).is_some() || state.waiting.len() < before {
            state.forget_old();
            for place in state.next() {
                if let Some(wake) = state.waiting[place].wake.take() {
                    wake();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn ask<'a>(uid: &'a str, namespace: &'a str, host: usize) -> Ask<'a> {
        Ask { uid, namespace, host, own: None, idle: false }
    }

    fn no_wake() -> Wake {
        Box::new(|| ())
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_at_a_time_in_the_order_in_which_they_asked() {
        let turns = Turns::default();
        let woken = Arc::new(AtomicUsize::new(0));
        let take = |uid: &str| {
            let woken = woken.clone();
            let wake = move || {
                woken.fetch_add(1, Ordering::Relaxed);
            };
            turns.take(&ask(uid, "team", 2), Box::new(wake)).is_none()
        };
        assert!(take("a") && take("b") && take("a"));
        assert!(!take("c") && !take("d"));
        turns.done("nobody");
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        turns.done("a");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(!take("d"), "c was first");
        assert!(take("c") && !take("d"));
        // A cluster that is deleted while it waits does not delay others.
        assert!(!take("e"));
        turns.done("d");
        turns.done("b");
        assert!(take("e"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_never_gets_ready_has_its_turn_once() {
        let turns = Turns::default();
        let take = |uid: &str| turns.take(&ask(uid, "team", 1), no_wake()).is_none();
        assert!(take("stuck") && !take("gone") && !take("next"));
        tokio::time::advance(times::TURN / 2).await;
        assert!(!take("next"));
        tokio::time::advance(times::TURN / 2).await;
        assert!(take("next"), "who waits before it asks no more");
        assert!(!take("stuck"));
    }

    #[tokio::test(start_paused = true)]
    async fn broken_clusters_of_one_namespace_hold_nobody_elses_turn() {
        let turns = Turns::default();
        let take = |uid: &str, namespace: &str| turns.take(&ask(uid, namespace, 2), no_wake()).is_none();
        let broken: Vec<String> = (0..20).map(|i| format!("broken{i}")).collect();
        assert!(take(&broken[0], "a") && take(&broken[1], "a"));
        assert!(broken[2..].iter().all(|uid| !take(uid, "a")));
        assert!(!take("good", "b") && !take("second", "b"));
        // One gives up: whoever waits of the other namespace is next, whatever the order of their requests.
        turns.done(&broken[0]);
        assert!(!take(&broken[2], "a") && take("good", "b"));
        turns.done(&broken[1]);
        assert!(!take("second", "b") && take(&broken[2], "a"), "each namespace has one");
        turns.done("good");
        assert!(!take(&broken[3], "a") && take("second", "b"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_limits_its_namespaces_and_leaves_their_places_to_others() {
        let turns = Turns::default();
        let take =
            |uid, namespace, own| turns.take(&Ask { uid, namespace, host: 3, own, idle: false }, no_wake());
        assert_eq!(take("a1", "a", Some(1)), None);
        assert_eq!(take("a2", "a", Some(1)), Some(Wait::Namespace(1)));
        assert_eq!((take("b1", "b", None), take("b2", "b", None)), (None, None));
        assert_eq!(take("b3", "b", None), Some(Wait::Host));
        // The policy allows two now, and the host has no place.
        assert_eq!(take("a2", "a", Some(2)), Some(Wait::Host));
        turns.done("b1");
        assert_eq!(take("a2", "a", Some(2)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_come_when_it_is_its_turn_delays_nobody() {
        let turns = Turns::default();
        let take = |uid: &str, namespace: &str| turns.take(&ask(uid, namespace, 1), no_wake()).is_none();
        assert!(take("first", "b") && !take("hangs", "a") && !take("next", "b"));
        turns.done("first");
        assert!(!take("next", "b"), "it is the turn of the other namespace");
        tokio::time::advance(times::ASKS).await;
        assert!(take("next", "b"));
        turns.done("next");
        assert!(take("hangs", "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn clusters_for_a_pool_start_when_nobody_else_waits() {
        let turns = Turns::default();
        let take = |uid: &str, idle| turns.take(&Ask { idle, ..ask(uid, "team", 2) }, no_wake()).is_none();
        assert!(take("pool1", true) && !take("pool2", true), "a place is left");
        assert!(take("asked1", false) && !take("asked2", false));
        turns.done("pool1");
        assert!(!take("pool2", true) && take("asked2", false));
        turns.done("asked1");
        assert!(take("pool2", true));
        // A claim has taken one that waits.
        assert!(!take("pool3", true));
        turns.done("asked2");
        assert!(!take("pool3", true) && take("pool3", false));
    }
}
