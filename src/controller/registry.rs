//! The reconcile of a Registry.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kube::{Api, Resource, ResourceExt, api::ListParams, runtime::controller::Action as Next};

use super::{
    carry_out::{Left, carry_out, hold, take_away},
    context::Context,
    execute,
    kube_io::{self, Error, bounded},
    observe,
    probe::{Question, Trouble},
    registry_refs, report,
};
use crate::{
    api::{
        GARBAGE_COLLECT_ANNOTATION, LocalCluster, Registry, RegistryStatus,
        condition::{self, ConditionType},
        reason::Reason,
        uses::uses,
    },
    docker::{engine::State, error::Error as DockerError},
    plan::{
        called, failures,
        observed::Observed,
        owner::Owner,
        refused::Refused,
        registry::{self, Desired, Inputs, collection, config::Secrets, host_path, volume},
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
    let blocked = async |previous: &mut RegistryStatus, problems: &[Problem], unknown: ConditionType| {
        let next = status::registry_blocked(previous, problems, unknown, moment);
        write(object, previous, next, ctx).await?;
        Ok::<_, Error>(Some(report::next(ctx, &owner.uid, problems)))
    };
    let mut valid = match validate::registry(&namespace, &object.name_any(), &object.spec) {
        Ok(valid) => valid,
        Err(messages) => {
            let problem = Problem::stalls(ConditionType::Accepted, Reason::InvalidSpec, messages.join("; "));
            blocked(previous, &[problem], ConditionType::ResolvedRefs).await?;
            return Ok(Some(Next::await_change()));
        }
    };
    let mut observed = match observe::engine(&*ctx.engine, &owner).await {
        Ok(observed) => observed,
        Err(error) => {
            return blocked(previous, &[report::docker(ctx, &error)], ConditionType::ContainerReady).await;
        }
    };
    ctx.health.set_docker(true);
    let living = ctx.living_registries();
    let (explicit, told) = (object.spec.hostname.as_deref(), previous.cluster.as_deref());
    valid.hostname = called::registry(&owner, explicit, told, &observed, &living);
    let mut plan = Plan::default();
    let Some(secrets) = registry_refs::secrets(ctx, &namespace, &valid, &mut plan).await? else {
        return blocked(previous, &plan.problems, ConditionType::ContainerReady).await;
    };
    let annotation = object.annotations().get(GARBAGE_COLLECT_ANNOTATION);
    let subject = Subject {
        valid: &valid,
        secrets: &secrets,
        owner: &owner,
        previous: &previous.clone(),
        refused: &ctx.memory.refused(&owner.uid).ports,
        living: &living,
        request: annotation.and_then(|value| collection::request(value)),
        now: moment.now,
    };
    let Some(desired) = registry::desired(&mut plan, &subject.inputs(ctx, &observed)) else {
        return blocked(previous, &plan.problems, ConditionType::ContainerReady).await;
    };
    if let Err(error) = details(ctx, &subject, &mut observed, &desired).await {
        return blocked(previous, &[report::docker(ctx, &error)], ConditionType::ContainerReady).await;
    }
    let collected = registry::plan(&mut plan, &desired, &subject.inputs(ctx, &observed));
    report::notes(ctx, &object.object_ref(&()), &owner.uid, &plan);
    for image in &plan.pulls {
        let (triggers, namespace, name) = (ctx.triggers.clone(), namespace.clone(), object.name_any());
        ctx.pulls.start(image, None, Box::new(move || triggers.registry(&namespace, &name)));
    }
    let due = hold(ctx, &owner.uid, &mut plan, None);
    if plan.steps.is_empty() && !plan.problems.iter().any(|p| p.condition == ConditionType::ContainerReady) {
        probe(ctx, &observed, &valid, &secrets, &mut plan).await;
    }
    let view = |problems| RegistryView {
        valid: &valid,
        desired: &desired,
        observed: &observed,
        problems,
        used_by: ctx.users(&namespace, &object.name_any()),
        collected: collected.clone(),
    };

    let mut problems = Vec::new();
    let first_look = previous.observed_generation != Some(moment.generation);
    if !plan.steps.is_empty() {
        // Ready is taken back before anything is done about it, or who waits for it would pass meanwhile.
        let no_longer =
            !plan.problems.is_empty() && condition::is_true(&previous.conditions, ConditionType::Ready);
        // What came of a garbage collection is told before what it was told by goes.
        if first_look || no_longer || last || collected.is_some() {
            let next = status::registry(previous, view(&plan.problems), moment);
            write(object, previous, next, ctx).await?;
        }
        let meaning = |action: &Action, error: &execute::Error| {
            let execute::Error::Docker(error) = error else { return None };
            let note =
                |refused: &mut Refused| refused.of_registry(error, &valid, desired.host_port, previous);
            if ctx.memory.refuse(&owner.uid, note) {
                return None;
            }
            failures::docker(action, error, None)
        };
        let told_of = (&object.object_ref(&()), &owner);
        let carried = carry_out(ctx, told_of, &plan, None, moment.now, meaning).await;
        // Whatever was done to a container may have changed its files.
        observed.own.keys().for_each(|id| ctx.files.forget(id));
        problems = carried.problems();
        if problems.is_empty() {
            return Ok(None);
        }
    }
    problems.extend(plan.problems.iter().cloned());
    let next = status::registry(previous, view(&problems), moment);
    write(object, previous, next, ctx).await?;
    Ok(Some(report::next_due(ctx, &owner.uid, &problems, due)))
}

/// What a plan is made of, besides what there is.
struct Subject<'a> {
    valid: &'a ValidRegistry,
    secrets: &'a Secrets,
    owner: &'a Owner,
    previous: &'a RegistryStatus,
    refused: &'a BTreeSet<u16>,
    living: &'a BTreeSet<String>,
    request: Option<String>,
    now: Timestamp,
}

