//! Image pulls in the background. Objects that wait for the same image with the same credentials share one pull: a pull
//! that fails without credentials, or with those of another namespace, delays no other.

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
    state: Arc<Mutex<HashMap<Key, Pull>>>,
    backoff: Arc<Backoff<Key>>,
}

/// An image and the Secret with the credentials, if any.
type Key = (String, Option<String>);

/// Credentials for a pull.
pub struct Login {
    /// The Secret that they are from, as `namespace/name`.
    pub secret: String,
    /// The credentials.
    pub auth: RegistryAuth,
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Pull>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of an image, and of its pull with the credentials of this Secret.
    pub async fn state(&self, image: &str, secret: Option<&str>) -> Result<ImageState> {
        if self.engine.image(image).await?.is_some() {
            self.lock().retain(|(name, _), pull| name != image || matches!(pull, Pull::Running(..)));
            return Ok(ImageState::Present);
        }
        Ok(match self.lock().get(&(image.to_owned(), secret.map(str::to_owned))) {
            Some(Pull::Running(_, None)) => ImageState::Pulling,
            // The previous error stays until the attempt ends, so that the status does not alternate.
            Some(Pull::Failed(error, _) | Pull::Running(_, Some(error))) => ImageState::Failed(error.clone()),
            None => ImageState::Absent,
        })
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
    pub fn start(&self, image: &str, login: Option<Login>, wake: Wake) {
        let (secret, auth) = login.map(|login| (login.secret, login.auth)).unzip();
        let key = (image.to_owned(), secret);
        let mut state = self.lock();
        let failed = match state.get_mut(&key) {
            Some(Pull::Running(waiting, _)) => {
                waiting.push(wake);
                return;
            }
            Some(Pull::Failed(_, due)) if Instant::now() < *due => return,
            Some(Pull::Failed(error, _)) => Some(error.clone()),
            None => None,
        };
        state.insert(key.clone(), Pull::Running(vec![wake], failed));
        drop(state);
        let (this, image) = (self.clone(), image.to_owned());
        tokio::spawn(async move {
            tracing::info!(image, "pulling");
            let done = this.pull(&image, auth.as_ref()).await;
            this.metrics.pulled(if done.is_ok() { "ok" } else { "failed" });
            let mut state = this.lock();
            let before = match &done {
                Ok(()) => {
                    this.backoff.cleared(&key);
                    state.remove(&key)
                }
                Err(error) => {
                    tracing::warn!(image, %error, "the pull failed");
                    let now = Instant::now();
                    let due = now + this.backoff.failed(key.clone(), now, jitter());
                    state.insert(key, Pull::Failed(error.clone(), due))
                }
            };
            drop(state);
            if let Some(Pull::Running(waiting, _)) = before {
                waiting.into_iter().for_each(|wake| wake());
            }
        });
    }
}
