//! Status of a Registry.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Moment, judge, surroundings::kept};
use crate::{
    api::{
        RegistryStatus,
        condition::{self, ConditionType, Status},
        reason::Reason,
        registry::{GarbageCollectionStatus, StorageStatus},
    },
    docker::spec::PortBinding,
    k3s::registries::on_host,
    plan::{
        observed::Observed,
        owner::short,
        registry::{
            self,
            fill::{self, Fill},
            upstream,
        },
        steps::Problem,
        validate::ValidRegistry,
    },
};

/// Conditions of a Registry in the order in which `Ready` evaluates them: causes before effects.
pub(super) const REGISTRY: [ConditionType; 5] = [
    ConditionType::Accepted,
    ConditionType::ResolvedRefs,
    ConditionType::DockerReachable,
    ConditionType::ContainerReady,
    ConditionType::Reachable,
];

/// Returns the status of a Registry that could not be observed. `unknown` is the first condition that cannot be
/// evaluated.
pub fn registry_blocked(
    previous: &RegistryStatus,
    problems: &[Problem],
    unknown: ConditionType,
    moment: Moment,
) -> RegistryStatus {
    let mut status = previous.clone();
    status.observed_generation = Some(moment.generation);
    judge(&mut status.conditions, &REGISTRY, problems, Some(unknown), moment);
    status
}

/// Inputs of the status of a Registry.
pub struct RegistryView<'a> {
    /// The valid spec.
    pub valid: &'a ValidRegistry,
    /// The desired state.
    pub desired: &'a registry::Desired,
    /// The observed state.
    pub observed: &'a Observed,
    /// Problems of the plan and of failed steps.
    pub problems: &'a [Problem],
    /// LocalClusters that use it, as `namespace/name`.
    pub used_by: Vec<String>,
    /// Result of a completed garbage collection.
    pub collected: Option<GarbageCollectionStatus>,
    /// Size of the storage in bytes at the last measurement; `None` if it is unknown.
    pub used: Option<i64>,
}

/// Returns the status of a Registry.
pub fn registry(previous: &RegistryStatus, view: RegistryView<'_>, moment: Moment) -> RegistryStatus {
    let RegistryView { valid, desired, observed, problems, used_by, collected, used } = view;
    let mut conditions = previous.conditions.clone();
    let of = |type_| problems.iter().any(|p: &Problem| p.condition == type_);
    let mut problems = problems.to_vec();
    if of(ConditionType::ContainerReady) && !of(ConditionType::Reachable) {
        let message = "not observed until the container runs as desired";
        problems.push(Problem::unknown(ConditionType::Reachable, Reason::Pending, message));
    }
    judge(&mut conditions, &REGISTRY, &problems, None, moment);
    in_use(&mut conditions, &used_by, moment);
    let fill = used.and_then(|used| Fill::of(used, valid.max_size));
    storage_full(&mut conditions, valid, fill, moment);
    let mut garbage_collection = collected.or_else(|| previous.garbage_collection.clone());
    if let (Some(done), Some(fill)) = (&mut garbage_collection, fill) {
        done.used = Some(fill::least(done.used.as_deref(), fill));
    }
    let storage = fill.map(|fill| StorageStatus { used: fill.told() });
    upstream_ready(&mut conditions, (valid, desired, observed), moment);
    let detail = observed.own_named(&valid.hostname);
    // A registry that was started had its port then, and gets it again.
    let ip = valid.host_ip;
    let holds = detail.is_some_and(|d| {
        let wanted = |p: &PortBinding| p.host_port == desired.host_port && p.host_ip.parse() == Ok(ip);
        d.started_at.is_some() && d.wanted_ports.iter().any(wanted)
    });
    let (host, host_port) = if holds {
        (Some(on_host(ip, desired.host_port)), Some(i32::from(desired.host_port)))
    } else {
        (previous.host.clone(), previous.host_port)
    };
    RegistryStatus {
        docker_host: previous.docker_host.clone(),
        host_ip: previous.host_ip.clone(),
        placeholder: previous.placeholder.clone(),
        observed_generation: Some(moment.generation),
        conditions,
        host,
        cluster: Some(format!("{}:{}", valid.hostname, crate::k3s::registries::REGISTRY_PORT)),
        host_port,
        users: users(&used_by),
        used_by,
        volume: valid.storage.volume(&valid.hostname).map(str::to_owned),
        host_path: valid.storage.host_path().map(str::to_owned),
        proxies: valid.proxy.as_ref().map(|p| p.upstream.clone()),
        container: detail.map(|d| short(&d.container.id).to_owned()),
        default_image: Some(desired.default_image.clone()),
        garbage_collection,
        storage: storage.or_else(|| previous.storage.clone()).filter(|_| valid.max_size.is_some()),
    }
}

