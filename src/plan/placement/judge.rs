//! What becomes of the placeholder of an object, and what the conditions say about it.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{
    Object,
    hosts::{Hosts, State},
    pod,
};
use crate::api::reason::Reason;

/// What is known of an object.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The object.
    pub object: &'a Object,
    /// The Pod with the name of its placeholder.
    pub pod: Option<&'a Pod>,
    /// All hosts.
    pub hosts: &'a Hosts,
    /// Why the API server refused the placeholder.
    pub refused: Option<&'a Refusal>,
}

/// A refused placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status code.
    pub code: u16,
    /// Message of the API server.
    pub message: String,
}

/// A change of the management cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The placeholder is created.
    Create,
    /// The placeholder is deleted, which its agent notices.
    Delete,
    /// The finalizer of the placeholder is removed: nothing of the object runs on its host.
    Release,
    /// The finalizer of the object is removed: nothing of it exists, or its host is gone for good.
    LetGo {
        /// What is left behind, for an Event.
        left: Option<String>,
    },
}

/// A statement of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// True if the condition is met.
    pub met: bool,
    /// Reason.
    pub reason: Reason,
    /// Message.
    pub message: String,
}

impl Told {
    fn yes(reason: Reason) -> Self {
        Self { met: true, reason, message: String::new() }
    }

    fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self { met: false, reason, message: message.into() }
    }
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The change, one at a time: the next one follows from what is seen then.
    pub act: Option<Act>,
    /// Host that the object is bound to from now on. It is recorded before the change.
    pub host: Option<String>,
    /// Condition `Scheduled`; `None` if it stays as it is.
    pub scheduled: Option<Told>,
    /// Condition `HostReachable`; `None` if the object has no host.
    pub reachable: Option<Told>,
}

impl Decision {
    /// Returns what no agent tells of the object, since none is there: the problem that its status shows.
    pub fn unattended(&self, hosts: &Hosts) -> Option<&Told> {
        // One whose kubelet does not report may have an agent that does.
        let lost = |host: &String| hosts.state(host).is_lost() && !hosts.has_agent(host);
        match &self.host {
            None => self.scheduled.as_ref().filter(|told| !told.met),
            Some(host) if lost(host) => {
                let unmet = |told: &&Told| !told.met;
                self.scheduled.as_ref().filter(unmet).or(self.reachable.as_ref().filter(unmet))
            }
            Some(_) => None,
        }
    }
}

/// Decides what becomes of the placeholder of an object.
pub fn judge(seen: Seen<'_>) -> Decision {
    let Seen { object, hosts, .. } = seen;
    let mut decision = match () {
        () if object.paused => {
            Decision { act: None, host: object.host.clone(), scheduled: None, reachable: None }
        }
        () if object.deleting => seen.deleting(),
        () => seen.living(),
    };
    decision.reachable = decision.host.as_deref().map(|host| reachable(hosts, host));
    decision
}

/// Returns the condition `HostReachable` of a host.
fn reachable(hosts: &Hosts, host: &str) -> Told {
    match hosts.state(host) {
        State::Ready | State::Cordoned => Told::yes(Reason::Reachable),
        State::AgentDown => Told::no(
            Reason::AgentDown,
            format!(
                "the agent of the Docker host {host} has not reported for 60s, or its Docker Engine does not respond: \
                 what runs there runs on, and nothing is changed or repaired; look at the Pod of the agent on that node"
            ),
        ),
        State::NotReady => Told::no(
            Reason::HostLost,
            format!(
                "the Docker host {host} is not ready: nothing is made elsewhere, since what runs there may still run; if \
                 it is off for good, delete the Node, or add the taint node.kubernetes.io/out-of-service"
            ),
        ),
        State::Gone => Told::no(Reason::HostLost, format!("the Docker host {host} is gone for good")),
    }
}

/// Reports whether the finalizer of a placeholder is removed although no agent does it: it is being deleted, and has no
/// host, or one that is gone for good.
pub fn is_unattended(pod: &Pod, hosts: &Hosts) -> bool {
    let unattended = pod::node(pod).is_none_or(|node| hosts.state(node) == State::Gone);
    pod::is_terminating(pod) && pod::is_held(pod) && unattended
}

