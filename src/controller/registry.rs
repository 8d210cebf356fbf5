//! The reconcile of a Registry.

use std::{sync::Arc, time::Duration};

use kube::{Api, Resource, ResourceExt, api::ListParams, runtime::controller::Action as Next};

use super::{
    context::Context,
    execute,
    kube_io::{self, Error, bounded},
    observe, report,
};
use crate::{
    api::{
        LocalCluster, Registry, RegistryStatus,
        condition::{self, reasons, types},
        names,
    },
    docker::engine::State,
    k3s::registries::REGISTRY_PORT,
    plan::{
        containers::Owner,
        failures,
        local_cluster::{management_network, teardown},
        observed::Observed,
        registry::{self, VOLUME_OF},
        steps::{Action, Plan, Problem},
        validate::{self, ValidRegistry},
    },
    status::{self, Moment, RegistryView},
};

/// How many times one reconcile looks and acts before it lets others have their turn.
const PASSES: usize = 5;

fn owner(registry: &Registry, ctx: &Context) -> Owner {
    Owner {
        uid: registry.uid().unwrap_or_default(),
        manager: ctx.manager.clone(),
        object: format!("{}/{}", registry.namespace().unwrap_or_default(), registry.name_any()),
    }
}

/// Brings what there is to what the object wants, as far as it goes now.
pub async fn apply(registry: &Registry, ctx: &Arc<Context>) -> Result<Next, Error> {
    let mut previous = registry.status.clone().unwrap_or_default();
    for number in 1..=PASSES {
        if let Some(next) = pass(registry, &mut previous, ctx, number == PASSES).await? {
            return Ok(next);
        }
    }
    Ok(report::waiting(ctx, &registry.uid().unwrap_or_default()))
}

/// One look and the acts that follow from it; `None`: look again. After the `last` one in a row, the status tells how
/// far it got.
async fn pass(
    object: &Registry,
    previous: &mut RegistryStatus,
    ctx: &Arc<Context>,
    last: bool,
) -> Result<Option<Next>, Error> {
    let moment = Moment { generation: object.metadata.generation.unwrap_or_default(), now: (ctx.now)() };
    let owner = owner(object, ctx);
    let namespace = object.namespace().unwrap_or_default();
    let blocked = async |previous: &mut RegistryStatus, problems: &[Problem], unknown: &str| {
        let next = status::registry_blocked(previous, problems, unknown, moment);
        write(object, previous, next, ctx).await?;
        Ok::<_, Error>(Some(report::next(ctx, &owner.uid, problems)))
    };
    let valid = match validate::registry(&namespace, &object.name_any(), &object.spec) {
        Ok(valid) => valid,
        Err(messages) => {
            let problem = report::stalled(types::ACCEPTED, reasons::INVALID_SPEC, messages.join("; "));
            blocked(previous, &[problem], types::RESOLVED_REFS).await?;
            return Ok(Some(Next::await_change()));
        }
    };
    let mut observed = match observe::engine(&*ctx.engine, &owner).await {
        Ok(observed) => observed,
        Err(error) => return blocked(previous, &[report::docker(ctx, &error)], types::CONTAINER_READY).await,
    };
    ctx.health.set_docker(true);
    let mut plan = Plan::default();
    let refused = ctx.memory.refused(&owner.uid);
    let desired = registry::desired(&mut plan, &valid, &owner, &ctx.settings, &observed, previous, &refused);
    let Some(desired) = desired else { return blocked(previous, &plan.problems, types::REACHABLE).await };
    let image = &desired.container.image;
    match ctx.pulls.state(image).await {
        Ok(state) => drop(observed.images.insert(image.clone(), state)),
        Err(error) => return blocked(previous, &[report::docker(ctx, &error)], types::CONTAINER_READY).await,
    }
    registry::plan(&mut plan, &desired, &owner, &observed, ctx.settings.node_name.as_deref());
    for image in &plan.pulls {
        let (triggers, namespace, name) = (ctx.triggers.clone(), namespace.clone(), object.name_any());
        ctx.pulls.start(image, None, Box::new(move || triggers.registry(&namespace, &name)));
    }
    if plan.steps.is_empty() && !plan.problems.iter().any(|p| p.condition == types::CONTAINER_READY) {
        probe(ctx, &observed, &valid, &mut plan).await;
    }

    let mut problems = Vec::new();
    let first_look = previous.observed_generation != Some(moment.generation);
    if !plan.steps.is_empty() {
        // Ready is taken back before anything is done about it, or who waits for it would pass meanwhile.
        let no_longer = !plan.problems.is_empty() && condition::is_true(&previous.conditions, types::READY);
        if first_look || no_longer || last {
            let view = view(ctx, object, &valid, &desired, &observed, &plan.problems);
            let next = status::registry(previous, view, moment);
            write(object, previous, next, ctx).await?;
        }
        let done = execute::execute(&plan.steps, &*ctx.engine, None, moment.now, &ctx.metrics).await;
        report::events(ctx, &object.object_ref(&()), &plan.steps, &done);
        for (index, error) in &done.failed {
            let action = &plan.steps[*index].action;
            tracing::warn!(object = owner.object, step = %action, %error, "a step failed");
            let execute::Error::Docker(error) = error else { continue };
            let chosen = valid.host_port.is_none() && previous.host_port.is_none();
            let refused = failures::refused_ports(error, chosen.then_some(desired.host_port).into_iter());
            if refused.is_empty() {
                problems.extend(failures::docker(action, error, None));
            } else {
                ctx.memory.refuse(&owner.uid, &refused);
            }
        }
        if problems.is_empty() {
            return Ok(None);
        }
    }
    problems.extend(plan.problems);
    let view = view(ctx, object, &valid, &desired, &observed, &problems);
    let next = status::registry(previous, view, moment);
    write(object, previous, next, ctx).await?;
    Ok(Some(report::next(ctx, &owner.uid, &problems)))
}

