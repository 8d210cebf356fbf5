//! Small worlds, explored whole: every order of the planner's steps, a crash after each of them, and every
//! interference from outside at every point. That is `make explore`; without EXPLORE_ALL each world is explored
//! breadth first, as far as `SHORT` goes.
//!
//! What is shown is eventually stable reconciliation, as Anvil (OSDI '24) proves it of its controllers: from every
//! state that can be reached, once nobody interferes any more, the planner leads to what is wanted, and stays there.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex},
    time::Instant,
};

use localcluster_operator::{
    api::{LocalClusterSpec, RegistrySpec, local_cluster::NodePool},
    plan::steps::{Action as Act, Plan, Step},
};
use stateright::{Checker, Model, Property};
use support::model::{
    check,
    interfere::Outside,
    lab::{self, Lab, Object},
    world::World,
};

/// How many states of a world are explored when there is no time for all.
const SHORT: usize = 1000;

/// Rounds within which everything has to be settled.
const ENOUGH: usize = 60;

/// A world, and how far the operator is with its plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    running: Option<Running>,
    /// How often somebody may interfere yet.
    interferences: u8,
    /// Agents that worked until the operator stopped them.
    disturbed: BTreeSet<String>,
    /// What must never be.
    sin: Option<String>,
}

/// A plan under way.
#[derive(Clone, Debug)]
struct Running {
    steps: Arc<Vec<Step>>,
    /// Stands for the steps, which can't be hashed.
    print: u64,
    done: BTreeSet<usize>,
    failed: BTreeSet<usize>,
    made: BTreeMap<String, String>,
}

impl Running {
    fn key(&self) -> (u64, &BTreeSet<usize>, &BTreeSet<usize>, &BTreeMap<String, String>) {
        (self.print, &self.done, &self.failed, &self.made)
    }

    /// The steps that can be done now. Volumes are made and removed in one go: their order changes nothing.
    fn ready(&self) -> Vec<Vec<usize>> {
        let open = |i: &usize| {
            !self.done.contains(i)
                && !self.failed.contains(i)
                && self.steps[*i].after.iter().all(|a| self.done.contains(a))
        };
        let volume =
            |i: &usize| matches!(self.steps[*i].action, Act::CreateVolume(_) | Act::RemoveVolume { .. });
        let (volumes, others): (Vec<_>, Vec<_>) = (0..self.steps.len()).filter(open).partition(volume);
        if volumes.is_empty() { others.into_iter().map(|i| vec![i]).collect() } else { vec![volumes] }
    }
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Running {}

impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Plan,
    Steps(Vec<usize>),
    Crash,
    Tick,
    Outside(Outside),
}

/// What is explored.
struct Small {
    lab: Lab,
    interferences: u8,
    /// Whether steps are done in the plan's own order only. Their other orders are explored where nobody interferes;
    /// both at once are more states than there is time for.
    in_order: bool,
    /// Whether it begins with nothing, or with everything settled and then an edit.
    edit: Option<fn(&mut LocalClusterSpec)>,
    /// Worlds from which the planner is known to lead to what is wanted.
    good: Mutex<HashSet<u64>>,
}

