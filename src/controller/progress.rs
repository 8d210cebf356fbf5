//! What metrics need of objects besides their status: how long their creation takes, and until when their certificates
//! are valid. Losing it in a restart is harmless.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::condition::{self, ConditionType},
    status,
};

/// State of objects by UID.
#[derive(Default)]
pub struct Progress(Mutex<HashMap<String, Object>>);

#[derive(Default)]
struct Object {
    /// True while it is being created, or started after it was stopped on purpose.
    resumes: bool,
    /// Conditions that have been True since its creation; `None` for an object that was not created under this process,
    /// or has been Ready, stopped or paused since.
    reached: Option<BTreeSet<ConditionType>>,
    /// Names of the containers that have existed under a generation of its spec.
    existed: (i64, BTreeSet<String>),
    /// End of the client certificate in its kubeconfig, or of the certificate of a registry.
    certificate: Option<Timestamp>,
}

impl Progress {
    fn with<T>(&self, uid: &str, f: impl FnOnce(&mut Object) -> T) -> T {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(objects.entry(uid.to_owned()).or_default())
    }

    /// Records the conditions of a status that replaces another one. Returns those that are True for the first time since
    /// the object was created.
    pub fn turned(&self, uid: &str, before: &[Condition], after: &[Condition]) -> Vec<ConditionType> {
        self.with(uid, |object| {
            if before.is_empty() {
                *object = Object { resumes: true, reached: Some(BTreeSet::new()), ..Object::default() };
            }
            let holds = |type_| condition::is_true(after, type_);
            let rest = [ConditionType::Stopped, ConditionType::Paused];
            let rests = rest.into_iter().any(holds);
            // It may have been stopped under an earlier process.
            let rested = rest.into_iter().any(|type_| condition::is_true(before, type_));
            let ready = holds(ConditionType::Ready);
            object.resumes = !ready && (object.resumes || rests || rested);
            let Some(reached) = object.reached.as_mut().filter(|_| !rests) else {
                object.reached = None;
                return Vec::new();
            };
            let stages = ConditionType::ALL.iter().copied().filter(|type_| status::is_stage(*type_));
            let new: Vec<ConditionType> =
                stages.filter(|type_| holds(*type_) && reached.insert(*type_)).collect();
            if ready {
                object.reached = None;
            }
            new
        })
    }

    /// Reports whether the object is being created, or started after it was stopped on purpose.
    pub fn resumes(&self, uid: &str) -> bool {
        self.with(uid, |object| object.resumes)
    }

    /// Records that containers with these names exist under a generation of the spec. Returns all that have existed under it.
    pub fn existed(
        &self,
        uid: &str,
        generation: i64,
        names: impl IntoIterator<Item = String>,
    ) -> BTreeSet<String> {
        self.with(uid, |object| {
            if object.existed.0 != generation {
                object.existed = (generation, BTreeSet::new());
            }
            object.existed.1.extend(names);
            object.existed.1.clone()
        })
    }

    /// Sets the end of the client certificate in the kubeconfig of a cluster, or of the certificate of a registry.
    pub fn set_certificate(&self, uid: &str, end: Option<Timestamp>) {
        self.with(uid, |object| object.certificate = end);
    }

    /// Returns that end.
    pub fn certificate(&self, uid: &str) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid)?.certificate
    }

    /// Removes the state of a deleted object.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        condition::{Moment, set},
        reason::Reason,
    };

    fn conditions(holding: &[ConditionType]) -> Vec<Condition> {
        let mut all = Vec::new();
        let moment = Moment { generation: 1, now: Timestamp::UNIX_EPOCH };
        set(&mut all, ConditionType::Accepted, (true, Reason::Accepted, ""), moment);
        for type_ in holding {
            set(&mut all, *type_, (true, Reason::Ready, ""), moment);
        }
        all
    }

    #[test]
    fn each_condition_is_reached_once_until_the_object_is_ready() {
        use ConditionType::{Accepted, NetworkReady, Ready};
        let progress = Progress::default();
        let (new, net, done) =
            (conditions(&[]), conditions(&[NetworkReady]), conditions(&[NetworkReady, Ready]));
        assert_eq!(progress.turned("a", &[], &new), [Accepted]);
        assert_eq!(progress.turned("a", &new, &net), [NetworkReady]);
        assert_eq!(progress.turned("a", &net, &new), []);
        assert!(progress.resumes("a"));
        assert_eq!(progress.turned("a", &new, &done), [Ready]);
        assert!(!progress.resumes("a"));
        assert_eq!(progress.turned("a", &net, &done), []);
        // One that an earlier process created.
        assert_eq!(progress.turned("old", &net, &done), []);
    }

    #[test]
    fn what_has_existed_is_known_until_the_spec_changes() {
        let progress = Progress::default();
        let existed = |generation, names: &[&str]| {
            let all = progress.existed("a", generation, names.iter().map(|name| (*name).to_owned()));
            all.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(existed(1, &["a", "b"]), "a b");
        assert_eq!(existed(1, &["c"]), "a b c");
        assert_eq!(existed(2, &["b"]), "b");
    }

    #[test]
    fn what_was_stopped_or_paused_is_not_measured_and_resumes_without_repairs() {
        use ConditionType::{Paused, Ready, Stopped};
        let progress = Progress::default();
        for rest in [Stopped, Paused] {
            let (new, rests, done) = (conditions(&[]), conditions(&[rest]), conditions(&[Ready]));
            progress.turned("a", &[], &new);
            assert_eq!(progress.turned("a", &new, &rests), []);
            assert_eq!(progress.turned("a", &rests, &new), []);
            assert!(progress.resumes("a"));
            assert_eq!(progress.turned("a", &new, &done), []);
            assert!(!progress.resumes("a"));
            let later = Progress::default();
            later.turned("a", &rests, &new);
            assert!(later.resumes("a"), "it was stopped under an earlier process");
        }
    }
}