impl Subject<'_> {
    fn inputs<'a>(&'a self, ctx: &'a Context, observed: &'a Observed) -> Inputs<'a> {
        Inputs {
            valid: self.valid,
            secrets: self.secrets,
            owner: self.owner,
            settings: &ctx.settings,
            observed,
            previous: self.previous,
            refused: self.refused,
            living: self.living,
            request: self.request.as_deref(),
            now: self.now,
        }
    }
}

/// Image, files, logs and the directory of the host, once it is known which are wanted.
async fn details(
    ctx: &Context,
    subject: &Subject<'_>,
    observed: &mut Observed,
    desired: &Desired,
) -> Result<(), DockerError> {
    let image = &desired.container.image;
    observed.images.insert(image.clone(), ctx.pulls.state(image).await?);
    observe::files(&ctx.files, observed, &[&desired.container]).await?;
    if let Some(look) = host_path::look(desired, &subject.inputs(ctx, observed)) {
        observe::host_paths(&*ctx.engine, observed, &look).await?;
    }
    let collector = collection::collector(desired, &subject.inputs(ctx, observed), "").name;
    observe::registry_logs(&*ctx.engine, observed, subject.secrets, &desired.container.name, &collector).await
}

/// Asks the registry itself whether it answers, and whether it lets in those that it has to and nobody else.
async fn probe(
    ctx: &Context,
    observed: &Observed,
    valid: &ValidRegistry,
    secrets: &Secrets,
    plan: &mut Plan,
) {
    let Some(detail) = observed.own_named(&valid.hostname) else { return };
    if detail.container.state != State::Running {
        return;
    }
    let shared = ctx.settings.management.network(observed, &ctx.manager, "");
    let mut addresses: Vec<_> =
        detail.container.networks.iter().filter_map(|(id, p)| Some((id, p.ip?))).collect();
    addresses.sort_by_key(|(id, _)| Some(id.as_str()) != shared.as_deref());
    let hostname = &valid.hostname;
    let ca = secrets.tls.as_ref().map(|tls| tls.ca.as_slice());
    let wanted = if secrets.htpasswd.is_some() { 401 } else { 200 };
    let mut last = (Reason::NotAnswering, format!("{hostname} does not answer: it has no address"));
    for (_, ip) in addresses {
        let mut question = Question { ip, hostname, ca, login: None };
        last = match ctx.probe.ask(&question).await {
            Ok(code) if code == wanted => {
                question.login = secrets.client.as_ref();
                if question.login.is_none() {
                    return;
                }
                match ctx.probe.ask(&question).await {
                    Ok(200) => return,
                    Ok(401) => (Reason::CredentialsRefused, refused(valid)),
                    other => (Reason::NotAnswering, format!("{hostname} does not answer: {}", told(other))),
                }
            }
            Err(Trouble::Certificate(words)) => {
                let message = format!(
                    "the certificate in the Secret {} can't be trusted as {hostname} by its CA: {words}",
                    valid.tls.as_ref().map_or("", |tls| tls.secret_name.as_str())
                );
                (Reason::CertificateInvalid, message)
            }
            other => (Reason::NotAnswering, format!("{hostname} does not answer: {}", told(other))),
        };
    }
    match last {
        (Reason::NotAnswering, message) => {
            plan.waits(ConditionType::Reachable, Reason::NotAnswering, message)
        }
        (reason, message) => plan.stalls(ConditionType::Reachable, reason, message),
    }
}

