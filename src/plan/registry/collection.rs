//! Garbage collection: on request, by a schedule, or since its storage is nearly full, the registry is stopped, a container
//! on the same data removes the blobs that no manifest references, and the registry is started again.
//!
//! If the spec has a retention, the container first removes the tags and images that it does not keep.
//!
//! No push loses data silently. There are no writes while blobs are checked and removed: the registry is stopped
//! before the other container starts, and started after that one has exited. A push that is in progress when the
//! registry stops either has uploaded its manifest, so its blobs are kept, or uploads it later. The new process of
//! the registry has no cache of blobs (its cache of descriptors is in memory), so it checks the disk for each blob
//! and rejects the manifest if one was removed.
//!
//! Every state of the two containers has one continuation, so the operator can be killed at any time: the request is
//! in a label of the collecting container, and the result is in the status before that container is removed.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

use super::{
    Desired, Inputs, Subject,
    config::{CONFIG_FILE, DATA},
    fill, host_path,
    log::last_words,
    retention, volume,
};
use crate::{
    api::{condition::ConditionType, names, reason::Reason, registry::GarbageCollectionStatus},
    docker::{
        engine::{ContainerDetail, State},
        spec::{ContainerSpec, RestartPolicy, Role},
    },
    plan::{
        containers::{GRACE, Site, outdated},
        owner::taken,
        steps::{Action, Plan, Target},
    },
};

/// Label with the request of a collecting container.
pub const REQUEST: &str = "localcluster.dev/garbage-collect";
/// Maximum length of a request that is stored unhashed.
const MAX_REQUEST: usize = 64;
/// Role of the container that collects.
pub const ROLE: &str = "registry-gc";
/// Start of a request by the schedule, before its time.
const BY_SCHEDULE: &str = "schedule:";
/// Start of a request because the storage is nearly full, before the time of the last collection.
const BY_SIZE: &str = "size:";

/// State of a garbage collection.
#[derive(Debug, PartialEq)]
pub enum Course {
    /// It does not affect the registry; with the result of one, to be written before any step is executed.
    Free(Option<GarbageCollectionStatus>),
    /// The registry must stay as this plan leaves it.
    Busy,
}

/// Returns the name of a request: the value of the annotation, or its hash if it is long or could be one of the operator.
pub fn request(annotation: &str) -> Option<String> {
    let value = annotation.trim();
    if value.is_empty() {
        return None;
    }
    let other = value.len() > MAX_REQUEST || is_by_itself(value);
    Some(if other {
        format!("sha256:{}", names::hex(&Sha256::digest(value)[..16]))
    } else {
        value.to_owned()
    })
}

/// Returns the request without a result: that of the annotation first, whose result counts for the schedule too.
pub fn requested<'a>(subject: &Subject<'a>) -> Option<Cow<'a, str>> {
    let done = subject.previous.garbage_collection.as_ref();
    let annotation = subject.request.filter(|request| done.is_none_or(|done| done.request != **request));
    let scheduled = || {
        let last = done.map(|done| done.time.0).max(subject.created);
        let due = subject.valid.schedule.as_ref()?.due(last, subject.now)?;
        Some(format!("{BY_SCHEDULE}{due}"))
    };
    let by_size = || fill::collects(subject).then(|| by_size(done));
    annotation.map(Cow::Borrowed).or_else(|| scheduled().or_else(by_size).map(Cow::Owned))
}

/// Returns the request because the storage is nearly full. The next one after a collection has another name.
fn by_size(last: Option<&GarbageCollectionStatus>) -> String {
    let last = last.map_or("none".to_owned(), |last| last.time.0.as_second().to_string());
    format!("{BY_SIZE}{last}")
}

/// Reports whether a request is one of the operator, and not of the annotation.
fn is_by_itself(request: &str) -> bool {
    [BY_SCHEDULE, BY_SIZE].iter().any(|begin| request.starts_with(begin))
}

