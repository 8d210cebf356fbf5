//! The pure core at work on the model: what the controllers do, step by step, without a runtime.

mod chance;
mod harm;
mod object;
mod policy;
mod rounds;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::SignedDuration;
use localcluster_operator::{
    api::{
        LocalClusterSpec, LocalClusterStatus, RegistrySpec, RegistryStatus,
        condition::{self, ConditionType},
        local_cluster::{AgentPool, ClusterState, DataLoss, NodePool, NodeRole},
        names::ClusterNames,
        reason::Reason,
        registry::GarbageCollectionStatus,
    },
    docker::{engine::Update, error::Error},
    k3s::{KUBECONFIG_FILE, kubeconfig::Credentials, load_balancer, manifests},
    plan::{
        called,
        decide::Decision,
        desired::{Allocation, Binding, Desired},
        failures::{self, Consequence, WriteError},
        kubeconfig, local_cluster,
        management::Management,
        manifests::asked,
        observed::{Host, Observed},
        owner::Owner,
        policy::select::Policy,
        refs::{Manifest, NodeInputs, Refs, UsedRegistry},
        refused::Refused,
        registry::{
            self,
            config::Secrets,
            teardown::{self, Deleted},
        },
        secret::{Existing, Secret},
        service::objects::{ApiService, Existing as ExistingService, PORT, ServiceChange},
        settings::{Settings, WithoutPolicy},
        steps::{Action, Plan, Problem, Step, Target},
        subject::Subject,
        validate::{self, Text, Valid, ValidRegistry},
    },
    status::{self, ClusterView, Moment, RegistryView},
};

pub use chance::Chance;
pub use object::{ClusterObject, Object, RegistryObject};

use super::{interfere::Outside, world::World};

pub const MANAGER: &str = "manager";
const TOKEN: &[u8] = b"token";

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Docker(Error),
    Child(String),
    Management(WriteError),
    NotMade,
}

/// Ids of containers that the running plan made, by name.
pub type Made = BTreeMap<String, String>;

impl World {
    /// Does what a step of the plan for this cluster says, as the executor does it.
    pub fn act(&mut self, action: &Action, cluster: &str, made: &mut Made) -> Result<(), Failure> {
        let id = |made: &Made, t: &Target| {
            t.id.clone().or_else(|| made.get(&t.name).cloned()).ok_or(Failure::NotMade)
        };
        let gone = |r: Result<(), Error>| match r {
            Err(Error::NotFound(_)) => Ok(()),
            other => other,
        };
        let child = |r: Result<(), String>| r.map_err(Failure::Child);
        let docker = match action {
            Action::CreateNetwork(spec) => self.create_network(spec).map(drop),
            Action::RemoveNetwork { id, .. } => gone(self.remove_network(id)),
            Action::CreateVolume(spec) => self.create_volume(spec),
            Action::RemoveVolume { name } => gone(self.remove_volume(name)),
            Action::CreateContainer { spec, network } => self
                .create_container(spec, network.as_deref())
                .map(|id| drop(made.insert(spec.name.clone(), id))),
            Action::Upload { container, files } => self.upload(&id(made, container)?, files),
            Action::Connect { network, container, endpoint } => {
                self.connect(network, &id(made, container)?, endpoint)
            }
            Action::Disconnect { network, container } => {
                gone(self.disconnect(network, &id(made, container)?))
            }
            Action::Start { container } => self.start(&id(made, container)?),
            Action::Stop { container, .. } => gone(self.end(&id(made, container)?, 0)),
            Action::Unpause { container } => self.unpause(&id(made, container)?),
            Action::Signal { container, .. } => self.hangup(&id(made, container)?),
            Action::RemoveContainer { container } => gone(self.remove_container(&id(made, container)?)),
            Action::Expect { container, one_of } => {
                let id = id(made, container)?;
                let any = one_of.iter().any(|path| self.path_info(&id, path).is_some());
                if any { Ok(()) } else { Err(Error::NotFound(one_of.join(", "))) }
            }
            Action::SetRestart { container, policy } => {
                self.update(&id(made, container)?, &Update { restart_policy: Some(*policy) })
            }
            Action::Exec { container, command } => self.exec(&id(made, container)?, command).map(drop),
            Action::LeaveEtcd { node } => return child(self.leave_etcd(node)),
            Action::RemoveMember(member) => return child(self.remove_member(member)),
            Action::ReleaseLease { version, .. } => return child(self.release_lease(cluster, version)),
            Action::Drain { node } => return child(self.drain(node)),
            Action::Uncordon { node } => return child(self.uncordon(node)),
            Action::Configure { node, config } => return child(self.configure(node, config)),
            Action::DeleteNode { node } => return child(self.delete_node(node)),
            Action::ForgetPassword { node } => return child(self.forget_password(node)),
            Action::SetConfig(wanted) => return child(self.set_config(cluster, wanted)),
            Action::RemoveFiles { container, paths } => {
                let command = [&["rm".to_owned()][..], paths].concat();
                self.exec(&id(made, container)?, &command).map(drop)
            }
            Action::DeleteObject { object, .. } => return child(self.delete_object(cluster, object)),
            Action::GrantAccess { role } => return child(self.grant(cluster, *role)),
            Action::RevokeAccess { role, uid } => return child(self.revoke(cluster, *role, uid.as_deref())),
            Action::IssueToken(template) => {
                let token = self.issue(cluster, template.role, template.ttl).map_err(Failure::Child)?;
                return self.apply_secret(&template.issued(&token, self.now()));
            }
            Action::DeleteSecret { namespace, name, .. } => {
                Arc::make_mut(&mut self.secrets).remove(&(namespace.clone(), name.clone()));
                return Ok(());
            }
            Action::CreateSecret(secret) => return self.create_secret(secret),
            Action::ApplySecret(secret) => return self.apply_secret(secret),
            Action::Service(change) => {
                self.change_service(change);
                return Ok(());
            }
            Action::ApplyRegistry(_) | Action::DeleteRegistry { .. } => {
                panic!("the model's clusters have no Registry of their own")
            }
        };
        docker.map_err(Failure::Docker)
    }
}

