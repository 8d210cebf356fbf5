//! Convergence of a single container, shared by nodes, load balancers and registries.

use super::{
    hash,
    observed::{ImageState, Observed},
    owner::{Owner, taken},
    steps::{Action, Plan, Problem, Target},
};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, names, reason::Reason},
    docker::{
        engine::{Attachment, Container, ContainerDetail, State},
        error::Error,
        spec::{ContainerSpec, EndpointSettings, FileChange, FileSpec, Role},
    },
};

/// State of a container compared with its desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs as desired; the health of its processes is not considered.
    Running,
    /// Steps to that state are planned; the index of the last one.
    Changing(usize),
    /// It was created from another spec and must be replaced.
    Outdated,
    /// It is blocked for a reason in the problems of the plan.
    Blocked,
}

/// Context in which a container is planned.
pub struct Site<'a> {
    /// Owner of all planned resources.
    pub owner: &'a Owner,
    /// The observed state.
    pub observed: &'a Observed,
    /// ID of the network that containers are created on; `None` for the default network of Docker.
    pub network: Option<&'a str>,
}

/// Returns the condition that covers containers of a role.
pub fn condition_of(role: Role) -> ConditionType {
    match role {
        Role::Node(NodeRole::Server) | Role::NodeHelper => ConditionType::ControlPlaneReady,
        Role::Node(NodeRole::Agent) => ConditionType::AgentsReady,
        Role::LoadBalancer => ConditionType::LoadBalancerReady,
        Role::Registry | Role::RegistryHelper => ConditionType::ContainerReady,
    }
}