fn told(answer: Result<u16, Trouble>) -> String {
    match answer {
        Ok(code) => format!("it answers /v2/ with {code}"),
        Err(Trouble::Silent(words) | Trouble::Certificate(words)) => words,
    }
}

fn refused(valid: &ValidRegistry) -> String {
    let auth = valid.auth.as_ref();
    let client = auth.and_then(|a| a.client_secret.as_deref()).unwrap_or_default();
    let users = auth.map_or("", |a| a.htpasswd_secret.as_str());
    format!(
        "the registry refuses the username and password in the Secret {client}: put what `htpasswd -Bbn USERNAME \
         PASSWORD` prints for them into the key htpasswd of the Secret {users}"
    )
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
    let moment = Moment { generation: object.metadata.generation.unwrap_or_default(), now: (ctx.now)() };
    let mut previous = object.status.clone().unwrap_or_default();

    // Asked of the API itself: a watch may be a moment late, and this can't be taken back.
    let clusters = Api::<LocalCluster>::all(ctx.client.clone());
    let clusters = bounded(clusters.list(&ListParams::default())).await?;
    let mut users: Vec<String> = clusters
        .iter()
        .filter(|c| uses(c, object))
        .map(|c| format!("{}/{}", c.namespace().unwrap_or_default(), c.name_any()))
        .collect();
    users.sort();
    if !users.is_empty() {
        let mut next = previous.clone();
        next.used_by.clone_from(&users);
        status::in_use(&mut next.conditions, &users, moment);
        write(object, &mut previous, next, ctx).await?;
        return Ok(Some(Next::requeue(ctx.resync)));
    }
    let registries = Api::<Registry>::all(ctx.client.clone());
    let registries = bounded(registries.list_metadata(&ListParams::default())).await?;
    let living: BTreeSet<String> = registries.items.into_iter().filter_map(|r| r.metadata.uid).collect();
    let storage = &object.spec.storage;
    let retained = storage.retain || storage.volume_name.is_some() || storage.host_path.is_some();
    let (explicit, told) = (object.spec.hostname.as_deref(), previous.cluster.clone());
    let all = |plan: &mut Plan, observed: &Observed| {
        let hostname = called::registry(&owner, explicit, told.as_deref(), observed, &living);
        volume::teardown(plan, &owner, observed, &hostname, retained, &living);
    };
    match take_away(ctx, (&object.object_ref(&()), &owner), None, all).await {
        Left::Nothing => Ok(None),
        Left::Some(problems, due) => {
            if !problems.is_empty() {
                let next =
                    status::registry_blocked(&previous, &problems, ConditionType::ContainerReady, moment);
                write(object, &mut previous, next, ctx).await?;
            }
            Ok(Some(report::next_due(ctx, &owner.uid, &problems, due)))
        }
    }
}