/// The Secrets of the management cluster.
impl World {
    fn secret(&self, owner: &Owner, name: &str) -> Option<Existing> {
        self.secrets.get(&(owner.namespace().to_owned(), name.to_owned())).cloned()
    }

    fn create_secret(&mut self, secret: &Secret) -> Result<(), Failure> {
        match self.secret(&secret.owner, &secret.name) {
            Some(_) => Err(Failure::Management(WriteError::Changed)),
            None => self.apply_secret(secret),
        }
    }

    fn apply_secret(&mut self, secret: &Secret) -> Result<(), Failure> {
        let existing = Existing {
            uid: format!("uid-{}", secret.name),
            owners: vec![secret.owner.uid.clone()],
            labels: secret.all_labels(),
            annotations: secret.annotations.clone(),
            data: secret.data.clone(),
        };
        Arc::make_mut(&mut self.secrets)
            .insert((secret.owner.namespace().to_owned(), secret.name.clone()), existing);
        Ok(())
    }
}

/// The Services of the management cluster.
impl World {
    fn change_service(&mut self, change: &ServiceChange) {
        let owner = change.owner();
        let key = (owner.namespace().to_owned(), owner.name().to_owned());
        let found = Arc::make_mut(&mut self.services).entry(key).or_default();
        match change {
            ServiceChange::Apply(_) => {
                found.service = Some(ExistingService {
                    labels: ApiService::labels(),
                    type_: "ClusterIP".into(),
                    port: Some(PORT),
                    ..existing(owner)
                });
            }
            ServiceChange::ApplyEndpoints(endpoints) => {
                found.endpoints = Some(ExistingService {
                    labels: endpoints.labels(),
                    port: Some(endpoints.port()),
                    addresses: endpoints.addresses(),
                    ..existing(owner)
                });
            }
            ServiceChange::Delete { .. } => found.service = None,
            ServiceChange::DeleteEndpoints { .. } => found.endpoints = None,
        }
    }
}

fn existing(owner: &Owner) -> ExistingService {
    ExistingService {
        uid: format!("uid-{}", owner.name()),
        owners: vec![owner.uid.clone()],
        ..ExistingService::default()
    }
}

