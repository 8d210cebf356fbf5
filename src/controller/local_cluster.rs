//! The reconcile of a LocalCluster: a straight line from the object to what becomes of it.

use std::{sync::Arc, time::Duration};

use futures::future::try_join_all;
use kube::{Resource, ResourceExt, runtime::controller::Action as Next};

use super::{
    context::Context,
    credentials,
    execute::{self, Report},
    kube_io::{self, Error},
    observe,
    reach::{self, Seen},
    report, resolve,
};
use crate::{
    api::{
        LocalCluster, LocalClusterStatus,
        condition::{self, reasons, types},
    },
    docker::{engine::State, error::Error as DockerError},
    k3s::{self},
    plan::{
        cluster::{self, Allocation, Desired, Refs},
        containers::Owner,
        failures,
        local_cluster::{self, Inputs, teardown},
        observed::Observed,
        steps::{Action, Plan, Problem},
        validate,
    },
    status::{self, ClusterView, Moment},
};

/// How many times one reconcile looks and acts before it lets others have their turn.
const PASSES: usize = 6;

/// How long a refused choice of a subnet is put down to others who chose the same.
const PATIENCE: Duration = Duration::from_secs(10);

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
        match pass(cluster, &mut previous, ctx, number == PASSES).await? {
            Outcome::Again => {}
            Outcome::Next(next) => return Ok(next),
        }
    }
    Ok(report::waiting(ctx, &cluster.uid().unwrap_or_default()))
}

enum Outcome {
    /// Something was done: look again.
    Again,
    /// Nothing more can be done now.
    Next(Next),
}

/// One look and the acts that follow from it. After the `last` one in a row, the status tells how far it got.
async fn pass(
    cluster: &LocalCluster,
    previous: &mut LocalClusterStatus,
    ctx: &Arc<Context>,
    last: bool,
) -> Result<Outcome, Error> {
    let moment = Moment { generation: cluster.metadata.generation.unwrap_or_default(), now: (ctx.now)() };
    let owner = owner(cluster, ctx);
    let namespace = cluster.namespace().unwrap_or_default();
    let blocked = async |previous: &mut LocalClusterStatus, problems: &[Problem], unknown: &str| {
        let next = status::cluster_blocked(previous, problems, unknown, moment);
        write(cluster, previous, next, ctx).await?;
        Ok::<_, Error>(Outcome::Next(report::next(ctx, &owner.uid, problems)))
    };

    let valid = match validate::local_cluster(&namespace, &cluster.name_any(), &cluster.spec) {
        Ok(valid) => valid,
        Err(messages) => {
            let problem = report::stalled(types::ACCEPTED, reasons::INVALID_SPEC, messages.join("; "));
            blocked(previous, &[problem], types::RESOLVED_REFS).await?;
            return Ok(Outcome::Next(Next::await_change()));
        }
    };
    let mut observed = match observe::engine(&*ctx.engine, &owner).await {
        Ok(observed) => observed,
        Err(error) => return blocked(previous, &[report::docker(ctx, &error)], types::NETWORK_READY).await,
    };
    ctx.health.set_docker(true);

    let mut plan = Plan::default();
    let Some(refs) = resolve::refs(ctx, cluster, &valid, &observed, &mut plan).await? else {
        return blocked(previous, &plan.problems, types::NETWORK_READY).await;
    };
    let refused = ctx.memory.refused(&owner.uid);
    let allocated =
        cluster::allocate(&mut plan, &valid, &owner, &ctx.settings, &observed, previous, &refused);
    let Some(allocation) = allocated else {
        return blocked(previous, &plan.problems, types::REGISTRIES_READY).await;
    };
    let desired = cluster::desired(&valid, &owner, &ctx.settings, &refs, &allocation, &observed);
    let seen = details(ctx, &mut observed, &desired, &refs.token).await;
    if let Err(error) = seen {
        return blocked(previous, &[report::docker(ctx, &error)], types::NETWORK_READY).await;
    }
    let Seen { credentials, child } = reach::child(ctx, &owner, &mut observed, &desired, &allocation).await;

    let inputs = Inputs {
        owner: &owner,
        observed: &observed,
        refs: &refs,
        node_name: ctx.settings.node_name.as_deref(),
        now: moment.now,
    };
    local_cluster::plan(&mut plan, &desired, &inputs);
    start_pulls(ctx, cluster, &valid, &observed, &mut plan).await?;
    let secret =
        credentials::kubeconfig_secret(ctx, cluster, &mut plan, previous, &desired, &allocation, credentials)
            .await?;

    let first_look = previous.observed_generation != Some(moment.generation);
    // Ready is taken back before anything is done about it, or who waits for it would pass meanwhile.
    let no_longer = !plan.problems.is_empty() && condition::is_true(&previous.conditions, types::READY);
    if first_look || no_longer || last || plan.steps.is_empty() {
        let view = view(
            &valid,
            &owner,
            &allocation,
            &desired,
            &refs,
            &observed,
            &plan.problems,
            plan.unjudged,
            secret.as_deref(),
        );
        let next = status::cluster(previous, &view, moment);
        write(cluster, previous, next, ctx).await?;
    }
    if plan.steps.is_empty() {
        return Ok(Outcome::Next(report::next(ctx, &owner.uid, &plan.problems)));
    }

    let done = execute::execute(&plan.steps, &*ctx.engine, child.as_deref(), moment.now, &ctx.metrics).await;
    // Whatever was done to a container may have changed its files.
    for detail in observed.own.values() {
        if plan.steps.iter().any(|s| s.action.subject() == detail.container.name) {
            ctx.files.forget(&detail.container.id);
        }
    }
    report::events(ctx, &cluster.object_ref(&()), &plan.steps, &done);
    let problems = problems(ctx, &owner, &plan, &done, &valid, &allocation, previous);
    let Some(problems) = problems else {
        // A drain asks again and again; nothing else is worth another look at once.
        let busy = plan.steps.iter().any(|s| !matches!(s.action, Action::Drain { .. }));
        if busy && done.failed.is_empty() {
            return Ok(Outcome::Again);
        }
        let view = view(
            &valid,
            &owner,
            &allocation,
            &desired,
            &refs,
            &observed,
            &plan.problems,
            plan.unjudged,
            secret.as_deref(),
        );
        let next = status::cluster(previous, &view, moment);
        write(cluster, previous, next, ctx).await?;
        return Ok(Outcome::Next(report::waiting(ctx, &owner.uid)));
    };
    let all: Vec<Problem> = problems.into_iter().chain(plan.problems).collect();
    let view =
        view(&valid, &owner, &allocation, &desired, &refs, &observed, &all, plan.unjudged, secret.as_deref());
    let next = status::cluster(previous, &view, moment);
    write(cluster, previous, next, ctx).await?;
    Ok(Outcome::Next(report::next(ctx, &owner.uid, &all)))
}

