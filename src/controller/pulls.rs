//! Image pulls: each image once, in the background, however many objects wait for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::backoff::{Backoff, Limits, jitter};
use crate::{
    docker::engine::{Engine, RegistryAuth, Result},
    metrics::Metrics,
    plan::observed::ImageState,
};

/// How long a failed pull waits for the next try.
const LIMITS: Limits = Limits { first: Duration::from_secs(2), last: Duration::from_secs(60) };

/// The pulls of one engine.
#[derive(Clone)]
pub struct Pulls {
    engine: Arc<dyn Engine>,
    metrics: Metrics,
    state: Arc<Mutex<HashMap<String, Pull>>>,
    backoff: Arc<Backoff<String>>,
}

enum Pull {
    /// It runs; these are told when it ends.
    Running(Vec<Wake>),
    /// It failed with these words; the next try is due then.
    Failed(String, Instant),
}

/// Called when a pull ends.
pub type Wake = Box<dyn FnOnce() + Send>;

impl Pulls {
    /// Of this engine.
    pub fn new(engine: Arc<dyn Engine>, metrics: Metrics) -> Self {
        Self { engine, metrics, state: Arc::default(), backoff: Arc::new(Backoff::new(LIMITS)) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pull>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How an image stands.
    pub async fn state(&self, image: &str) -> Result<ImageState> {
        if self.engine.image(image).await?.is_some() {
            self.lock().retain(|name, pull| name != image || matches!(pull, Pull::Running(_)));
            return Ok(ImageState::Present);
        }
        Ok(match self.lock().get(image) {
            Some(Pull::Running(_)) => ImageState::Pulling,
            Some(Pull::Failed(message, due)) if Instant::now() < *due => ImageState::Failed(message.clone()),
            Some(Pull::Failed(..)) | None => ImageState::Absent,
        })
    }

    /// When the failed pull of an image is to be tried again.
    pub fn due(&self, image: &str) -> Option<Instant> {
        match self.lock().get(image) {
            Some(Pull::Failed(_, due)) => Some(*due),
            Some(Pull::Running(_)) | None => None,
        }
    }

    /// Starts the pull of an image unless it runs already; `wake` is called when it ends.
    pub fn start(&self, image: &str, auth: Option<RegistryAuth>, wake: Wake) {
        let mut state = self.lock();
        if let Some(Pull::Running(waiting)) = state.get_mut(image) {
            waiting.push(wake);
            return;
        }
        state.insert(image.to_owned(), Pull::Running(vec![wake]));
        drop(state);
        let (this, image) = (self.clone(), image.to_owned());
        tokio::spawn(async move {
            tracing::info!(image, "pulling");
            let done = this.engine.pull(&image, auth.as_ref()).await;
            this.metrics.pulled(if done.is_ok() { "ok" } else { "failed" });
            let mut state = this.lock();
            let before = match &done {
                Ok(()) => {
                    this.backoff.cleared(&image);
                    state.remove(&image)
                }
                Err(error) => {
                    tracing::warn!(image, %error, "the pull failed");
                    let now = Instant::now();
                    let due = now + this.backoff.failed(image.clone(), now, jitter());
                    state.insert(image, Pull::Failed(error.to_string(), due))
                }
            };
            drop(state);
            if let Some(Pull::Running(waiting)) = before {
                waiting.into_iter().for_each(|wake| wake());
            }
        });
    }
}
