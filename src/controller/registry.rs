//! The reconcile of a Registry.

use std::{collections::BTreeSet, time::Duration};

use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource, ResourceExt,
    api::ListParams,
    runtime::{controller::Action as Next, reflector::Store},
};

use super::{
    carry_out::{carry_out, hold},
    context::{Context, RegistryGuard},
    drive::tear_down,
    execute,
    kube_io::{Error, bounded},
    observe,
    pace::Pace,
    pass::{Managed, Outcome, Pass, Stop},
    placed,
    pulls::Wake,
    record,
    registry_probe::probe,
    registry_refs, report, requeue, rest, standing, times,
    watches::{listed, managed},
    workers::Workers,
};
use crate::{
    api::{
        GARBAGE_COLLECT_ANNOTATION, LocalCluster, Registry, RegistryStatus, condition::ConditionType,
        uses::uses,
    },
    docker::{error::Error as DockerError, share::Shares},
    plan::{
        adoption, called,
        failures::Consequence,
        kind::Kind,
        observed::{Host, Observed},
        policy::{permit::Gate, standing::Standing},
        registry::{
            Desired, Inputs, Subject, collection,
            config::Tls,
            decide::{Decision, Wanted},
            host_path,
            teardown::{self, Deleted},
        },
        steps::{Action, Plan, Problem},
        validate,
    },
    status::{self, Moment, RegistryView},
    time,
};

impl Managed for Registry {
    type Status = RegistryStatus;
    const PASSES: usize = 5;
    const UNJUDGED: ConditionType = ConditionType::ContainerReady;

    fn workers(workers: &Workers) -> &Shares {
        &workers.registries
    }

    fn stored(ctx: &Context) -> &Store<RegistryGuard> {
        &ctx.registries
    }

    fn status(&self) -> Option<&RegistryStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &RegistryStatus) -> &[Condition] {
        &status.conditions
    }

    fn conditions_mut(status: &mut RegistryStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn blocked(
        previous: &RegistryStatus,
        problems: &[Problem],
        unknown: ConditionType,
        moment: Moment,
    ) -> RegistryStatus {
        status::registry_blocked(previous, problems, unknown, moment)
    }

    fn standing(&self, ctx: &Context) -> Standing {
        ctx.standing_of_registry(self)
    }

    async fn rest(pass: &Pass<'_, Self>, _previous: &mut RegistryStatus, why: &str) -> Result<Outcome, Stop> {
        Err(rest::stop(pass, why, ConditionType::ContainerReady).await)
    }

    async fn look_and_act(pass: &Pass<'_, Self>, previous: &mut RegistryStatus) -> Result<Outcome, Stop> {
        let (ctx, object, owner) = (pass.ctx, pass.object, &pass.owner);
        let namespace = object.namespace().unwrap_or_default();
        let valid = validate::registry(&namespace, &object.name_any(), &object.spec);
        let mut valid = valid.map_err(Stop::Invalid)?;
        valid.restart = placed::restart(ctx, object);
        let host = pass.survey().await?;
        if let Some(problem) = standing::refused(&pass.standing, !host.own.is_empty()) {
            return Err(Stop::Blocked(vec![problem], ConditionType::ResolvedRefs));
        }
        let living = ctx.living_registries();
        let (explicit, reported) = (object.spec.hostname.as_deref(), previous.cluster.as_deref());
        valid.hostname = called::registry(owner, explicit, reported, &host, &living);
        let own = (Kind::Registry, owner);
        if let Some(problem) = adoption::left(own, &host, Self::UNJUDGED, |name| name == valid.hostname) {
            return Err(Stop::Blocked(vec![problem], Self::UNJUDGED));
        }
        let secrets = registry_refs::secrets(ctx, &namespace, &valid).await?;
        let secrets = secrets.map_err(|problems| Stop::Blocked(problems, Self::UNJUDGED))?;
        let annotation = object.annotations().get(GARBAGE_COLLECT_ANNOTATION);
        let request = annotation.and_then(|value| collection::request(value));
        let (before, refused) = (previous.clone(), ctx.memory.refused(&owner.uid));
        let running = host.own_named(&valid.hostname);
        let used = valid.max_size.and_then(|_| ctx.measures.size(&owner.uid, running, wake(pass)));
        let subject = Subject {
            valid: &valid,
            secrets: &secrets,
            owner,
            settings: &pass.settings,
            previous: &before,
            refused: &refused,
            living: &living,
            used,
            request: request.as_deref(),
            created: object.creation_timestamp().map(|time| time.0),
            now: pass.moment.now,
        };
        let wanted = subject.desire(&host).map_err(|problems| Stop::Blocked(problems, Self::UNJUDGED))?;
        let mut observed = pass.docker(details(ctx, &subject, host, &wanted.desired).await)?;
        pass.docker(pass.observe_access(&mut observed).await)?;
        let inputs = Inputs { subject, observed: &observed };
        let mut decision = inputs.decide(&wanted);
        record::plan(pass, &mut decision.plan, &observed, &valid.hostname).await;
        let due = admit(pass, &inputs, &mut decision).await;
        act(pass, previous, &inputs, (&wanted, &decision), due).await
    }

    async fn cleanup(pass: &Pass<'_, Self>, previous: &mut RegistryStatus) -> Result<Option<Next>, Error> {
        let (object, ctx) = (pass.object, pass.ctx);
        let users = users(object, ctx).await?;
        if !users.is_empty() {
            let mut next = previous.clone();
            let why = format!(
                "LocalClusters use the registry: {}; delete them, or remove the registry from their spec.registries",
                users.join(", ")
            );
            report::deletion_waits(ctx, &object.object_ref(&()), &why);
            status::still_used(&mut next, &users, pass.moment);
            pass.write(previous, next).await?;
            return Ok(Some(Next::requeue(ctx.resync)));
        }
        let registries = listed::<Registry>(ctx).await?;
        let living: BTreeSet<String> = registries.into_iter().filter_map(|r| r.metadata.uid).collect();
        let cluster = previous.cluster.clone();
        let (owner, spec, cluster) = (&pass.owner, &object.spec, cluster.as_deref());
        let deleted = Deleted { owner, spec, cluster, living: &living };
        tear_down(pass, previous, None, |plan: &mut Plan, observed: &Host| {
            teardown::plan(plan, &deleted, observed);
        })
        .await
    }
}

