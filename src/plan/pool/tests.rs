//! Pools and claims over random events, with writes that are late, lost and refused because they were about an older
//! version, and an operator whose view is behind.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    claims::Course,
    decide::{Decision, Step, View, decide},
    member::{Holder, Member, Phase},
    template,
};
use crate::{
    api::{LocalClusterClaim, LocalClusterPool, local_cluster::ClusterState},
    status::{self, ClaimView, Moment},
};

const NOW: i64 = 10_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pool(spec: Value) -> LocalClusterPool {
    serde_json::from_value(json!({"metadata": {"name": "ci", "namespace": "n", "uid": "pool"}, "spec": spec}))
        .unwrap()
}

fn claim(name: &str, created: i64) -> LocalClusterClaim {
    let metadata = json!({"name": name, "namespace": "n", "uid": format!("uid-{name}"), "generation": 1,
        "creationTimestamp": at(created).to_string()});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"poolName": "ci"}})).unwrap()
}

fn member(name: &str, holder: Holder, phase: Phase) -> Member {
    Member {
        name: name.into(),
        uid: format!("uid-{name}"),
        holder,
        pool: "ci".into(),
        created: at(0),
        deleting: false,
        template: template::hash(&pool(json!({})).spec.template),
        state: ClusterState::Running,
        phase,
    }
}

fn free(name: &str, phase: Phase) -> Member {
    member(name, Holder::Pool("pool".into()), phase)
}

fn starting() -> Phase {
    Phase::Starting(String::new())
}