impl Seen<'_> {
    fn decide(&self, act: Option<Act>, scheduled: Told) -> Decision {
        Decision { act, host: self.object.host.clone(), scheduled: Some(scheduled), reachable: None }
    }

    /// Returns the placeholder; `None` if another object has its name.
    fn own(&self) -> Option<&Pod> {
        self.pod.filter(|pod| pod::is_of(pod, &self.object.uid))
    }

    /// Decides about an object that is being deleted. What exists of it is removed by the agent of its host.
    fn deleting(&self) -> Decision {
        let Self { object, hosts, .. } = self;
        let told = Told::no(Reason::Deleting, format!("the {} is being deleted", object.kind.noun()));
        let release = self.own().and_then(|pod| self.release(pod));
        let act = match &object.host {
            None if object.held => Some(Act::LetGo { left: None }),
            Some(host) if object.held && hosts.state(host) == State::Gone => Some(Act::LetGo {
                left: Some(format!(
                    "the Docker host {host} is gone for good, so nothing was removed there; if it returns, remove \
                     what it has with docker, see the label localcluster.dev/owner"
                )),
            }),
            _ => release,
        };
        self.decide(act, told)
    }

    /// Returns the removal of the finalizer of a placeholder that is being deleted, if no agent does it.
    fn release(&self, pod: &Pod) -> Option<Act> {
        is_unattended(pod, self.hosts).then_some(Act::Release)
    }

    fn living(&self) -> Decision {
        let object = self.object;
        let placeholder = object.placeholder();
        if self.pod.is_none() {
            return self.missing();
        }
        let Some(pod) = self.own() else {
            let message = format!(
                "a Pod {placeholder} that is not the operator's exists, which is the name of the placeholder; rename or \
                 delete it"
            );
            return self.decide(None, Told::no(Reason::NameConflict, message));
        };
        if pod::is_terminating(pod) {
            let message = format!("its placeholder Pod {placeholder} is being deleted; another one follows");
            return self.decide(self.release(pod), Told::no(Reason::Evicted, message));
        }
        if pod::is_over(pod) {
            let status = pod.status.as_ref();
            let why = status.and_then(|status| status.message.clone().or(status.reason.clone()));
            let why = why.unwrap_or_else(|| pod::phase(pod).to_owned());
            let message = format!("its placeholder Pod {placeholder} has ended: {why}; another one follows");
            return self.decide(Some(Act::Delete), Told::no(Reason::Evicted, message));
        }
        match pod::node(pod) {
            Some(node) => self.bound(pod, node),
            None => self.pending(pod),
        }
    }

    /// Decides about an object whose placeholder has a host.
    fn bound(&self, pod: &Pod, node: &str) -> Decision {
        let Self { object, hosts, .. } = self;
        let placeholder = object.placeholder();
        if let Some(host) = object.host.as_deref().filter(|host| object.is_sticky() && *host != node) {
            let message = format!(
                "its placeholder Pod {placeholder} is on the host {node}, but its data is on {host}; another one follows"
            );
            return self.decide(Some(Act::Delete), Told::no(Reason::Evicted, message));
        }
        if hosts.state(node) == State::Gone {
            let message =
                format!("its placeholder Pod {placeholder} was on the Docker host {node}, which is gone");
            return self.decide(Some(Act::Delete), Told::no(Reason::HostLost, message));
        }
        let mut told = Told::yes(Reason::Scheduled);
        let is_first = object.host.is_none();
        if !is_first && object.requests.is_ok() && self.is_outdated(pod) {
            told.message = format!(
                "spec.placement or the limits of the nodes changed, which takes effect with another placeholder: delete \
                 the Pod {placeholder} to stop and start the {} with one",
                object.kind.noun()
            );
        }
        Decision { host: Some(node.to_owned()), ..self.decide(None, told) }
    }

    /// Reports whether a placeholder was made from another spec. One that was made before its object was bound says
    /// nothing of the host.
    fn is_outdated(&self, pod: &Pod) -> bool {
        let made = pod.annotations().get(pod::HASH);
        let unbound = Object { host: None, ..self.object.clone() };
        made != Some(&pod::hash(self.object)) && made != Some(&pod::hash(&unbound))
    }

    /// Decides about an object whose placeholder waits for a host.
    fn pending(&self, pod: &Pod) -> Decision {
        let object = self.object;
        let placeholder = object.placeholder();
        let bound = object.host.as_deref().filter(|_| object.is_sticky());
        if object.requests.is_ok() && pod.annotations().get(pod::HASH) != Some(&pod::hash(object)) {
            let message = format!("replacing its placeholder Pod {placeholder}: spec.placement changed");
            return self.decide(Some(Act::Delete), Told::no(Reason::Scheduling, message));
        }
        if let Some(host) = bound
            && self.hosts.state(host) == State::Gone
        {
            return self.decide(Some(Act::Delete), self.gone(host));
        }
        let Some(why) = pod::unscheduled(pod) else {
            let message = format!("its placeholder Pod {placeholder} waits for the scheduler");
            return self.decide(None, Told::no(Reason::Scheduling, message));
        };
        let said = why.message.as_deref().unwrap_or_default();
        if why.reason.as_deref() == Some("SchedulingGated") {
            let message = format!("its placeholder Pod {placeholder} has scheduling gates: {said}");
            return self.decide(None, Told::no(Reason::SchedulingGated, message));
        }
        let message =
            |what: &str| format!("{what}; the scheduler says of its placeholder Pod {placeholder}: {said}");
        let told = match bound.map(|host| (host, self.hosts.state(host))) {
            Some((host, State::Cordoned)) => {
                let what = format!("the Docker host {host}, which has its data, is cordoned: uncordon it");
                Told::no(Reason::HostCordoned, message(&what))
            }
            Some((host, State::AgentDown)) => {
                let what =
                    format!("the agent of the Docker host {host}, which has its data, does not respond");
                Told::no(Reason::AgentDown, message(&what))
            }
            Some((host, State::NotReady)) => {
                let what = format!("the Docker host {host}, which has its data, is not ready");
                Told::no(Reason::HostLost, message(&what))
            }
            Some((host, State::Ready | State::Gone)) => {
                let what = format!("the Docker host {host}, which has its data, does not take it");
                Told::no(Reason::Unschedulable, message(&what))
            }
            None => Told::no(Reason::Unschedulable, message("no Docker host takes it")),
        };
        self.decide(None, told)
    }

    /// Returns the condition of an object that is bound to a host that is gone.
    fn gone(&self, host: &str) -> Told {
        let object = self.object;
        let way_out = if object.is_sticky() {
            "bring that node back, or delete the object and create it again, without its data"
        } else {
            "bring that node back, or set spec.placement.hostLoss to Recreate to make it anew elsewhere"
        };
        Told::no(
            Reason::HostGone,
            format!(
                "the {} is on the Docker host {host}, which is gone for good; {way_out}",
                object.kind.noun()
            ),
        )
    }

    /// Decides about an object without a placeholder.
    fn missing(&self) -> Decision {
        let object = self.object;
        if let Err(problems) = &object.requests {
            let message = format!("no placeholder Pod is made: the spec is invalid: {problems}");
            return self.decide(None, Told::no(Reason::InvalidSpec, message));
        }
        let state = object.host.as_deref().map(|host| (host, self.hosts.state(host)));
        match state {
            Some((host, State::Gone)) if !object.is_recreated() => return self.decide(None, self.gone(host)),
            // Its agent may not have stopped it: only a lost host has no agent that keeps the finalizer.
            Some((host, State::NotReady)) if !object.is_sticky() => {
                let message = format!("the Docker host {host} is not ready: nothing is made elsewhere");
                return self.decide(None, Told::no(Reason::HostLost, message));
            }
            // The placeholder that is made next may be anywhere.
            Some(_) if !object.is_sticky() => {
                let message = "it is placed anew".to_owned();
                return Decision { host: None, ..self.decide(None, Told::no(Reason::Scheduling, message)) };
            }
            Some(_) | None => {}
        }
        let told = match self.refused {
            None => {
                let message = format!("creating its placeholder Pod {}", object.placeholder());
                Told::no(Reason::Scheduling, message)
            }
            Some(Refusal { code, message }) => {
                let quota = *code == 403 && message.contains("quota");
                let reason = if quota { Reason::QuotaExceeded } else { Reason::PlaceholderRefused };
                let message = format!(
                    "the API server does not admit its placeholder Pod: {message}; see spec.placement, and the \
                     ResourceQuota, LimitRange and Pod Security level of the namespace"
                );
                Told::no(reason, message)
            }
        };
        self.decide(Some(Act::Create), told)
    }
}
