//! What a pool does.

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    claims::{self, Course},
    member::{Holder, Member, Phase},
    template,
};
use crate::{
    api::{LocalClusterClaim, LocalClusterPool, cluster_pool::Standby, local_cluster::ClusterState},
    plan::expiry,
};

/// What is known of a pool and its claims.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The pool; `None` if there is none, or if it is being deleted.
    pub pool: Option<&'a LocalClusterPool>,
    /// Hash of its template.
    pub template: &'a str,
    /// The claims that name it, without those that are being deleted.
    pub claims: &'a [&'a LocalClusterClaim],
    /// All clusters of pools and claims in the namespace.
    pub members: &'a [Member],
    /// The names of all LocalClusters in the namespace.
    pub names: &'a BTreeSet<String>,
    /// UIDs of claims whose cluster was refused a moment ago.
    pub refused: &'a BTreeSet<String>,
    /// The time.
    pub now: Timestamp,
}

/// Something that a pool does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// It creates a cluster with this name.
    Create(String),
    /// It starts or stops a free cluster.
    Set(&'a Member, ClusterState),
    /// It deletes a cluster, for this reason.
    Delete(&'a Member, &'static str),
}

/// What a pool has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clusters that no claim has taken.
    pub free: usize,
    /// Those that a claim can take now.
    pub ready: usize,
    /// Those that are as the pool wants them.
    pub current: usize,
    /// Clusters that claims have taken.
    pub claimed: usize,
    /// Claims that wait.
    pub waiting: usize,
    /// The first free cluster that needs the user: its name, and why.
    pub stalled: Option<(String, String)>,
    /// The first free cluster that starts: its name, and why it is not ready.
    pub starting: Option<(String, String)>,
}

/// What becomes of a pool and its claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What becomes of each claim.
    pub courses: Vec<Course<'a>>,
    /// What the pool does.
    pub steps: Vec<Step<'a>>,
    /// What the pool has.
    pub counts: Counts,
    /// When something is due that no watch tells.
    pub wake: Option<Timestamp>,
}

impl<'a> View<'a> {
    /// Returns the clusters that are free.
    pub(super) fn free(&self) -> Vec<&'a Member> {
        let Some(pool) = self.pool else { return Vec::new() };
        let own = Holder::Pool(pool.uid().unwrap_or_default());
        self.members.iter().filter(|member| member.holder == own && !member.deleting).collect()
    }

    /// Reports whether a cluster is made from the current template and not too old.
    pub(super) fn is_current(&self, member: &Member) -> bool {
        member.template == self.template && self.too_old_at(member).is_none_or(|at| at > self.now)
    }

    fn too_old_at(&self, member: &Member) -> Option<Timestamp> {
        let age = expiry::parse(self.pool?.spec.max_age.as_deref()?)?;
        member.created.checked_add(age).ok()
    }
}

impl Member {
    /// Reports whether it is to run.
    pub(super) fn is_running(&self) -> bool {
        self.state == ClusterState::Running
    }
}

/// Returns what becomes of a pool and its claims.
pub fn decide<'a>(view: &View<'a>) -> Decision<'a> {
    let courses = claims::courses(view);
    let is_taken = |member: &Member| {
        let takes = |course: &Course<'_>| matches!(course, Course::Takes { member: taken, .. } if taken.uid == member.uid);
        courses.iter().any(takes)
    };
    let free: Vec<&Member> = view.free().into_iter().filter(|member| !is_taken(member)).collect();
    let mut steps: Vec<Step<'a>> = view.pool.map_or_else(Vec::new, |pool| steps(pool, &free, view));
    let served = served_until(&courses, view);
    if served.is_some() {
        steps.retain(|step| !matches!(step, Step::Create(_)));
    }
    let unknown = view.claims.iter().flat_map(|claim| claims::surplus(claim, view));
    steps.extend(unknown.map(|member| Step::Delete(member, "the claim has another cluster")));
    let ends = view.claims.iter().filter_map(|claim| claims::end(claim));
    let ages = free.iter().filter_map(|member| view.too_old_at(member));
    let wake = ends.chain(ages).chain(served).filter(|at| *at > view.now).min();
    let counts = counts(&free, &courses, view);
    Decision { courses, steps, counts, wake }
}