/// Returns the container that collects.
pub fn collector(desired: &Desired, subject: &Subject<'_>, request: &str) -> ContainerSpec {
    let registry = &desired.container;
    let mut labels = subject.owner.labels();
    labels.insert(names::APP.into(), "k3d".into());
    labels.insert(names::ROLE.into(), ROLE.into());
    labels.insert(REQUEST.into(), request.to_owned());
    let mut command = vec!["garbage-collect".to_owned(), CONFIG_FILE.to_owned()];
    let mut files = registry.files.clone();
    if let Some(retention) = &subject.valid.retention {
        command = retention.command(DATA, command);
        files.push(retention::script());
    }
    ContainerSpec {
        command,
        env: registry.env.clone(),
        labels,
        mounts: registry.mounts.clone(),
        volume_labels: registry.volume_labels.clone(),
        binds: registry.binds.clone(),
        restart_policy: RestartPolicy::No,
        memory: registry.memory,
        files,
        ..ContainerSpec::bare(super::helper_name(&registry.name, "gc"), Role::RegistryHelper, &registry.image)
    }
}

/// Plans the next steps of a garbage collection that is requested or in progress.
pub fn plan(plan: &mut Plan, desired: &Desired, site: &Site<'_>, inputs: &Inputs<'_>) -> Course {
    let collection = Collection { desired, site, inputs };
    match site.own(&collection.name()) {
        Some(detail) => collection.proceed(plan, detail),
        None => {
            requested(&inputs.subject).map_or(Course::Free(None), |request| collection.begin(plan, &request))
        }
    }
}

/// The garbage collection of a registry.
struct Collection<'a> {
    desired: &'a Desired,
    site: &'a Site<'a>,
    inputs: &'a Inputs<'a>,
}

