//! A life: a host, the operator on it, and what happens to both.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use localcluster_operator::{
    api::{
        ADOPTS_ANNOTATION, names,
        reason::{Class, Reason},
    },
    docker::engine::State,
};
use serde_json::{Value, json};

use super::{
    desk::{Desk, Turn, is_ours},
    op::{OBJECTS, Op},
    operator::{KINDS, Operator},
    policy,
    pools::{self, Ledger},
    specs::{self, SECRETS},
    sum::Sum,
};
use crate::support::{
    fakes::{api::FakeApi, faults::Faults, process, rig::condition},
    model::{
        check,
        world::{BEGIN, Container, TICK, World},
    },
};

/// How often the operator is at work in a tick.
const SLICES: u32 = 3;
/// Ticks until all must be well when nothing happens any more.
const QUIET: usize = 100;
/// Ticks until all must be gone.
const GONE: usize = 60;
/// Ticks in which a settled operator must write nothing.
const IDLE: usize = 12;

pub struct Life {
    desk: Arc<Mutex<Desk>>,
    world: Arc<Mutex<World>>,
    api: FakeApi,
    operator: Operator,
    /// A process that lost its Lease, and the ticks until its last call lands.
    former: Option<(Operator, u8)>,
    silent: bool,
    /// The ticks until the clock is where it was.
    ahead: usize,
    number: u64,
    states: HashSet<u64>,
    now: &'static str,
}

/// Lives a script to its end; what must not be, if anything is.
pub fn live(script: &[Op], sum: &mut Sum) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut life = Life::new(script.iter().any(pools::concerns));
        let result = life.whole(script).await;
        sum.lives += 1;
        sum.ops += script.len() as u64;
        let mut desk = life.desk.lock().unwrap();
        sum.calls += desk.calls as u64;
        sum.covered.append(&mut desk.covered);
        sum.states.extend(&life.states);
        drop(desk);
        result.map_err(|why| format!("{}: {why}\n{}", life.now, life.told()))
    })
}

