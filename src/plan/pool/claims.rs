//! What becomes of a claim.

use jiff::{SignedDuration, Timestamp};

use super::{
    decide::View,
    member::{Holder, Member, Phase},
};
use crate::{
    api::{
        LocalClusterClaim,
        condition::{self, ConditionType},
    },
    plan::expiry,
    time,
};

/// Longest time for which a pool makes no other cluster while that of a claim becomes what the claim asks of it.
const SERVED: SignedDuration = SignedDuration::from_secs(10);

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course<'a> {
    /// It has this cluster.
    Has(&'a Member),
    /// It takes this cluster. Its status names the cluster already if `named`.
    Takes {
        /// The cluster.
        member: &'a Member,
        /// Its status names it.
        named: bool,
    },
    /// It waits for a cluster.
    Waits,
    /// What it asks for was refused a while ago, and is tried again later.
    Refused,
    /// Its cluster is gone.
    Lost,
    /// Its lifetime is over.
    Ends,
}

/// Returns the time at which a claim is deleted.
pub fn end(claim: &LocalClusterClaim) -> Option<Timestamp> {
    if expiry::is_held(&claim.metadata) {
        return None;
    }
    let since = claim.status.as_ref()?.bound_at.as_ref()?.0;
    since.checked_add(expiry::parse(claim.spec.lifetime.as_deref()?)?).ok()
}

/// Reports whether the status of a claim says that it has its cluster, which never changes.
fn is_bound(claim: &LocalClusterClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| condition::is_true(&status.conditions, ConditionType::Bound))
}

/// Returns the UID of the cluster that the status of a claim names.
fn named(claim: &LocalClusterClaim) -> Option<&str> {
    claim.status.as_ref()?.cluster_uid.as_deref()
}

fn uid(claim: &LocalClusterClaim) -> &str {
    claim.metadata.uid.as_deref().unwrap_or_default()
}

/// Returns the clusters that a claim has.
fn held<'a>(claim: &LocalClusterClaim, view: &View<'a>) -> impl Iterator<Item = &'a Member> {
    let claimed = Holder::Claim(uid(claim).to_owned());
    view.members.iter().filter(move |member| member.holder == claimed)
}

/// Returns the clusters that a claim has without knowing: two processes acted for it at once, and it has another one.
pub(super) fn surplus<'a>(claim: &'a LocalClusterClaim, view: &View<'a>) -> impl Iterator<Item = &'a Member> {
    let own = named(claim).filter(|_| is_bound(claim));
    held(claim, view).filter(move |member| !member.deleting && own.is_some_and(|own| member.uid != own))
}

/// Returns until when at most the host is left to a claim: it takes a cluster now, or that becomes what the claim asks of
/// it. A cluster that starts at the same time takes seconds of all cores.
pub(super) fn served_until(
    claim: &LocalClusterClaim,
    course: &Course<'_>,
    now: Timestamp,
) -> Option<Timestamp> {
    let since = match course {
        Course::Takes { .. } => now,
        Course::Has(member) if matches!(member.phase, Phase::Starting(_)) && !member.deleting => {
            // Of a clock that was ahead, nothing is known.
            let bound_at = claim.status.as_ref()?.bound_at.as_ref()?.0;
            Some(bound_at).filter(|at| *at <= now)?
        }
        _ => return None,
    };
    Some(time::after(since, SERVED)).filter(|until| *until > now)
}

/// Returns what becomes of each claim, in the order of `view.claims`. Who asked first is served first.
pub(super) fn courses<'a>(view: &View<'a>) -> Vec<Course<'a>> {
    let mut order: Vec<usize> = (0..view.claims.len()).collect();
    let age = |claim: &LocalClusterClaim| {
        let created = claim.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, claim.metadata.name.clone())
    };
    order.sort_by_cached_key(|index| age(view.claims[*index]));
    let mut courses: Vec<Option<Course<'a>>> = view.claims.iter().map(|claim| settled(claim, view)).collect();
    let mut free = view.free();
    // What a claim has named is its own, whatever happened since: the write that takes it may be on its way.
    for index in &order {
        let Some(named) = named(view.claims[*index]).filter(|_| courses[*index].is_none()) else { continue };
        if let Some(place) = free.iter().position(|member| member.uid == named) {
            let member = free.remove(place);
            courses[*index] = Some(Course::Takes { member, named: true });
        }
    }
    let mut ready: Vec<&Member> = free.into_iter().filter(|member| member.is_available()).collect();
    ready
        .sort_by_key(|member| (!view.is_current(member), !member.is_running(), member.created, &member.name));
    let mut ready = ready.into_iter();
    for index in order {
        if courses[index].is_none() {
            let next = ready.next().map(|member| Course::Takes { member, named: false });
            courses[index] = Some(next.unwrap_or(Course::Waits));
        }
    }
    courses.into_iter().map(|course| course.unwrap_or(Course::Waits)).collect()
}

/// Returns what becomes of a claim that asks for no cluster.
fn settled<'a>(claim: &LocalClusterClaim, view: &View<'a>) -> Option<Course<'a>> {
    if end(claim).is_some_and(|end| end <= view.now) {
        return Some(Course::Ends);
    }
    let own = held(claim, view).find(|member| Some(member.uid.as_str()) == named(claim));
    if let Some(member) = own.or_else(|| held(claim, view).next().filter(|_| !is_bound(claim))) {
        return Some(Course::Has(member));
    }
    if is_bound(claim) {
        return Some(Course::Lost);
    }
    view.refused.contains(uid(claim)).then_some(Course::Refused)
}