fn view<'a>(
    ctx: &Context,
    object: &Registry,
    valid: &'a ValidRegistry,
    desired: &'a registry::Desired,
    observed: &'a Observed,
    problems: &'a [Problem],
) -> RegistryView<'a> {
    let used_by = ctx.users(&object.namespace().unwrap_or_default(), &object.name_any());
    RegistryView { valid, desired, observed, problems, used_by }
}

/// Asks the registry itself whether it answers.
async fn probe(ctx: &Context, observed: &Observed, valid: &ValidRegistry, plan: &mut Plan) {
    let Some(detail) = observed.own.values().find(|d| d.container.name == valid.hostname) else { return };
    if detail.container.state != State::Running {
        return;
    }
    let shared = management_network(observed, ctx.settings.node_name.as_deref(), "");
    let mut addresses: Vec<_> =
        detail.container.networks.iter().filter_map(|(id, p)| Some((id, p.ip?))).collect();
    addresses.sort_by_key(|(id, _)| Some(id.as_str()) != shared.as_deref());
    let mut last = "it has no address".to_owned();
    for (_, ip) in addresses {
        match ctx.probe.get(&format!("http://{ip}:{REGISTRY_PORT}/v2/")).await {
            Ok(200) => return,
            Ok(code) => last = format!("it answers /v2/ with {code}"),
            Err(error) => last = error,
        }
    }
    plan.waits(
        types::REACHABLE,
        reasons::NOT_ANSWERING,
        format!("{} does not answer: {last}", valid.hostname),
    );
}

async fn write(
    object: &Registry,
    previous: &mut RegistryStatus,
    next: RegistryStatus,
    ctx: &Context,
) -> Result<(), Error> {
    if *previous == next {
        return Ok(());
    }
    kube_io::write_status(&ctx.client, object, &next).await?;
    report::turned(ctx, &object.object_ref(&()), &previous.conditions, &next.conditions);
    *previous = next;
    Ok(())
}

/// Takes away everything that the object made, once no cluster uses it. `None`: all of it is gone.
pub async fn cleanup(object: &Registry, ctx: &Arc<Context>) -> Result<Option<Next>, Error> {
    let owner = owner(object, ctx);
    let namespace = object.namespace().unwrap_or_default();
    let moment = Moment { generation: object.metadata.generation.unwrap_or_default(), now: (ctx.now)() };
    let mut previous = object.status.clone().unwrap_or_default();

    // Asked of the API itself: a watch may be a moment late, and this can't be taken back.
    let clusters = Api::<LocalCluster>::namespaced(ctx.client.clone(), &namespace);
    let clusters = bounded(clusters.list(&ListParams::default())).await?;
    let name = object.name_any();
    let users: Vec<String> = clusters
        .iter()
        .filter(|c| c.spec.registries.used.iter().any(|r| r.name == name))
        .map(|c| format!("{namespace}/{}", c.name_any()))
        .collect();
    if !users.is_empty() {
        let mut next = previous.clone();
        next.used_by.clone_from(&users);
        status::in_use(&mut next.conditions, &users, moment);
        write(object, &mut previous, next, ctx).await?;
        return Ok(Some(Next::requeue(ctx.resync)));
    }
    let hostname = names::registry(&namespace, &name, object.spec.hostname.as_deref());
    let retained = object.spec.storage.retain || object.spec.storage.volume_name.is_some();
    for _ in 0..PASSES {
        let observed = match observe::engine(&*ctx.engine, &owner).await {
            Ok(observed) => observed,
            Err(error) => {
                let mut problem = report::docker(ctx, &error);
                problem.message = format!("the deletion waits for Docker: {}", problem.message);
                let problems = [problem];
                let next = status::registry_blocked(&previous, &problems, types::CONTAINER_READY, moment);
                write(object, &mut previous, next, ctx).await?;
                return Ok(Some(report::next(ctx, &owner.uid, &problems)));
            }
        };
        ctx.health.set_docker(true);
        let mut plan = Plan::default();
        teardown(&mut plan, &owner, &observed, |_| retained);
        if !retained {
            // A volume that an earlier Registry of this name left has that one's labels.
            let inherited = observed.volumes.iter().filter(|v| {
                v.name == hostname
                    && !owner.owns(&v.labels)
                    && v.labels.get(names::MANAGER) == Some(&owner.manager)
                    && v.labels.get(VOLUME_OF) == Some(&hostname)
            });
            let containers: Vec<usize> = (0..plan.steps.len()).collect();
            for volume in inherited {
                let remove = Action::RemoveVolume { name: volume.name.clone() };
                plan.step(remove, &containers, "its object was deleted");
            }
        }
        if plan.is_settled() {
            ctx.memory.forget(&owner.uid);
            return Ok(None);
        }
        let done = execute::execute(&plan.steps, &*ctx.engine, None, moment.now, &ctx.metrics).await;
        report::events(ctx, &object.object_ref(&()), &plan.steps, &done);
        let failed = report::failures(&plan.steps, &done);
        if !failed.is_empty() {
            let next = status::registry_blocked(&previous, &failed, types::CONTAINER_READY, moment);
            write(object, &mut previous, next, ctx).await?;
            return Ok(Some(report::next(ctx, &owner.uid, &failed)));
        }
    }
    Ok(Some(Next::requeue(Duration::from_millis(500))))
}
