//! One pass over an object: its context, its outcome, and the interface of the two kinds.

use std::{collections::BTreeSet, fmt::Debug, future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource, ResourceExt,
    core::{NamespaceResourceScope, error_boundary::DeserializeGuard},
    runtime::{controller::Action as Next, reflector::Store},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    access::User,
    adoptions,
    context::Context,
    kube_io::{self, Error},
    observe,
    place::{Placed, PlacedStatus},
    placed,
    pulls::Asker,
    report,
    workers::Workers,
};
use crate::{
    api::{ADOPTS_ANNOTATION, condition::ConditionType},
    docker::{error::Error as DockerError, share::Shares},
    plan::{
        adoption,
        observed::{Host, Observed},
        owner::Owner,
        policy::{permit::Gate, standing::Standing},
        settings::Settings,
        steps::Problem,
    },
    status::{self, Moment},
};

/// A kind that the operator reconciles.
pub trait Managed:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Placed
    + Clone
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Type of its status.
    type Status: PlacedStatus + Clone + Default + PartialEq + Serialize + Send + Sync;
    /// Number of passes of one reconciliation before other objects have their turn.
    const PASSES: usize;
    /// First condition that cannot be evaluated without Docker.
    const UNJUDGED: ConditionType;

    /// Returns the workers for objects of this kind.
    fn workers(workers: &Workers) -> &Shares;
    /// Returns all objects of this kind.
    fn stored(ctx: &Context) -> &Store<DeserializeGuard<Self>>;
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
    /// Sets the fields of a status that depend on the object and its policy alone.
    fn complete(&self, _status: &mut Self::Status, _standing: &Standing, _moment: Moment) {}
    /// Keeps an object stopped that is not to run on this host for this reason.
    fn rest(
        pass: &Pass<'_, Self>,
        previous: &mut Self::Status,
        why: &str,
    ) -> impl Future<Output = Result<Outcome, Stop>> + Send;
    /// Sets the fields of a status that summarize its conditions.
    fn summarize(_status: &mut Self::Status) {}
    /// Returns the time at which the policy stops the object.
    fn stops_at(_status: &Self::Status) -> Option<Timestamp> {
        None
    }
    /// Deletes the object if its time to live is over. Reports whether it did.
    fn expire(
        &self,
        _ctx: &Context,
        _standing: &Standing,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        async { Ok(false) }
    }
    /// Returns the standing of the object under the policy of its namespace.
    fn standing(&self, ctx: &Context) -> Standing;
    /// Runs a pass: validate, resolve, observe, decide, execute, status.
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

/// Outcome of a pass.
pub enum Outcome {
    /// Something changed: another pass follows.
    Again,
    /// Nothing more can be done before this delay.
    Next(Next),
}

/// Reason for the early end of a pass.
pub enum Stop {
    /// Problems that prevent the rest, with the first condition that cannot be evaluated.
    Blocked(Vec<Problem>, ConditionType),
    /// The spec is invalid.
    Invalid(Vec<String>),
    /// A call to the API of the management cluster failed.
    Failed(Error),
    /// What was observed is out of date: another pass follows.
    Interrupted,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A pass over an object: observation, decision, execution.
pub struct Pass<'a, K> {
    /// The object.
    pub object: &'a K,
    /// Shared state.
    pub ctx: &'a Arc<Context>,
    /// Owner of the Docker resources of the object.
    pub owner: Owner,
    /// Standing under the policy of its namespace.
    pub standing: Standing,
    /// Settings of the operator within that policy.
    pub settings: Settings,
    /// Generation and time.
    pub moment: Moment,
    /// True for the last pass of a reconciliation, after which the status reports progress in any case.
    pub last: bool,
}

impl<'p, K: Managed> Pass<'p, K> {
    /// Creates a pass.
    pub fn new(object: &'p K, ctx: &'p Arc<Context>, last: bool) -> Self {
        let owner = adoptions::owner(object.meta(), &ctx.manager);
        let generation = object.meta().generation.unwrap_or_default();
        let standing = match object.meta().deletion_timestamp {
            Some(_) => Standing::default(),
            None => object.standing(ctx),
        };
        let settings = standing.rules.settings(&ctx.settings);
        let moment = Moment { generation, now: (ctx.now)() };
        Self { object, ctx, owner, standing, settings, moment, last }
    }