/// Returns the LocalClusters that use a Registry, by the API itself: a watch may be a moment late, and a deletion cannot
/// be undone.
async fn users(object: &Registry, ctx: &Context) -> Result<Vec<String>, Error> {
    let all = ListParams::default();
    let clusters = managed::<LocalCluster>(ctx);
    let clusters = try_join_all(clusters.iter().map(|api| bounded(api.list(&all)))).await?;
    let users = clusters.iter().flatten().filter(|c| uses(c, object));
    let mut users: Vec<String> =
        users.map(|c| format!("{}/{}", c.namespace().unwrap_or_default(), c.name_any())).collect();
    users.sort();
    Ok(users)
}

/// Observes what depends on the desired state: its image, its files, its host directory, its logs.
async fn details(
    ctx: &Context,
    subject: &Subject<'_>,
    host: Host,
    desired: &Desired,
) -> Result<Observed, DockerError> {
    let mut observed = Observed::from(host);
    let image = &desired.container.image;
    observed.images.insert(image.clone(), ctx.pulls.state(&subject.owner.uid, image).await?);
    observe::files(&ctx.files, &mut observed, &[&desired.container]).await?;
    if let Some(look) = host_path::look(desired, subject) {
        observe::host_paths(&*ctx.engine, &mut observed, &look).await?;
    }
    let (registry, collector) = (&desired.container.name, collection::collector(desired, subject, "").name);
    observe::registry_logs(&*ctx.engine, &mut observed, subject.secrets, registry, &collector).await?;
    observe::upstream(&*ctx.engine, &mut observed, subject).await?;
    Ok(observed)
}

/// Returns what permits the steps. The container is not removed while none may be created in its place.
fn gate<'a>(pass: &'a Pass<'_, Registry>, inputs: &Inputs<'a>) -> Gate<'a> {
    pass.full_gate(inputs.observed, BTreeSet::from([inputs.subject.valid.hostname.clone()]))
}

/// Returns what triggers a reconciliation of the object.
fn wake(pass: &Pass<'_, Registry>) -> Wake {
    let (triggers, name) = (pass.ctx.triggers.clone(), pass.object.name_any());
    let namespace = pass.object.namespace().unwrap_or_default();
    Box::new(move || triggers.registry(&namespace, &name))
}

