//! The reconcile of a LocalCluster: a straight line from the object to what becomes of it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::try_join_all;
use jiff::SignedDuration;
use kube::{Resource, ResourceExt, runtime::controller::Action as Next};

use super::{
    balance,
    carry_out::{Carried, Left, carry_out, hold, take_away},
    context::Context,
    credentials::{self, Sight},
    execute, expiry, hang,
    kube_io::{self, Error},
    local_cluster::child::ChildApi,
    manifests, observe, ports,
    pulls::Wake,
    reach::{self, Seen},
    report, resolve, stopped,
};
use crate::{
    api::{
        LocalCluster, LocalClusterStatus, RESET_QUORUM_ANNOTATION,
        condition::{reasons, types},
        names::{self, ClusterNames},
    },
    child::api as child,
    docker::{engine::State, error::Error as DockerError},
    k3s,
    plan::{
        called,
        decide::{Consequence, Decision},
        desired::Desired,
        failures,
        local_cluster::teardown,
        observed::Observed,
        owner::Owner,
        refs::Refs,
        servers::data_loss,
        steps::{Action, Plan, Problem},
        subject::Subject,
        turns,
        validate::{self, Valid},
    },
    status::{self, ClusterView, Moment},
    time::after,
};

/// How long a node has from its start to its first report before its log is looked at for why it is not let in.
const TO_REPORT: SignedDuration = SignedDuration::from_secs(10);
/// How many times one reconcile looks and acts before it lets others have their turn.
const PASSES: usize = 6;

/// The owner labels of a cluster.
pub fn owner(cluster: &LocalCluster, ctx: &Context) -> Owner {
    Owner {
        uid: cluster.uid().unwrap_or_default(),
        manager: ctx.manager.clone(),
        object: format!("{}/{}", cluster.namespace().unwrap_or_default(), cluster.name_any()),
    }
}

/// Brings what there is to what the object wants, as far as it goes now.
pub async fn apply(cluster: &LocalCluster, ctx: &Arc<Context>) -> Result<Next, Error> {
    let mut previous = cluster.status.clone().unwrap_or_default();
    for number in 1..=PASSES {
        let pass = Pass::new(cluster, ctx, number == PASSES);
        match pass.run(&mut previous).await? {
            Outcome::Again => {}
            Outcome::Next(next) => return Ok(next),
        }
    }
    Ok(report::waiting(ctx, &cluster.uid().unwrap_or_default()))
}

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
    Blocked(Vec<Problem>, &'static str),
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
    last: bool,
}

impl<'p> Pass<'p> {
    fn new(cluster: &'p LocalCluster, ctx: &'p Arc<Context>, last: bool) -> Self {
        let generation = cluster.metadata.generation.unwrap_or_default();
        let moment = Moment { generation, now: (ctx.now)() };
        Self { cluster, ctx, owner: owner(cluster, ctx), moment, last }
    }

