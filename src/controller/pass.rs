//! One pass over an object: what all parts of it have at hand, how it ends, and what the two kinds do in it.

use std::{fmt::Debug, future::Future, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt, core::NamespaceResourceScope, runtime::controller::Action as Next};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    context::Context,
    kube_io::{self, Error},
    report,
};
use crate::{
    api::condition::ConditionType,
    docker::error::Error as DockerError,
    plan::{owner::Owner, steps::Problem},
    status::Moment,
};

/// A kind that the operator reconciles.
pub trait Managed:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Its status.
    type Status: Clone + Default + PartialEq + Serialize + Send + Sync;
    /// Its name, for logs and metrics.
    const KIND: &'static str;
    /// The number of passes of one reconcile before other objects have their turn.
    const PASSES: usize;
    /// The first condition that cannot be evaluated without Docker.
    const UNJUDGED: ConditionType;

    /// Returns the status of the object.
    fn status(&self) -> Option<&Self::Status>;
    /// Returns the conditions of a status.
    fn conditions(status: &Self::Status) -> &[Condition];
    /// Returns the conditions of a status for a change.
    fn conditions_mut(status: &mut Self::Status) -> &mut Vec<Condition>;
    /// Returns the status of an object of which only problems are known. The conditions from `unknown` on cannot be
    /// evaluated.
    fn blocked(
        previous: &Self::Status,
        problems: &[Problem],
        unknown: ConditionType,
        moment: Moment,
    ) -> Self::Status;
    /// Sets those fields of a status that follow from the object alone.
    fn complete(&self, _status: &mut Self::Status) {}
    /// Deletes the object where its time to live is over. Returns whether it is.
    fn expire(&self, _ctx: &Context) -> impl Future<Output = Result<bool, Error>> + Send {
        async { Ok(false) }
    }
    /// The straight line: validate, resolve, observe, decide, execute, status.
    fn look_and_act(
        pass: &Pass<'_, Self>,
        previous: &mut Self::Status,
    ) -> impl Future<Output = Result<Outcome, Stop>> + Send;
    /// Removes what the object created. Returns `None` if nothing of it is left.
    fn cleanup(
        pass: &Pass<'_, Self>,
        previous: &mut Self::Status,
    ) -> impl Future<Output = Result<Option<Next>, Error>> + Send;
}

/// What a pass led to.
pub enum Outcome {
    /// Something was done: look again.
    Again,
    /// Nothing more can be done now.
    Next(Next),
}

/// The reason why a pass ends early.
pub enum Stop {
    /// These problems are in the way, and the conditions from this one on cannot be evaluated.
    Blocked(Vec<Problem>, ConditionType),
    /// The spec is invalid.
    Invalid(Vec<String>),
    /// A call to the API of the management cluster failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// One look at an object and the acts that follow from it.
pub struct Pass<'a, K> {
    /// The object.
    pub object: &'a K,
    /// What every reconcile has at hand.
    pub ctx: &'a Arc<Context>,
    /// The owner labels of the object.
    pub owner: Owner,
    /// The generation and the time.
    pub moment: Moment,
    /// Whether it is the last pass of the reconcile, after which the status reports the progress in any case.
    pub last: bool,
}

impl<'p, K: Managed> Pass<'p, K> {
    /// Begins a pass.
    pub fn new(object: &'p K, ctx: &'p Arc<Context>, last: bool) -> Self {
        let owner = Owner {
            uid: object.uid().unwrap_or_default(),
            manager: ctx.manager.clone(),
            object: format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any()),
        };
        let generation = object.meta().generation.unwrap_or_default();
        Self { object, ctx, owner, moment: Moment { generation, now: (ctx.now)() }, last }
    }

    /// Returns the result of a look at Docker. A failed one ends the pass.
    pub fn docker<T>(&self, look: Result<T, DockerError>) -> Result<T, Stop> {
        look.map_err(|error| Stop::Blocked(vec![report::docker(self.ctx, &error)], K::UNJUDGED))
    }

    /// Writes the status of an object of which only problems are known.
    pub async fn write_blocked(
        &self,
        previous: &mut K::Status,
        problems: &[Problem],
        unknown: ConditionType,
    ) -> Result<(), Error> {
        let next = K::blocked(previous, problems, unknown, self.moment);
        self.write(previous, next).await
    }

    /// Writes the status if it differs, and keeps it as the last one written.
    pub async fn write(&self, previous: &mut K::Status, mut next: K::Status) -> Result<(), Error> {
        self.object.complete(&mut next);
        if *previous == next {
            return Ok(());
        }
        kube_io::write_status(&self.ctx.client, self.object, &next).await?;
        let object = self.object.object_ref(&());
        report::turned(self.ctx, &object, K::conditions(previous), K::conditions(&next));
        *previous = next;
        Ok(())
    }
}