fn print(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

impl Small {
    fn new(lab: Lab, interferences: u8, edit: Option<fn(&mut LocalClusterSpec)>) -> Self {
        let in_order = interferences > 0 && !lab.clusters.is_empty();
        Self { lab, interferences, in_order, edit, good: Mutex::default() }
    }

    fn with(&self, world: &World) -> Lab {
        Lab { world: world.clone(), ..self.lab.clone() }
    }

    /// What the operator would plan: for the cluster, or for the registry where there is no cluster.
    fn plan(&self, world: &World) -> Plan {
        let mut lab = self.with(world);
        let (plan, owner, observed) = if lab.clusters.is_empty() {
            let owner = lab.registries[0].owner("registry");
            let (plan, observed, ..) = lab.look_registry(0).unwrap();
            (plan, owner, observed)
        } else {
            let look = lab.look(0);
            (look.plan, look.owner, look.observed)
        };
        check::plan(&plan, &owner, &observed);
        plan
    }

    /// Agents that the operator has to keep working.
    fn wanted(&self) -> Vec<String> {
        let Some(spec) = self.lab.clusters.first().map(|c| &c.spec) else { return Vec::new() };
        let further = spec.agent_pools.iter().map(|p| (p.name.as_str(), &p.pool));
        let pools = [("agent", &spec.agents)].into_iter().chain(further);
        let names = |(name, pool): (&str, &NodePool)| {
            let indexes = (0..).filter(|i| !pool.excluded_indexes.contains(i));
            let count = usize::try_from(pool.count).unwrap();
            indexes.take(count).map(|i| format!("k3d-dev-{name}-{i}")).collect::<Vec<_>>()
        };
        pools.flat_map(names).collect()
    }

    /// How many of them may be replaced at a time.
    fn most(&self) -> usize {
        self.lab.clusters.first().map_or(1, |c| lab::most(&c.spec))
    }

    /// Does one step, and notes what must not happen by it.
    fn step(&self, state: &mut State, index: usize) {
        let mut running = state.running.take().unwrap();
        let action = running.steps[index].action.clone();
        let strangers = state.world.strangers();
        state.disturbed.retain(|n| !state.world.works(n));
        if let Act::Stop { container, .. } | Act::RemoveContainer { container } = &action
            && self.wanted().contains(&container.name)
            && state.world.works(&container.name)
        {
            state.disturbed.insert(container.name.clone());
        }
        if state.disturbed.len() > self.most() {
            state.sin = Some(format!("{:?} are down by us", state.disturbed));
        }
        match state.world.act(&action, "dev", &mut running.made) {
            Ok(()) => running.done.insert(index),
            Err(_) => running.failed.insert(index),
        };
        if state.world.strangers() != strangers {
            state.sin = Some(format!("{action} changed what is not ours"));
        }
        state.running = (!running.ready().is_empty()).then_some(running);
    }

    /// Whether the planner alone leads from a world to what is wanted, and stays there.
    fn leads_home(&self, world: &World) -> bool {
        let mut seen = Vec::new();
        let mut world = world.clone();
        for _ in 0..ENOUGH {
            world.canonical();
            let print = print(&world);
            if self.good.lock().unwrap().contains(&print) {
                self.good.lock().unwrap().extend(seen);
                return true;
            }
            seen.push(print);
            let mut lab = self.with(&world);
            let done = if lab.clusters.is_empty() {
                lab.pass_registry(0, usize::MAX)
            } else {
                lab.pass(0, usize::MAX)
            };
            lab.world.tick();
            if done.is_empty() {
                let mut next = lab.world.clone();
                next.canonical();
                if next == world && self.with(&world).settled() {
                    self.good.lock().unwrap().extend(seen);
                    return true;
                }
            }
            world = lab.world;
        }
        false
    }
}

impl Model for Small {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut lab = self.lab.clone();
        lab.world.foreign("stranger", &[]);
        lab.world.images.extend(["rancher/k3s:v1.36.2-k3s1", "nginx:1", "registry:3"].map(str::to_owned));
        if let Some(edit) = self.edit {
            // The lab has the spec after the edit; the world is settled by the one before.
            edit(&mut lab.clusters[0].spec);
            lab.settle(ENOUGH);
        }
        lab.world.canonical();
        vec![State {
            world: lab.world,
            running: None,
            interferences: self.interferences,
            disturbed: BTreeSet::new(),
            sin: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match &state.running {
            None => actions.extend([Action::Plan, Action::Tick]),
            Some(running) => {
                let ready = running.ready().into_iter();
                actions.extend(ready.take(if self.in_order { 1 } else { usize::MAX }).map(Action::Steps));
                actions.push(Action::Crash);
            }
        }
        if state.interferences > 0 {
            actions.extend(state.world.possible().into_iter().map(Action::Outside));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Plan => {
                let steps = self.plan(&state.world).steps;
                if steps.is_empty() {
                    return None;
                }
                let print =
                    print(&format!("{:?}", steps.iter().map(|s| (&s.action, &s.after)).collect::<Vec<_>>()));
                let (done, failed, made) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
                state.running = Some(Running { steps: Arc::new(steps), print, done, failed, made });
            }
            Action::Steps(steps) => {
                for (n, index) in steps.into_iter().enumerate() {
                    if n > 0 && state.running.is_none() {
                        break;
                    }
                    self.step(&mut state, index);
                }
            }
            Action::Crash => state.running = None,
            Action::Tick => state.world.tick(),
            Action::Outside(outside) => {
                if !state.world.interfere(&outside) {
                    return None;
                }
                state.interferences -= 1;
            }
        }
        if state.running.is_none() {
            state.world.canonical();
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no sin", |_, state: &State| {
                if let Some(sin) = &state.sin {
                    println!("{sin}");
                }
                state.sin.is_none()
            }),
            Property::always("the planner leads home", |small: &Small, state: &State| {
                state.running.is_some() || small.leads_home(&state.world)
            }),
            Property::sometimes("it gets there", |small: &Small, state: &State| {
                state.running.is_none() && small.with(&state.world).settled()
            }),
        ]
    }
}