impl Site<'_> {
    /// Returns the managed container with this name.
    pub fn own(&self, name: &str) -> Option<&ContainerDetail> {
        self.observed.own_named(name)
    }

    /// Reports whether a container is connected to its network.
    pub fn is_placed(&self, detail: &ContainerDetail) -> bool {
        self.network.is_none_or(|n| detail.container.networks.contains_key(n))
    }

    /// Returns an unmanaged container with this name.
    pub fn foreign(&self, name: &str) -> Option<&Container> {
        self.observed.containers.iter().find(|c| c.name == name && !self.owner.owns(&c.labels))
    }

    /// Reports whether the image is present. If not, requests a pull and adds a problem.
    pub fn has_image(&self, plan: &mut Plan, spec: &ContainerSpec) -> bool {
        let condition = condition_of(spec.role);
        // A failed pull is requested too: the puller decides when to retry.
        let wanted = match self.observed.images.get(&spec.image) {
            Some(ImageState::Failed(_) | ImageState::Absent) | None => !plan.pulls.contains(&spec.image),
            Some(ImageState::Present | ImageState::Pulling) => false,
        };
        if wanted {
            plan.pulls.push(spec.image.clone());
        }
        match self.observed.images.get(&spec.image) {
            Some(ImageState::Present) => return true,
            Some(ImageState::Failed(error)) => plan.problems.push(pull_failed(condition, &spec.image, error)),
            Some(ImageState::Pulling | ImageState::Absent) | None => {
                plan.waits(condition, Reason::ImagePulling, format!("pulling {}", spec.image));
            }
        }
        false
    }

    /// Plans the convergence of a container, except for its replacement. `further` contains additional networks;
    /// `before` contains the steps that precede its creation or first start. `hold` delays the first start.
    pub fn converge(
        &self,
        plan: &mut Plan,
        spec: &ContainerSpec,
        further: &[(String, EndpointSettings)],
        before: &[usize],
        hold: Option<(Reason, String)>,
    ) -> Standing {
        let condition = condition_of(spec.role);
        let Some(detail) = self.own(&spec.name) else {
            if let Some(foreign) = self.foreign(&spec.name) {
                plan.stalls(
                    condition,
                    Reason::NameConflict,
                    taken(self.owner, "container", &spec.name, &foreign.id, &foreign.labels),
                );
                return Standing::Blocked;
            }
            if !self.has_image(plan, spec) {
                return Standing::Blocked;
            }
            let made = self.create(plan, spec, before, "it did not exist");
            return self.finish(
                plan,
                spec,
                Target { name: spec.name.clone(), id: None },
                further,
                hold,
                made,
            );
        };
        let container = &detail.container;
        if outdated(self.observed, detail, spec, self.network) {
            return Standing::Outdated;
        }
        let target = Target::of(container);
        match container.state {
            State::Removing => {
                plan.waits(
                    condition,
                    Reason::ContainerMissing,
                    format!("waiting for Docker to remove {}", spec.name),
                );
                Standing::Blocked
            }
            State::Dead => {
                plan.waits(
                    condition,
                    Reason::ContainerMissing,
                    format!("removing {}: a previous removal did not complete", spec.name),
                );
                Standing::Changing(plan.step(
                    Action::RemoveContainer { container: target },
                    &[],
                    "a previous removal did not complete",
                ))
            }
            State::Created if detail.started_at.is_none() => {
                if let Some((reason, message)) = hold {
                    plan.waits(condition, reason, message);
                    return Standing::Blocked;
                }
                let off = self.detach(plan, detail, None);
                let files = Action::Upload { container: target.clone(), files: spec.files.clone() };
                let after: Vec<usize> = off.into_iter().chain(before.iter().copied()).collect();
                let uploaded = plan.step(files, &after, "");
                plan.waits(condition, Reason::Creating, format!("creating {}", spec.name));
                self.finish(plan, spec, target, further, None, uploaded)
            }
            State::Created | State::Exited => {
                let why = match detail.exit_code {
                    Some(code) => format!("it was not running (exit code {code})"),
                    None => "it was not running".to_owned(),
                };
                plan.waits(condition, Reason::ContainerNotRunning, stopped(spec, detail));
                self.start_again(plan, spec, detail, further, None, why)
            }
            State::Paused => {
                plan.waits(
                    condition,
                    Reason::ContainerNotRunning,
                    format!("{} is paused; unpausing", spec.name),
                );
                Standing::Changing(plan.step(Action::Unpause { container: target }, &[], "it was paused"))
            }
            State::Restarting => {
                plan.waits(condition, Reason::ContainerNotRunning, stopped(spec, detail));
                if self.stale_files(detail, spec).is_empty() {
                    return Standing::Blocked;
                }
                // Docker doubles its delay after each exit, up to a minute, and a start has no effect meanwhile.
                let stop = plan.step(Action::Stop { container: target, grace: grace(spec) }, &[], "");
                self.start_again(plan, spec, detail, further, Some(stop), FILES_CHANGED.to_owned())
            }
            State::Running => self.keep(plan, spec, detail, further),
        }
    }

    /// Plans the start of a container that was started before, and what it needs first, after the step `after`.
    fn start_again(
        &self,
        plan: &mut Plan,
        spec: &ContainerSpec,
        detail: &ContainerDetail,
        further: &[(String, EndpointSettings)],
        after: Option<usize>,
        why: String,
    ) -> Standing {
        let target = Target::of(&detail.container);
        let mut last = self.attach(plan, spec, detail, further, after);
        let live = self.stale_files(detail, spec);
        if !live.is_empty() {
            let files = Action::Upload { container: target.clone(), files: live };
            last = Some(plan.step(files, last.as_slice(), FILES_CHANGED));
        }
        Standing::Changing(plan.step(Action::Start { container: target }, last.as_slice(), why))
    }

    /// Plans updates of a running container: its place on the network, its files.
    fn keep(
        &self,
        plan: &mut Plan,
        spec: &ContainerSpec,
        detail: &ContainerDetail,
        further: &[(String, EndpointSettings)],
    ) -> Standing {
        let condition = condition_of(spec.role);
        let target = Target::of(&detail.container);
        let place = self.network.and_then(|n| detail.container.networks.get(n));
        if self.network.is_some() && !place.is_some_and(|p| right_place(p, &spec.endpoint, true)) {
            // Processes in a container that lost its interface keep sockets and routes of the old one: K3s and
            // flannel only recover with a restart.
            plan.waits(
                condition,
                Reason::ContainerNotRunning,
                format!("{} is disconnected from its network; restarting it", spec.name),
            );
            let stop = plan.step(Action::Stop { container: target.clone(), grace: grace(spec) }, &[], "");
            let last = self.attach(plan, spec, detail, further, Some(stop)).unwrap_or(stop);
            return Standing::Changing(plan.step(
                Action::Start { container: target },
                &[last],
                "it was disconnected from its network",
            ));
        }
        let mut last = None;
        if detail.restarts == spec.once {
            let restart = Action::SetRestart { container: target.clone(), restart: !spec.once };
            last = Some(plan.step(restart, &[], ""));
        }
        for (network, endpoint) in missing(detail, further) {
            let connect = Action::Connect { network, container: target.clone(), endpoint };
            last = Some(plan.step(connect, &[], "it was disconnected from a network"));
        }
        let live = self.stale_files(detail, spec);
        if !live.is_empty() {
            let files = Action::Upload { container: target.clone(), files: live };
            last = Some(plan.step(files, &[], FILES_CHANGED));
        }
        let hangup: Vec<&FileSpec> = spec.files.iter().filter(|f| f.change == FileChange::Hangup).collect();
        // The last file records that the signal was sent, so it is uploaded after the signal.
        if let Some((marker, content)) = hangup.split_last()
            && hangup.iter().any(|f| !self.same(detail, f))
        {
            let stale: Vec<FileSpec> =
                content.iter().filter(|f| !self.same(detail, f)).map(|f| (*f).clone()).collect();
            let mut after = Vec::new();
            if !stale.is_empty() {
                let files = Action::Upload { container: target.clone(), files: stale };
                after.push(plan.step(files, &[], "its configuration changed"));
            }
            let signal = Action::Signal { container: target.clone(), signal: "SIGHUP" };
            let signalled = plan.step(signal, &after, "");
            let files = Action::Upload { container: target, files: vec![(*marker).clone()] };
            last = Some(plan.step(files, &[signalled], ""));
        }
        match last {
            Some(step) => {
                plan.waits(condition, Reason::Updating, format!("updating {}", spec.name));
                Standing::Changing(step)
            }
            None => Standing::Running,
        }
    }

    fn same(&self, detail: &ContainerDetail, file: &FileSpec) -> bool {
        let seen = self.observed.files.get(&(detail.container.id.clone(), file.path.clone()));
        matches!(seen, Some(Some(hash)) if *hash == file.sha256())
    }

    /// Returns the files that are updated in place because they differ.
    fn stale_files(&self, detail: &ContainerDetail, spec: &ContainerSpec) -> Vec<FileSpec> {
        let live = spec.files.iter().filter(|f| f.change == FileChange::Live);
        live.filter(|f| differs(self.observed, detail, f)).cloned().collect()
    }

    /// Plans the creation of a container after `after`. The content of its volumes is observed before files are
    /// uploaded.
    pub fn make(&self, plan: &mut Plan, spec: &ContainerSpec, after: &[usize], why: &str) -> usize {
        let mut spec = spec.clone();
        spec.labels.insert(names::SPEC_HASH.into(), hash::of(&spec, self.network));
        plan.waits(condition_of(spec.role), Reason::Creating, format!("creating {}", spec.name));
        let network = self.network.map(str::to_owned);
        plan.step(Action::CreateContainer { spec: Box::new(spec), network }, after, why)
    }

    /// Plans the creation of a container with its files, after `after`.
    pub fn create(&self, plan: &mut Plan, spec: &ContainerSpec, after: &[usize], why: &str) -> usize {
        let mut made = self.make(plan, spec, after, why);
        let container = Target { name: spec.name.clone(), id: None };
        for one_of in spec.expects.clone() {
            made = plan.step(Action::Expect { container: container.clone(), one_of }, &[made], "");
        }
        if spec.files.is_empty() {
            return made;
        }
        plan.step(Action::Upload { container, files: spec.files.clone() }, &[made], "")
    }

    /// Plans the connections and the first start of a container that was just created, after the step `made`.
    pub fn finish(
        &self,
        plan: &mut Plan,
        spec: &ContainerSpec,
        target: Target,
        further: &[(String, EndpointSettings)],
        hold: Option<(Reason, String)>,
        made: usize,
    ) -> Standing {
        let detail = target.id.as_ref().and_then(|id| self.observed.own.get(id));
        let wanting = match detail {
            Some(detail) => missing(detail, further),
            None => further.to_vec(),
        };
        let mut ready = made;
        for (network, endpoint) in wanting {
            let connect = Action::Connect { network, container: target.clone(), endpoint };
            ready = plan.step(connect, &[ready], "");
        }
        if let Some((reason, message)) = hold {
            plan.waits(condition_of(spec.role), reason, message);
            return Standing::Blocked;
        }
        Standing::Changing(plan.step(Action::Start { container: target }, &[ready], ""))
    }

    /// Plans the disconnection of a stopped container from networks that no longer exist, which would prevent its
    /// start, and returns the last step. Docker only knows such a connection by the name of the network.
    fn detach(&self, plan: &mut Plan, detail: &ContainerDetail, after: Option<usize>) -> Option<usize> {
        let target = Target::of(&detail.container);
        let mut last = after;
        for (network, place) in &detail.container.networks {
            if detail.container.state == State::Running
                || self.observed.networks.iter().any(|n| n.id == *network)
            {
                continue;
            }
            let off = Action::Disconnect { network: place.network_name.clone(), container: target.clone() };
            last =
                Some(plan.step(off, &last.into_iter().collect::<Vec<_>>(), "the network no longer exists"));
        }
        last
    }

    /// Plans the reconnection of a stopped container to its networks, and returns the last step.
    fn attach(
        &self,
        plan: &mut Plan,
        spec: &ContainerSpec,
        detail: &ContainerDetail,
        further: &[(String, EndpointSettings)],
        after: Option<usize>,
    ) -> Option<usize> {
        let target = Target::of(&detail.container);
        let mut last = self.detach(plan, detail, after);
        let chain = |last: Option<usize>| last.into_iter().collect::<Vec<_>>();
        if let Some(network) = self.network {
            let place = detail.container.networks.get(network);
            if !place.is_some_and(|p| right_place(p, &spec.endpoint, false)) {
                if place.is_some() {
                    let off = Action::Disconnect { network: network.to_owned(), container: target.clone() };
                    last = Some(plan.step(off, &chain(last), ""));
                }
                let on = Action::Connect {
                    network: network.to_owned(),
                    container: target.clone(),
                    endpoint: spec.endpoint.clone(),
                };
                last = Some(plan.step(on, &chain(last), "it was disconnected from its network"));
            }
        }
        for (network, endpoint) in missing(detail, further) {
            let connect = Action::Connect { network, container: target.clone(), endpoint };
            last = Some(plan.step(connect, &chain(last), "it was disconnected from a network"));
        }
        last
    }

    /// Plans the replacement of a container by one with another spec, on the same volumes and address, after `after`.
    /// The new image must be present.
    pub fn replace(
        &self,
        plan: &mut Plan,
        spec: &ContainerSpec,
        further: &[(String, EndpointSettings)],
        after: &[usize],
        why: &str,
    ) -> Standing {
        let Some(detail) = self.own(&spec.name) else { return Standing::Blocked };
        let target = Target::of(&detail.container);
        let stop = plan.step(Action::Stop { container: target.clone(), grace: grace(spec) }, after, "");
        let removed = plan.step(Action::RemoveContainer { container: target }, &[stop], "");
        let made = self.create(plan, spec, &[removed], why);
        self.finish(plan, spec, Target { name: spec.name.clone(), id: None }, further, None, made)
    }
}

