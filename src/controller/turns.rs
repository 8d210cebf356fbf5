//! Queue of starting clusters: a limited number at a time, in the order of their requests.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{pulls::Wake, times};

/// Starting and waiting clusters, by UID.
#[derive(Default)]
pub struct Turns(Mutex<State>);

#[derive(Default)]
struct State {
    starting: HashMap<String, Instant>,
    /// In the order of their requests.
    waiting: Vec<Waiting>,
}

struct Waiting {
    uid: String,
    asked: Instant,
    wake: Option<Wake>,
}

impl State {
    fn forget_old(&mut self) {
        self.starting.retain(|_, began| began.elapsed() < times::TURN);
        self.waiting.retain(|w| w.asked.elapsed() < times::TURN);
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports whether this cluster may start while at most `most` start at a time. Otherwise calls `wake` when it may.
    pub fn take(&self, uid: &str, most: usize, wake: Wake) -> bool {
        let mut state = self.lock();
        state.forget_old();
        if state.starting.contains_key(uid) {
            return true;
        }
        let asked = Instant::now();
        let place = state.waiting.iter().position(|w| w.uid == uid);
        let place = place.unwrap_or_else(|| {
            state.waiting.push(Waiting { uid: uid.to_owned(), asked, wake: None });
            state.waiting.len() - 1
        });
        (state.waiting[place].asked, state.waiting[place].wake) = (asked, Some(wake));
        if state.starting.len() + place >= most {
            return false;
        }
        state.waiting.remove(place);
        state.starting.insert(uid.to_owned(), asked);
        true
    }

    /// Removes a cluster that has started or no longer wants to, and wakes the next one.
    pub fn done(&self, uid: &str) {
        let mut state = self.lock();
        state.waiting.retain(|w| w.uid != uid);
        if state.starting.remove(uid).is_some() {
            state.forget_old();
            if let Some(wake) = state.waiting.first_mut().and_then(|next| next.wake.take()) {
                wake();
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

    #[tokio::test(start_paused = true)]
    async fn so_many_at_a_time_in_the_order_in_which_they_asked() {
        let turns = Turns::default();
        let woken = Arc::new(AtomicUsize::new(0));
        let take = |uid: &str| {
            let woken = woken.clone();
            let wake = move || {
                woken.fetch_add(1, Ordering::Relaxed);
            };
            turns.take(uid, 2, Box::new(wake))
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
        let take = |uid: &str| turns.take(uid, 1, Box::new(|| ()));
        assert!(take("stuck") && !take("gone") && !take("next"));
        tokio::time::advance(times::TURN / 2).await;
        assert!(!take("next"));
        tokio::time::advance(times::TURN / 2).await;
        assert!(take("next"), "who waits before it asks no more");
        assert!(!take("stuck"));
    }
}