fn explore(name: &str, small: Small) {
    let began = Instant::now();
    let all = std::env::var_os("EXPLORE_ALL").is_some();
    let checker = small.checker().threads(2);
    let checker = if all { checker } else { checker.target_state_count(SHORT) };
    let checker = checker.spawn_bfs().join();
    println!(
        "{name}: {} states, {} of them unique, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    if all {
        checker.assert_properties();
    }
    checker.assert_no_discovery("no sin");
    checker.assert_no_discovery("the planner leads home");
}

fn cluster(agents: i32) -> Lab {
    let mut spec = lab::spec(agents);
    spec.api.host_port = Some(16443);
    Lab::new(vec![Object::new("default", "dev", spec)], vec![])
}

#[test]
fn a_registry_that_is_interfered_with_thrice() {
    let lab = Lab::new(vec![], vec![Object::new("default", "images", RegistrySpec::default())]);
    explore("registry", Small::new(lab, 3, None));
}

#[test]
fn a_cluster_is_made_in_every_order() {
    explore("server and agent, made", Small::new(cluster(1), 0, None));
}

#[test]
fn a_settled_cluster_that_is_interfered_with() {
    explore("server and agent, settled", Small::new(cluster(1), 1, Some(|_| {})));
}

#[test]
fn agents_are_replaced_in_every_order() {
    let mut lab = cluster(2);
    lab.clusters[0].spec.agents.args = vec!["--kubelet-arg=max-pods=50".into()];
    explore("server and two agents, replaced", Small::new(lab, 0, Some(|s| s.agents.args.clear())));
}

#[test]
fn an_agent_is_taken_away_in_every_order() {
    explore("server and two agents, one taken away", Small::new(cluster(1), 0, Some(|s| s.agents.count = 2)));
}

#[test]
fn a_pool_is_taken_away_in_every_order() {
    let mut lab = cluster(0);
    lab.clusters[0].spec.agent_pools = vec![lab::pool("big", 1)];
    let edit: fn(&mut LocalClusterSpec) = |s| s.agent_pools.push(lab::pool("gpu", 1));
    explore("server and two pools, one taken away", Small::new(lab, 0, Some(edit)));
}

#[test]
fn an_agent_gives_way_to_another_one_in_every_order() {
    let edit: fn(&mut LocalClusterSpec) = |s| s.agents.excluded_indexes.clear();
    let mut lab = cluster(1);
    lab.clusters[0].spec.agents.excluded_indexes = vec![0];
    explore("server and agent 0, excluded", Small::new(lab, 0, Some(edit)));
}

/// No step is outside its policy, whatever happens: the lab looks at every plan.
#[test]
fn a_limited_cluster_that_is_interfered_with() {
    let mut lab = cluster(1);
    lab.clusters[0].spec.servers.memory = Some("1Gi".into());
    lab.set_policy(
        "perNode: {maxMemory: 1Gi, maxPids: 4096}, defaults: {memory: 512Mi, pids: 2048}, nodes: {images: ['docker.io/rancher/k3s:*']}, network: {pools: [10.9.0.0/16]}, \
         ports: {ranges: [{from: 30000, to: 30099}, {from: 16443, to: 16443}]}",
    );
    explore("limited cluster, one interference", Small::new(lab, 1, Some(|_| {})));
}

#[test]
fn a_cluster_is_deleted_in_every_order() {
    let mut lab = cluster(1);
    lab.clusters[0].deleted = true;
    let began = Instant::now();
    let settled = {
        let mut lab = cluster(1);
        lab.settle(ENOUGH);
        lab.world
    };
    lab.world = settled;
    explore("server and agent, deleted", Small::new(lab, 1, None));
    println!("{:.1} s", began.elapsed().as_secs_f64());
}