/// Returns until when the pool makes no cluster, since claims are being served and none waits for one.
fn served_until(courses: &[Course<'_>], view: &View<'_>) -> Option<Timestamp> {
    if courses.contains(&Course::Waits) {
        return None;
    }
    let served = view.claims.iter().zip(courses);
    served.filter_map(|(claim, course)| claims::served_until(claim, course, view.now)).max()
}

fn counts(free: &[&Member], courses: &[Course<'_>], view: &View<'_>) -> Counts {
    let count = |wanted: &dyn Fn(&Member) -> bool| free.iter().filter(|member| wanted(member)).count();
    let name = view.pool.map(|pool| pool.name_any());
    let is_claimed = |member: &&Member| {
        matches!(member.holder, Holder::Claim(_)) && !member.deleting && Some(&member.pool) == name.as_ref()
    };
    let why = |wanted: &dyn Fn(&Phase) -> Option<String>| {
        free.iter().find_map(|member| Some((member.name.clone(), wanted(&member.phase)?)))
    };
    let takes = courses.iter().filter(|course| matches!(course, Course::Takes { .. })).count();
    Counts {
        free: free.len(),
        ready: count(&Member::is_available),
        current: count(&|member| view.is_current(member)),
        claimed: view.members.iter().filter(is_claimed).count() + takes,
        waiting: courses.iter().filter(|course| matches!(course, Course::Waits)).count(),
        stalled: why(&|phase| if let Phase::Stalled(why) = phase { Some(why.clone()) } else { None }),
        starting: why(&|phase| if let Phase::Starting(why) = phase { Some(why.clone()) } else { None }),
    }
}

/// Returns what the pool does with its free clusters. It never has more than it is to have, so that it also ends where a
/// quota admits no more.
fn steps<'a>(pool: &LocalClusterPool, free: &[&'a Member], view: &View<'a>) -> Vec<Step<'a>> {
    let wanted = usize::try_from(pool.spec.replicas).unwrap_or_default();
    let missing = template::names(pool, view.names).take(wanted.saturating_sub(free.len()));
    let (useless, why) = useless(wanted, free, view);
    let is_kept = |member: &Member| !useless.iter().any(|other| other.uid == member.uid);
    let set = |member: &'a Member| Some(Step::Set(member, standby(pool.spec.standby, member)?));
    let set = free.iter().copied().filter(|member| is_kept(member)).filter_map(set);
    let deleted = useless.iter().map(|member| Step::Delete(member, why));
    missing.map(Step::Create).chain(set).chain(deleted).collect()
}

/// Returns the free clusters that are deleted now, and why.
fn useless<'a>(wanted: usize, free: &[&'a Member], view: &View<'a>) -> (Vec<&'a Member>, &'static str) {
    let mut order = free.to_vec();
    // Those that are needed least come first.
    order.sort_by_key(|member| {
        (view.is_current(member), member.is_available(), Reverse((member.created, &member.name)))
    });
    if free.len() > wanted {
        order.truncate(free.len() - wanted);
        return (order, "the pool has more than spec.replicas");
    }
    let why = "spec.template has changed, or spec.maxAge is over";
    let (current, mut outdated): (Vec<&Member>, Vec<&Member>) =
        order.into_iter().partition(|member| view.is_current(member));
    let oldest = outdated.pop_if(|member| member.is_available());
    if oldest.is_some() {
        // No claim can take these.
        outdated.retain(|member| !member.is_available());
    }
    let settled = free.len() == wanted && outdated.is_empty();
    let next = oldest.filter(|_| settled && current.iter().all(|member| member.is_available()));
    (outdated.into_iter().chain(next).collect(), why)
}

/// Returns the state that a free cluster is to get. One is stopped only when it was ready.
fn standby(standby: Standby, member: &Member) -> Option<ClusterState> {
    match (standby, member.state, &member.phase) {
        (Standby::Stopped, ClusterState::Running, Phase::Ready) => Some(ClusterState::Stopped),
        (Standby::Running, ClusterState::Stopped, _) => Some(ClusterState::Running),
        _ => None,
    }
}
