use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use super::*;
use crate::kubernetes::{Failure, Hooks, KubernetesApi};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/operator";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn held(by: &str, renewed: &str) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(by.to_owned()),
        lease_duration_seconds: Some(15),
        acquire_time: Some(MicroTime(time("2026-11-25T00:00:00Z"))),
        renew_time: Some(MicroTime(time(renewed))),
        lease_transitions: Some(3),
        ..LeaseSpec::default()
    }
}

#[test]
fn a_new_lease_is_taken() {
    let now = time("2026-11-25T01:00:00Z");
    let spec = next_spec(None, "a", 15, now).unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("a"));
    assert_eq!((spec.acquire_time, spec.renew_time), (Some(MicroTime(now)), Some(MicroTime(now))));
    assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(1)));
}

#[test]
fn ones_own_is_renewed_even_when_it_ended() {
    for now in ["2026-11-25T01:00:05Z", "2026-11-25T02:00:00Z"] {
        let spec = next_spec(Some(&held("a", "2026-11-25T01:00:00Z")), "a", 15, time(now)).unwrap();
        assert_eq!(spec.renew_time, Some(MicroTime(time(now))));
        assert_eq!(spec.acquire_time, Some(MicroTime(time("2026-11-25T00:00:00Z"))));
        assert_eq!(spec.lease_transitions, Some(3));
    }
}

#[test]
fn anothers_is_taken_only_when_it_ended() {
    let theirs = held("b", "2026-11-25T01:00:00Z");
    assert_eq!(next_spec(Some(&theirs), "a", 15, time("2026-11-25T01:00:14.9Z")), None);
    // A clock that is behind does not acquire it either.
    assert_eq!(next_spec(Some(&theirs), "a", 15, time("2026-11-25T00:00:00Z")), None);
    let spec = next_spec(Some(&theirs), "a", 15, time("2026-11-25T01:00:15Z")).unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("a"), Some(4)));
    assert_eq!(spec.acquire_time, Some(MicroTime(time("2026-11-25T01:00:15Z"))));
}

#[test]
fn a_released_one_is_free_at_once() {
    let now = time("2026-11-25T01:00:01Z");
    let released = released_spec(&held("b", "2026-11-25T01:00:00Z"), "b", now).unwrap();
    assert_eq!(next_spec(Some(&released), "a", 15, now).unwrap().lease_transitions, Some(4));
    assert_eq!(released_spec(&held("b", "2026-11-25T01:00:00Z"), "a", now), None);
    let empty = LeaseSpec { holder_identity: Some(String::new()), ..released };
    assert!(next_spec(Some(&empty), "a", 15, now).is_some());
}

/// An elector with the clock of tokio, so that a paused test does not wait.
fn elector(api: &KubernetesApi, me: &str, start: Instant) -> Elector {
    let clock = move || time("2026-11-25T00:00:00Z") + start.elapsed();
    Elector { clock: Arc::new(clock), ..Elector::new(api.client(), "ns", "operator", me) }
}

/// A candidate in its own task.
struct Contender {
    stop: CancellationToken,
    roles: Arc<Mutex<Vec<Role>>>,
    leads: CancellationToken,
    task: tokio::task::JoinHandle<Result<Option<()>, Lost>>,
}

