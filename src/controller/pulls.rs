//! Image pulls in the background: a limited number at a time, fair by namespace. Objects that wait for the same image with
//! the same credentials share one pull; one with other credentials is a pull of its own, which a rejection of these
//! neither delays nor fails.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::{Instant, timeout};

use super::{
    backoff::{Backoff, jitter},
    times,
};
use crate::{
    docker::{
        engine::{Engine, RegistryAuth, Result},
        error::Error,
    },
    metrics::Metrics,
    plan::{
        observed::ImageState,
        queue::{self, Free, Request, Served},
    },
};

/// Number of concurrent pulls.
const AT_ONCE: usize = 4;
/// Number of concurrent pulls for a namespace whose policy does not say another.
const OF_NAMESPACE: usize = 2;

/// Pulls of one engine.
#[derive(Clone)]
pub struct Pulls {
    engine: Arc<dyn Engine>,
    metrics: Metrics,
    state: Arc<Mutex<State>>,
    backoff: Arc<Backoff<Key>>,
}

/// An image, and a hash of the credentials that it is pulled with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    image: String,
    credentials: Option<[u8; 32]>,
}

/// The object that an image is pulled for.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Its UID.
    pub uid: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Number of concurrent pulls that the policy of the namespace allows, if it says one.
    pub most: Option<usize>,
}

#[derive(Default)]
struct State {
    /// What each object wants to pull, by its UID and the image.
    wanted: HashMap<(String, String), Key>,
    running: HashMap<Key, Running>,
    failed: HashMap<Key, Failed>,
    /// In the order of their requests.
    waiting: Vec<Waiting>,
    /// Number of the last pull for each namespace that has one or waits.
    last: HashMap<String, u64>,
    /// Number of pulls so far.
    pulls: u64,
}

/// A pull in progress.
struct Running {
    namespace: String,
    since: Instant,
    /// Callbacks for its end, by the UIDs of the objects.
    wakes: HashMap<String, Wake>,
}

/// A failed pull.
struct Failed {
    error: Error,
    /// Time of the next attempt.
    due: Instant,
}

/// A pull that waits for others.
struct Waiting {
    key: Key,
    auth: Option<RegistryAuth>,
    uid: String,
    namespace: String,
    most: usize,
    wake: Wake,
}

impl Waiting {
    fn request(&self) -> Request<'_> {
        Request { namespace: &self.namespace, most: self.most, idle: false }
    }
}

/// Callback for the end of a pull.
pub type Wake = Box<dyn FnOnce() + Send>;

impl Key {
    fn of(image: &str, auth: Option<&RegistryAuth>) -> Self {
        let credentials = auth.map(RegistryAuth::hash);
        Self { image: image.to_owned(), credentials }
    }
}

impl State {
    fn served(&self) -> BTreeMap<&str, Served> {
        let mut served: BTreeMap<&str, Served> = BTreeMap::new();
        for (namespace, last) in &self.last {
            served.insert(namespace, Served { running: 0, last: *last });
        }
        for running in self.running.values() {
            served.entry(&running.namespace).or_default().running += 1;
        }
        served
    }

    /// Adds requests to the pull in progress that they wait for.
    fn join(&mut self) {
        let running = &mut self.running;
        for waiting in self.waiting.extract_if(.., |w| running.contains_key(&w.key)).collect::<Vec<_>>() {
            let pull = running.get_mut(&waiting.key).expect("it was found");
            pull.wakes.insert(waiting.uid, waiting.wake);
        }
    }

    /// Removes the next pull that may begin from the queue, and records it as running.
    fn next(&mut self) -> Option<(Key, Option<RegistryAuth>)> {
        self.join();
        let counted = self.running.values().filter(|r| r.since.elapsed() < times::SLOW_PULL).count();
        let requests: Vec<Request<'_>> = self.waiting.iter().map(Waiting::request).collect();
        let free = AT_ONCE.saturating_sub(counted).min(1);
        let index = *queue::next(&requests, &self.served(), Free { all: free, idle: 0 }).first()?;
        let Waiting { key, auth, uid, namespace, wake, .. } = self.waiting.remove(index);
        self.pulls += 1;
        self.last.insert(namespace.clone(), self.pulls);
        let wakes = HashMap::from([(uid, wake)]);
        self.running.insert(key.clone(), Running { namespace, since: Instant::now(), wakes });
        let (running, waiting) = (&self.running, &self.waiting);
        self.last.retain(|namespace, _| {
            running.values().any(|r| r.namespace == *namespace)
                || waiting.iter().any(|w| w.namespace == *namespace)
        });
        Some((key, auth))
    }
}