    /// Returns for whom images are pulled.
    pub fn asker(&self) -> Asker<'_> {
        let most = self.standing.rules.concurrent_pulls;
        Asker { uid: &self.owner.uid, namespace: self.owner.namespace(), most }
    }

    /// Returns what permits the steps of the object. `keep` contains the names of containers that are not removed while
    /// none may be created in their place.
    pub fn gate<'a>(&'a self, host: &'a Host, keep: BTreeSet<String>) -> Gate<'a> {
        let standing = self.object.meta().deletion_timestamp.is_none().then_some(&self.standing);
        let proven = BTreeSet::new();
        Gate { owner: &self.owner, host, settings: &self.settings, standing, keep, proven }
    }

    /// Returns the same for steps that may create containers.
    pub fn full_gate<'a>(&'a self, observed: &'a Observed, keep: BTreeSet<String>) -> Gate<'a> {
        Gate { proven: observed.usable_images(), ..self.gate(observed, keep) }
    }

    /// Returns who uses the images of the object.
    pub fn user(&self) -> User<'_> {
        let (uid, namespace) = (&self.owner.uid, self.owner.namespace());
        User { uid, namespace, rules: &self.standing.rules, settings: &self.settings }
    }

    /// Marks the images of the host that the namespace has not shown access to.
    pub async fn observe_access(&self, observed: &mut Observed) -> Result<(), DockerError> {
        self.ctx.policies.proofs.observe(&*self.ctx.engine, self.user(), observed).await
    }

    /// Observes everything on the engine, and the object's containers in full. Ends the pass if the object names
    /// something to adopt that it cannot have.
    pub async fn survey(&self) -> Result<Host, Stop> {
        let annotation = self.object.meta().annotations.as_ref().and_then(|all| all.get(ADOPTS_ANNOTATION));
        let errors = annotation.map(|text| adoption::parse(text).1).unwrap_or_default();
        if !errors.is_empty() {
            return Err(Stop::Invalid(errors));
        }
        let adoptions = self.ctx.adoptions();
        let host = self.docker(observe::engine(&*self.ctx.engine, &self.owner, &adoptions).await)?;
        self.ctx.health.set_docker(true);
        match adoptions.problem(K::KIND, &self.owner, &host) {
            Some(problem) => Err(Stop::Blocked(vec![problem], ConditionType::ResolvedRefs)),
            None => Ok(host),
        }
    }

    /// Returns an observation of Docker. A failed one ends the pass.
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
        if self.object.meta().deletion_timestamp.is_none() {
            self.object.complete(&mut next, &self.standing, self.moment);
            let stops_at = K::stops_at(&next);
            let conditions = K::conditions_mut(&mut next);
            status::policy_violation(conditions, (&self.standing, stops_at), self.moment);
            if self.ctx.hosting.is_none() {
                status::placement_ignored(conditions, self.object.placement().is_some(), self.moment);
            }
        }
        K::summarize(&mut next);
        if *previous == next {
            return Ok(());
        }
        kube_io::write_status(&self.ctx.client, self.object, &placed::own::<K>(self.ctx, &next)).await?;
        let conditions = (K::conditions(previous), K::conditions(&next));
        self.measure(conditions.0, conditions.1);
        let object = self.object.object_ref(&());
        report::turned(self.ctx, &object, conditions.0, conditions.1);
        report::beside(self.ctx, &object, conditions);
        let stops_at = K::stops_at(&next);
        let announced = stops_at.is_some() && stops_at != K::stops_at(previous);
        report::violated(self.ctx, &object, conditions, announced);
        *previous = next;
        Ok(())
    }

    /// Records how long the object took to its first conditions.
    fn measure(&self, before: &[Condition], after: &[Condition]) {
        let new = self.ctx.memory.progress.turned(&self.owner.uid, before, after);
        let Some(created) = self.object.creation_timestamp().filter(|_| !new.is_empty()) else { return };
        let took = Duration::try_from((self.ctx.now)().duration_since(created.0)).unwrap_or_default();
        for type_ in new {
            self.ctx.metrics.provisioned(K::KIND.as_str(), type_.as_str(), took);
        }
    }
}
