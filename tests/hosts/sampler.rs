//! Looks at all engines each second: nothing may run on two hosts at a time.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    live::{pause, scene::Scene},
    rack::running,
};

/// Interval of the looks.
const EVERY: Duration = Duration::from_secs(1);

/// The looks, which go on until it is dropped. Part of a scene.
pub struct Sampler {
    shared: Arc<Shared>,
    looking: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    looks: AtomicUsize,
    twice: Mutex<BTreeSet<String>>,
    /// Parts of the names of what may run twice.
    excused: Mutex<BTreeSet<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Sampler {
    /// Begins to look.
    pub fn begin() -> Self {
        let shared = Arc::new(Shared::default());
        let looking = thread::spawn({
            let shared = shared.clone();
            move || {
                while !shared.ended.load(Ordering::Relaxed) {
                    shared.look();
                    pause(EVERY);
                }
            }
        });
        Self { shared, looking: Some(looking) }
    }

    /// Excuses containers with this in their names, until the result is dropped: the user has said that a host is gone
    /// for good, and it is not.
    pub fn excuse(&self, part: String) -> Excuse<'_> {
        locked(&self.shared.excused).insert(part.clone());
        Excuse { sampler: self, part }
    }
}

/// An exception of what may not be.
pub struct Excuse<'a> {
    sampler: &'a Sampler,
    part: String,
}

impl Drop for Excuse<'_> {
    fn drop(&mut self) {
        locked(&self.sampler.shared.excused).remove(&self.part);
    }
}

impl Shared {
    fn look(&self) {
        let doubled = || -> BTreeSet<String> {
            let excused = locked(&self.excused).clone();
            let all = running().into_iter().filter(|(_, hosts)| hosts.len() > 1);
            let unexcused = all.filter(|(name, _)| !excused.iter().any(|part| name.contains(part)));
            unexcused.map(|(name, hosts)| format!("{name} runs on {}", hosts.join(" and "))).collect()
        };
        let first = doubled();
        // One may have stopped and the other started after the first engine was asked: then the next look has it once.
        if !first.is_empty() {
            locked(&self.twice).extend(doubled().intersection(&first).cloned());
        }
        self.looks.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            let _ = looking.join();
        }
    }
}

/// The last test of each group: at no time did anything run on two hosts.
pub fn nothing_was_twice(scene: &Scene) {
    let shared = &scene.stage::<Sampler>().shared;
    let looks = shared.looks.load(Ordering::Relaxed);
    assert!(looks > 0, "there was no look");
    let twice = locked(&shared.twice);
    assert!(twice.is_empty(), "{twice:#?}");
    println!("        {looks} looks");
}
