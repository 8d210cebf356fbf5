//! One pass over a LocalCluster: what all parts of it have at hand, and how it ends.

use std::sync::Arc;

use kube::{ResourceExt, runtime::controller::Action as Next};

use super::{context::Context, kube_io::Error};
use crate::{
    api::{LocalCluster, condition::ConditionType},
    plan::{owner::Owner, steps::Problem},
    status::Moment,
};

/// What a look led to.
pub enum Outcome {
    /// Something was done: look again.
    Again,
    /// Nothing more can be done now.
    Next(Next),
}

/// Why a pass ends before its end.
pub enum Stop {
    /// These problems are in the way, and the conditions from this one on can't be judged.
    Blocked(Vec<Problem>, ConditionType),
    /// The spec is invalid.
    Invalid(Vec<String>),
    /// A call to the management cluster's API failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The owner labels of a cluster.
pub fn owner(cluster: &LocalCluster, ctx: &Context) -> Owner {
    Owner {
        uid: cluster.uid().unwrap_or_default(),
        manager: ctx.manager.clone(),
        object: format!("{}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any()),
    }
}

/// One look at a LocalCluster and the acts that follow from it.
pub struct Pass<'a> {
    /// The object.
    pub cluster: &'a LocalCluster,
    /// What every reconcile has at hand.
    pub ctx: &'a Arc<Context>,
    /// The object's owner labels.
    pub owner: Owner,
    /// The generation and the time.
    pub moment: Moment,
    /// Whether it is the last one in a row, after which the status tells how far it got.
    pub last: bool,
}

impl<'p> Pass<'p> {
    /// A pass that begins now.
    pub fn new(cluster: &'p LocalCluster, ctx: &'p Arc<Context>, last: bool) -> Self {
        let generation = cluster.metadata.generation.unwrap_or_default();
        let moment = Moment { generation, now: (ctx.now)() };
        Self { cluster, ctx, owner: owner(cluster, ctx), moment, last }
    }
}