impl Collection<'_> {
    /// Returns the name of the container that collects.
    fn name(&self) -> String {
        super::helper_name(&self.desired.container.name, "gc")
    }

    /// Reports whether the status has the result of a request.
    fn is_done(&self, request: &str) -> bool {
        self.inputs.subject.previous.garbage_collection.as_ref().is_some_and(|done| {
            match scheduled(request) {
                Some(time) => done.time.0 >= time,
                None if request.starts_with(BY_SIZE) => by_size(Some(done)) != request,
                None => done.request == request,
            }
        })
    }

    fn failed(&self, request: &str, message: impl Into<String>) -> Course {
        Course::Free(Some(result(&self.inputs.subject, request, false, message.into())))
    }

    /// Plans the start of a requested collection. Its container is created before the registry is stopped: if that
    /// fails, the registry stays up.
    fn begin(&self, plan: &mut Plan, request: &str) -> Course {
        let Self { desired, site, inputs } = *self;
        if inputs.subject.valid.proxy.is_some() {
            let message = "not supported for a pull-through cache: it removes expired images automatically, see spec.proxy.ttl";
            return self.failed(request, message);
        }
        let name = self.name();
        if let Some(foreign) = site.foreign(&name) {
            return self.failed(request, taken(site.owner, "container", &name, &foreign.id, &foreign.labels));
        }
        // Without a container there is nothing to collect, and the volume is created with it.
        let Some(registry) = site.own(&desired.container.name) else { return Course::Free(None) };
        if let Some(message) = volume::hindrance(desired, inputs) {
            return self.failed(request, message);
        }
        let spec = collector(desired, &inputs.subject, request);
        let ready = !matches!(registry.container.state, State::Removing | State::Dead);
        if !ready
            || !site.has_image(plan, &spec)
            || !host_path::is_sound(plan, desired, site, &inputs.subject)
        {
            return Course::Free(None);
        }
        busy(plan, "starting");
        let made = site.create(plan, &spec, &[], WHY);
        self.stop_registry(plan, &[made]);
        Course::Busy
    }

    /// Plans the next steps for an existing container.
    fn proceed(&self, plan: &mut Plan, detail: &ContainerDetail) -> Course {
        let container = &detail.container;
        match container.state {
            State::Removing => {
                busy(plan, &format!("removing {}", container.name));
                Course::Busy
            }
            State::Dead => {
                remove(plan, detail, "a previous removal did not complete");
                busy(plan, &format!("removing {}", container.name));
                Course::Busy
            }
            State::Created if detail.started_at.is_none() => self.start(plan, detail),
            State::Running | State::Paused | State::Restarting => {
                busy(plan, "in progress");
                // The registry was started from outside in the meantime.
                self.stop_registry(plan, &[]);
                if container.state == State::Paused {
                    let unpause = Action::Unpause { container: Target::of(container) };
                    plan.step(unpause, &[], "it was paused");
                }
                Course::Busy
            }
            State::Created | State::Exited => {
                let lines = self.site.observed.logs.get(&container.id);
                let (succeeded, message) = outcome(detail, lines.map(Vec::as_slice).unwrap_or_default());
                remove(plan, detail, &format!("garbage collection ended: {message}"));
                let request = request_of(detail);
                Course::Free(
                    (!self.is_done(request))
                        .then(|| result(&self.inputs.subject, request, succeeded, message)),
                )
            }
        }
    }

    /// Plans the start of the created container, once the registry is known to be stopped: blobs of a push in progress
    /// would be collected otherwise.
    fn start(&self, plan: &mut Plan, detail: &ContainerDetail) -> Course {
        let request = request_of(detail);
        if let Some(error) = detail.error.as_deref().filter(|e| !e.is_empty()) {
            // Not retried repeatedly: the registry would be down meanwhile.
            remove(plan, detail, "it failed to start");
            return self.failed(request, format!("failed to start: {error}"));
        }
        let spec = collector(self.desired, &self.inputs.subject, request);
        if requested(&self.inputs.subject).as_deref() != Some(request)
            || outdated(self.site.observed, detail, &spec, None)
        {
            remove(plan, detail, "the request for garbage collection changed");
            return Course::Free(None);
        }
        busy(plan, "starting");
        if self.stop_registry(plan, &[]).is_none() {
            let container = Target::of(&detail.container);
            let files = Action::Upload { container: container.clone(), files: spec.files };
            let uploaded = plan.step(files, &[], "");
            plan.step(Action::Start { container }, &[uploaded], WHY);
        }
        Course::Busy
    }

    /// Plans the stop of a running registry, after `after`.
    fn stop_registry(&self, plan: &mut Plan, after: &[usize]) -> Option<usize> {
        let detail = self.site.own(&self.desired.container.name)?;
        let container = Target::of(&detail.container);
        let after: Vec<usize> = match detail.container.state {
            State::Running | State::Restarting => after.to_vec(),
            State::Paused => vec![plan.step(Action::Unpause { container: container.clone() }, after, "")],
            State::Created | State::Exited | State::Removing | State::Dead => return None,
        };
        Some(plan.step(Action::Stop { container, grace: GRACE }, &after, WHY))
    }
}

/// Returns the time of a request by the schedule.
fn scheduled(request: &str) -> Option<Timestamp> {
    request.strip_prefix(BY_SCHEDULE)?.parse().ok()
}

/// Returns the request that a container was created for.
fn request_of(detail: &ContainerDetail) -> &str {
    detail.container.labels.get(REQUEST).map(String::as_str).unwrap_or_default()
}

fn remove(plan: &mut Plan, detail: &ContainerDetail, why: &str) {
    plan.step(Action::RemoveContainer { container: Target::of(&detail.container) }, &[], why);
}

const WHY: &str = "garbage collection was requested";

fn busy(plan: &mut Plan, what: &str) {
    let message = format!("the registry is stopped for garbage collection: {what}");
    plan.waits(ConditionType::ContainerReady, Reason::GarbageCollecting, message);
}

fn result(subject: &Subject<'_>, request: &str, succeeded: bool, message: String) -> GarbageCollectionStatus {
    // The last request of the annotation is done and stays so.
    let last = || subject.previous.garbage_collection.as_ref().map(|last| last.request.clone());
    let request = if is_by_itself(request) { last() } else { Some(request.to_owned()) };
    GarbageCollectionStatus {
        request: request.unwrap_or_default(),
        time: Time(subject.now),
        succeeded,
        message,
        // Measured when the registry runs again.
        used: None,
    }
}