impl Pulls {
    /// Creates the pulls of this engine.
    pub fn new(engine: Arc<dyn Engine>, metrics: Metrics) -> Self {
        Self { engine, metrics, state: Arc::default(), backoff: Arc::new(Backoff::new(times::PULL)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the numbers of pulls in progress and of those that wait for others.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running.len(), state.waiting.len())
    }

    /// Returns the state of an image for an object.
    pub async fn state(&self, uid: &str, image: &str) -> Result<ImageState> {
        let present = self.engine.image(image).await?.is_some();
        let mut state = self.lock();
        let wanted = (uid.to_owned(), image.to_owned());
        if present {
            state.wanted.remove(&wanted);
            return Ok(ImageState::Present);
        }
        let Some(key) = state.wanted.get(&wanted) else { return Ok(ImageState::Absent) };
        // The previous error stays until the attempt ends, so that the status does not alternate.
        if let Some(failed) = state.failed.get(key) {
            return Ok(ImageState::Failed(failed.error.clone()));
        }
        if state.running.contains_key(key) {
            return Ok(ImageState::Pulling);
        }
        let waiting = state.waiting.iter().find(|w| w.uid == uid && w.key == *key);
        Ok(waiting
            .map_or(ImageState::Absent, |w| ImageState::Queued(queue::wait(w.request(), &state.served()))))
    }

    /// Removes the requests of an object for all but these images from the queue. A pull that has begun goes on.
    pub fn keep(&self, uid: &str, images: &[String]) {
        let mut state = self.lock();
        state.waiting.retain(|w| w.uid != uid || images.contains(&w.key.image));
        state.wanted.retain(|(of, image), _| of != uid || images.contains(image));
    }

    /// Requests the pull of an image, unless it is in progress or delayed after a failure; `wake` is called when it ends.
    /// Of an object that requests it with other credentials than before, the last ones count.
    pub fn start(&self, asker: Asker<'_>, image: &str, auth: Option<RegistryAuth>, wake: Wake) {
        let key = Key::of(image, auth.as_ref());
        let (uid, now) = (asker.uid.to_owned(), Instant::now());
        let mut state = self.lock();
        state.wanted.insert((uid.clone(), image.to_owned()), key.clone());
        state.waiting.retain(|w| w.uid != uid || w.key.image != image || w.key == key);
        for (old, _) in state.failed.extract_if(|_, failed| now > failed.due + times::PULL_FORGOTTEN) {
            self.backoff.cleared(&old);
        }
        if state.failed.get(&key).is_some_and(|failed| now < failed.due) {
            return;
        }
        let most = asker.most.unwrap_or(OF_NAMESPACE);
        let namespace = asker.namespace.to_owned();
        let new = Waiting { key, auth, uid, namespace, most, wake };
        match state.waiting.iter_mut().find(|w| w.uid == new.uid && w.key == new.key) {
            Some(waiting) => *waiting = new,
            None => state.waiting.push(new),
        }
        drop(state);
        self.begin();
    }

    /// Begins the pulls whose turn it is.
    fn begin(&self) {
        while let Some((key, auth)) = { self.lock().next() } {
            let this = self.clone();
            tokio::spawn(async move {
                tracing::info!(image = key.image, "pulling");
                let mut pull = Box::pin(this.pull(&key.image, auth.as_ref()));
                let done = match timeout(times::SLOW_PULL, &mut pull).await {
                    Ok(done) => done,
                    Err(_) => {
                        this.begin();
                        pull.await
                    }
                };
                this.end(&key, done);
            });
        }
    }

    /// Pulls an image and waits for it.
    async fn pull(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        self.engine.pull(image, auth).await?;
        match self.engine.image(image).await? {
            Some(_) => Ok(()),
            None => Err(Error::Engine(format!("{image} was pulled, and the Docker engine does not have it"))),
        }
    }

    /// Records the end of a pull, and begins the next ones.
    fn end(&self, key: &Key, done: Result<()>) {
        self.metrics.pulled(if done.is_ok() { "ok" } else { "failed" });
        let mut state = self.lock();
        state.join();
        let running = state.running.remove(key);
        let mut wakes: Vec<Wake> = running.into_iter().flat_map(|r| r.wakes.into_values()).collect();
        match done {
            Ok(()) => {
                // Whatever the credentials, it is present.
                let ended = state.waiting.extract_if(.., |w| w.key.image == key.image);
                wakes.extend(ended.map(|w| w.wake));
                state.failed.remove(key);
                self.backoff.cleared(key);
            }
            Err(error) => {
                tracing::warn!(image = key.image, %error, "the pull failed");
                let now = Instant::now();
                let due = now + self.backoff.failed(key.clone(), now, jitter());
                state.failed.insert(key.clone(), Failed { error, due });
            }
        }
        drop(state);
        wakes.into_iter().for_each(|wake| wake());
        self.begin();
    }
}