/// What every server of the model writes into its kubeconfig.
fn credentials() -> Credentials {
    Credentials { ca: "Q0E=".into(), certificate: "Q0VSVA==".into(), key: "S0VZ".into() }
}

/// What a Registry wants, and what came of a garbage collection.
pub type Wanted = (registry::Desired, Option<GarbageCollectionStatus>);

/// What a look at a cluster gives.
pub struct Look {
    pub plan: Plan,
    pub owner: Owner,
    pub observed: Observed,
    pub whole: Option<Whole>,
}

/// What there is once everything could be resolved.
pub struct Whole {
    pub valid: Valid,
    pub refs: Refs,
    pub allocation: Allocation,
    pub desired: Desired,
    pub decision: Decision,
    /// Whether the status is written before anything is done.
    told_first: bool,
}

/// A world with objects.
#[derive(Clone, Debug)]
pub struct Lab {
    pub world: World,
    pub clusters: Vec<ClusterObject>,
    pub registries: Vec<RegistryObject>,
    pub settings: Settings,
    /// What goes into the nodes of all clusters from Secrets.
    pub inputs: NodeInputs,
    /// Rules the order in which steps that are ready are done, and the order in which Docker lists things.
    pub chance: Chance,
    /// Whether volumes that no container has are removed between the steps of a plan.
    pub loses_volumes: bool,
    /// Whether the CA of the only cluster is known once it has one.
    pub knows_ca: bool,
    /// Agents that worked until the operator stopped them, and don't work again yet.
    pub disturbed: BTreeSet<String>,
    /// The HostPolicy of all namespaces; `None` for none, without which everything is allowed.
    pub policy: Option<Policy>,
}

pub fn settings() -> Settings {
    Settings {
        node_image_repository: "rancher/k3s".into(),
        default_version: "v1.36.2+k3s1".into(),
        load_balancer_image: "nginx:1".into(),
        registry_image: "registry:3".into(),
        network_pool: Some("172.31.0.0/16".parse().unwrap()),
        pool_required: false,
        allowed_subnets: Vec::new(),
        port_range: 20000..=20099,
        node_dns: Vec::new(),
        management: Management::None,
        allowed_host_paths: vec!["/srv".into()],
        engine_host: None,
        node_repair_after: Some(SignedDuration::from_mins(2)),
        remove_orphans_after: None,
        node_defaults: Default::default(),
        node_isolation: Default::default(),
        without_policy: WithoutPolicy::Unrestricted,
        namespaces: Vec::new(),
    }
}

/// The smallest valid spec.
pub fn spec(agents: i32) -> LocalClusterSpec {
    let mut spec = LocalClusterSpec::default();
    spec.servers.count = 1;
    spec.agents.count = agents;
    // Whatever is lost: lives go on.
    spec.on_data_loss = DataLoss::Recreate;
    spec
}

/// The number of agents that the operator may take away at a time: the pools are updated independently of each other.
pub fn most(spec: &LocalClusterSpec) -> usize {
    let further = spec.agent_pools.iter().map(|pool| &pool.pool);
    let pools = [&spec.agents].into_iter().chain(further).filter(|pool| pool.count > 0);
    pools.map(|pool| usize::try_from(pool.max_unavailable.unwrap_or(1)).unwrap()).sum()
}

/// A pool of agents.
pub fn pool(name: &str, count: i32) -> AgentPool {
    AgentPool { name: name.into(), pool: NodePool { count, ..NodePool::default() } }
}

impl Lab {
    pub fn new(clusters: Vec<ClusterObject>, registries: Vec<RegistryObject>) -> Self {
        Self {
            world: World::default(),
            clusters,
            registries,
            settings: settings(),
            inputs: NodeInputs::default(),
            chance: Chance::default(),
            loses_volumes: false,
            knows_ca: false,
            disturbed: BTreeSet::new(),
            policy: None,
        }
    }

    /// The UIDs of all Registries.
    fn living(&self) -> BTreeSet<String> {
        let there = |r: &&RegistryObject| !r.deleted || !self.world.empty_of(&r.owner("registry"));
        self.registries.iter().filter(there).map(|r| r.owner("registry").uid).collect()
    }

