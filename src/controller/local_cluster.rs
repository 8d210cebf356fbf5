//! The reconciliation of a LocalCluster as a straight line.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource, ResourceExt,
    runtime::{controller::Action as Next, reflector::Store},
};

use super::{
    act::wake,
    balance,
    carry_out::{carry_out, hold, of_docker},
    context::{ClusterGuard, Context},
    details::details,
    drive::tear_down,
    expiry, hang,
    interruptions::Pending,
    kube_io::{self, Error},
    local_cluster::child::ChildApi,
    manifests, observe,
    pass::{Managed, Outcome, Pass, Stop},
    placed, ports,
    reach::{self, Seen},
    record,
    resolve::{self, Resolved},
    rest, services, standing, stopped,
    workers::Workers,
};
use crate::{
    api::{
        LocalCluster, LocalClusterStatus, RESET_QUORUM_ANNOTATION,
        condition::ConditionType,
        local_cluster::DataLoss,
        names::{self, ClusterNames},
        reason::Reason,
    },
    child::api as child,
    docker::share::Shares,
    plan::{
        addresses, adoption, called,
        desired::{Allocation, Desired},
        kind::Kind,
        kubeconfig,
        local_cluster::teardown,
        observed::{Host, Observed, Reached},
        policy::{standing::Standing, stop},
        refs::Refs,
        steps::{Plan, Problem},
        subject::Subject,
        validate::{Handout, Valid},
    },
    status::{self, ClusterView, Moment},
};

impl Managed for LocalCluster {
    type Status = LocalClusterStatus;
    const PASSES: usize = 6;
    const UNJUDGED: ConditionType = ConditionType::NetworkReady;

    fn workers(workers: &Workers) -> &Shares {
        &workers.clusters
    }

    fn stored(ctx: &Context) -> &Store<ClusterGuard> {
        &ctx.clusters
    }

    fn status(&self) -> Option<&LocalClusterStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &LocalClusterStatus) -> &[Condition] {
        &status.conditions
    }

    fn conditions_mut(status: &mut LocalClusterStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn blocked(
        previous: &LocalClusterStatus,
        problems: &[Problem],
        unknown: ConditionType,
        moment: Moment,
    ) -> LocalClusterStatus {
        status::cluster_blocked(previous, problems, unknown, moment)
    }

    fn complete(&self, status: &mut LocalClusterStatus, standing: &Standing, moment: Moment) {
        expiry::complete(self, status, standing, moment.now);
        status::effective(&self.spec, status);
    }

    fn summarize(status: &mut LocalClusterStatus) {
        status.reason = status::shown_reason(&status.conditions).map(str::to_owned);
    }

    fn stops_at(status: &LocalClusterStatus) -> Option<Timestamp> {
        status.violation.as_ref().map(|violation| violation.stops_at.0)
    }

    async fn expire(&self, ctx: &Context, standing: &Standing) -> Result<bool, Error> {
        expiry::run(self, ctx, standing).await
    }

    fn standing(&self, ctx: &Context) -> Standing {
        ctx.standing_of_cluster(self)
    }

    async fn rest(
        pass: &Pass<'_, Self>,
        previous: &mut LocalClusterStatus,
        why: &str,
    ) -> Result<Outcome, Stop> {
        pass.rest(previous, why).await
    }

    async fn look_and_act(pass: &Pass<'_, Self>, previous: &mut LocalClusterStatus) -> Result<Outcome, Stop> {
        pass.look_and_act(previous).await
    }

    async fn cleanup(
        pass: &Pass<'_, Self>,
        previous: &mut LocalClusterStatus,
    ) -> Result<Option<Next>, Error> {
        pass.ctx.host_images.forget(&pass.owner.uid);
        let namespace = pass.object.namespace().unwrap_or_default();
        let existing = called::cluster(&pass.owner, &Host::default(), previous);
        let spec = &pass.object.spec;
        let chosen = || names::cluster(&namespace, &pass.object.name_any(), spec.cluster_name.as_deref());
        let names = ClusterNames::new(existing.unwrap_or_else(chosen));
        let all = |plan: &mut Plan, observed: &Host| teardown(plan, &pass.owner, observed, |_| false);
        let left = tear_down(pass, previous, Some(&names), all).await?;
        if left.is_none() {
            pass.ctx.turns.done(&pass.owner.uid);
        }
        Ok(left)
    }
}