#[allow(clippy::too_many_arguments)] // the parts of a view, each from another stage
fn view<'a>(
    valid: &'a validate::Valid,
    owner: &'a Owner,
    allocation: &'a Allocation,
    desired: &'a Desired,
    refs: &'a Refs,
    observed: &'a Observed,
    problems: &'a [Problem],
    unjudged: Option<&'static str>,
    kubeconfig_secret: Option<&'a str>,
) -> ClusterView<'a> {
    ClusterView { valid, owner, allocation, desired, refs, observed, problems, unjudged, kubeconfig_secret }
}

/// What the failed steps mean; `None` when nothing failed, or only because the picture was out of date.
fn problems(
    ctx: &Context,
    owner: &Owner,
    plan: &Plan,
    done: &Report,
    valid: &validate::Valid,
    allocation: &Allocation,
    previous: &LocalClusterStatus,
) -> Option<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut retry = false;
    for (index, error) in &done.failed {
        let action = &plan.steps[*index].action;
        tracing::warn!(object = owner.object, step = %action, %error, "a step failed");
        match error {
            execute::Error::Docker(error) => {
                // A port that was chosen here and never handed out is exchanged for another.
                let chosen =
                    (previous.api_port.is_none() && valid.api_port.is_none()).then_some(allocation.api_port);
                let more = valid.ports.iter().zip(&allocation.ports).filter_map(|(port, allocated)| {
                    let known = previous.ports.iter().any(|p| p.name == port.name);
                    (port.host_port.is_none() && !known).then_some(allocated.host_port)
                });
                let refused = failures::refused_ports(error, chosen.into_iter().chain(more));
                if !refused.is_empty() {
                    ctx.memory.refuse(&owner.uid, &refused);
                    retry = true;
                    continue;
                }
                // Two clusters that are made at once may choose the same subnet: the slower one looks again.
                let subnet =
                    matches!(action, Action::CreateNetwork(_)) && matches!(error, DockerError::Address(_));
                let chosen = valid.subnet.is_none() && previous.network.is_none();
                if subnet && chosen && ctx.memory.unsettled_for(&owner.uid) < PATIENCE {
                    retry = true;
                    continue;
                }
                problems.extend(failures::docker(action, error, Some(&valid.names)));
            }
            execute::Error::Child(error) => {
                ctx.memory.drop_child(&owner.uid);
                problems.push(failures::child(action, &error.to_string(), Some(&valid.names)));
            }
            execute::Error::NoChild => {
                problems.push(failures::child(action, &error.to_string(), Some(&valid.names)));
            }
            execute::Error::NotMade(_) => {}
        }
    }
    if problems.is_empty() || (retry && problems.iter().all(|p| !p.stalled)) { None } else { Some(problems) }
}