/// Starts pulls, removes the steps that are not due from the plan, and checks the registry if it is as desired. Returns
/// the delay until the first of these steps is due.
async fn admit(pass: &Pass<'_, Registry>, inputs: &Inputs<'_>, decision: &mut Decision) -> Option<Duration> {
    let (ctx, plan) = (pass.ctx, &mut decision.plan);
    report::notes(ctx, &pass.object.object_ref(&()), &pass.owner.uid, plan);
    let gate = gate(pass, inputs);
    let (progress, uid) = (&ctx.memory.progress, &pass.owner.uid);
    let generation = pass.moment.generation;
    let status = pass.object.status.as_ref().filter(|s| s.observed_generation == Some(generation));
    let name = status.filter(|s| s.container.is_some()).map(|_| inputs.subject.valid.hostname.clone());
    let existed = progress.existed(uid, generation, name);
    progress.set_certificate(uid, inputs.subject.secrets.tls.as_ref().and_then(Tls::end));
    plan.confirm_repairs(progress.resumes(uid), |name| existed.contains(name));
    let due = hold(ctx, &gate, plan, None);
    ctx.pulls.keep(&pass.owner.uid, &plan.pulls);
    for image in &plan.pulls {
        ctx.pulls.start(pass.asker(), image, None, wake(pass));
    }
    for image in plan.proofs.clone() {
        let asked = ctx.policies.proofs.start(&ctx.engine, pass.user(), (&image, None), wake(pass)).await;
        plan.problems.extend(asked.err().map(|error| report::docker(ctx, &error)));
    }
    if plan.steps.is_empty() && !plan.problems.iter().any(|p| p.condition == ConditionType::ContainerReady) {
        probe(ctx, inputs, plan).await;
    }
    due
}

/// Executes the decision, and writes the status.
async fn act(
    pass: &Pass<'_, Registry>,
    previous: &mut RegistryStatus,
    inputs: &Inputs<'_>,
    (wanted, decision): (&Wanted, &Decision),
    due: Option<Duration>,
) -> Result<Outcome, Stop> {
    let (ctx, object, plan) = (pass.ctx, pass.object, &decision.plan);
    let users = ctx.users(&pass.object.namespace().unwrap_or_default(), &object.name_any());
    let view = |problems| RegistryView {
        valid: inputs.subject.valid,
        desired: &wanted.desired,
        observed: inputs.observed,
        problems,
        used_by: users.clone(),
        collected: decision.collected.clone(),
        used: inputs.subject.used,
    };
    let mut problems = Vec::new();
    if !plan.steps.is_empty() {
        if decision.is_written_first(previous, pass.moment.generation) || pass.last {
            let next = status::registry(previous, view(&plan.problems), pass.moment);
            pass.write(previous, next).await?;
        }
        let meaning = |action: &Action, error: &execute::Error| {
            let error = match error {
                execute::Error::Docker(error) => error,
                execute::Error::NotPermitted(problem) => return Some(problem.clone()),
                _ => return None,
            };
            let consequence = ctx.memory.refuse(&pass.owner.uid, |refused| {
                inputs.docker_failed((action, error), &wanted.desired, previous, refused)
            });
            match consequence {
                Consequence::Problem(problem) => Some(problem),
                Consequence::ChosenAgain | Consequence::PortsHeld(_) | Consequence::OutOfDate => None,
            }
        };
        let gate = gate(pass, inputs);
        let of = (&object.object_ref(&()), &gate);
        let carried = carry_out(ctx, of, plan, None, meaning).await;
        // Whatever was done to a container may have changed its files.
        inputs.observed.own.keys().for_each(|id| ctx.files.forget(id));
        problems = carried.problems();
        if problems.is_empty() {
            return Ok(Outcome::Again);
        }
    }
    problems.extend(plan.problems.iter().cloned());
    if problems.is_empty() && due.is_none() {
        ctx.memory.pace(&pass.owner.uid, Pace::forget);
    }
    let next = status::registry(previous, view(&problems), pass.moment);
    pass.write(previous, next).await?;
    let next = requeue::next_due(ctx, &pass.owner.uid, &problems, due);
    let (valid, now) = (inputs.subject.valid, pass.moment.now);
    let again = valid.proxy.as_ref().map(|_| time::after(now, times::UPSTREAM));
    // A cache has no schedule.
    let again = again.or_else(|| valid.schedule.as_ref()?.after(now));
    let again = again.filter(|_| problems.is_empty() && due.is_none());
    Ok(Outcome::Next(again.map_or(next, |at| requeue::at(ctx, at, now))))
}