/// Reason in Events for an upload.
const FILES_CHANGED: &str = "the content of its files changed";

/// Reports whether a container must be replaced: it was created from another spec, or a file that its process only
/// reads at start has changed.
pub fn outdated(
    observed: &Observed,
    detail: &ContainerDetail,
    spec: &ContainerSpec,
    network: Option<&str>,
) -> bool {
    let label = detail.container.labels.get(names::SPEC_HASH).map(String::as_str);
    !hash::matches(label, spec, network)
        || spec.files.iter().any(|f| f.change == FileChange::Recreate && differs(observed, detail, f))
}

/// Reports whether a file was read back and differs or is missing. A file that was not read is left unchanged:
/// missing information is no reason to replace a container.
fn differs(observed: &Observed, detail: &ContainerDetail, file: &FileSpec) -> bool {
    let seen = observed.files.get(&(detail.container.id.clone(), file.path.clone()));
    seen.is_some_and(|hash| *hash != Some(file.sha256()))
}

/// Grace period for the stop of a container, in seconds. K3s needs a second or two; an etcd leader first transfers
/// its leadership (k3s-io/k3s#12913), which takes up to 5 s and two election timeouts of 5 s each in K3s.
pub const GRACE: u32 = 30;

/// Returns the grace period of a container. The stop signal of nginx waits for all connections, and watches never
/// end.
fn grace(spec: &ContainerSpec) -> u32 {
    match spec.role {
        Role::LoadBalancer => 0,
        Role::Node(_) | Role::NodeHelper | Role::Registry | Role::RegistryHelper => GRACE,
    }
}