    /// The whole pass, which writes the status in any case.
    async fn run(&self, previous: &mut LocalClusterStatus) -> Result<Outcome, Error> {
        match self.look_and_act(previous).await {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Blocked(problems, unknown)) => {
                self.tell_blocked(previous, &problems, unknown).await?;
                Ok(Outcome::Next(report::next(self.ctx, &self.owner.uid, &problems)))
            }
            Err(Stop::Invalid(messages)) => {
                let problem = Problem::stalls(types::ACCEPTED, reasons::INVALID_SPEC, messages.join("; "));
                self.tell_blocked(previous, &[problem], types::RESOLVED_REFS).await?;
                Ok(Outcome::Next(Next::await_change()))
            }
        }
    }

    /// The straight line: validate, resolve, observe, decide, execute, status.
    async fn look_and_act(&self, previous: &mut LocalClusterStatus) -> Result<Outcome, Stop> {
        let before = previous.clone();
        let chosen = self.validate(None)?;
        let mut observed = self.survey().await?;
        let valid = match called::cluster(&self.owner, &observed, previous) {
            Some(name) if name != chosen.names.cluster => self.validate(Some(&name))?,
            _ => chosen,
        };
        if valid.stopped {
            return Ok(stopped::pass(self, previous, &valid, &observed).await?);
        }
        self.docker(observe::kept(&*self.ctx.engine, &mut observed, &valid.names).await)?;
        let refs = self.resolve(&valid, &observed).await?;
        let subject = self.subject(&valid, &refs, &before);
        let refused = self.ctx.memory.refused(&self.owner.uid);
        let allocated = subject.allocate(&observed, &refused);
        let mut allocated = allocated.map_err(|problems| Self::blocked(&refs, problems))?;
        let held = ports::observe(self.ctx, &subject, &allocated.allocation, &observed).await;
        subject.leave_out(&mut allocated, &observed, &held);
        let Seen { credentials, child } =
            reach::child(self.ctx, &self.owner, &mut observed, &valid, &allocated.allocation).await;
        hang::observe(self.ctx, &self.owner, &valid, &mut observed).await;
        self.docker(balance::observe(self.ctx, &valid, &allocated.allocation, &mut observed).await)?;
        let wanted = subject.desire(&allocated, &observed);
        self.details(&refs, child.as_deref(), &wanted.desired, &mut observed).await?;
        let mut decision = subject.decide(&allocated, &wanted, &observed);
        let due = self.admit(&valid, &wanted.desired, &observed, &mut decision).await?;
        let sight =
            Sight { desired: &wanted.desired, allocation: &allocated.allocation, observed: &observed };
        let secret = credentials::kubeconfig_secret(
            (self.ctx, self.cluster),
            &mut decision.plan,
            previous,
            sight,
            credentials,
        );
        let secret = secret.await?;
        let view = ClusterView {
            subject: &subject,
            allocation: &allocated.allocation,
            desired: &wanted.desired,
            observed: &observed,
            decision: &decision,
            problems: &decision.plan.problems,
            kubeconfig_secret: secret.as_deref(),
        };
        self.act(previous, view, child.as_deref(), due).await
    }

    /// Validates the spec, under the name that the cluster has on the host already, if it has one.
    fn validate(&self, called: Option<&str>) -> Result<Valid, Stop> {
        let (namespace, name) = (self.cluster.namespace().unwrap_or_default(), self.cluster.name_any());
        let spec = &self.cluster.spec;
        let valid = match called {
            Some(called) => validate::local_cluster_called(&namespace, &name, spec, called),
            None => validate::local_cluster(&namespace, &name, spec),
        };
        valid.map_err(Stop::Invalid)
    }

    /// All that is on the engine, and the object's own containers in full.
    async fn survey(&self) -> Result<Observed, Stop> {
        let observed = self.docker(observe::engine(&*self.ctx.engine, &self.owner).await)?;
        self.ctx.health.set_docker(true);
        Ok(observed)
    }

    /// Reads what the spec references. What is there is kept up without all of it; nothing is begun.
    async fn resolve(&self, valid: &Valid, observed: &Observed) -> Result<Refs, Stop> {
        let refs = resolve::refs(self.ctx, self.cluster, valid, observed).await?;
        let refs = refs.map_err(|problems| Stop::Blocked(problems, types::NETWORK_READY))?;
        if refs.inputs.is_none() && observed.own.is_empty() {
            return Err(Stop::Blocked(refs.problems, types::NETWORK_READY));
        }
        Ok(refs)
    }

    fn subject<'a>(
        &'a self,
        valid: &'a Valid,
        refs: &'a Refs,
        previous: &'a LocalClusterStatus,
    ) -> Subject<'a> {
        Subject {
            valid,
            owner: &self.owner,
            settings: &self.ctx.settings,
            refs,
            previous,
            generation: self.moment.generation,
            reset_quorum: self.cluster.annotations().get(RESET_QUORUM_ANNOTATION).map(String::as_str),
            now: self.moment.now,
        }
    }

    /// What is looked at once it is known what is wanted.
    async fn details(
        &self,
        refs: &Refs,
        child: Option<&dyn ChildApi>,
        desired: &Desired,
        observed: &mut Observed,
    ) -> Result<(), Stop> {
        let ctx = self.ctx;
        self.docker(details(ctx, observed, desired, &refs.token).await)?;
        self.docker(observe::trees(&ctx.files, observed, desired).await)?;
        self.docker(manifests::observe(&ctx.files, child, observed, desired, refs).await)?;
        self.docker(ctx.preloads.observe(&ctx.pulls, observed, desired).await)
    }

    /// Holds back what has to wait for its turn, and starts what goes on in the background. Returns when the first step
    /// that was held back is due.
    async fn admit(
        &self,
        valid: &Valid,
        desired: &Desired,
        observed: &Observed,
        decision: &mut Decision,
    ) -> Result<Option<Duration>, Error> {
        let (ctx, uid, plan) = (self.ctx, &self.owner.uid, &mut decision.plan);
        report::notes(ctx, &self.cluster.object_ref(&()), uid, plan);
        if decision.started {
            ctx.turns.done(uid);
        }
        let most = usize::try_from(observed.engine.cpus).unwrap_or_default().max(1);
        if decision.begins && !ctx.turns.take(uid, most, wake(ctx, self.cluster)) {
            turns::wait(plan);
        }
        let due = hold(ctx, uid, plan, Some(&valid.names));
        start_pulls(ctx, self.cluster, valid, desired, plan).await?;
        for import in &plan.imports {
            ctx.preloads.start(import, wake(ctx, self.cluster));
        }
        Ok(due)
    }

    /// Executes what was decided, and tells of it.
    async fn act(
        &self,
        previous: &mut LocalClusterStatus,
        view: ClusterView<'_>,
        child: Option<&dyn ChildApi>,
        due: Option<Duration>,
    ) -> Result<Outcome, Stop> {
        let (ctx, decision, uid) = (self.ctx, view.decision, &self.owner.uid);
        let plan = &decision.plan;
        if plan.forgets {
            let object = self.cluster.object_ref(&());
            report::warning(ctx, &object, reasons::DATA_LOST, data_loss::RECREATED);
        }
        if decision.is_told_first(view.subject) || self.last {
            self.tell(previous, &view, &plan.problems).await?;
        }
        if plan.steps.is_empty() {
            let next = report::next_due(ctx, uid, &plan.problems, due);
            // What is settled is otherwise looked at seldom.
            let again = plan.again.filter(|_| plan.problems.is_empty() && due.is_none());
            return Ok(Outcome::Next(again.map_or(next, |at| report::at(ctx, at, self.moment.now))));
        }
        let (carried, retry) = self.execute(previous, &view, child).await;
        let all_done = carried.report.failed.is_empty();
        if decision.begins && !all_done {
            ctx.turns.done(uid);
        }
        let mut problems = carried.problems();
        if problems.is_empty() || (retry && !problems.iter().any(Problem::stalled)) {
            // A drain asks again and again; nothing else is worth another look at once.
            let busy = plan.steps.iter().any(|s| !matches!(s.action, Action::Drain { .. }));
            if busy && all_done {
                return Ok(Outcome::Again);
            }
            self.tell(previous, &view, &plan.problems).await?;
            return Ok(Outcome::Next(report::waiting(ctx, uid)));
        }
        problems.extend(plan.problems.iter().cloned());
        self.tell(previous, &view, &problems).await?;
        Ok(Outcome::Next(report::next_due(ctx, uid, &problems, due)))
    }

    /// Carries the steps out. Returns also whether something that Docker refused is chosen again or left out.
    async fn execute(
        &self,
        previous: &LocalClusterStatus,
        view: &ClusterView<'_>,
        child: Option<&dyn ChildApi>,
    ) -> (Carried, bool) {
        let (ctx, subject, plan) = (self.ctx, view.subject, &view.decision.plan);
        let names = Some(&subject.valid.names);
        let mut retry = false;
        let meaning = |action: &Action, error: &execute::Error| match error {
            execute::Error::Docker(error) => {
                let consequence = ctx.memory.refuse(&self.owner.uid, |refused| {
                    subject.docker_failed((action, error), view.allocation, previous, refused)
                });
                match consequence {
                    Consequence::Problem(problem) => return Some(problem),
                    Consequence::ChosenAgain => retry = true,
                    Consequence::PortsHeld(held) => {
                        ports::note(ctx, &self.owner, held);
                        retry = true;
                    }
                    Consequence::OutOfDate => {}
                }
                None
            }
            execute::Error::Child(error) => {
                // Where this server can't, another one may.
                if matches!(error, child::Error::Unreachable(_) | child::Error::Failed(_)) {
                    ctx.memory.drop_child(&self.owner.uid);
                }
                Some(failures::child(action, error, names, &plan.problems))
            }
            execute::Error::NoChild => {
                let error = child::Error::Unreachable(error.to_string());
                Some(failures::child(action, &error, names, &plan.problems))
            }
            execute::Error::NotMade(_) => None,
        };
        let of = (&self.cluster.object_ref(&()), &self.owner);
        let carried = carry_out(ctx, of, plan, child, self.moment.now, meaning).await;
        // Whatever was done to a container may have changed its files.
        for detail in view.observed.own.values() {
            if plan.steps.iter().any(|s| s.action.subject() == detail.container.name) {
                ctx.files.forget(&detail.container.id);
            }
        }
        (carried, retry)
    }

    /// Writes the status of a decision.
    async fn tell(
        &self,
        previous: &mut LocalClusterStatus,
        view: &ClusterView<'_>,
        problems: &[Problem],
    ) -> Result<(), Error> {
        let next = status::cluster(previous, &ClusterView { problems, ..*view }, self.moment);
        self.write(previous, next).await
    }

    /// Writes the status of a cluster of which nothing is known but its problems.
    async fn tell_blocked(
        &self,
        previous: &mut LocalClusterStatus,
        problems: &[Problem],
        unknown: &str,
    ) -> Result<(), Error> {
        let next = status::cluster_blocked(previous, problems, unknown, self.moment);
        self.write(previous, next).await
    }

    /// Writes the status where it differs, and keeps it as the last one written.
    pub async fn write(
        &self,
        previous: &mut LocalClusterStatus,
        mut next: LocalClusterStatus,
    ) -> Result<(), Error> {
        next.expires_at = expiry::told(self.cluster);
        if *previous == next {
            return Ok(());
        }
        kube_io::write_status(&self.ctx.client, self.cluster, &next).await?;
        report::turned(self.ctx, &self.cluster.object_ref(&()), &previous.conditions, &next.conditions);
        *previous = next;
        Ok(())
    }

    /// A look at Docker; a failed one ends the pass.
    fn docker<T>(&self, look: Result<T, DockerError>) -> Result<T, Stop> {
        look.map_err(|error| Stop::Blocked(vec![report::docker(self.ctx, &error)], types::NETWORK_READY))
    }

    /// The end of a pass for want of an allocation.
    fn blocked(refs: &Refs, problems: Vec<Problem>) -> Stop {
        Stop::Blocked([refs.problems.clone(), problems].concat(), types::REGISTRIES_READY)
    }
}

