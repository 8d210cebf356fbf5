//! What happens besides the operator, and what is judged at its every call.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use localcluster_operator::{
    api::{PAUSED_ANNOTATION, names},
    docker::{
        engine::State,
        spec::{NetworkSpec, PortBinding},
    },
};
use serde_json::json;

use super::{
    op::{OBJECTS, Op, Wrong},
    pools::{self, Ledger},
    shot::{Shot, Shots},
    specs,
};
use crate::support::{
    fakes::{
        api::FakeApi,
        faults::{Fault, Script, Side},
    },
    model::{
        interfere::Outside,
        lab::MANAGER,
        world::{Labels, World},
    },
};

/// What happens at a call.
pub enum Turn {
    Wrong(Wrong),
    /// The process dies; whether the call takes effect.
    Death(bool),
    /// The call takes effect when the next process is at work.
    Late,
    Op(Op),
}

/// What everybody shares.
pub struct Desk {
    pub world: Arc<Mutex<World>>,
    pub api: FakeApi,
    /// What happens after so many calls.
    pub turns: Vec<(u8, Turn)>,
    /// What must not be.
    pub sins: Vec<String>,
    /// Who has had which cluster of a pool, in a life with pools.
    pub ledger: Option<Ledger>,
    shots: Shots,
    /// What is on the engine, as others left it or as it was found sound.
    sound: Arc<Shot>,
    /// What of it does not belong to the operator.
    strangers: Shot,
    /// LocalClusters as the process knows them, by `namespace/name`; whether its voters may be stopped.
    pub ends: BTreeMap<String, bool>,
    /// Whether somebody changed something since the process last looked.
    pub disturbed: bool,
    /// Which calls went wrong in which way.
    pub covered: BTreeSet<(String, String)>,
    pub calls: usize,
    /// Whether all that happens is told, for whoever looks into a failure.
    tells: bool,
}

/// Reports whether these labels are those of an object of the operator.
pub fn is_ours(labels: &Labels) -> bool {
    labels.get(names::MANAGER).is_some_and(|m| m == MANAGER) && labels.contains_key(names::UID)
}

impl Desk {
    pub fn new(world: Arc<Mutex<World>>, api: FakeApi) -> Self {
        let mut desk = Self {
            world,
            api,
            turns: Vec::new(),
            sins: Vec::new(),
            ledger: None,
            shots: Shots::default(),
            sound: Arc::default(),
            strangers: Shot::default(),
            ends: BTreeMap::new(),
            disturbed: false,
            covered: BTreeSet::new(),
            calls: 0,
            tells: std::env::var_os("TELL").is_some(),
        };
        desk.others_did();
        desk
    }

    /// Says what happens.
    pub fn tell(&self, text: impl FnOnce() -> String) {
        if self.tells {
            println!("{}", text());
        }
    }

    /// What is on the engine now.
    pub fn shot(&mut self) -> Arc<Shot> {
        self.shots.take(&self.world.lock().unwrap())
    }

    /// Takes what does not belong to the operator as it is now.
    pub fn others_did(&mut self) {
        self.sound = self.shot();
        self.strangers = self.sound.strangers();
        self.disturbed = true;
    }

    /// No cluster of a pool is given twice, or goes back.
    pub fn check_claims(&mut self) {
        if let Some(ledger) = &mut self.ledger {
            self.sins.extend(ledger.look(&self.api));
        }
    }

    /// The operator has changed nothing that is not its own.
    pub fn check_strangers(&mut self) {
        let now = self.shot();
        if Arc::ptr_eq(&now, &self.sound) {
            return;
        }
        let strangers = now.strangers();
        if strangers != self.strangers {
            let changed = self.strangers.without(&strangers);
            let made = strangers.without(&self.strangers);
            self.sins.push(format!("changed what is not its own: {changed:?} {made:?}"));
            self.strangers = strangers;
        }
        self.sound = now;
    }