/// Images and files, once it is known which are wanted.
async fn details(
    ctx: &Context,
    observed: &mut Observed,
    desired: &Desired,
    token: &[u8],
) -> Result<(), DockerError> {
    let specs: Vec<_> = desired.servers.iter().chain(&desired.agents).map(|n| &n.container).collect();
    let images: std::collections::BTreeSet<&str> =
        specs.iter().map(|s| s.image.as_str()).chain([desired.load_balancer.image.as_str()]).collect();
    last_words(ctx, observed, token).await?;
    let states = images
        .into_iter()
        .map(|image| async move { Ok::<_, DockerError>((image.to_owned(), ctx.pulls.state(image).await?)) });
    observed.images = try_join_all(states).await?.into_iter().collect();
    observe::files(&ctx.files, observed, &[&desired.load_balancer]).await
}

/// What nodes that ended by themselves said last. K3s writes its token nowhere; should it ever, it stops here.
async fn last_words(ctx: &Context, observed: &mut Observed, token: &[u8]) -> Result<(), DockerError> {
    let token = String::from_utf8_lossy(token);
    for detail in observed.own.values_mut() {
        let failed = detail.container.state == State::Restarting
            || (detail.container.state == State::Exited
                && detail.exit_code.is_some_and(|c| c != 0 && c != 137));
        if failed && detail.error.as_deref().unwrap_or_default().is_empty() {
            let lines = ctx.engine.logs(&detail.container.id, 100).await?;
            detail.error = k3s::log::last_words(&lines).filter(|words| !words.contains(&*token));
        }
    }
    Ok(())
}

/// Starts the pulls that the plan asks for.
async fn start_pulls(
    ctx: &Arc<Context>,
    cluster: &LocalCluster,
    valid: &validate::Valid,
    observed: &Observed,
    plan: &mut Plan,
) -> Result<(), Error> {
    let node_image = cluster::image(valid, &ctx.settings, observed);
    let namespace = cluster.namespace().unwrap_or_default();
    for image in plan.pulls.clone() {
        let mut auth = None;
        if let Some(secret) = valid.image_pull_secret.as_ref().filter(|_| image == node_image) {
            auth = resolve::pull_auth(ctx, &namespace, secret, &image, plan).await?;
            if auth.is_none() {
                continue;
            }
        }
        let (triggers, namespace, name) = (ctx.triggers.clone(), namespace.clone(), cluster.name_any());
        ctx.pulls.start(&image, auth, Box::new(move || triggers.cluster(&namespace, &name)));
    }
    Ok(())
}

/// Writes the status where it differs, and keeps it as the last one written.
async fn write(
    cluster: &LocalCluster,
    previous: &mut LocalClusterStatus,
    next: LocalClusterStatus,
    ctx: &Context,
) -> Result<(), Error> {
    if *previous == next {
        return Ok(());
    }
    kube_io::write_status(&ctx.client, cluster, &next).await?;
    report::turned(ctx, &cluster.object_ref(&()), &previous.conditions, &next.conditions);
    *previous = next;
    Ok(())
}

/// Takes away everything that the object made. `None`: all of it is gone.
pub async fn cleanup(cluster: &LocalCluster, ctx: &Arc<Context>) -> Result<Option<Next>, Error> {
    let owner = owner(cluster, ctx);
    let moment = Moment { generation: cluster.metadata.generation.unwrap_or_default(), now: (ctx.now)() };
    let mut previous = cluster.status.clone().unwrap_or_default();
    for _ in 0..PASSES {
        let observed = match observe::engine(&*ctx.engine, &owner).await {
            Ok(observed) => observed,
            Err(error) => {
                let mut problem = report::docker(ctx, &error);
                problem.message = format!("the deletion waits for Docker: {}", problem.message);
                let next = status::cluster_blocked(
                    &previous,
                    std::slice::from_ref(&problem),
                    types::NETWORK_READY,
                    moment,
                );
                write(cluster, &mut previous, next, ctx).await?;
                return Ok(Some(report::next(ctx, &owner.uid, &[problem])));
            }
        };
        ctx.health.set_docker(true);
        let mut plan = Plan::default();
        teardown(&mut plan, &owner, &observed, |_| false);
        if plan.is_settled() {
            ctx.memory.forget(&owner.uid);
            return Ok(None);
        }
        let done = execute::execute(&plan.steps, &*ctx.engine, None, moment.now, &ctx.metrics).await;
        report::events(ctx, &cluster.object_ref(&()), &plan.steps, &done);
        let failed: Vec<Problem> = report::failures(&plan.steps, &done);
        if !failed.is_empty() {
            let next = status::cluster_blocked(&previous, &failed, types::NETWORK_READY, moment);
            write(cluster, &mut previous, next, ctx).await?;
            return Ok(Some(report::next(ctx, &owner.uid, &failed)));
        }
    }
    Ok(Some(Next::requeue(Duration::from_millis(500))))
}
