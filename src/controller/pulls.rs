//! Image pulls in the background. Objects that wait for the same image share one pull.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

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
    plan::observed::ImageState,
};

/// Pulls of one engine.
#[derive(Clone)]
pub struct Pulls {
    engine: Arc<dyn Engine>,
    metrics: Metrics,
    state: Arc<Mutex<HashMap<String, Pull>>>,
    backoff: Arc<Backoff<String>>,
}

enum Pull {
    /// In progress, with the callbacks for its end and the error of the previous attempt.
    Running(Vec<Wake>, Option<Error>),
    /// Failed, with the time of the next attempt.
    Failed(Error, Instant),
}

/// Callback for the end of a pull.
pub type Wake = Box<dyn FnOnce() + Send>;

impl Pulls {
    /// Creates the pulls of this engine.
    pub fn new(engine: Arc<dyn Engine>, metrics: Metrics) -> Self {
        Self { engine, metrics, state: Arc::default(), backoff: Arc::new(Backoff::new(times::PULL)) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pull>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of an image.
    pub async fn state(&self, image: &str) -> Result<ImageState> {
        if self.engine.image(image).await?.is_some() {
            self.lock().retain(|name, pull| name != image || matches!(pull, Pull::Running(..)));
            return Ok(ImageState::Present);
        }
        Ok(match self.lock().get(image) {
            Some(Pull::Running(_, None)) => ImageState::Pulling,
            // The previous error stays until the attempt ends, so that the status does not alternate.
            Some(Pull::Failed(error, _) | Pull::Running(_, Some(error))) => ImageState::Failed(error.clone()),
            None => ImageState::Absent,
        })
    }

    /// Returns the time of the next attempt to pull an image.
    pub fn due(&self, image: &str) -> Option<Instant> {
        match self.lock().get(image) {
            Some(Pull::Failed(_, due)) => Some(*due),
            Some(Pull::Running(..)) | None => None,
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

    /// Starts the pull of an image unless it is in progress or delayed after a failure; `wake` is called when it ends.
    pub fn start(&self, image: &str, auth: Option<RegistryAuth>, wake: Wake) {
        let mut state = self.lock();
        let failed = match state.get_mut(image) {
            Some(Pull::Running(waiting, _)) => {
                waiting.push(wake);
                return;
            }
            Some(Pull::Failed(_, due)) if Instant::now() < *due => return,
            Some(Pull::Failed(error, _)) => Some(error.clone()),
            None => None,
        };
        state.insert(image.to_owned(), Pull::Running(vec![wake], failed));
        drop(state);
        let (this, image) = (self.clone(), image.to_owned());
        tokio::spawn(async move {
            tracing::info!(image, "pulling");
            let done = this.pull(&image, auth.as_ref()).await;
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
                    state.insert(image, Pull::Failed(error.clone(), due))
                }
            };
            drop(state);
            if let Some(Pull::Running(waiting, _)) = before {
                waiting.into_iter().for_each(|wake| wake());
            }
        });
    }
}