impl Pass<'_, LocalCluster> {
    /// The straight line: validate, resolve, observe, decide, execute, status.
    async fn look_and_act(&self, previous: &mut LocalClusterStatus) -> Result<Outcome, Stop> {
        let mut before = previous.clone();
        let interruptions = self.ctx.interruptions.from_now();
        let chosen = self.validate(None)?;
        let host = self.host().await?;
        if let Some(problem) = standing::refused(&self.standing, !host.own.is_empty()) {
            return Err(Stop::Blocked(vec![problem], ConditionType::ResolvedRefs));
        }
        let mut valid = match called::cluster(&self.owner, &host, previous) {
            Some(name) if name != chosen.names.cluster => self.validate(Some(&name))?,
            _ => chosen,
        };
        let names = &valid.names;
        let is_named = |name: &str| names.parse_node(name).is_some() || name == names.load_balancer();
        let own = (Kind::LocalCluster, &self.owner);
        if let Some(problem) = adoption::left(own, &host, LocalCluster::UNJUDGED, is_named) {
            return Err(Stop::Blocked(vec![problem], LocalCluster::UNJUDGED));
        }
        if self.ctx.hosting.is_some() && placed::is_ephemeral(self.object) {
            // Its data may be on another host, which it does not need, and what was allocated there may be taken here.
            valid.on_data_loss = DataLoss::Recreate;
            if self.owner.has_nothing(&host.containers, &host.networks, &host.volumes) {
                before.forget_allocation();
            }
        }
        if self.standing.problem.is_some() {
            // A new cluster would not be created in its place.
            valid.on_data_loss = DataLoss::Stop;
        }
        let violates = stop::cause(previous, &self.standing, self.moment.now);
        if valid.stopped || violates.is_some() {
            let cause = violates.filter(|_| !valid.stopped);
            let cause = cause.as_deref().map(|why| (Reason::PolicyViolation, why));
            return Ok(stopped::pass(self, previous, (&valid, cause), &host).await?);
        }
        let refs = self.resolve(&valid, &host).await?;
        let chose = self.choose_subnet(&valid, &before, &host).await?;
        let (Some(refs), false) = (refs, chose) else { return Ok(Outcome::Again) };
        let subject = self.subject(&valid, &refs, &before);
        let refused = self.ctx.memory.refused(&self.owner.uid);
        let allocated = subject.allocate(&host, &refused);
        let mut allocated = allocated.map_err(|problems| Self::blocked(&refs, problems))?;
        let held = ports::observe(self.ctx, &subject, &allocated.allocation, &host).await;
        subject.leave_out(&mut allocated, &host, &held);
        let (reached, child) = self.reach(&subject, &allocated.allocation, host, interruptions).await?;
        let wanted = subject.desire(&allocated, &reached);
        let observed = self.details(&subject, child.as_deref(), &wanted.desired, reached).await?;
        let mut decision = subject.decide(&allocated, &wanted, &observed);
        record::plan(self, &mut decision.plan, &observed, &valid.names.load_balancer()).await;
        let due = self.admit(&valid, &wanted.desired, &observed, &mut decision).await?;
        let view = ClusterView {
            subject: &subject,
            allocation: &allocated.allocation,
            desired: &wanted.desired,
            observed: &observed,
            decision: &decision,
            problems: &decision.plan.problems,
        };
        self.act(previous, view, child.as_deref(), due).await
    }

    /// Stops the cluster, whatever its spec says, and keeps it so.
    async fn rest(&self, previous: &mut LocalClusterStatus, why: &str) -> Result<Outcome, Stop> {
        let host = self.survey().await?;
        let called = called::cluster(&self.owner, &host, previous);
        let Ok(valid) = self.validate(called.as_deref()) else {
            return Err(rest::stop(self, why, ConditionType::LoadBalancerReady).await);
        };
        let cause = (Reason::Evicted, why);
        Ok(stopped::pass(self, previous, (&valid, Some(cause)), &host).await?)
    }

    /// Observes the host, and how much of the pool of subnets is in use.
    async fn host(&self) -> Result<Host, Stop> {
        let host = self.survey().await?;
        let pool = self.ctx.settings.network_pool;
        let usage = pool.map(|pool| addresses::pool_usage(pool, &host.networks));
        *self.ctx.subnets.lock().unwrap_or_else(PoisonError::into_inner) = usage;
        Ok(host)
    }

    /// Reads what the spec references, and creates what is missing of it and is the operator's to create: the token and
    /// the cluster's own Registry. Returns `None` if it did, since the references are then read again. With incomplete
    /// references, existing nodes are kept, and no cluster is created.
    async fn resolve(&self, valid: &Valid, host: &Host) -> Result<Option<Refs>, Stop> {
        let Resolved { refs, mut plan } = resolve::refs(self, valid, host).await?;
        if self.prepare(&mut plan, valid, host).await {
            return Ok(None);
        }
        let problems = plan.problems;
        match refs {
            Some(refs) if refs.inputs.is_some() || !host.own.is_empty() => {
                Ok(Some(Refs { problems, ..refs }))
            }
            _ => Err(Stop::Blocked(problems, ConditionType::NetworkReady)),
        }
    }

    /// Executes the steps that the references need. Reports whether the references are read again, which they are unless
    /// a step failed for a reason that is a problem of the object.
    async fn prepare(&self, plan: &mut Plan, valid: &Valid, host: &Host) -> bool {
        if plan.steps.is_empty() {
            return false;
        }
        let (ctx, names) = (self.ctx, Some(&valid.names));
        let gate = self.gate(host, BTreeSet::new());
        hold(ctx, &gate, plan, names);
        if plan.steps.is_empty() {
            return false;
        }
        let of = (&self.object.object_ref(&()), &gate);
        let carried = carry_out(ctx, of, plan, None, of_docker(names)).await;
        let problems = carried.problems();
        let again = problems.is_empty();
        plan.problems.extend(problems);
        again
    }

    /// Has Docker choose the subnet of a new cluster. Reports whether the host is observed again. It follows the steps for
    /// the references without another observation.
    async fn choose_subnet(
        &self,
        valid: &Valid,
        previous: &LocalClusterStatus,
        host: &Host,
    ) -> Result<bool, Stop> {
        let (ctx, names, uid) = (self.ctx, Some(&valid.names), &self.owner.uid);
        let nothing = Refs::default();
        let subject = self.subject(valid, &nothing, previous);
        let mut plan = subject.choose_subnet(host, &ctx.memory.refused(uid));
        let gate = self.gate(host, BTreeSet::new());
        // Not of an empty plan: the steps that the cluster itself waits with would be forgotten.
        if !plan.steps.is_empty() {
            hold(ctx, &gate, &mut plan, names);
        }
        if plan.steps.is_empty() && plan.problems.is_empty() {
            return Ok(false);
        }
        let of = (&self.object.object_ref(&()), &gate);
        let carried = carry_out(ctx, of, &plan, None, of_docker(names)).await;
        plan.problems.extend(carried.problems());
        if plan.problems.is_empty() {
            return Ok(true);
        }
        // Without another choice, those before are of no use, and others may need their subnets.
        let back = subject.give_back_choices(host);
        let returned = carry_out(ctx, of, &back, None, of_docker(names)).await;
        plan.problems.extend(returned.problems());
        Err(Stop::Blocked(plan.problems, ConditionType::RegistriesReady))
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
            settings: &self.settings,
            refs,
            frozen: self.standing.problem.as_ref(),
            previous,
            generation: self.moment.generation,
            reset_quorum: self.object.annotations().get(RESET_QUORUM_ANNOTATION).map(String::as_str),
            now: self.moment.now,
        }
    }

    /// Observes the created cluster: its API, its kubeconfig, and what its nodes report from inside.
    async fn reach(
        &self,
        subject: &Subject<'_>,
        allocation: &Allocation,
        host: Host,
        mut interruptions: Pending,
    ) -> Result<(Reached, Option<Arc<dyn ChildApi>>), Stop> {
        let valid = subject.valid;
        let kept = self.docker(observe::kept(&*self.ctx.engine, &host, &valid.names).await)?;
        let mut reached = Reached { kept, ..host.into() };
        let (balancer, wake) = (valid.names.load_balancer(), || wake(self.ctx, self.object));
        reached.limits = self.ctx.limits.observe(&reached, &balancer, wake());
        reached.resolvers_changed = self.ctx.resolvers.observe(&reached, &self.owner, &balancer, wake());
        self.ctx.quorum.expect(&self.owner, &valid.names, &reached, wake());
        let name = kubeconfig::name(self.owner.name());
        let secret = || kube_io::existing_secret(&self.ctx.client, self.owner.namespace(), &name);
        // At the same time, once it exists.
        let connected = self.ctx.memory.link(&self.owner.uid).is_some();
        let service = services::observe(&self.ctx.client, &self.owner, valid, subject.previous);
        let early = async { if connected { Some(secret().await) } else { None } };
        let child = reach::child(self.ctx, subject, &mut reached, allocation);
        // Boxed, since a pass is a large future in a debug build, and this is a large part of it.
        let seen = Box::pin(async { tokio::join!(child, early, service) });
        let (Seen { credentials, child, path }, early, service) = tokio::select! {
            seen = seen => seen,
            () = interruptions.of(&self.owner.uid) => return Err(Stop::Interrupted),
        };
        if credentials.is_some() || valid.kubeconfig == Handout::Nothing {
            reached.kubeconfig.secret = match early {
                Some(secret) => secret?,
                None => secret().await?,
            };
        }
        reached.service = service?;
        reached.kubeconfig.accepted = reach::accepts(valid, child.as_deref(), &reached.kubeconfig).await;
        reached.kubeconfig.credentials = credentials;
        reached.kubeconfig.path = path;
        reached.leaders = self.ctx.quorum.observe(&self.owner, &valid.names, &reached, wake());
        let without = observe::without_data(&*self.ctx.engine, &reached, &valid.names).await;
        reached.without_data = self.docker(without)?;
        hang::observe(self.ctx, &self.owner, valid, &mut reached).await;
        self.docker(balance::observe(self.ctx, valid, allocation, &mut reached).await)?;
        Ok((reached, child))
    }

    /// Observes what depends on the desired state.
    async fn details(
        &self,
        subject: &Subject<'_>,
        child: Option<&dyn ChildApi>,
        desired: &Desired,
        reached: Reached,
    ) -> Result<Observed, Stop> {
        let (ctx, refs, uid) = (self.ctx, subject.refs, self.owner.uid.as_str());
        let mut observed = self.docker(details((ctx, uid), reached, desired, &refs.token).await)?;
        self.docker(observe::trees(&ctx.files, &mut observed, desired).await)?;
        self.docker(manifests::observe(&ctx.files, child, &mut observed, desired, refs).await)?;
        self.docker(ctx.preloads.observe((&ctx.pulls, uid), &mut observed, desired).await)?;
        self.docker(self.observe_access(&mut observed).await)?;
        observed.host_images = self.serve_host_images(desired, &observed);
        Ok(observed)
    }

    /// Returns the end of a pass without an allocation.
    fn blocked(refs: &Refs, problems: Vec<Problem>) -> Stop {
        Stop::Blocked([refs.problems.clone(), problems].concat(), ConditionType::RegistriesReady)
    }
}
