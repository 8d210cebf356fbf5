//! An existing container: what its state and its spec require.

use super::{
    networks::connect_all,
    site::{Site, condition_of},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    docker::{
        engine::{ContainerDetail, State},
        spec::{ContainerSpec, Role},
    },
    plan::steps::{Action, Plan, Repair, Target},
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

/// Grace period for the stop of a container, in seconds. K3s needs a second or two; an etcd leader first transfers
/// its leadership (k3s-io/k3s#12913), which takes up to 5 s and two election timeouts of 5 s each in K3s.
pub const GRACE: u32 = 30;

/// Reason in Events for an upload.
pub(super) const FILES_CHANGED: &str = "the content of its files changed";

/// An existing container and its spec.
pub(super) struct Existing<'a> {
    pub(super) site: &'a Site<'a>,
    pub(super) spec: &'a ContainerSpec,
    pub(super) detail: &'a ContainerDetail,
}

impl Existing<'_> {
    pub(super) fn target(&self) -> Target {
        Target::of(&self.detail.container)
    }

    fn condition(&self) -> ConditionType {
        condition_of(self.spec.role)
    }

    /// Plans what the state of a container requires that was created from this spec. `before` contains the steps that
    /// precede its first start, which `hold` delays.
    pub(super) fn converge(
        &self,
        plan: &mut Plan,
        before: &[usize],
        hold: Option<(Reason, String)>,
    ) -> Standing {
        match self.detail.container.state {
            State::Removing => {
                let message = format!("waiting for Docker to remove {}", self.spec.name);
                plan.waits(self.condition(), Reason::ContainerMissing, message);
                Standing::Blocked
            }
            State::Dead => self.remove_dead(plan),
            State::Created if self.detail.started_at.is_none() => match hold {
                Some((reason, message)) => {
                    plan.waits(self.condition(), reason, message);
                    Standing::Blocked
                }
                None => self.start_first(plan, before),
            },
            State::Created | State::Exited => {
                let why = match self.detail.exit_code {
                    Some(code) => format!("it was not running (exit code {code})"),
                    None => "it was not running".to_owned(),
                };
                plan.waits(self.condition(), Reason::ContainerNotRunning, self.not_running());
                self.start_again(plan, None, why, Some(Repair::Start))
            }
            State::Paused => self.unpause(plan),
            State::Restarting => {
                plan.waits(self.condition(), Reason::ContainerNotRunning, self.not_running());
                if self.stale_files().is_empty() && self.stale_token().is_none() {
                    return Standing::Blocked;
                }
                // Docker doubles its delay after each exit, up to a minute, and a start has no effect meanwhile.
                let stopped = self.stop(plan, &[]);
                self.start_again(plan, Some(stopped), FILES_CHANGED.to_owned(), None)
            }
            State::Running if !self.is_connected(true) => self.restart_connected(plan),
            State::Running => self.update(plan),
        }
    }

    /// Plans the stop of the container after `after`.
    pub(super) fn stop(&self, plan: &mut Plan, after: &[usize]) -> usize {
        plan.step(Action::Stop { container: self.target(), grace: grace(self.spec) }, after, "")
    }

    fn remove_dead(&self, plan: &mut Plan) -> Standing {
        let message = format!("removing {}: a previous removal did not complete", self.spec.name);
        plan.waits(self.condition(), Reason::ContainerMissing, message);
        let remove = Action::RemoveContainer { container: self.target() };
        Standing::Changing(plan.step(remove, &[], "a previous removal did not complete"))
    }

    /// Plans the first start of a container, with all of its files, after `before`.
    fn start_first(&self, plan: &mut Plan, before: &[usize]) -> Standing {
        let after: Vec<usize> = self.detach(plan, None).into_iter().chain(before.iter().copied()).collect();
        let files = Action::Upload { container: self.target(), files: self.spec.files.clone() };
        let uploaded = plan.step(files, &after, "");
        plan.waits(self.condition(), Reason::Creating, format!("creating {}", self.spec.name));
        let ready = connect_all(plan, &self.target(), self.missing_networks(), Some(uploaded), "");
        Standing::Changing(plan.step(Action::Start { container: self.target() }, ready.as_slice(), ""))
    }

    /// Plans the start of a container that was started before, and what it needs first, after the step `after`.
    fn start_again(
        &self,
        plan: &mut Plan,
        after: Option<usize>,
        why: String,
        repair: Option<Repair>,
    ) -> Standing {
        let attached = self.attach(plan, after);
        let pinned = self.pin_token(plan, attached.as_slice()).or(attached);
        let last = self.upload_stale(plan, pinned.as_slice()).or(pinned);
        let started = plan.step(Action::Start { container: self.target() }, last.as_slice(), why);
        Standing::Changing(repair.map_or(started, |repair| plan.mark_repair(started, repair)))
    }

    /// Plans the restart of a running container that lost its interface: its processes keep sockets and routes of the
    /// old one, and K3s and flannel only recover with a restart.
    fn restart_connected(&self, plan: &mut Plan) -> Standing {
        let message = format!("{} is disconnected from its network; restarting it", self.spec.name);
        plan.waits(self.condition(), Reason::ContainerNotRunning, message);
        let stopped = self.stop(plan, &[]);
        let last = self.attach(plan, Some(stopped)).unwrap_or(stopped);
        let start = Action::Start { container: self.target() };
        let started = plan.step(start, &[last], "it was disconnected from its network");
        Standing::Changing(plan.mark_repair(started, Repair::Reconnect))
    }

    /// Plans the updates of a running container that need no restart.
    fn update(&self, plan: &mut Plan) -> Standing {
        // The node is ready meanwhile.
        self.pin_token(plan, &[]);
        let updates = [
            self.set_restart_policy(plan),
            self.connect_further(plan),
            self.upload_stale(plan, &[]),
            self.reload(plan),
        ];
        match updates.into_iter().flatten().next_back() {
            Some(step) => {
                plan.waits(self.condition(), Reason::Updating, format!("updating {}", self.spec.name));
                Standing::Changing(step)
            }
            None => Standing::Running,
        }
    }

    /// Plans that a container runs which was started before and cannot be replaced yet: as it was made, on its network.
    /// `None` if nothing is missing for that.
    pub(super) fn run_as_it_is(&self, plan: &mut Plan) -> Option<Standing> {
        let detail = self.detail;
        let network = self.site.network.filter(|network| !detail.container.networks.contains_key(*network));
        let (stopped, why, repair) = match detail.container.state {
            State::Paused => return Some(self.unpause(plan)),
            State::Created | State::Exited if detail.started_at.is_some() => {
                (None, "it was not running", Repair::Start)
            }
            State::Running if network.is_some() => {
                (Some(self.stop(plan, &[])), "it was disconnected from its network", Repair::Reconnect)
            }
            _ => return None,
        };
        plan.waits(self.condition(), Reason::ContainerNotRunning, self.not_running());
        let mut last = self.detach(plan, stopped);
        if let Some(network) = network {
            let endpoint = self.spec.endpoint.clone();
            let on = Action::Connect { network: network.to_owned(), container: self.target(), endpoint };
            last = Some(plan.step(on, last.as_slice(), "it was disconnected from its network"));
        }
        let last = connect_all(plan, &self.target(), self.missing_networks(), last, "");
        let start = Action::Start { container: self.target() };
        let started = plan.step(start, last.as_slice(), why);
        Some(Standing::Changing(plan.mark_repair(started, repair)))
    }

    fn unpause(&self, plan: &mut Plan) -> Standing {
        let message = format!("{} is paused; unpausing", self.spec.name);
        plan.waits(self.condition(), Reason::ContainerNotRunning, message);
        let unpause = Action::Unpause { container: self.target() };
        let unpaused = plan.step(unpause, &[], "it was paused");
        Standing::Changing(plan.mark_repair(unpaused, Repair::Unpause))
    }

    fn set_restart_policy(&self, plan: &mut Plan) -> Option<usize> {
        let policy = self.spec.restart_policy;
        let set = Action::SetRestart { container: self.target(), policy };
        (self.detail.restart_policy != policy).then(|| plan.step(set, &[], ""))
    }

    /// Returns the message about a container that is not running.
    fn not_running(&self) -> String {
        let mut message = format!("{} is not running", self.spec.name);
        if let Some(code) = self.detail.exit_code {
            message.push_str(&format!(" (exit code {code})"));
        }
        let logged = self.site.observed.log_errors.get(&self.detail.container.id);
        let error = self.detail.error.as_ref().filter(|e| !e.is_empty());
        if let Some(error) = error.or(logged) {
            message.push_str(&format!(": {error}"));
        }
        message
    }
}

/// Returns the grace period of a container. The stop signal of nginx waits for all connections, and watches never
/// end.
fn grace(spec: &ContainerSpec) -> u32 {
    match spec.role {
        Role::LoadBalancer => 0,
        Role::Node(_) | Role::NodeHelper | Role::Registry | Role::RegistryHelper | Role::Hub => GRACE,
    }
}