/// Images and files, once it is known which are wanted.
async fn details(
    ctx: &Context,
    observed: &mut Observed,
    desired: &Desired,
    token: &[u8],
) -> Result<(), DockerError> {
    let specs: Vec<_> = desired.nodes().map(|n| &n.container).chain([&desired.load_balancer]).collect();
    let images: BTreeSet<&str> = specs.iter().map(|s| s.image.as_str()).collect();
    last_words(ctx, observed, token).await?;
    let states = images
        .into_iter()
        .map(|image| async move { Ok::<_, DockerError>((image.to_owned(), ctx.pulls.state(image).await?)) });
    observed.images = try_join_all(states).await?.into_iter().collect();
    observe::credentials(&ctx.files, observed, desired).await?;
    observe::hosts(&ctx.files, observed, desired).await?;
    if let Some(look) = &desired.mounts.look {
        observe::host_paths(&*ctx.engine, observed, look).await?;
    }
    observe::files(&ctx.files, observed, &specs).await
}

/// What nodes that ended by themselves said last. K3s writes its token nowhere; should it ever, it stops here.
async fn last_words(ctx: &Context, observed: &mut Observed, token: &[u8]) -> Result<(), DockerError> {
    let token = String::from_utf8_lossy(token);
    let working: BTreeSet<String> = observe::all_working(observed);
    for detail in observed.own.values_mut() {
        let id = &detail.container.id;
        // Between two of its ends it runs, for a moment.
        let young = detail.started_at.is_some_and(|at| (ctx.now)() < after(at, TO_REPORT));
        let starts = !working.contains(id) && detail.container.state == State::Running && !young;
        if starts && observed.child.state().is_some() {
            let lines = ctx.engine.logs(id, 100).await?;
            if detail.started_at.is_some_and(|started| k3s::log::rejected_since(&lines, started)) {
                observed.rejected.insert(id.clone());
            }
        }
        let loops =
            detail.container.state == State::Running && detail.started_again > 0 && !working.contains(id);
        let failed = detail.container.state == State::Restarting
            || (detail.container.state == State::Exited
                && detail.exit_code.is_some_and(|c| c != 0 && c != 137));
        if detail.container.state == State::Exited
            && detail.container.labels.contains_key(RESET_QUORUM_ANNOTATION)
        {
            let lines = ctx.engine.logs(id, 100).await?;
            let lines = lines.into_iter().filter(|line| !line.contains(&*token)).collect();
            observed.logs.insert(id.clone(), lines);
        } else if loops || (failed && detail.error.as_deref().unwrap_or_default().is_empty()) {
            let mut lines = ctx.engine.logs(id, 100).await?;
            lines.retain(|line| !line.contains(&*token));
            if let Some(words) = k3s::log::refused_arguments(&lines) {
                observed.refused_arguments.insert(id.clone(), words);
            }
            if failed {
                detail.error = k3s::log::last_words(&lines);
            }
        }
    }
    Ok(())
}