    /// Has something happen that needs no process.
    pub fn happen(&mut self, op: &Op) {
        match op {
            Op::Put(number, pick) => specs::put(&self.api, *number, *pick),
            Op::Delete(number) => self.api.delete(&specs::of(*number)),
            Op::Pause(number, paused) => self.pause(*number, *paused),
            Op::Restore(number) => specs::restore(&self.api, &self.world, *number),
            Op::Secrets(pick) => specs::secrets(&self.api, *pick),
            Op::Policy(pick) => specs::policy(&self.api, *pick),
            Op::Pool(number, pick) => pools::put(&self.api, *number, *pick),
            Op::PoolGone(number) => pools::end(&self.api, *number),
            Op::Claim(number, pick) => pools::ask(&self.api, *number, *pick),
            Op::ClaimGone(number) => pools::give_up(&self.api, *number),
            Op::Member(number) => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.delete(&self.api, *number);
                }
            }
            Op::Outside(pick) => {
                let mut world = self.world.lock().unwrap();
                let possible = world.possible();
                if !possible.is_empty() {
                    let act = &possible[usize::from(*pick) % possible.len()];
                    self.tell(|| format!("   {act:?}"));
                    world.interfere(act);
                }
            }
            Op::Stranger(kind, pick) => stranger(&mut self.world.lock().unwrap(), *kind, *pick),
            Op::StrangersLeave => leave(&mut self.world.lock().unwrap()),
            Op::Image(away) => {
                let mut world = self.world.lock().unwrap();
                let image = "rancher/k3s:v1.36.2-k3s1";
                if *away {
                    world.unknown_images.insert(image.into());
                } else {
                    world.unknown_images.clear();
                }
            }
            other => unreachable!("{other:?} needs a process"),
        }
        self.others_did();
    }

    fn pause(&self, number: u8, paused: bool) {
        let path = specs::of(number);
        if let Some(mut object) = self.api.get(&path) {
            let mut annotations = specs::adopts(&object);
            if paused {
                annotations[PAUSED_ANNOTATION] = json!("true");
            }
            object["metadata"]["annotations"] = annotations;
            self.api.store(&path, object);
        }
    }

    /// All of the engine's containers end, and those that are to be started again are.
    pub fn reboot(&mut self) {
        let mut world = self.world.lock().unwrap();
        let ran = world.lose_power();
        world.boot(ran);
        drop(world);
        self.others_did();
    }

    /// A call of a process: what happens before it, and how it goes wrong.
    fn call(&mut self, side: Side, call: &str, writes: bool, dead: &AtomicBool) -> Option<Fault> {
        self.calls += 1;
        self.check_claims();
        let mut due = Vec::new();
        let mut later = Vec::new();
        for (after, turn) in std::mem::take(&mut self.turns) {
            match after.checked_sub(1) {
                // Only what Docker does can land late.
                None if matches!(turn, Turn::Late) && !(side == Side::Docker && writes) => {
                    later.push((0, turn))
                }
                None => due.push(turn),
                Some(after) => later.push((after, turn)),
            }
        }
        self.turns = later;
        let mut fault = None;
        for turn in due {
            self.covered.insert((kind(side, call), name(&turn)));
            match turn {
                Turn::Wrong(wrong) => fault = Some(fitting(wrong.into(), side, writes)),
                Turn::Death(lands) => {
                    dead.store(true, Ordering::Relaxed);
                    fault = Some(if lands { Fault::Lost } else { Fault::Timeout });
                    fault = fault.map(|f| fitting(f, side, writes));
                }
                Turn::Late => {
                    dead.store(true, Ordering::Relaxed);
                    fault = Some(Fault::Late);
                }
                Turn::Op(op) => self.happen(&op),
            }
        }
        if writes || fault.is_some() {
            self.tell(|| format!("   {side:?} {call} {fault:?}"));
        }
        if side == Side::Docker && writes {
            self.judge(call);
        }
        fault
    }

    /// A write to Docker concerns only what is the operator's.
    fn judge(&mut self, call: &str) {
        let world = self.world.lock().unwrap();
        let words: Vec<&str> = call.split(' ').collect();
        let container = |key: &str| world.id(key).is_none_or(|id| is_ours(&world.containers[&id].labels));
        let network = |id: &str| world.networks.get(id).is_none_or(|n| is_ours(&n.labels));
        let sound = match words[..] {
            ["create" | "pull", ..] => true,
            ["remove", "network", id] => network(id),
            ["remove", "volume", name] => world.volumes.get(name).is_none_or(|v| is_ours(&v.labels)),
            ["remove", "container", id] => container(id),
            ["connect" | "disconnect", on, id] => network(on) || container(id),
            ["pipe", "image", _, id] | ["attach", "exec", id, ..] => container(id),
            ["upload" | "start" | "stop" | "unpause" | "signal" | "update" | "exec", id, ..] => container(id),
            _ => false,
        };
        let broken = match words[..] {
            ["stop", id] | ["remove", "container", id] if !self.disturbed => self.breaks_quorum(&world, id),
            _ => None,
        };
        drop(world);
        if !sound {
            self.sins.push(format!("not its own: {call}"));
        }
        self.sins.extend(broken);
    }

    /// A voter that works is only ever stopped while the others can agree without it.
    fn breaks_quorum(&self, world: &World, key: &str) -> Option<String> {
        let container = &world.containers[&world.id(key)?];
        let name = &container.name;
        if *self.ends.get(container.labels.get(names::OWNER)?).unwrap_or(&true) {
            return None;
        }
        for (incarnation, cluster) in &world.clusters {
            let voters = cluster.members.values().filter(|votes| **votes).count();
            let is_voter = cluster.members.contains_key(name) && cluster.nodes.contains_key(name);
            if voters < 2 || !is_voter || !world.quorum(*incarnation) {
                continue;
            }
            let mut after = world.clone();
            drop(after.end(name, 0));
            if !after.quorum(*incarnation) {
                return Some(format!("without {name} there is no majority"));
            }
        }
        None
    }
}