    /// A cluster's spec, parsed, with the name that it has.
    fn valid(object: &ClusterObject, owner: &Owner, observed: &Host) -> Valid {
        let (namespace, name) = (&object.namespace, &object.name);
        match called::cluster(owner, observed, &object.status) {
            Some(has) => validate::local_cluster_called(namespace, name, &object.spec, &has).unwrap(),
            None => validate::local_cluster(namespace, name, &object.spec).unwrap(),
        }
    }

    fn refs(&self, valid: &Valid, observed: &Host) -> Option<Refs> {
        let used = valid.registries.used.iter().map(|key| {
            let r = self.registries.iter().find(|r| r.namespace == key.namespace && r.name == key.name)?;
            let (owner, living) = (r.owner("registry"), self.living());
            let told = r.status.cluster.as_deref();
            let mut used = UsedRegistry {
                name: key.name.clone(),
                hostname: called::registry(&owner, r.spec.hostname.as_deref(), told, observed, &living),
                owner,
                host_port: r.status.host_port.and_then(|p| u16::try_from(p).ok()),
                host_ip: r.status.host.as_ref().and_then(|h| h.split(':').next()?.parse().ok()),
                trouble: condition::get(&r.status.conditions, ConditionType::Reachable)
                    .filter(|c| c.status == "False")
                    .map(|c| c.message.clone()),
                hosting: r.spec.local_registry_hosting,
                ..UsedRegistry::default()
            };
            let made = || observed.containers.iter().find_map(|c| used.port_of(c));
            used.host_port = used.host_port.or_else(made);
            Some(used)
        });
        let inputs = Some(self.inputs.clone());
        let manifests = valid.manifests.iter().map(|m| {
            let Text::Inline(text) = &m.content else { panic!("only inline here") };
            Manifest { name: m.name.clone(), content: manifests::parse(text.as_bytes()).ok() }
        });
        let manifests = manifests.collect();
        Some(Refs {
            token: TOKEN.to_vec(),
            ca_hash: self
                .world
                .clusters
                .keys()
                .next()
                .filter(|_| self.knows_ca)
                .map(|i| super::k3s::ca_hash(*i)),
            next_token: None,
            registries: used.collect::<Option<_>>()?,
            unknown_registries: Vec::new(),
            manifests,
            inputs,
            problems: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// What a controller would plan for a cluster now.
    pub fn look(&mut self, index: usize) -> Look {
        // They are tried again.
        self.clusters[index].taken.retain(|(_, _, port)| self.world.held_ports.contains(port));
        let object = &self.clusters[index];
        let owner = object.owner("cluster");
        let mut observed = self.world.observe(&owner);
        self.chance.shuffle(&mut observed.reached.host.containers);
        self.chance.shuffle(&mut observed.reached.host.networks);
        self.chance.shuffle(&mut observed.reached.host.volumes);
        self.look_at(index, observed)
    }

    /// The same for a given picture.
    pub fn look_at(&self, index: usize, observed: Observed) -> Look {
        let mut look = self.unrestrained(index, observed);
        self.restrain(index, &mut look);
        look
    }

    /// The plan before it is restrained by the policy.
    fn unrestrained(&self, index: usize, observed: Observed) -> Look {
        let object = &self.clusters[index];
        let owner = object.owner("cluster");
        let mut plan = Plan::default();
        let mut observed = observed;
        if object.deleted {
            local_cluster::teardown(&mut plan, &owner, &observed, |_| false);
            return Look { plan, owner, observed, whole: None };
        }
        let standing = self.standing(object);
        if let Some(problem) = standing.problem.clone().filter(|_| observed.own.is_empty()) {
            plan.problems = vec![problem];
            return Look { plan, owner, observed, whole: None };
        }
        let mut valid = Self::valid(object, &owner, &observed);
        if standing.problem.is_some() {
            valid.on_data_loss = DataLoss::Stop;
        }
        let settings = standing.rules.settings(&self.settings);
        if valid.stopped {
            local_cluster::stop(&mut plan, &valid.names, &observed);
            return Look { plan, owner, observed, whole: None };
        }
        let Some(refs) = self.refs(&valid, &observed) else {
            plan.waits(ConditionType::ResolvedRefs, Reason::RegistryNotFound, "");
            return Look { plan, owner, observed, whole: None };
        };
        let frozen = standing.problem.as_ref();
        let subject = Subject { settings: &settings, frozen, ..self.subject(object, &owner, &valid, &refs) };
        let choice = subject.choose_subnet(&observed, &object.refused);
        if !choice.problems.is_empty() {
            plan = subject.give_back_choices(&observed);
            plan.problems = choice.problems;
            return Look { plan, owner, observed, whole: None };
        }
        if !choice.steps.is_empty() {
            return Look { plan: choice, owner, observed, whole: None };
        }
        let mut allocated = match subject.allocate(&observed, &object.refused) {
            Ok(allocated) => allocated,
            Err(problems) => {
                plan.problems = problems;
                return Look { plan, owner, observed, whole: None };
            }
        };
        subject.leave_out(&mut allocated, &observed, &object.taken);
        let wanted = subject.desire(&allocated, &observed);
        let asked = asked(&refs.manifests, &observed);
        observed.manifests.objects = self.world.there(&valid.names.cluster, &asked).ok();
        if let Some(look) = &wanted.desired.mounts.look {
            self.world.look(&mut observed, look);
        }
        let server = wanted.desired.names.node(NodeRole::Server, 0);
        let written = self.world.read(&server, KUBECONFIG_FILE);
        observed.reached.kubeconfig.credentials = written.map(|_| credentials());
        observed.reached.kubeconfig.secret = self.world.secret(&owner, &kubeconfig::name(owner.name()));
        let key = (owner.namespace().to_owned(), owner.name().to_owned());
        observed.reached.service = self.world.services.get(&key).cloned().unwrap_or_default();
        if valid.kubeconfig.role().is_some()
            && let Some(token) = observed.kubeconfig.secret.as_ref().and_then(kubeconfig::tokens::token)
        {
            let accepted = self.world.clone().accepts(&valid.names.cluster, &token).ok();
            observed.reached.kubeconfig.accepted = accepted;
        }
        let decision = subject.decide(&allocated, &wanted, &observed);
        plan.clone_from(&decision.plan);
        let told_first = decision.is_written_first(&subject);
        let (allocation, desired) = (allocated.allocation, wanted.desired);
        let whole = Whole { valid, refs, allocation, desired, decision, told_first };
        Look { plan, owner, observed, whole: Some(whole) }
    }

    /// A cluster as a reconcile knows it.
    fn subject<'a>(
        &'a self,
        object: &'a ClusterObject,
        owner: &'a Owner,
        valid: &'a Valid,
        refs: &'a Refs,
    ) -> Subject<'a> {
        Subject {
            valid,
            owner,
            settings: &self.settings,
            refs,
            frozen: None,
            previous: &object.status,
            generation: object.generation,
            reset_quorum: object.request.as_deref(),
            now: self.world.now(),
        }
    }

    /// One pass over a cluster: look, act, tell. At most `limit` steps are done before the process dies. What was
    /// done, in order.
    pub fn pass(&mut self, index: usize, limit: usize) -> Vec<Step> {
        let look = self.look(index);
        super::check::plan(&look.plan, &look.owner, &look.observed);
        for image in &look.plan.pulls {
            drop(self.world.pull(image));
        }
        for import in &look.plan.imports {
            drop(self.world.import(&import.image, import.container.id.as_ref().unwrap(), &import.id));
        }
        let wanted: BTreeSet<String> = look
            .whole
            .iter()
            .flat_map(|w| w.desired.agents.iter().map(|a| a.container.name.clone()))
            .collect();
        let cluster = look.whole.as_ref().map(|w| w.valid.names.cluster.clone()).unwrap_or_default();
        let object = &self.clusters[index];
        let most = most(&object.spec);
        if look.whole.as_ref().is_some_and(|w| w.told_first && !look.plan.steps.is_empty()) {
            self.tell(index, &look, &look.plan.problems);
        }
        let (done, failed) = self.execute(&look.plan.steps, &cluster, limit, &wanted, most);
        if done.len() >= limit {
            return done.into_iter().map(|i| look.plan.steps[i].clone()).collect();
        }
        let mut problems = self.failures(index, &look, &failed);
        problems.extend(look.plan.problems.iter().cloned());
        self.tell(index, &look, &problems);
        done.into_iter().map(|i| look.plan.steps[i].clone()).collect()
    }

    /// Does these steps of an earlier look at the cluster.
    pub fn carry_out(&mut self, steps: &[Step]) {
        let cluster = self.clusters[0].name.clone();
        self.execute(steps, &cluster, usize::MAX, &BTreeSet::new(), 1);
    }

    /// Writes the status.
    pub fn tell(&mut self, index: usize, look: &Look, problems: &[Problem]) {
        let object = &self.clusters[index];
        let moment = object.moment(&self.world);
        let next = match &look.whole {
            Some(w) => {
                let view = ClusterView {
                    subject: &self.subject(object, &look.owner, &w.valid, &w.refs),
                    allocation: &w.allocation,
                    desired: &w.desired,
                    observed: &look.observed,
                    decision: &w.decision,
                    problems,
                };
                status::cluster(&object.status, &view, moment)
            }
            None if object.spec.state == ClusterState::Stopped && !object.deleted => {
                let (owner, observed) = (&look.owner, &look.observed);
                let valid = Self::valid(object, owner, observed);
                let view = status::StoppedView { valid: &valid, owner, observed, problems, cause: None };
                status::stopped(&object.status, view, moment)
            }
            None => status::cluster_blocked(&object.status, problems, ConditionType::NetworkReady, moment),
        };
        self.clusters[index].status = next;
    }

    fn failures(&mut self, index: usize, look: &Look, failed: &[(usize, Failure)]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (i, failure) in failed {
            let action = &look.plan.steps[*i].action;
            // A subnet is chosen before the rest is known.
            let valid = Self::valid(&self.clusters[index], &look.owner, &look.observed);
            let names = Some(&valid.names);
            match (failure, &look.whole) {
                (Failure::Docker(error), Some(w)) => {
                    let object = &self.clusters[index];
                    let subject = self.subject(object, &look.owner, &w.valid, &w.refs);
                    let mut refused = object.refused.clone();
                    let consequence =
                        subject.docker_failed((action, error), &w.allocation, &object.status, &mut refused);
                    self.clusters[index].refused = refused;
                    match consequence {
                        Consequence::Problem(problem) => problems.push(problem),
                        Consequence::PortsHeld(held) => self.clusters[index].taken.extend(held),
                        Consequence::ChosenAgain | Consequence::OutOfDate => {}
                    }
                }
                (Failure::Docker(error), None) => problems.extend(failures::docker(action, error, names)),
                (Failure::Child(message), _) => {
                    let error = super::k3s::told(message.clone());
                    problems.push(failures::child(action, &error, names, &look.plan.problems));
                }
                (Failure::Management(error), _) => {
                    problems.extend(failures::management(action, error, names));
                }
                (Failure::NotMade, _) => {}
            }
        }
        problems
    }

    /// What a controller would plan for a Registry now; `None` while clusters use one that is deleted.
    pub fn look_registry(&mut self, index: usize) -> Option<(Plan, Observed, ValidRegistry, Option<Wanted>)> {
        let object = &self.registries[index];
        let owner = object.owner("registry");
        let mut observed = self.world.observe(&owner);
        self.chance.shuffle(&mut observed.reached.host.containers);
        self.chance.shuffle(&mut observed.reached.host.volumes);
        let living = self.living();
        let mut valid = validate::registry(&object.namespace, &object.name, &object.spec).unwrap();
        let (explicit, told) = (object.spec.hostname.as_deref(), object.status.cluster.as_deref());
        valid.hostname = called::registry(&owner, explicit, told, &observed, &living);
        let mut plan = Plan::default();
        if object.deleted {
            let uses = |c: &ClusterObject| {
                c.namespace == object.namespace
                    && c.spec.registries.used.iter().any(|r| r.name == object.name)
                    && !(c.deleted && self.world.empty_of(&c.owner("cluster")))
            };
            if self.clusters.iter().any(uses) {
                return None;
            }
            let deleted = Deleted { owner: &owner, spec: &object.spec, cluster: told, living: &living };
            teardown::plan(&mut plan, &deleted, &observed);
            return Some((plan, observed, valid, None));
        }
        let standing = self.registry_standing(object);
        if let Some(problem) = standing.problem.clone().filter(|_| observed.own.is_empty()) {
            plan.problems = vec![problem];
            return Some((plan, observed, valid, None));
        }
        let settings = standing.rules.settings(&self.settings);
        let (secrets, now) = (Secrets::default(), self.world.now());
        let subject = registry::Subject {
            valid: &valid,
            secrets: &secrets,
            owner: &owner,
            settings: &settings,
            previous: &object.status,
            refused: &object.refused,
            living: &living,
            used: self.world.size(&valid),
            request: object.request.as_deref(),
            created: None,
            now,
        };
        let wanted = match subject.desire(&observed) {
            Ok(wanted) => wanted,
            Err(problems) => {
                plan.problems = problems;
                return Some((plan, observed, valid, None));
            }
        };
        self.world.details(&mut observed, &wanted.desired, &subject);
        let inputs = registry::Inputs { subject, observed: &observed };
        let mut decision = inputs.decide(&wanted);
        let keep = BTreeSet::from([valid.hostname.clone()]);
        self.gated(&mut decision.plan, &owner, &observed, (Some(&standing), keep));
        let desired = Some((wanted.desired, decision.collected));
        Some((decision.plan, observed, valid, desired))
    }

    pub fn pass_registry(&mut self, index: usize, limit: usize) -> Vec<Step> {
        let Some((plan, observed, valid, desired)) = self.look_registry(index) else { return Vec::new() };
        super::check::plan(&plan, &self.registries[index].owner("registry"), &observed);
        for image in &plan.pulls {
            drop(self.world.pull(image));
        }
        if let Some((_, Some(collected))) = &desired {
            self.registries[index].status.garbage_collection = Some(collected.clone());
        }
        let (done, failed) = self.execute(&plan.steps, "", limit, &BTreeSet::new(), 1);
        let steps = done.iter().map(|i| plan.steps[*i].clone()).collect();
        if done.len() >= limit {
            return steps;
        }
        let object = &mut self.registries[index];
        let Some((desired, _)) = desired else {
            if !object.deleted {
                let moment = object.moment(&self.world);
                let next = status::registry_blocked(
                    &object.status,
                    &plan.problems,
                    ConditionType::ContainerReady,
                    moment,
                );
                object.status = next;
            }
            return steps;
        };
        let mut problems = plan.problems.clone();
        for (i, failure) in &failed {
            let Failure::Docker(error) = failure else { continue };
            let failed = (&plan.steps[*i].action, error);
            if !object.refused.of_registry(failed, &valid, desired.host_port, &object.status) {
                problems.extend(failures::docker(&plan.steps[*i].action, error, None));
            }
        }
        // The controller looks again after steps that went well, and only then tells.
        if plan.steps.is_empty() || !problems.is_empty() {
            let view = RegistryView {
                valid: &valid,
                desired: &desired,
                observed: &observed,
                problems: &problems,
                used_by: Vec::new(),
                collected: None,
                used: self.world.size(&valid),
            };
            object.status = status::registry(&object.status, view, object.moment(&self.world));
        }
        steps
    }
}

impl World {
    /// Whether nothing on the engine belongs to this owner.
    pub fn empty_of(&self, owner: &Owner) -> bool {
        !self.containers.values().any(|c| owner.owns(&c.labels))
            && !self.networks.values().any(|n| owner.owns(&n.labels))
            && !self.volumes.values().any(|v| owner.owns(&v.labels))
    }

    /// What is measured of the storage of a registry while it runs.
    fn size(&self, valid: &ValidRegistry) -> Option<i64> {
        let running = localcluster_operator::docker::engine::State::Running;
        self.named(&valid.hostname).filter(|c| c.state == running)?;
        valid.max_size.and_then(|_| self.sizes.get(&valid.hostname).copied())
    }

    /// Whether a node serves its cluster now.
    pub fn works(&mut self, node: &str) -> bool {
        let up = self.named(node).is_some_and(|c| {
            c.state == localcluster_operator::docker::engine::State::Running
                && c.serving
                && c.networks.values().any(|p| p.ip.is_some())
        });
        up && self.node(node).is_ok_and(|n| n.ready)
    }
}
