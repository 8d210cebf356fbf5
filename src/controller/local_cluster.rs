//! The reconcile of a LocalCluster: a straight line from the object to what becomes of it.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::try_join_all;
use jiff::SignedDuration;
use kube::{Resource, ResourceExt, runtime::controller::Action as Next};

use super::{
    balance,
    carry_out::{Left, carry_out, hold, take_away},
    context::Context,
    credentials::{self, Sight},
    execute, expiry, hang,
    kube_io::{self, Error},
    manifests, observe, ports,
    pulls::Wake,
    reach::{self, Seen},
    report, resolve, stopped,
};
use crate::{
    api::{
        LocalCluster, LocalClusterStatus, RESET_QUORUM_ANNOTATION,
        condition::{self, reasons, types},
        names::{self, ClusterNames},
    },
    child::api as child,
    docker::{engine::State, error::Error as DockerError},
    k3s,
    plan::{
        called, cluster,
        desired::Desired,
        failures,
        inputs::{self, Inputs},
        local_cluster::{self, teardown},
        nodes::repair,
        observed::Observed,
        owner::Owner,
        refused::Refused,
        servers::{self, data_loss},
        steps::{Action, Plan, Problem},
        turns, validate,
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
        match pass(cluster, &mut previous, ctx, number == PASSES).await? {
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

    let invalid = async |previous: &mut LocalClusterStatus, messages: Vec<String>| {
        let problem = Problem::stalls(types::ACCEPTED, reasons::INVALID_SPEC, messages.join("; "));
        blocked(previous, &[problem], types::RESOLVED_REFS).await?;
        Ok(Outcome::Next(Next::await_change()))
    };
    let valid = match validate::local_cluster(&namespace, &cluster.name_any(), &cluster.spec) {
        Ok(valid) => valid,
        Err(messages) => return invalid(previous, messages).await,
    };
    let mut observed = match observe::engine(&*ctx.engine, &owner).await {
        Ok(observed) => observed,
        Err(error) => return blocked(previous, &[report::docker(ctx, &error)], types::NETWORK_READY).await,
    };
    ctx.health.set_docker(true);
    let named = called::cluster(&owner, &observed, previous);
    let valid = match named.filter(|name| *name != valid.names.cluster) {
        Some(name) => {
            match validate::local_cluster_called(&namespace, &cluster.name_any(), &cluster.spec, &name) {
                Ok(valid) => valid,
                Err(messages) => return invalid(previous, messages).await,
            }
        }
        None => valid,
    };
    if valid.stopped {
        return stopped::pass(cluster, previous, ctx, (&valid, &owner, &observed), moment).await;
    }
    if let Err(error) = observe::kept(&*ctx.engine, &mut observed, &valid.names).await {
        return blocked(previous, &[report::docker(ctx, &error)], types::NETWORK_READY).await;
    }

    let mut plan = Plan::default();
    let Some(refs) = resolve::refs(ctx, cluster, &valid, &observed, &mut plan).await? else {
        return blocked(previous, &plan.problems, types::NETWORK_READY).await;
    };
    // What is there is kept up; nothing is begun.
    if refs.inputs.is_none() && observed.own.is_empty() {
        return blocked(previous, &plan.problems, types::NETWORK_READY).await;
    }
    let refused = ctx.memory.refused(&owner.uid);
    let allocated =
        cluster::allocate(&mut plan, &valid, &owner, &ctx.settings, &observed, previous, &refused);
    let Some(mut allocation) = allocated else {
        return blocked(previous, &plan.problems, types::REGISTRIES_READY).await;
    };
    ports::judge(ctx, &owner, &valid, &observed, previous, &mut plan, &mut allocation).await;
    let Seen { credentials, child } = reach::child(ctx, &owner, &mut observed, &valid, &allocation).await;
    hang::observe(ctx, &owner, &valid, &mut observed).await;
    if let Err(error) = balance::observe(ctx, &valid, &allocation, &mut observed).await {
        return blocked(previous, &[report::docker(ctx, &error)], types::NETWORK_READY).await;
    }
    let settings = &ctx.settings;
    let basis = cluster::Basis {
        valid: &valid,
        owner: &owner,
        settings,
        refs: &refs,
        allocation: &allocation,
        observed: &observed,
        previous,
        now: moment.now,
    };
    let desired = cluster::desired(&mut plan, basis);
    let seen = details(ctx, &mut observed, &desired, &refs.token).await;
    if let Err(error) = seen {
        return blocked(previous, &[report::docker(ctx, &error)], types::NETWORK_READY).await;
    }
    if let Err(error) = observe::trees(&ctx.files, &mut observed, &desired).await {
        return blocked(previous, &[report::docker(ctx, &error)], types::NETWORK_READY).await;
    }

    let looked = manifests::observe(&ctx.files, child.as_deref(), &mut observed, &desired, &refs).await;
    if let Err(error) = looked {
        return blocked(previous, &[report::docker(ctx, &error)], types::NETWORK_READY).await;
    }
    if let Err(error) = ctx.preloads.observe(&ctx.pulls, &mut observed, &desired).await {
        return blocked(previous, &[report::docker(ctx, &error)], types::NETWORK_READY).await;
    }

    let done = previous.quorum_reset.clone();
    let asked = cluster.annotations().get(RESET_QUORUM_ANNOTATION).map(String::as_str);
    let reset = inputs::Request { asked, done: done.as_deref() };
    let repairs = repair::remembered(previous, moment.generation);
    let inputs = Inputs {
        owner: &owner,
        observed: &observed,
        refs: &refs,
        management: &ctx.settings.management,
        holders: &servers::holders(previous, &valid.names),
        reset,
        repairs: &repairs,
        repair_after: ctx.settings.node_repair_after,
        now: moment.now,
    };
    local_cluster::plan(&mut plan, &desired, &inputs);
    report::notes(ctx, &cluster.object_ref(&()), &owner.uid, &plan);
    if turns::works(&observed) {
        ctx.turns.done(&owner.uid);
    }
    let begins = turns::begins(&plan, &desired, &observed, &previous.conditions);
    let most = usize::try_from(observed.engine.cpus).unwrap_or_default().max(1);
    if begins && !ctx.turns.take(&owner.uid, most, wake(ctx, cluster)) {
        turns::wait(&mut plan);
    }
    let due = hold(ctx, &owner.uid, &mut plan, Some(&valid.names));
    start_pulls(ctx, cluster, &valid, &desired, &mut plan).await?;
    for import in &plan.imports {
        ctx.preloads.start(import, wake(ctx, cluster));
    }
    let sight = Sight { desired: &desired, allocation: &allocation, observed: &observed };
    let secret =
        credentials::kubeconfig_secret(ctx, cluster, &mut plan, previous, sight, credentials).await?;

    let view = ClusterView {
        valid: &valid,
        owner: &owner,
        allocation: &allocation,
        desired: &desired,
        refs: &refs,
        observed: &observed,
        problems: &plan.problems,
        unjudged: plan.unjudged,
        reset: plan.reset.as_deref(),
        forgets: plan.forgets,
        quorum_reset: reset.told(&plan),
        repairs: &plan.repairs,
        kubeconfig_secret: secret.as_deref(),
    };
    let first_look = previous.observed_generation != Some(moment.generation);
    // Ready is taken back before anything is done about it, or who waits for it would pass meanwhile.
    let no_longer = !plan.problems.is_empty() && condition::is_true(&previous.conditions, types::READY);
    // A repair is counted before it is begun: an operator that is killed by it must not forget it.
    let counted = plan.repairs != repairs;
    if plan.forgets {
        report::warning(ctx, &cluster.object_ref(&()), reasons::DATA_LOST, data_loss::RECREATED);
    }
    if first_look || no_longer || counted || plan.forgets || last || plan.steps.is_empty() {
        let next = status::cluster(previous, &view, moment);
        write(cluster, previous, next, ctx).await?;
    }
    if plan.steps.is_empty() {
        let next = report::next_due(ctx, &owner.uid, &plan.problems, due);
        // What is settled is otherwise looked at seldom.
        let again = plan.again.filter(|_| plan.problems.is_empty() && due.is_none());
        return Ok(Outcome::Next(again.map_or(next, |at| report::at(ctx, at, moment.now))));
    }

    let mut retry = false;
    let meaning = |action: &Action, error: &execute::Error| match error {
        execute::Error::Docker(error) => {
            let note =
                |refused: &mut Refused| refused.of_cluster(action, error, &valid, &allocation, previous);
            // The plan that follows does without a port that something else has.
            if ctx.memory.refuse(&owner.uid, note) || ports::note(ctx, &owner, error, &valid, &allocation) {
                retry = true;
                return None;
            }
            failures::docker(action, error, Some(&valid.names))
        }
        execute::Error::Child(error) => {
            // Where this server can't, another one may.
            if matches!(error, child::Error::Unreachable(_) | child::Error::Failed(_)) {
                ctx.memory.drop_child(&owner.uid);
            }
            Some(failures::child(action, error, Some(&valid.names), &plan.problems))
        }
        execute::Error::NoChild => {
            let error = child::Error::Unreachable(error.to_string());
            Some(failures::child(action, &error, Some(&valid.names), &plan.problems))
        }
        execute::Error::NotMade(_) => None,
    };
    let told_of = (&cluster.object_ref(&()), &owner);
    let carried = carry_out(ctx, told_of, &plan, child.as_deref(), moment.now, meaning).await;
    // Whatever was done to a container may have changed its files.
    for detail in observed.own.values() {
        if plan.steps.iter().any(|s| s.action.subject() == detail.container.name) {
            ctx.files.forget(&detail.container.id);
        }
    }
    let all_done = carried.report.failed.is_empty();
    if begins && !all_done {
        ctx.turns.done(&owner.uid);
    }
    let mut problems = carried.problems();
    if problems.is_empty() || (retry && !problems.iter().any(Problem::stalled)) {
        // A drain asks again and again; nothing else is worth another look at once.
        let busy = plan.steps.iter().any(|s| !matches!(s.action, Action::Drain { .. }));
        if busy && all_done {
            return Ok(Outcome::Again);
        }
        let next = status::cluster(previous, &view, moment);
        write(cluster, previous, next, ctx).await?;
        return Ok(Outcome::Next(report::waiting(ctx, &owner.uid)));
    }
    problems.extend(plan.problems.iter().cloned());
    let next = status::cluster(previous, &ClusterView { problems: &problems, ..view }, moment);
    write(cluster, previous, next, ctx).await?;
    Ok(Outcome::Next(report::next_due(ctx, &owner.uid, &problems, due)))
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

/// Writes the status where it differs, and keeps it as the last one written.
pub async fn write(
    cluster: &LocalCluster,
    previous: &mut LocalClusterStatus,
    mut next: LocalClusterStatus,
    ctx: &Context,
) -> Result<(), Error> {
    next.expires_at = expiry::told(cluster);
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
    let namespace = cluster.namespace().unwrap_or_default();
    let told = called::cluster(&owner, &Observed::default(), &cluster.status.clone().unwrap_or_default());
    let chosen = || names::cluster(&namespace, &cluster.name_any(), cluster.spec.cluster_name.as_deref());
    let names = ClusterNames::new(told.unwrap_or_else(chosen));
    let told_of = (&cluster.object_ref(&()), &owner);
    let all = |plan: &mut Plan, observed: &Observed| teardown(plan, &owner, observed, |_| false);
    match take_away(ctx, told_of, Some(&names), all).await {
        Left::Nothing => {
            ctx.turns.done(&owner.uid);
            Ok(None)
        }
        Left::Some(problems, due) => {
            if !problems.is_empty() {
                let moment =
                    Moment { generation: cluster.metadata.generation.unwrap_or_default(), now: (ctx.now)() };
                let mut previous = cluster.status.clone().unwrap_or_default();
                let next = status::cluster_blocked(&previous, &problems, types::NETWORK_READY, moment);
                write(cluster, &mut previous, next, ctx).await?;
            }
            Ok(Some(report::next_due(ctx, &owner.uid, &problems, due)))
        }
    }
}