fn contend(elector: Elector) -> Contender {
    let (stop, leads, roles) =
        (CancellationToken::new(), CancellationToken::new(), Arc::<Mutex<Vec<_>>>::default());
    let task = tokio::spawn({
        let (stop, leads, roles) = (stop.clone(), leads.clone(), roles.clone());
        async move {
            let work = || async {
                leads.cancel();
                stop.cancelled().await;
            };
            elector.lead(&stop, |role| roles.lock().unwrap().push(role), work).await
        }
    });
    Contender { stop, roles, leads, task }
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_the_other_follows_at_once() {
    let (api, start) = (KubernetesApi::default(), Instant::now());
    let first = contend(elector(&api, "a", start));
    first.leads.cancelled().await;
    let second = contend(elector(&api, "b", start));
    tokio::time::sleep(10 * LEASE).await;
    assert!(!second.leads.is_cancelled());
    assert_eq!(second.roles.lock().unwrap().last(), Some(&Role::Standby));

    let released = Instant::now();
    first.stop.cancel();
    assert_eq!(first.task.await.unwrap(), Ok(Some(())));
    second.leads.cancelled().await;
    assert!(released.elapsed() <= RETRY);
    assert_eq!(second.roles.lock().unwrap().last(), Some(&Role::Leader));

    second.stop.cancel();
    assert_eq!(second.task.await.unwrap(), Ok(Some(())));
    assert_eq!(api.get(PATH).unwrap()["spec"]["holderIdentity"], json!(null));
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_followed_when_its_lease_ends() {
    let (api, start) = (KubernetesApi::default(), Instant::now());
    let first = contend(elector(&api, "a", start));
    first.leads.cancelled().await;
    first.task.abort();
    let died = Instant::now();
    let second = contend(elector(&api, "b", start));
    second.leads.cancelled().await;
    let waited = died.elapsed();
    assert!(LEASE - RENEW <= waited && waited <= LEASE + RETRY, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_comes_back_to_its_pod_leads_at_once() {
    let (api, start) = (KubernetesApi::default(), Instant::now());
    let first = contend(elector(&api, "a", start));
    first.leads.cancelled().await;
    first.task.abort();
    let died = Instant::now();
    contend(elector(&api, "a", start)).leads.cancelled().await;
    assert_eq!(died.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_can_not_renew_stops_before_another_may_start() {
    let fail: [fn(&KubernetesApi); 3] =
        [|api| api.refuse("PUT ", 500), |api| api.hang("PUT "), |api| api.hang("")];
    for fail in fail {
        let (api, start) = (KubernetesApi::default(), Instant::now());
        let leader = contend(elector(&api, "a", start));
        leader.leads.cancelled().await;
        fail(&api);
        let lost = leader.task.await.unwrap();
        assert_eq!(lost, Err(Lost::Late { lease: "operator".to_owned() }));
        assert!(leader.stop.is_cancelled());
        let last_renewal: Timestamp =
            api.get(PATH).unwrap()["spec"]["renewTime"].as_str().unwrap().parse().unwrap();
        let now = time("2026-11-25T00:00:00Z") + start.elapsed();
        assert!(now.duration_since(last_renewal).as_secs() < LEASE.as_secs() as i64);
    }
}

/// Writes without a response, of which some take effect.
#[derive(Default)]
struct Silent {
    /// How the next writes fail.
    next: Mutex<Vec<Failure>>,
    /// How all writes fail after these.
    then: Mutex<Option<Failure>>,
}

impl Hooks for Silent {
    fn gate(&self, _: &str, writes: bool) -> Option<Failure> {
        if !writes {
            return None;
        }
        self.next.lock().unwrap().pop().or(*self.then.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_without_a_response_costs_no_lease() {
    for next in [vec![Failure::Lost], vec![Failure::Hangs]] {
        let silent = Arc::<Silent>::default();
        let (api, start) = (KubernetesApi::with(silent.clone()), Instant::now());
        let leader = contend(elector(&api, "a", start));
        leader.leads.cancelled().await;
        for _ in 0..5 {
            silent.next.lock().unwrap().extend(next.clone());
            tokio::time::sleep(2 * LEASE).await;
            assert!(!leader.task.is_finished(), "{next:?}");
        }
        assert_eq!(api.get(PATH).unwrap()["spec"]["leaseTransitions"], 1);
    }
    // As long as writes take effect, the Lease is held.
    let silent = Arc::<Silent>::default();
    let (api, start) = (KubernetesApi::with(silent.clone()), Instant::now());
    let leader = contend(elector(&api, "a", start));
    leader.leads.cancelled().await;
    *silent.then.lock().unwrap() = Some(Failure::Lost);
    tokio::time::sleep(10 * LEASE).await;
    assert!(!leader.task.is_finished());
    // One that another process took meanwhile is lost, whatever was sent.
    let taken = api.clone();
    tokio::spawn(async move {
        loop {
            let mut lease = taken.get(PATH).unwrap();
            lease["spec"]["holderIdentity"] = json!("b");
            lease["spec"]["renewTime"] = json!("2026-11-25T01:00:00.000000Z");
            taken.put(PATH, lease);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let lost = Lost::Taken { lease: "operator".to_owned(), by: "b".to_owned() };
    assert_eq!(leader.task.await.unwrap(), Err(lost));
}

/// The requests, of which the next write fails if that is wanted.
#[derive(Default)]
struct Requests {
    seen: Mutex<Vec<String>>,
    fails: AtomicBool,
}

impl Hooks for Requests {
    fn gate(&self, call: &str, writes: bool) -> Option<Failure> {
        self.seen.lock().unwrap().push(call.split(' ').next().unwrap().to_owned());
        (writes && self.fails.swap(false, Ordering::Relaxed)).then_some(Failure::Refused(500))
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_is_one_request_and_another_version_is_read_first() {
    let requests = Arc::<Requests>::default();
    let (api, start) = (KubernetesApi::with(requests.clone()), Instant::now());
    let leader = contend(elector(&api, "a", start));
    leader.leads.cancelled().await;
    let seen = || std::mem::take(&mut *requests.seen.lock().unwrap());
    seen();
    tokio::time::sleep(3 * RENEW + RETRY).await;
    assert_eq!(seen(), ["PUT"; 3]);
    requests.fails.store(true, Ordering::Relaxed);
    tokio::time::sleep(RENEW + RETRY).await;
    assert_eq!(seen(), ["PUT", "GET", "PUT"]);
    // Somebody else wrote, and left the holder.
    let mut lease = api.get(PATH).unwrap();
    lease["metadata"]["labels"] = json!({"by": "hand"});
    api.put(PATH, lease);
    tokio::time::sleep(RENEW).await;
    assert_eq!(seen(), ["PUT", "GET", "PUT"]);
    assert_eq!(api.get(PATH).unwrap()["metadata"]["labels"]["by"], "hand");
    // It was deleted.
    api.remove(PATH);
    tokio::time::sleep(RENEW).await;
    assert_eq!(seen(), ["PUT", "GET", "POST"]);
    assert!(!leader.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_short_trouble_costs_no_lease() {
    let (api, start) = (KubernetesApi::default(), Instant::now());
    let leader = contend(elector(&api, "a", start));
    leader.leads.cancelled().await;
    for _ in 0..5 {
        // Whenever it begins: from a renewal on there are 10 s, of which up to 5 s are over, and 2 s between tries.
        api.refuse("PUT ", 500);
        tokio::time::sleep(LEASE - RENEW - RENEW - RETRY).await;
        api.heal();
        tokio::time::sleep(LEASE + Duration::from_millis(700)).await;
    }
    assert!(!leader.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_is_lost() {
    let (api, start) = (KubernetesApi::default(), Instant::now());
    let leader = contend(elector(&api, "a", start));
    leader.leads.cancelled().await;
    let mut lease = api.get(PATH).unwrap();
    lease["spec"]["holderIdentity"] = json!("b");
    lease["spec"]["renewTime"] = json!("2026-11-25T01:00:00.000000Z");
    api.put(PATH, lease);
    let lost = Lost::Taken { lease: "operator".to_owned(), by: "b".to_owned() };
    assert_eq!(leader.task.await.unwrap(), Err(lost));
    assert_eq!(api.get(PATH).unwrap()["spec"]["holderIdentity"], "b");
}

/// Without the namespace of the Lease, it is tried again at intervals, and reported.
#[tokio::test(start_paused = true)]
async fn a_missing_namespace_is_reported() {
    let (api, start) = (KubernetesApi::default(), Instant::now());
    let elector = elector(&api, "a", start);
    api.refuse("POST ", 404);
    assert!(elector.attempt(None).await.err().is_some_and(|words| words.contains("404")));
    let leader = contend(elector);
    tokio::time::sleep(Duration::from_secs(60)).await;
    api.heal();
    tokio::time::timeout(LEASE, leader.leads.cancelled()).await.unwrap();
}

/// Both see a free Lease; only the first write succeeds.
#[tokio::test]
async fn of_two_that_write_one_wins() {
    let (api, start) = (KubernetesApi::default(), Instant::now());
    let (a, b) = (elector(&api, "a", start), elector(&api, "b", start));
    for at in ["2026-11-25T00:00:00Z", "2026-11-25T00:01:00Z"] {
        let found = a.api.get_opt("operator").await.unwrap();
        let spec = |me| next_spec(None, me, 15, time(at)).unwrap();
        assert!(matches!(a.write(found.clone(), spec("a")).await, Ok(Outcome::Mine(_))));
        assert!(matches!(b.write(found, spec("b")).await, Ok(Outcome::Raced)));
        assert_eq!(api.get(PATH).unwrap()["spec"]["holderIdentity"], "a");
    }
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_while_waiting() {
    let (api, start) = (KubernetesApi::default(), Instant::now());
    let first = contend(elector(&api, "a", start));
    first.leads.cancelled().await;
    let second = contend(elector(&api, "b", start));
    tokio::time::sleep(RENEW).await;
    second.stop.cancel();
    assert_eq!(second.task.await.unwrap(), Ok(None));
}