fn users(used_by: &[String]) -> Option<i32> {
    Some(i32::try_from(used_by.len()).unwrap_or(i32::MAX))
}

/// Sets the users of a registry whose deletion waits for them.
pub fn still_used(status: &mut RegistryStatus, used_by: &[String], moment: Moment) {
    status.users = users(used_by);
    status.used_by = used_by.to_vec();
    in_use(&mut status.conditions, used_by, moment);
}

const NOT_MEASURED: &str =
    "the size of the storage is not known yet: it is measured while the registry runs, by du in its image";

/// Sets the condition `StorageFull`. A size that is unknown for a moment leaves it unchanged.
fn storage_full(conditions: &mut Vec<Condition>, valid: &ValidRegistry, fill: Option<Fill>, moment: Moment) {
    let type_ = ConditionType::StorageFull;
    if valid.max_size.is_none() {
        return conditions.retain(|c| c.type_ != type_);
    }
    let (status, reason, message) = match fill {
        Some(fill) => {
            let (is_full, reason, message) = fill.judge(valid.proxy.is_some());
            (is_full.into(), reason, message)
        }
        None => match kept(conditions, type_) {
            (status, Reason::Pending, _) => (status, Reason::Pending, NOT_MEASURED.to_owned()),
            kept => kept,
        },
    };
    condition::set(conditions, type_, (status, reason, &message), moment);
}

/// Sets the condition `UpstreamReady`, which only a cache has.
fn upstream_ready(
    conditions: &mut Vec<Condition>,
    (valid, desired, observed): (&ValidRegistry, &registry::Desired, &Observed),
    moment: Moment,
) {
    let type_ = ConditionType::UpstreamReady;
    let Some(proxy) = &valid.proxy else { return conditions.retain(|c| c.type_ != type_.as_str()) };
    let Some(told) = &observed.upstream else {
        let message = if upstream::is_scripted(observed.own_named(&valid.hostname), &desired.container.image)
        {
            "not observed until the registry runs"
        } else {
            "not observed: the image of the registry has another entry point than the official ones"
        };
        condition::set(conditions, type_, (Status::Unknown, Reason::Pending, message), moment);
        return;
    };
    let Some((reason, mut message, error)) = upstream::problem(told, proxy) else {
        condition::set(conditions, type_, (true, Reason::Reachable, ""), moment);
        return;
    };
    // The error may be another one each time, with the number of a port in it.
    let same = |c: &&Condition| c.reason == reason.as_str() && c.message.starts_with(&message);
    match condition::get(conditions, type_).filter(same) {
        Some(before) => message.clone_from(&before.message),
        None => message.push_str(&error),
    }
    condition::set(conditions, type_, (false, reason, &message), moment);
}

/// Sets the condition `InUse`.
fn in_use(conditions: &mut Vec<Condition>, used_by: &[String], moment: Moment) {
    if used_by.is_empty() {
        condition::set(conditions, ConditionType::InUse, (false, Reason::NotInUse, ""), moment);
    } else {
        let message = format!("used by {}", used_by.join(", "));
        condition::set(conditions, ConditionType::InUse, (true, Reason::InUse, &message), moment);
    }
}