/// Starts the pulls that the plan asks for.
async fn start_pulls(
    ctx: &Arc<Context>,
    cluster: &LocalCluster,
    valid: &validate::Valid,
    desired: &Desired,
    plan: &mut Plan,
) -> Result<(), Error> {
    let node_image = desired.servers.first().map(|s| s.container.image.as_str());
    let namespace = cluster.namespace().unwrap_or_default();
    for image in plan.pulls.clone() {
        let mut auth = None;
        if let Some(secret) = valid.image_pull_secret.as_ref().filter(|_| Some(image.as_str()) == node_image)
        {
            auth = resolve::pull_auth(ctx, &namespace, secret, &image, plan).await?;
            if auth.is_none() {
                continue;
            }
        }
        ctx.pulls.start(&image, auth, wake(ctx, cluster));
    }
    Ok(())
}

/// Has the cluster looked at again when something in the background ends.
fn wake(ctx: &Context, cluster: &LocalCluster) -> Wake {
    let (triggers, name) = (ctx.triggers.clone(), cluster.name_any());
    let namespace = cluster.namespace().unwrap_or_default();
    Box::new(move || triggers.cluster(&namespace, &name))
}

/// Takes away everything that the object made. `None`: all of it is gone.
pub async fn cleanup(cluster: &LocalCluster, ctx: &Arc<Context>) -> Result<Option<Next>, Error> {
    let pass = Pass::new(cluster, ctx, true);
    let mut previous = cluster.status.clone().unwrap_or_default();
    let namespace = cluster.namespace().unwrap_or_default();
    let told = called::cluster(&pass.owner, &Observed::default(), &previous);
    let chosen = || names::cluster(&namespace, &cluster.name_any(), cluster.spec.cluster_name.as_deref());
    let names = ClusterNames::new(told.unwrap_or_else(chosen));
    let of = (&cluster.object_ref(&()), &pass.owner);
    let all = |plan: &mut Plan, observed: &Observed| teardown(plan, &pass.owner, observed, |_| false);
    match take_away(ctx, of, Some(&names), all).await {
        Left::Nothing => {
            ctx.turns.done(&pass.owner.uid);
            Ok(None)
        }
        Left::Some(problems, due) => {
            if !problems.is_empty() {
                pass.tell_blocked(&mut previous, &problems, types::NETWORK_READY).await?;
            }
            Ok(Some(report::next_due(ctx, &pass.owner.uid, &problems, due)))
        }
    }
}
