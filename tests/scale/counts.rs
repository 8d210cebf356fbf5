//! What the fakes were asked, second by second.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

#[derive(Default)]
pub struct Counts {
    asked: Mutex<Asked>,
    starting: AtomicUsize,
    most_starting: AtomicUsize,
}

#[derive(Default)]
struct Asked {
    since: Option<Instant>,
    /// By what was asked.
    by_kind: BTreeMap<String, usize>,
    /// Requests to Docker in each second.
    seconds: Vec<usize>,
    /// Bytes that Docker answered.
    bytes: usize,
}

/// What was asked since the last [`Counts::take`].
pub struct Taken {
    pub by_kind: BTreeMap<String, usize>,
    /// Requests to Docker in each second, the first one first.
    pub seconds: Vec<usize>,
    pub bytes: usize,
    pub most_starting: usize,
}

impl Taken {
    /// Sums by what begins a kind: `docker` or `cluster`.
    pub fn of(&self, side: &str) -> usize {
        self.by_kind.iter().filter(|(kind, _)| kind.starts_with(side)).map(|(_, count)| count).sum()
    }
}

impl Counts {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap()
    }

    /// Counts a request. Those to Docker have a kind that begins with `docker`.
    pub fn note(&self, kind: String) {
        let mut asked = self.asked();
        if kind.starts_with("docker") {
            let since = *asked.since.get_or_insert_with(Instant::now);
            let second = usize::try_from(since.elapsed().as_secs()).unwrap_or_default();
            if asked.seconds.len() <= second {
                asked.seconds.resize(second + 1, 0);
            }
            asked.seconds[second] += 1;
        }
        *asked.by_kind.entry(kind).or_default() += 1;
    }

    /// Counts what Docker answered.
    pub fn answered(&self, bytes: usize) {
        self.asked().bytes += bytes;
    }

    /// Returns what was asked, and begins anew.
    pub fn take(&self) -> Taken {
        let asked =
            std::mem::replace(&mut *self.asked(), Asked { since: Some(Instant::now()), ..Asked::default() });
        let most_starting = self.most_starting.swap(self.starting.load(Ordering::SeqCst), Ordering::SeqCst);
        let Asked { by_kind, seconds, bytes, .. } = asked;
        Taken { by_kind, seconds, bytes, most_starting }
    }

    /// Counts a start until the returned value is dropped.
    pub fn begin_start(&self) -> Starting<'_> {
        let now = self.starting.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_starting.fetch_max(now, Ordering::SeqCst);
        Starting(self)
    }
}

pub struct Starting<'a>(&'a Counts);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.starting.fetch_sub(1, Ordering::SeqCst);
    }
}