/// Returns the result of a completed collection, by its exit code and output.
pub fn outcome(detail: &ContainerDetail, lines: &[String]) -> (bool, String) {
    let line_with = |what: &str| lines.iter().rev().find(|line| line.contains(what));
    // Registry 2 fails for a registry without any pushed image.
    if line_with("failed to mark")
        .is_some_and(|line| line.ends_with("Path not found: /docker/registry/v2/repositories"))
    {
        return (true, "nothing to remove: no image was pushed yet".into());
    }
    if detail.exit_code != Some(0) {
        let words = last_words(lines);
        let words = words.map(|w| format!(": {w}")).unwrap_or_default();
        let code = detail.exit_code.map_or("unknown".to_owned(), |code| code.to_string());
        return (false, format!("failed (exit code {code}){words}"));
    }
    let blobs = line_with(" blobs marked, ").and_then(|line| {
        let (_, rest) = line.split_once(" blobs marked, ")?;
        rest.split_once(" blobs")?.0.parse::<u64>().ok()
    });
    let retention = lines.iter().rev().find_map(|line| retention::removed(line));
    let mut message = match blobs {
        Some(0) if retention.is_some() => "no blob removed".into(),
        Some(0) => "nothing to remove".into(),
        Some(n) => counted(n, "blob", " removed"),
        None => "done".into(),
    };
    if let Some((tags, images)) = retention {
        let (tags, images) = (counted(tags, "tag", ""), counted(images, "image", ""));
        message = format!("{tags} and {images} removed by spec.retention, {message}");
    }
    (true, message)
}

fn counted(n: u64, thing: &str, rest: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{plural}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_requests_are_named_by_a_hash() {
        assert_eq!(request("  1 "), Some("1".into()));
        assert_eq!(request(" "), None);
        let long = request(&"x".repeat(300)).unwrap();
        assert!(long.starts_with("sha256:") && long.len() < MAX_REQUEST, "{long}");
        assert_ne!(request(&"y".repeat(300)), Some(long));
        for own in ["schedule:2026-11-30T03:00:00Z", "size:none"] {
            assert!(request(own).unwrap().starts_with("sha256:"), "{own}");
        }
    }

    #[test]
    fn the_result_is_in_the_output() {
        let ended = |code: i64, lines: &[&str]| {
            let detail = ContainerDetail { exit_code: Some(code), ..ContainerDetail::default() };
            outcome(&detail, &lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>())
        };
        let output = |n: u32| format!("3 blobs marked, {n} blobs and 0 manifests eligible for deletion");
        assert_eq!(ended(0, &["b", "", &output(2), "blob eligible"]), (true, "2 blobs removed".into()));
        assert_eq!(ended(0, &[&output(1)]), (true, "1 blob removed".into()));
        assert_eq!(ended(0, &[&output(0)]), (true, "nothing to remove".into()));
        assert_eq!(ended(0, &[]), (true, "done".into()));
        let retention =
            |tags: u32, images: u32| format!("retention: {tags} tags and {images} images removed");
        assert_eq!(ended(0, &[&output(0), &retention(0, 0)]), (true, "nothing to remove".into()));
        assert_eq!(
            ended(0, &[&output(2), &retention(1, 3)]),
            (true, "1 tag and 3 images removed by spec.retention, 2 blobs removed".into())
        );
        // The blobs belong to kept images too.
        assert_eq!(
            ended(0, &[&output(0), &retention(2, 1)]),
            (true, "2 tags and 1 image removed by spec.retention, no blob removed".into())
        );
        assert_eq!(
            ended(1, &["panic: retention: cannot read ./data", "x"]),
            (false, "failed (exit code 1): panic: retention: cannot read ./data".into())
        );
        let nothing = "failed to garbage collect: failed to mark: filesystem: Path not found: /docker/registry/v2/repositories";
        assert_eq!(ended(1, &[nothing]), (true, "nothing to remove: no image was pushed yet".into()));
        assert_eq!(ended(137, &[]), (false, "failed (exit code 137)".into()));
        assert_eq!(ended(1, &["disk full", ""]), (false, "failed (exit code 1): disk full".into()));
    }
}
