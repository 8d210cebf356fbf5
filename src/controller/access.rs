//! Proofs that a namespace can read images of the Docker host in their registries, in the background. They are only
//! asked for where a container is created or an image is imported: what runs needs none.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{
    backoff::{Backoff, jitter},
    pulls::Wake,
    times,
};
use crate::{
    docker::{
        engine::{Engine, RegistryAuth, Result},
        error::Error,
        share::{self, Limits, Shares},
    },
    plan::{
        observed::{ImageState, Observed, Unproven},
        policy::{
            access::{self, Need},
            rules::Rules,
        },
        settings::Settings,
    },
};

/// Numbers of registries that are asked at the same time.
const AT_ONCE: Limits = Limits { object: 2, namespace: 2, all: 4 };

/// Proofs of one engine.
#[derive(Clone)]
pub struct Proofs {
    state: Arc<Mutex<State>>,
    backoff: Arc<Backoff<Asked>>,
    turns: Arc<Shares>,
}

impl Default for Proofs {
    fn default() -> Self {
        let backoff = Arc::new(Backoff::new(times::PULL));
        Self { state: Arc::default(), backoff, turns: Arc::new(Shares::new(AT_ONCE)) }
    }
}

/// Namespace, image reference and image ID.
type Proven = (String, String, String);
/// UID of an object, and image reference. Objects with other credentials do not wait for each other.
type Asked = (String, String);

#[derive(Default)]
struct State {
    proven: HashMap<Proven, Instant>,
    asked: HashMap<Asked, Ask>,
}

enum Ask {
    /// In progress, with the callback for its end and the error of the previous attempt.
    Running(Vec<Wake>, Option<Error>),
    /// Failed.
    Failed(Failed),
}

struct Failed {
    error: Error,
    /// Hash of the credentials, if any: others are tried at once.
    with: Option<[u8; 32]>,
    /// ID of the image: another one is tried at once.
    id: String,
    due: Instant,
    at: Instant,
}

/// Who uses images.
#[derive(Clone, Copy)]
pub struct User<'a> {
    /// UID of the object.
    pub uid: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Rules of its policy.
    pub rules: &'a Rules,
    /// Settings of the operator.
    pub settings: &'a Settings,
}

impl Proofs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the present images that the namespace has not shown access to.
    pub async fn observe(&self, engine: &dyn Engine, user: User<'_>, observed: &mut Observed) -> Result<()> {
        let present = observed.images.iter().filter(|(_, state)| **state == ImageState::Present);
        let all = present.map(|(image, _)| image).chain(observed.preload.ids.keys()).cloned();
        for image in all.collect::<BTreeSet<String>>() {
            if let Some(unproven) = self.unproven(engine, user, &image).await? {
                observed.images.insert(image, ImageState::Unproven(unproven));
            }
        }
        Ok(())
    }

    /// Returns what keeps a namespace from using an image of the host; `None` if it may.
    async fn unproven(&self, engine: &dyn Engine, user: User<'_>, image: &str) -> Result<Option<Unproven>> {
        if !access::is_required(user.rules, user.settings, image) {
            return Ok(None);
        }
        // It was removed meanwhile.
        let Some(names) = engine.image_names(image).await? else { return Ok(Some(Unproven::Asking)) };
        match access::need(user.rules, user.settings, image, &names) {
            Need::Nothing => return Ok(None),
            Need::Registry => return Ok(Some(Unproven::NoRegistry)),
            Need::OneOf(_) => {}
        }
        let state = self.lock();
        let key = (user.namespace.to_owned(), image.to_owned(), names.id);
        if state.proven.get(&key).is_some_and(|at| at.elapsed() < times::ACCESS_PROVEN) {
            return Ok(None);
        }
        Ok(Some(match state.asked.get(&(user.uid.to_owned(), image.to_owned())) {
            // The previous error stays until the attempt ends, so that the status does not alternate.
            Some(Ask::Failed(Failed { error, .. }) | Ask::Running(_, Some(error))) => {
                Unproven::Failed(error.clone())
            }
            Some(Ask::Running(_, None)) | None => Unproven::Asking,
        }))
    }

    /// Asks the registry of an image with these credentials, unless that is in progress or delayed after a failure;
    /// `wake` is called when it ends.
    pub async fn start(
        &self,
        engine: &Arc<dyn Engine>,
        user: User<'_>,
        (image, auth): (&str, Option<RegistryAuth>),
        wake: Wake,
    ) -> Result<()> {
        let Some(names) = engine.image_names(image).await? else { return Ok(()) };
        let Need::OneOf(references) = access::need(user.rules, user.settings, image, &names) else {
            return Ok(());
        };
        let (key, with) = ((user.uid.to_owned(), image.to_owned()), auth.as_ref().map(RegistryAuth::hash));
        let mut state = self.lock();
        let failed = match state.asked.get_mut(&key) {
            Some(Ask::Running(waiting, _)) => {
                waiting.push(wake);
                return Ok(());
            }
            Some(Ask::Failed(failed)) if failed.is_current(with, &names.id) => return Ok(()),
            Some(Ask::Failed(failed)) => Some(failed.error.clone()),
            None => None,
        };
        state.asked.insert(key.clone(), Ask::Running(vec![wake], failed));
        drop(state);
        let proven = (user.namespace.to_owned(), image.to_owned(), names.id);
        let (this, engine) = (self.clone(), engine.clone());
        share::spawn(async move {
            let done = this.ask(&*engine, &references, auth.as_ref()).await;
            this.ended(key, proven, with, done);
        });
        Ok(())
    }

    /// Succeeds if a registry lets one of the references be read.
    async fn ask(
        &self,
        engine: &dyn Engine,
        references: &[String],
        auth: Option<&RegistryAuth>,
    ) -> Result<()> {
        let _turn = self.turns.acquire().await;
        let mut result = Err(Error::NotFound("no reference".into()));
        for reference in references {
            result = engine.check_access(reference, auth).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn ended(&self, key: Asked, proven: Proven, with: Option<[u8; 32]>, done: Result<()>) {
        let (namespace, image, id) = &proven;
        let now = Instant::now();
        let mut state = self.lock();
        state.proven.retain(|_, at| at.elapsed() < times::ACCESS_PROVEN);
        // Those of objects that no longer ask.
        state.asked.retain(
            |_, ask| !matches!(ask, Ask::Failed(failed) if failed.at.elapsed() >= times::ACCESS_PROVEN),
        );
        let before = match done {
            Ok(()) => {
                tracing::info!(namespace, image, id, "the namespace has access to the image");
                self.backoff.cleared(&key);
                state.proven.insert(proven, now);
                state.asked.remove(&key)
            }
            Err(error) => {
                tracing::warn!(namespace, image, id, %error, "the namespace has not shown access to the image");
                let due = now + self.backoff.failed(key.clone(), now, jitter());
                let failed = Failed { error, with, id: id.clone(), due, at: now };
                state.asked.insert(key, Ask::Failed(failed))
            }
        };
        drop(state);
        if let Some(Ask::Running(waiting, _)) = before {
            waiting.into_iter().for_each(|wake| wake());
        }
    }
}

impl Failed {
    /// Reports whether another attempt would be the same one, too early.
    fn is_current(&self, with: Option<[u8; 32]>, id: &str) -> bool {
        Instant::now() < self.due && self.with == with && self.id == id
    }
}