/// Has `look` look at the decision about these.
fn decided<T>(
    pool: &LocalClusterPool,
    claims: &[&LocalClusterClaim],
    members: &[Member],
    look: impl FnOnce(Decision<'_>) -> T,
) -> T {
    let view = View {
        pool: Some(pool),
        template: &template::hash(&pool.spec.template),
        claims,
        members,
        names: &members.iter().map(|member| member.name.clone()).collect(),
        refused: &BTreeSet::new(),
        now: at(NOW),
    };
    look(decide(&view))
}

/// The steps as text.
fn steps(pool: &LocalClusterPool, members: &[Member]) -> Vec<String> {
    decided(pool, &[], members, |decision| {
        let told = decision.steps.iter().map(|step| match step {
            Step::Create(_) => "create".to_owned(),
            Step::Set(member, state) => format!("{} {state:?}", member.name),
            Step::Delete(member, _) => format!("delete {}", member.name),
        });
        told.collect()
    })
}

fn takes(courses: &[Course<'_>]) -> Vec<String> {
    let told = courses.iter().map(|course| match course {
        Course::Takes { member, named } => format!("{}{}", member.name, if *named { "!" } else { "" }),
        other => format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
    });
    told.collect()
}

#[test]
fn who_claimed_first_is_served_first() {
    let (late, early) = (claim("a", 200), claim("b", 100));
    let members = [free("x", starting()), free("y", Phase::Ready)];
    let of = |members: &[Member]| decided(&pool(json!({})), &[&late, &early], members, |d| takes(&d.courses));
    assert_eq!(of(&members), ["Waits", "y"]);
    assert_eq!(of(&members[..1]), ["Waits", "Waits"]);
    let two = [free("x", Phase::Ready), Member { created: at(1), ..free("y", Phase::Ready) }];
    assert_eq!(of(&two), ["y", "x"]);
}

#[test]
fn a_current_cluster_is_given_before_an_old_one_and_a_running_one_before_a_stopped_one() {
    let old = Member { template: "old".into(), ..free("a", Phase::Ready) };
    let stopped = Member { state: ClusterState::Stopped, ..free("b", Phase::Stopped) };
    let running = Member { created: at(9), ..free("c", Phase::Ready) };
    let claims: Vec<_> = (0..4).map(|i| claim(&format!("c{i}"), i)).collect();
    let claims: Vec<&LocalClusterClaim> = claims.iter().collect();
    let members = [old, stopped, running];
    let courses = decided(&pool(json!({})), &claims, &members, |d| takes(&d.courses));
    assert_eq!(courses, ["c", "b", "a", "Waits"]);
}

#[test]
fn what_a_claim_has_named_is_its_own() {
    let (mut first, second) = (claim("a", 1), claim("b", 2));
    first.status = Some(serde_json::from_value(json!({"clusterUID": "uid-x"})).unwrap());
    let pool = pool(json!({}));
    let of = |members: &[Member]| decided(&pool, &[&first, &second], members, |d| takes(&d.courses));
    // It is taken even if it is not ready any more: the write may be on its way.
    assert_eq!(of(&[free("x", starting()), free("y", Phase::Ready)]), ["x!", "y"]);
    // Another claim was faster, or it is gone.
    let other = member("x", Holder::Claim("uid-b".into()), Phase::Ready);
    assert_eq!(of(&[other, free("y", Phase::Ready)]), ["y", "Has"]);
    assert_eq!(
        of(&[Member { deleting: true, ..free("x", Phase::Ready) }, free("y", Phase::Ready)]),
        ["y", "Waits"]
    );
}

#[test]
fn a_claim_has_one_cluster_for_its_life() {
    let mut bound = claim("a", 1);
    let conditions = json!([{"type": "Bound", "status": "True", "reason": "Bound", "message": "",
        "lastTransitionTime": at(0).to_string()}]);
    bound.status =
        Some(serde_json::from_value(json!({"clusterUID": "uid-x", "conditions": conditions})).unwrap());
    let held = |name| member(name, Holder::Claim("uid-a".into()), Phase::Ready);
    let pool = pool(json!({"replicas": 1}));
    let of = |members: &[Member]| decided(&pool, &[&bound], members, |d| (takes(&d.courses), d.steps.len()));
    assert_eq!(of(&[held("x"), free("y", Phase::Ready)]), (vec!["Has".to_owned()], 0));
    assert_eq!(of(&[free("y", Phase::Ready)]), (vec!["Lost".to_owned()], 0));
    // Two processes acted at once: the one that it does not know is deleted.
    assert_eq!(of(&[held("w"), held("x"), free("y", Phase::Ready)]), (vec!["Has".to_owned()], 1));
    assert_eq!(of(&[held("w"), free("y", Phase::Ready)]), (vec!["Lost".to_owned()], 1));
}

#[test]
fn a_lifetime_counts_from_the_binding_and_can_be_held() {
    let mut bound = claim("a", 1);
    bound.spec.lifetime = Some("1h".into());
    let pool = pool(json!({"replicas": 0}));
    let of = |claim: &LocalClusterClaim| {
        let held = [member("x", Holder::Claim("uid-a".into()), Phase::Ready)];
        decided(&pool, &[claim], &held, |d| (takes(&d.courses), d.wake))
    };
    let since = |claim: &mut LocalClusterClaim, second: i64| {
        claim.status = Some(serde_json::from_value(json!({"boundAt": at(second).to_string()})).unwrap());
    };
    since(&mut bound, NOW - 3599);
    assert_eq!(of(&bound), (vec!["Has".to_owned()], Some(at(NOW + 1))));
    since(&mut bound, NOW - 3600);
    assert_eq!(of(&bound).0, ["Ends"]);
    bound.metadata.annotations = Some([("localcluster.dev/hold".to_owned(), "true".to_owned())].into());
    assert_eq!(of(&bound), (vec!["Has".to_owned()], None));
}

#[test]
fn a_pool_fills_and_shrinks() {
    let two = pool(json!({"replicas": 2}));
    assert_eq!(steps(&two, &[]), ["create", "create"]);
    let claimed = member("c", Holder::Claim("other".into()), Phase::Ready);
    let strange = member("s", Holder::Pool("other".into()), Phase::Ready);
    let deleted = Member { deleting: true, ..free("d", Phase::Ready) };
    assert_eq!(steps(&two, &[claimed, strange, deleted, free("a", starting())]), ["create"]);
    let many = [
        free("a", starting()),
        free("b", Phase::Ready),
        Member { created: at(5), ..free("c", Phase::Ready) },
    ];
    assert_eq!(steps(&two, &many), ["delete a"]);
    assert_eq!(steps(&pool(json!({"replicas": 1})), &many), ["delete a", "delete c"]);
    assert_eq!(steps(&pool(json!({"replicas": 0})), &many[..1]), ["delete a"]);
}

#[test]
fn the_next_cluster_is_made_when_the_claims_are_served() {
    let pool = pool(json!({"replicas": 1}));
    let mut one = claim("a", 1);
    let of = |claims: &[&LocalClusterClaim], members: &[Member]| {
        decided(&pool, claims, members, |d| (takes(&d.courses), d.steps.len(), d.wake))
    };
    let later = Some(at(NOW + 10));
    assert_eq!(of(&[&one], &[free("x", Phase::Ready)]), (vec!["x".to_owned()], 0, later));
    // Somebody waits for the next one.
    let two = claim("b", 2);
    assert_eq!(of(&[&one, &two], &[free("x", Phase::Ready)]).1, 1);
    let held = |phase| [member("x", Holder::Claim("uid-a".into()), phase)];
    let bound = |claim: &mut LocalClusterClaim, second: i64| {
        let status = json!({"clusterUID": "uid-x", "boundAt": at(second).to_string()});
        claim.status = Some(serde_json::from_value(status).unwrap());
    };
    bound(&mut one, NOW - 9);
    assert_eq!(of(&[&one], &held(starting())), (vec!["Has".to_owned()], 0, Some(at(NOW + 1))));
    assert_eq!(of(&[&one], &held(Phase::Ready)).1, 1);
    assert_eq!(of(&[&one], &held(Phase::Stalled("PortConflict".into()))).1, 1);
    assert_eq!(of(&[&one], &[Member { deleting: true, ..held(starting())[0].clone() }]).1, 1);
    // It is not waited for longer, nor by a clock that was ahead.
    for second in [NOW - 10, NOW + 1] {
        bound(&mut one, second);
        assert_eq!(of(&[&one], &held(starting())), (vec!["Has".to_owned()], 1, None), "{second}");
    }
}

#[test]
fn old_clusters_are_replaced_one_at_a_time_when_the_others_are_ready() {
    let old = |name: &str, phase| Member { template: "old".into(), ..free(name, phase) };
    let two = pool(json!({"replicas": 2}));
    assert_eq!(steps(&two, &[old("a", Phase::Ready), old("b", Phase::Ready)]), ["delete a"]);
    assert_eq!(steps(&two, &[free("a", starting()), old("b", Phase::Ready)]), [""; 0]);
    assert_eq!(steps(&two, &[free("a", Phase::Ready), old("b", Phase::Ready)]), ["delete b"]);
    // What no claim can take goes at once.
    assert_eq!(steps(&two, &[old("a", starting()), old("b", Phase::Ready)]), ["delete a"]);
    assert_eq!(
        steps(&two, &[old("a", starting()), old("b", Phase::Stalled("x".into()))]),
        ["delete b", "delete a"]
    );
    let aged = pool(json!({"replicas": 1, "maxAge": "1h"}));
    let young = Member { created: at(NOW - 3599), ..free("a", Phase::Ready) };
    assert_eq!(steps(&aged, std::slice::from_ref(&young)), [""; 0]);
    assert_eq!(decided(&aged, &[], std::slice::from_ref(&young), |d| d.wake), Some(at(NOW + 1)));
    assert_eq!(steps(&aged, &[Member { created: at(NOW - 3600), ..young }]), ["delete a"]);
}

#[test]
fn a_cluster_stands_by_stopped_once_it_was_ready() {
    let stops = pool(json!({"standby": "Stopped"}));
    assert_eq!(steps(&stops, &[free("a", starting())]), [""; 0]);
    assert_eq!(steps(&stops, &[free("a", Phase::Ready)]), ["a Stopped"]);
    let stopped = Member { state: ClusterState::Stopped, ..free("a", Phase::Stopped) };
    assert_eq!(steps(&stops, std::slice::from_ref(&stopped)), [""; 0]);
    assert_eq!(steps(&pool(json!({})), &[stopped]), ["a Running"]);
}

#[test]
fn without_a_pool_claims_wait_and_keep_what_they_have() {
    let (one, two) = (claim("a", 1), claim("b", 2));
    let members = [member("x", Holder::Claim("uid-a".into()), Phase::Ready), free("y", Phase::Ready)];
    let view = View {
        pool: None,
        template: "",
        claims: &[&one, &two],
        members: &members,
        names: &BTreeSet::new(),
        refused: &BTreeSet::new(),
        now: at(NOW),
    };
    let decision = decide(&view);
    assert_eq!(
        (takes(&decision.courses), decision.steps.len()),
        (vec!["Has".to_owned(), "Waits".to_owned()], 0)
    );
}

/// The API server: what is stored, with versions.
#[derive(Clone, Debug, Default)]
struct Server {
    members: BTreeMap<String, (u64, Member)>,
    claims: BTreeMap<String, (u64, LocalClusterClaim)>,
    version: u64,
    created: u64,
    /// Each cluster that was ever claimed, and by whom.
    given: BTreeMap<String, String>,
    /// The cluster that each claim was told to have.
    told: BTreeMap<String, String>,
}

/// A write of the operator, about the version that it has seen.
#[derive(Clone, Debug)]
enum Write {
    /// With the hash of the template.
    Create(String, String),
    Set(String, u64, ClusterState),
    Delete(String, u64),
    /// A claim names a cluster, or says that it has it.
    Claim(Box<LocalClusterClaim>, u64),
    Take {
        cluster: String,
        version: u64,
        claim: String,
    },
}

impl Server {
    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Executes a write, unless it is about an older version. Checks what must never happen.
    fn write(&mut self, write: &Write) -> bool {
        let next = self.next();
        match write {
            Write::Create(name, template) => {
                if self.members.contains_key(name) {
                    return false;
                }
                self.created += 1;
                let mut made = free(name, starting());
                made.template.clone_from(template);
                made.uid = format!("{name}/{}", self.created);
                made.created = at(i64::try_from(self.created).unwrap());
                self.members.insert(name.clone(), (next, made));
            }
            Write::Set(name, seen, state) => {
                let Some((version, member)) = self.members.get_mut(name).filter(|(v, _)| v == seen) else {
                    return false;
                };
                (*version, member.state, member.phase) = (next, *state, starting());
            }
            Write::Delete(name, seen) => {
                let Some((_, member)) = self.members.get(name).filter(|(v, _)| v == seen) else {
                    return false;
                };
                let uid = member.uid.clone();
                assert!(!self.told.values().any(|told| *told == uid), "a claim has {uid}, which was deleted");
                self.members.remove(name);
            }
            Write::Claim(claim, seen) => {
                let stored = self.claims.get_mut(&claim.name_any());
                let Some((version, stored)) = stored.filter(|(version, _)| version == seen) else {
                    return false;
                };
                (*version, *stored) = (next, (**claim).clone());
                let status = claim.status.clone().unwrap_or_default();
                if let (Some(_), Some(uid)) = (&status.bound_at, status.cluster_uid) {
                    let before = self.told.insert(claim.name_any(), uid.clone());
                    assert!(
                        before.is_none_or(|before| before == uid),
                        "{} has another cluster",
                        claim.name_any()
                    );
                }
            }
            Write::Take { cluster, version: seen, claim } => {
                let Some((version, member)) = self.members.get_mut(cluster).filter(|(v, _)| v == seen) else {
                    return false;
                };
                assert_eq!(member.holder, Holder::Pool("pool".into()), "{cluster} is given twice");
                let before = self.given.insert(member.uid.clone(), claim.clone());
                assert_eq!(before, None, "{cluster} is given twice");
                (*version, member.holder) = (next, Holder::Claim(format!("uid-{claim}")));
            }
        }
        true
    }

    /// Looks at this view and executes what it decides on `server`: each write may fail to arrive, or be late.
    fn act(
        &self,
        pool: &LocalClusterPool,
        server: &mut Self,
        fate: &mut impl FnMut() -> Fate,
        late: &mut Vec<Write>,
    ) {
        let members: Vec<Member> = self.members.values().map(|(_, member)| member.clone()).collect();
        let claims: Vec<&LocalClusterClaim> = self.claims.values().map(|(_, claim)| claim).collect();
        let template = template::hash(&pool.spec.template);
        let (courses, steps) = decided(pool, &claims, &members, |decision| {
            let courses: Vec<(String, Option<(String, bool)>)> = claims
                .iter()
                .zip(&decision.courses)
                .map(|(claim, course)| {
                    let taken = match course {
                        Course::Takes { member, named } => Some((member.name.clone(), !named)),
                        Course::Has(member) => Some((member.name.clone(), false)),
                        _ => None,
                    };
                    (claim.name_any(), taken)
                })
                .collect();
            let steps: Vec<Write> = decision.steps.iter().map(|step| self.step(step, &template)).collect();
            (courses, steps)
        });
        for write in steps {
            send(server, write, fate(), late);
        }
        for (name, taken) in courses {
            let Some((cluster, names)) = taken else { continue };
            let Some((version, member)) = self.members.get(&cluster) else { continue };
            let (mut seen, mut claim) = self.claims[&name].clone();
            if names {
                claim = told(&claim, member, false);
                if !send(server, Write::Claim(Box::new(claim.clone()), seen), fate(), late) {
                    continue;
                }
                seen = server.version;
            }
            if matches!(member.holder, Holder::Pool(_)) {
                let take = Write::Take { cluster, version: *version, claim: name };
                if !send(server, take, fate(), late) {
                    continue;
                }
            }
            send(server, Write::Claim(Box::new(told(&claim, member, true)), seen), fate(), late);
        }
    }

    fn step(&self, step: &Step<'_>, template: &str) -> Write {
        match step {
            Step::Create(name) => Write::Create(name.clone(), template.to_owned()),
            Step::Set(member, state) => Write::Set(member.name.clone(), self.members[&member.name].0, *state),
            Step::Delete(member, _) => Write::Delete(member.name.clone(), self.members[&member.name].0),
        }
    }
}

/// Returns a claim with the status that tells of its cluster.
fn told(claim: &LocalClusterClaim, member: &Member, has: bool) -> LocalClusterClaim {
    let metadata = json!({"name": member.name, "uid": member.uid});
    let cluster = serde_json::from_value(json!({"metadata": metadata, "spec": {}})).unwrap();
    let view = if has { ClaimView::Has(&cluster) } else { ClaimView::Takes(&cluster) };
    let moment = Moment { generation: 1, now: at(NOW) };
    LocalClusterClaim { status: Some(status::cluster_claim(claim, &view, moment)), ..claim.clone() }
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Done,
    /// The operator dies, and it never arrives.
    Lost,
    /// The operator dies, and it arrives later.
    Late,
}

/// Sends a write. Reports whether the operator goes on.
fn send(server: &mut Server, write: Write, fate: Fate, late: &mut Vec<Write>) -> bool {
    match fate {
        Fate::Done => server.write(&write),
        Fate::Lost => false,
        Fate::Late => {
            late.push(write);
            false
        }
    }
}

/// An event in a random life.
#[derive(Clone, Debug)]
enum Event {
    /// The operator looks at what was stored so many events ago.
    Look(usize, Vec<u8>),
    /// A late write arrives.
    Arrive,
    /// A cluster is ready, or stopped, or stops being so.
    Turn(usize, bool),
    Claim,
    /// The template changes.
    Change,
    Scale(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0usize..4, prop::collection::vec(0u8..12, 0..12)).prop_map(|(age, fates)| Event::Look(age, fates)),
        2 => Just(Event::Arrive),
        3 => (0usize..8, any::<bool>()).prop_map(|(index, ready)| Event::Turn(index, ready)),
        2 => Just(Event::Claim),
        1 => Just(Event::Change),
        1 => (0u8..4).prop_map(Event::Scale),
    ]
}

/// Has a cluster become what its spec says.
fn turn(server: &mut Server, name: &str, ready: bool) {
    let next = server.next();
    let (version, member) = server.members.get_mut(name).unwrap();
    member.phase = match (ready, member.state) {
        (false, _) => starting(),
        (true, ClusterState::Running) => Phase::Ready,
        (true, ClusterState::Stopped) => Phase::Stopped,
    };
    *version = next;
}

proptest! {
    /// Whatever fails, is late or is seen late: no cluster is given twice, none that a claim was told to have is deleted,
    /// no claim has a second one, and in the end the pool is full and every claim has its cluster.
    #[test]
    fn no_cluster_is_given_twice_and_the_pool_ends_full(
        events in prop::collection::vec(event(), 1..60), stopped in any::<bool>(), replicas in 0u8..4,
    ) {
        let standby = if stopped { "Stopped" } else { "Running" };
        let mut pool = pool(json!({"replicas": replicas, "standby": standby}));
        let (mut server, mut late) = (Server::default(), Vec::new());
        let mut history = vec![server.clone()];
        for event in events {
            match event {
                Event::Look(age, fates) => {
                    let view = history[history.len().saturating_sub(age + 1)].clone();
                    let mut fates = fates.into_iter();
                    let mut fate = || match fates.next() {
                        Some(0) => Fate::Lost,
                        Some(1) => Fate::Late,
                        _ => Fate::Done,
                    };
                    view.act(&pool, &mut server, &mut fate, &mut late);
                }
                Event::Arrive => {
                    if let Some(write) = late.pop() {
                        server.write(&write);
                    }
                }
                Event::Turn(index, ready) => {
                    if let Some(name) = server.members.keys().nth(index).cloned() {
                        turn(&mut server, &name, ready);
                    }
                }
                Event::Claim => {
                    let (name, next) = (format!("c{}", server.claims.len()), server.next());
                    let created = i64::try_from(server.claims.len()).unwrap();
                    server.claims.insert(name.clone(), (next, claim(&name, created)));
                }
                Event::Change => {
                    let version = format!("v1.30.{}+k3s1", server.version);
                    pool.spec.template.spec.version = Some(version);
                }
                Event::Scale(replicas) => pool.spec.replicas = i32::from(replicas),
            }
            history.push(server.clone());
        }
        for write in std::mem::take(&mut late) {
            server.write(&write);
        }
        // Nothing fails any more.
        pool.spec.replicas = pool.spec.replicas.max(1);
        for _ in 0..40 + 4 * server.claims.len() {
            let view = server.clone();
            view.act(&pool, &mut server, &mut || Fate::Done, &mut late);
            for name in server.members.keys().cloned().collect::<Vec<_>>() {
                turn(&mut server, &name, true);
            }
        }
        prop_assert_eq!(server.told.len(), server.claims.len());
        let uids: BTreeSet<&String> = server.told.values().collect();
        prop_assert_eq!(uids.len(), server.claims.len());
        let claimed = server.members.values().filter(|(_, member)| matches!(member.holder, Holder::Claim(_)));
        prop_assert_eq!(claimed.count(), server.claims.len(), "a claim has a cluster that it does not know");
        let free: Vec<&Member> =
            server.members.values().map(|(_, m)| m).filter(|m| matches!(m.holder, Holder::Pool(_))).collect();
        prop_assert_eq!(free.len(), usize::try_from(pool.spec.replicas).unwrap());
        prop_assert!(free.iter().all(|member| member.is_available()));
    }
}