/// What follows the calls of a process until it is dead.
pub fn script(desk: &Arc<Mutex<Desk>>, dead: &Arc<AtomicBool>) -> Script {
    let (desk, dead) = (desk.clone(), dead.clone());
    Box::new(move |side, call, writes| {
        if dead.load(Ordering::Relaxed) {
            return Some(if side == Side::Kube { Fault::Refused } else { Fault::Timeout });
        }
        desk.lock().unwrap().call(side, call, writes, &dead)
    })
}

/// A way in which a call of this side can go wrong. A lost reply is no reply where nothing was done.
fn fitting(fault: Fault, side: Side, writes: bool) -> Fault {
    match fault {
        Fault::Void if side == Side::Kube || !writes => Fault::Refused,
        Fault::Lost if !writes => Fault::Timeout,
        other => other,
    }
}

/// The kind of a call, without names.
fn kind(side: Side, call: &str) -> String {
    let words: Vec<&str> = call.split(' ').collect();
    match (side, &words[..]) {
        (Side::Kube, [method, path]) => {
            let parts: Vec<&str> = path.split('/').collect();
            let others = ["secrets", "hostpolicies", "localclusterpools", "localclusterclaims"];
            let kind = OBJECTS.iter().map(|o| o.0).chain(others).find(|k| parts.contains(k));
            let status = if path.ends_with("/status") { "/status" } else { "" };
            format!("{method} {}{status}", kind.unwrap_or("other"))
        }
        (_, [first @ ("create" | "remove" | "delete" | "pipe" | "attach"), second, ..]) => {
            format!("{first} {second}")
        }
        (_, [first, ..]) => (*first).to_owned(),
        (_, []) => String::new(),
    }
}

fn name(turn: &Turn) -> String {
    match turn {
        Turn::Wrong(wrong) => format!("{wrong:?}"),
        Turn::Death(lands) => format!("Death({lands})"),
        Turn::Late => "Late".into(),
        Turn::Op(op) => {
            let text = format!("{op:?}");
            format!("Meanwhile {}", text.split('(').next().unwrap())
        }
    }
}

/// Somebody else takes a name, a port or a subnet.
fn stranger(world: &mut World, kind: u8, pick: u8) {
    const NODES: [&str; 4] = ["server-0", "agent-0", "serverlb", "server-1"];
    let clusters = ["dev", "two", "team--dev"];
    let cluster = clusters[usize::from(pick) % clusters.len()];
    let node = format!("k3d-{cluster}-{}", NODES[usize::from(pick / 4) % NODES.len()]);
    match kind {
        0 => drop(world.interfere(&Outside::ForeignContainer(node))),
        1 => drop(world.interfere(&Outside::ForeignVolume(format!("{node}-etc")))),
        2 => drop(world.interfere(&Outside::ForeignNetwork(format!("k3d-{cluster}")))),
        3 => drop(world.interfere(&Outside::HoldPort([8080, 16443, 5000, 20000][usize::from(pick) % 4]))),
        4 => {
            let host_port = [8080, 16443, 20001, 20002][usize::from(pick) % 4];
            let port = PortBinding { host_ip: "0.0.0.0".into(), host_port, port: 80, protocol: "tcp".into() };
            let taken = world.containers.values().any(|c| {
                c.state == State::Running && c.wanted_ports.iter().any(|p| p.host_port == host_port)
            });
            if !taken && !world.held_ports.contains(&host_port) {
                world.foreign(&format!("web{pick}"), &[port]);
            }
        }
        // Another operator on the same engine, or a network that takes the next subnet of the pool.
        _ => {
            let labels = Labels::from([
                (names::MANAGER.to_owned(), "other".to_owned()),
                (names::UID.to_owned(), format!("other-{pick}")),
                (names::OWNER.to_owned(), "default/dev".to_owned()),
            ]);
            let name = format!("other{pick}");
            let spec = NetworkSpec { name: name.clone(), addressing: None, labels: labels.clone() };
            drop(world.create_network(&spec));
            if world.foreign(&name, &[]) {
                world.container(&name).unwrap().labels = Arc::new(labels);
            }
        }
    }
}

/// Takes away all that is not the operator's, but Docker's own network.
pub fn leave(world: &mut World) {
    let gone: Vec<String> =
        world.containers.iter().filter(|(_, c)| !is_ours(&c.labels)).map(|(id, _)| id.clone()).collect();
    gone.iter().for_each(|id| drop(world.remove_container(id)));
    world.networks.retain(|_, n| n.name == "bridge" || is_ours(&n.labels));
    let used: BTreeSet<String> = world.containers.values().flat_map(|c| c.mounts.values().cloned()).collect();
    world.volumes.retain(|name, v| is_ours(&v.labels) || used.contains(name));
    world.held_ports.clear();
}