/// Returns the problem of a failed pull. An image that a registry denies needs user intervention, even if a later
/// push may fix it.
pub fn pull_failed(condition: ConditionType, image: &str, error: &Error) -> Problem {
    let reason = Reason::ImagePullFailed;
    if error.is_refusal() {
        let cure = "correct the image name, or provide credentials for the registry";
        Problem::stalls(condition, reason, format!("cannot pull {image}: {error}; {cure}"))
    } else {
        Problem::waits(condition, reason, format!("failed to pull {image}: {error}; retrying"))
    }
}

fn stopped(spec: &ContainerSpec, detail: &ContainerDetail) -> String {
    let mut message = format!("{} is not running", spec.name);
    if let Some(code) = detail.exit_code {
        message.push_str(&format!(" (exit code {code})"));
    }
    if let Some(error) = detail.error.as_deref().filter(|e| !e.is_empty()) {
        message.push_str(&format!(": {error}"));
    }
    message
}

/// Returns the additional networks that a container is not connected to.
fn missing(
    detail: &ContainerDetail,
    further: &[(String, EndpointSettings)],
) -> Vec<(String, EndpointSettings)> {
    further.iter().filter(|(network, _)| !detail.container.networks.contains_key(network)).cloned().collect()
}

/// Reports whether a container is connected to a network as desired. An address only exists while the container is
/// running, and Docker adds aliases.
pub fn right_place(place: &Attachment, endpoint: &EndpointSettings, running: bool) -> bool {
    (endpoint.ip.is_none() || place.pinned == endpoint.ip)
        && (!running || endpoint.ip.is_none() || place.ip == endpoint.ip)
        && endpoint.aliases.iter().all(|a| place.aliases.contains(a))
}

#[cfg(test)]
mod tests;
