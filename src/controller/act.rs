//! Execution of a decision about a LocalCluster, with its status and Events.

use std::{collections::BTreeSet, time::Duration};

use kube::{Resource, ResourceExt};

use super::{
    carry_out::{Carried, carry_out, hold},
    context::Context,
    execute,
    kube_io::Error,
    pace::Pace,
    pass::{Outcome, Pass, Stop},
    ports,
    pulls::Wake,
    report, requeue, resolve,
    turns::Ask,
};
use crate::{
    api::{LocalCluster, LocalClusterStatus, reason::Reason},
    child::{api as child, api::ChildApi},
    plan::{
        decide::Decision,
        desired::Desired,
        failures::{self, Consequence},
        kubeconfig,
        observed::Observed,
        pool::member,
        servers::data_loss,
        steps::{Action, Plan, Problem},
        turns,
        validate::Valid,
    },
    status::{self, ClusterView},
};

impl Pass<'_, LocalCluster> {
    /// Holds back what has to wait for its turn, and starts what goes on in the background. Returns when the first step
    /// that was held back is due.
    pub async fn admit(
        &self,
        valid: &Valid,
        desired: &Desired,
        observed: &Observed,
        decision: &mut Decision,
    ) -> Result<Option<Duration>, Error> {
        let (ctx, uid, plan) = (self.ctx, &self.owner.uid, &mut decision.plan);
        let object = self.object.object_ref(&());
        report::notes(ctx, &object, uid, plan);
        if let Some(note) = decision.certificate.as_ref().filter(|note| ctx.memory.record_once(uid, note)) {
            report::warning(ctx, &object, "CertificateExpiring", note);
        }
        let stays = decision.kubeconfig.certificate.as_ref();
        if let Some(note) = stays.filter(|note| ctx.memory.record_once(uid, note)) {
            report::warning(ctx, &object, "CertificateNotRevoked", note);
        }
        if decision.started {
            ctx.turns.done(uid);
        }
        let status = self.object.status.as_ref();
        let same = status.filter(|s| s.observed_generation == Some(self.moment.generation));
        let nodes = same.iter().flat_map(|s| s.nodes.iter().filter(|n| n.container.is_some()));
        let balancer = same.filter(|s| s.api_port.is_some()).map(|_| desired.load_balancer.name.clone());
        let names = nodes.map(|n| n.name.clone()).chain(balancer);
        let existed = ctx.memory.progress.existed(uid, self.moment.generation, names);
        plan.confirm_repairs(ctx.memory.progress.resumes(uid), |name| existed.contains(name));
        ctx.memory.progress.set_certificate(uid, kubeconfig::certificate_end(observed));
        let most = usize::try_from(observed.engine.cpus).unwrap_or_default().max(1);
        if decision.begins {
            let ask = Ask {
                uid,
                namespace: self.owner.namespace(),
                host: most,
                own: self.standing.rules.concurrent_starts,
                idle: member::is_free(&self.object.metadata),
            };
            if let Some(why) = ctx.turns.take(&ask, wake(ctx, self.object)) {
                turns::wait(plan, why);
            }
        }
        let due = hold(ctx, &self.full_gate(observed, keep(desired)), plan, Some(&valid.names));
        self.start_pulls(valid, desired, plan).await?;
        self.start_proofs(valid, desired, plan).await?;
        for import in &plan.imports {
            ctx.preloads.start(import, wake(ctx, self.object));
        }
        Ok(due)
    }

    /// Starts the pulls of the plan.
    async fn start_pulls(&self, valid: &Valid, desired: &Desired, plan: &mut Plan) -> Result<(), Error> {
        let ctx = self.ctx;
        let node_image = desired.servers.first().map(|s| s.container.image.as_str());
        ctx.pulls.keep(&self.owner.uid, &plan.pulls);
        for image in plan.pulls.clone() {
            let mut auth = None;
            if let Some(secret) =
                valid.image_pull_secret.as_ref().filter(|_| Some(image.as_str()) == node_image)
            {
                auth = resolve::pull_auth(ctx, self.owner.namespace(), secret, &image, plan).await?;
                if auth.is_none() {
                    continue;
                }
            }
            ctx.pulls.start(self.asker(), &image, auth, wake(ctx, self.object));
        }
        Ok(())
    }

    /// Starts the proofs of access to images of the plan, with the credentials of the object for their registries.
    async fn start_proofs(&self, valid: &Valid, desired: &Desired, plan: &mut Plan) -> Result<(), Error> {
        let (ctx, namespace) = (self.ctx, self.owner.namespace());
        for image in plan.proofs.clone() {
            let mut auth = None;
            if let Some(secret) = &valid.image_pull_secret {
                let mut problems = Plan::default();
                auth = resolve::pull_auth(ctx, namespace, secret, &image, &mut problems).await?;
                // Other images may be public.
                if auth.is_none() && desired.servers.iter().any(|s| s.container.image == image) {
                    plan.problems.append(&mut problems.problems);
                    continue;
                }
            }
            let proofs = &ctx.policies.proofs;
            let asked = proofs.start(&ctx.engine, self.user(), (&image, auth), wake(ctx, self.object)).await;
            plan.problems.extend(asked.err().map(|error| report::docker(ctx, &error)));
        }
        Ok(())
    }

    /// Executes the decision, and writes the status.
    pub async fn act(
        &self,
        previous: &mut LocalClusterStatus,
        view: ClusterView<'_>,
        child: Option<&dyn ChildApi>,
        due: Option<Duration>,
    ) -> Result<Outcome, Stop> {
        let (ctx, decision, uid) = (self.ctx, view.decision, &self.owner.uid);
        let plan = &decision.plan;
        if plan.forgets {
            let object = self.object.object_ref(&());
            report::warning(ctx, &object, Reason::DataLost, data_loss::RECREATED);
        }
        let first = decision.is_written_first(view.subject) || self.last;
        let along = first && decision.is_written_along(view.subject);
        if first && !along {
            self.write_decision(previous, &view, &plan.problems).await?;
        }
        if plan.steps.is_empty() {
            let settled = plan.problems.is_empty() && due.is_none();
            if settled {
                ctx.memory.pace(uid, Pace::forget);
            }
            let next = requeue::next_due(ctx, uid, &plan.problems, due);
            // A settled object is otherwise reconciled rarely.
            let again = plan.again.filter(|_| settled);
            return Ok(Outcome::Next(again.map_or(next, |at| requeue::at(ctx, at, self.moment.now))));
        }
        let (carried, retry) = if along {
            let before = previous.clone();
            let written = self.write_decision(previous, &view, &plan.problems);
            let (written, executed) = tokio::join!(written, self.execute(&before, &view, child));
            written?;
            executed
        } else {
            self.execute(previous, &view, child).await
        };
        let all_done = carried.report.failed.is_empty();
        if decision.begins && !all_done {
            ctx.turns.done(uid);
        }
        let mut problems = carried.problems();
        if problems.is_empty() || (retry && !problems.iter().any(Problem::stalled)) {
            // A drain is repeated until it is complete; all other steps require another look immediately.
            let busy = plan.steps.iter().any(|s| !matches!(s.action, Action::Drain { .. }));
            if busy && all_done {
                return Ok(Outcome::Again);
            }
            self.write_decision(previous, &view, &plan.problems).await?;
            return Ok(Outcome::Next(requeue::waiting(ctx, uid)));
        }
        problems.extend(plan.problems.iter().cloned());
        self.write_decision(previous, &view, &problems).await?;
        Ok(Outcome::Next(requeue::next_due(ctx, uid, &problems, due)))
    }

    /// Executes the steps. Also reports whether a subnet or host port that Docker refused is chosen again or left out.
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
                // Another server may respond.
                if matches!(error, child::Error::Unreachable(_) | child::Error::Failed(_)) {
                    ctx.memory.set_link(&self.owner.uid, None);
                }
                Some(failures::child(action, error, names, &plan.problems))
            }
            execute::Error::NoChild => {
                let error = child::Error::Unreachable(error.to_string());
                Some(failures::child(action, &error, names, &plan.problems))
            }
            execute::Error::Management(error) => failures::management(action, error, names),
            execute::Error::NotPermitted(problem) => Some(problem.clone()),
            execute::Error::NotMade(_) => None,
        };
        let gate = self.full_gate(view.observed, keep(view.desired));
        let of = (&self.object.object_ref(&()), &gate);
        let carried = carry_out(ctx, of, plan, child, meaning).await;
        // A step on a container may have changed its files.
        for detail in view.observed.own.values() {
            if plan.steps.iter().any(|s| s.action.subject() == detail.container.name) {
                ctx.files.forget(&detail.container.id);
            }
        }
        (carried, retry)
    }

    /// Writes the status of a decision.
    async fn write_decision(
        &self,
        previous: &mut LocalClusterStatus,
        view: &ClusterView<'_>,
        problems: &[Problem],
    ) -> Result<(), Error> {
        let next = status::cluster(previous, &ClusterView { problems, ..*view }, self.moment);
        self.write(previous, next).await
    }
}

/// Returns the names of the containers that are not removed while nothing may be created in their place.
fn keep(desired: &Desired) -> BTreeSet<String> {
    let nodes = desired.nodes().map(|node| node.container.name.clone());
    nodes.chain([desired.load_balancer.name.clone()]).collect()
}

/// Returns a function that triggers a reconciliation of the cluster when a background task ends.
pub fn wake(ctx: &Context, cluster: &LocalCluster) -> Wake {
    let (triggers, name) = (ctx.triggers.clone(), cluster.name_any());
    let namespace = cluster.namespace().unwrap_or_default();
    Box::new(move || triggers.cluster(&namespace, &name))
}