impl Life {
    fn new(has_pools: bool) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        process::set_clock(BEGIN);
        let api = FakeApi::new(world.clone(), Arc::new(Faults::default()));
        specs::namespaces(&api);
        specs::secrets(&api, 0);
        world.lock().unwrap().foreign("stranger", &[]);
        world.lock().unwrap().volumes.entry("strange".into()).or_default();
        let mut desk = Desk::new(world.clone(), api.clone());
        desk.ledger = has_pools.then(Ledger::default);
        let desk = Arc::new(Mutex::new(desk));
        let operator = Operator::start(&desk, 1);
        Self {
            desk,
            world,
            api,
            operator,
            former: None,
            silent: false,
            ahead: 0,
            number: 1,
            states: HashSet::new(),
            now: "in the life",
        }
    }

    async fn whole(&mut self, script: &[Op]) -> Result<(), String> {
        for op in script {
            self.happen(op).await;
            self.check()?;
        }
        self.now = "when nothing happens any more";
        self.calm().await;
        let mut left = QUIET + self.ahead;
        while let Some(unsettled) = self.unsettled() {
            if left == 0 {
                return Err(format!("not settled: {unsettled}"));
            }
            left -= 1;
            self.tick().await;
            self.check()?;
        }
        self.secrets()?;
        self.now = "when all is settled";
        self.idle().await?;
        self.now = "after the deletion of everything";
        for number in 0..OBJECTS.len() {
            self.api.delete(&specs::of(u8::try_from(number).unwrap()));
        }
        pools::delete_all(&self.api);
        let mut left = GONE;
        while !self.is_empty() {
            if left == 0 {
                return Err("something is left".into());
            }
            left -= 1;
            self.tick().await;
            self.check()?;
        }
        Ok(())
    }

    async fn happen(&mut self, op: &Op) {
        self.desk.lock().unwrap().tell(|| format!("== {op:?}"));
        let turn = |desk: &Arc<Mutex<Desk>>, after: u8, turn| desk.lock().unwrap().turns.push((after, turn));
        match op {
            Op::Ticks(many) => {
                for _ in 0..*many {
                    self.tick().await;
                }
            }
            Op::Fault(after, wrong) => turn(&self.desk, *after, Turn::Wrong(*wrong)),
            Op::Crash(after, lands) => turn(&self.desk, *after, Turn::Death(*lands)),
            Op::Handover(after, ticks) => {
                turn(&self.desk, *after, Turn::Late);
                if self.former.is_none() {
                    self.await_handover(*ticks).await;
                }
            }
            Op::Meanwhile(after, op) => turn(&self.desk, *after, Turn::Op((**op).clone())),
            Op::Reboot => {
                self.desk.lock().unwrap().reboot();
                self.former = None;
                self.replace();
            }
            Op::Away(away) => self.operator.faults.away.store(*away, std::sync::atomic::Ordering::Relaxed),
            Op::Unreachable(away) => {
                self.operator.faults.unreachable.store(*away, std::sync::atomic::Ordering::Relaxed);
            }
            Op::Lag(kind, late) => self.operator.lagging[usize::from(*kind) % KINDS.len()] = *late,
            Op::Silence(silent) => self.silent = *silent,
            Op::HangUp => self.operator.faults.hang_up(),
            Op::Clock(minutes) => {
                let jump = i64::from(*minutes) * 60;
                self.world.lock().unwrap().clock += jump;
                self.ahead += usize::try_from(-jump / TICK).unwrap_or(0);
            }
            other => self.desk.lock().unwrap().happen(other),
        }
        self.work().await;
    }

    /// A few ticks in which the process may come to the call that is late.
    async fn await_handover(&mut self, ticks: u8) {
        for _ in 0..3 {
            self.tick().await;
            if let Some((_, left)) = &mut self.former {
                *left = ticks;
                return;
            }
        }
        self.desk.lock().unwrap().turns.retain(|(_, turn)| !matches!(turn, Turn::Late));
    }

    /// A new process takes the place of the one that died.
    fn replace(&mut self) -> Operator {
        self.number += 1;
        let next = Operator::start(&self.desk, self.number);
        for (old, new) in [
            (&self.operator.faults.away, &next.faults.away),
            (&self.operator.faults.unreachable, &next.faults.unreachable),
        ] {
            new.store(old.load(std::sync::atomic::Ordering::Relaxed), std::sync::atomic::Ordering::Relaxed);
        }
        let former = std::mem::replace(&mut self.operator, next);
        former.dead.store(true, std::sync::atomic::Ordering::Relaxed);
        former
    }

    async fn work(&mut self) {
        let before = self.desk.lock().unwrap().shot();
        let known = self.operator.policy();
        self.operator.work(self.silent).await;
        if known == self.operator.policy() {
            let mut desk = self.desk.lock().unwrap();
            let after = desk.shot();
            if !Arc::ptr_eq(&before, &after) {
                desk.sins.extend(policy::violations(known.as_ref(), &before, &after));
            }
        }
        if self.operator.is_dead() {
            let former = self.replace();
            if former.late.is_some() {
                self.former = Some((former, 0));
            }
        }
        let mut desk = self.desk.lock().unwrap();
        desk.check_claims();
        desk.check_strangers();
    }

    async fn tick(&mut self) {
        if self.desk.lock().unwrap().ledger.is_some() {
            pools::collect(&self.api);
        }
        for _ in 0..SLICES {
            self.work().await;
            tokio::time::advance(Duration::from_secs(TICK.unsigned_abs()) / SLICES).await;
        }
        if let Some((former, left)) = self.former.take() {
            match left.checked_sub(1) {
                Some(left) => self.former = Some((former, left)),
                None => self.land(former).await,
            }
        }
        let clock = {
            let mut world = self.world.lock().unwrap();
            world.tick();
            world.clock
        };
        process::set_clock(clock);
        self.desk.lock().unwrap().tell(|| format!("-- {} seconds\n{}", clock - BEGIN, self.told()));
        let mut hasher = DefaultHasher::new();
        let world = self.world.lock().unwrap();
        for c in world.containers.values() {
            (&c.name, c.state, c.serving).hash(&mut hasher);
        }
        for object in self.objects() {
            (object["metadata"]["name"].as_str(), condition(&object, "Ready")).hash(&mut hasher);
        }
        (world.networks.len(), world.volumes.len()).hash(&mut hasher);
        drop(world);
        self.states.insert(hasher.finish());
    }

    /// What was on its way lands. A volume of a cluster that is gone meanwhile stays until an administrator removes it: the
    /// operator only names it.
    async fn land(&mut self, mut former: Operator) {
        let before = self.desk.lock().unwrap().shot();
        former.land().await;
        let gone = |uid: Option<&String>| {
            uid.is_some_and(|uid| self.objects().iter().all(|object| object["metadata"]["uid"] != **uid))
        };
        let mut world = self.world.lock().unwrap();
        world.volumes.retain(|name, volume| {
            before.volumes.contains_key(name)
                || !is_ours(&volume.labels)
                || !gone(volume.labels.get(names::UID))
        });
    }

    /// What is wrong is over, and nothing happens any more.
    async fn calm(&mut self) {
        if let Some((former, _)) = self.former.take() {
            self.land(former).await;
        }
        let faults = &self.operator.faults;
        faults.away.store(false, std::sync::atomic::Ordering::Relaxed);
        faults.unreachable.store(false, std::sync::atomic::Ordering::Relaxed);
        self.operator.lagging = Default::default();
        self.silent = false;
        faults.hang_up();
        let mut desk = self.desk.lock().unwrap();
        desk.turns.clear();
        pools::calm(&self.api);
        for number in 0..OBJECTS.len() {
            desk.happen(&Op::Pause(u8::try_from(number).unwrap(), false));
        }
        for op in [Op::Secrets(0), Op::Policy(u8::MAX), Op::StrangersLeave, Op::Image(false)] {
            desk.happen(&op);
        }
    }

    fn check(&self) -> Result<(), String> {
        check::world(&self.world.lock().unwrap());
        let sins = [self.desk.lock().unwrap().sins.clone(), self.api.sins()].concat();
        if sins.is_empty() { Ok(()) } else { Err(sins.join("\n")) }
    }

    fn objects(&self) -> Vec<Arc<Value>> {
        ["localclusters", "registries"].iter().flat_map(|kind| self.api.stored(kind).into_values()).collect()
    }

    /// An object that is neither Ready nor waits for its user, if there is one.
    fn unsettled(&self) -> Option<String> {
        let unsettled = self.objects().iter().find_map(|object| {
            let name = format!("{} {}", object["metadata"]["namespace"], object["metadata"]["name"]);
            let used = condition(object, "InUse").0 == "True";
            if used && !object["metadata"]["deletionTimestamp"].is_null() {
                return None;
            }
            if !object["metadata"]["deletionTimestamp"].is_null() {
                return Some(format!("{name} is not deleted"));
            }
            if object["status"]["observedGeneration"] != object["metadata"]["generation"] {
                return Some(format!("{name} is not observed"));
            }
            let (ready, reason) = condition(object, "Ready");
            if ready == "True" {
                let missing = self.missing(object);
                return (!missing.is_empty()).then(|| format!("{name} is Ready without {missing:?}"));
            }
            let stopped = object["spec"]["state"] == "Stopped" && condition(object, "Stopped").0 == "True";
            if stopped {
                let runs = self.own(object, Container::is_up);
                return runs.map(|container| format!("{name} is Stopped and {container} runs"));
            }
            // What it lacks is not made, and what ran goes on.
            let stalled = |registry: &Value| condition(registry, "Stalled").0 == "True";
            let waits = reason == "RegistryNotReady" && self.api.all("registries").iter().any(stalled);
            if waits || reason == "RegistryNotFound" {
                let rests = self.own(object, |c| c.started.is_some() && c.state != State::Running);
                return rests
                    .map(|container| format!("{name} waits for a Registry, and so does {container}"));
            }
            let user = needs_user(&reason) && reason != "InternalError";
            (!user).then(|| format!("{name} {ready} {reason}"))
        });
        unsettled.or_else(|| pools::unsettled(&self.api))
    }

    /// The name of a container of an object of which this holds.
    fn own(&self, object: &Value, holds: impl Fn(&Container) -> bool) -> Option<String> {
        let world = self.world.lock().unwrap();
        let own = |c: &&Container| is_of(object, &c.labels);
        world.containers.values().filter(own).find(|c| holds(c)).map(|c| c.name.clone())
    }

    /// What a Ready object should have and does not.
    fn missing(&self, object: &Value) -> Vec<String> {
        let text = |key: &str| object["metadata"][key].as_str().unwrap();
        let mut world = self.world.lock().unwrap();
        if object["kind"] == "Registry" {
            let name = names::registry(text("namespace"), text("name"), None);
            let up = world.named(&name).is_some_and(|c| c.is_up());
            return if up { Vec::new() } else { vec![name] };
        }
        let cluster = names::cluster(text("namespace"), text("name"), None);
        let count = |role: &str| object["spec"][role]["count"].as_u64().unwrap_or(0);
        let nodes = (0..count("servers")).map(|i| format!("k3d-{cluster}-server-{i}"));
        let excluded = object["spec"]["agents"]["excludedIndexes"].as_array().cloned().unwrap_or_default();
        let agents = (0..).filter(|i| !excluded.contains(&json!(i)));
        let agents = agents.take(usize::try_from(count("agents")).unwrap());
        let nodes = nodes.chain(agents.map(|i: u64| format!("k3d-{cluster}-agent-{i}")));
        let pools = object["spec"]["agentPools"].as_array().into_iter().flatten();
        let pools = pools.map(|pool| (pool["name"].as_str().unwrap(), pool["count"].as_u64().unwrap()));
        let further = pools.flat_map(|(pool, count)| (0..count).map(move |i| format!("{pool}-{i}")));
        let nodes = nodes.chain(further.map(|end| format!("k3d-{cluster}-{end}")));
        let mut wanted: BTreeSet<String> = nodes.collect();
        let mut missing: Vec<String> = wanted.iter().filter(|n| !world.works(n)).cloned().collect();
        wanted.insert(format!("k3d-{cluster}-serverlb"));
        let own = world.containers.values().filter(|c| is_of(object, &c.labels));
        let own: BTreeSet<String> = own.map(|c| c.name.clone()).collect();
        missing.extend(wanted.symmetric_difference(&own).cloned());
        let networks = world.networks.values().filter(|n| is_of(object, &n.labels));
        if networks.count() != 1 {
            missing.push("one network".into());
        }
        missing
    }

    async fn idle(&mut self) -> Result<(), String> {
        // What was settled just now is looked at once more, and times of before a jump of the clock have to pass.
        for _ in 0..IDLE + self.ahead {
            self.tick().await;
        }
        // Repairs are remembered for a while.
        let remembers =
            |life: &Self| life.objects().iter().any(|o| o["status"].to_string().contains("\"repairs\""));
        for _ in 0..QUIET {
            if !remembers(self) {
                break;
            }
            self.tick().await;
        }
        self.operator.faults.take_writes();
        for _ in 0..IDLE {
            self.tick().await;
        }
        self.check()?;
        let mut writes: BTreeMap<String, usize> = BTreeMap::new();
        let stalled = self.objects().iter().any(|o| condition(o, "Stalled").0 == "True");
        // What waits for its user is tried again and again; asking is no change.
        let all = self.operator.faults.take_writes().into_iter();
        let all = all.filter(|w| !w.contains("kubeproxy_sync") && (!stalled || !w.starts_with("Docker")));
        all.for_each(|w| *writes.entry(w).or_default() += 1);
        if writes.is_empty() { Ok(()) } else { Err(format!("it writes while nothing happens: {writes:#?}")) }
    }

    /// No secret is anywhere but in Secrets and in files of containers.
    fn secrets(&self) -> Result<(), String> {
        let mut secret: Vec<String> = SECRETS.map(String::from).into();
        for object in self.api.all("secrets") {
            let name = object["metadata"]["name"].as_str().unwrap();
            if name.ends_with("-token") {
                let data = object["data"]["token"].as_str().unwrap_or_default();
                secret.extend(String::from_utf8(BASE64_STANDARD.decode(data).unwrap()));
            }
        }
        let encoded: Vec<String> = secret.iter().map(|s| BASE64_STANDARD.encode(s)).collect();
        secret.extend(encoded);
        let mut shown: Vec<String> = self.objects().iter().map(|o| o.to_string()).collect();
        shown.extend(self.api.all("events").iter().map(Value::to_string));
        let world = self.world.lock().unwrap();
        shown.extend(world.containers.values().map(|c| format!("{:?} {:?}", c.labels, c.command)));
        shown.extend(world.networks.values().map(|n| format!("{:?}", n.labels)));
        shown.extend(world.volumes.values().map(|v| format!("{:?}", v.labels)));
        let told =
            shown.iter().find(|text| secret.iter().any(|s| !s.is_empty() && text.contains(s.as_str())));
        told.map_or(Ok(()), |text| Err(format!("a secret is told: {text}")))
    }

    fn is_empty(&self) -> bool {
        let world = self.world.lock().unwrap();
        let labels = world.containers.values().map(|c| &c.labels);
        let labels = labels.chain(world.networks.values().map(|n| &n.labels));
        let mut labels = labels.chain(world.volumes.values().map(|v| &v.labels));
        self.objects().is_empty() && pools::is_empty(&self.api) && !labels.any(|l| is_ours(l))
    }

    /// The objects and the world, for whoever reads a failure.
    fn told(&self) -> String {
        let objects = self.objects();
        let conditions = objects.iter().map(|o| {
            let list = o["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let lines = list
                .iter()
                .map(|c| format!("  {} {} {} {}", c["type"], c["status"], c["reason"], c["message"]));
            let head = format!("{} {} {}", o["kind"], o["metadata"]["namespace"], o["metadata"]["name"]);
            format!("{head} {}\n{}", o["spec"], lines.collect::<Vec<_>>().join("\n"))
        });
        format!("{}\n{}", conditions.collect::<Vec<_>>().join("\n"), self.world.lock().unwrap().brief())
    }
}

/// Whether something with these labels is an object's own, or was taken over by it.
fn is_of(object: &Value, labels: &BTreeMap<String, String>) -> bool {
    let metadata = &object["metadata"];
    let adopts = metadata["annotations"][ADOPTS_ANNOTATION].as_str().unwrap_or_default();
    let named = format!("{}/{}", metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap());
    labels.get(names::UID).is_some_and(|uid| {
        metadata["uid"] == **uid || adopts.contains(uid.as_str()) && labels.get(names::OWNER) == Some(&named)
    })
}

fn needs_user(reason: &str) -> bool {
    Reason::parse(reason).is_some_and(|reason| reason.class() == Class::NeedsUser)
}
