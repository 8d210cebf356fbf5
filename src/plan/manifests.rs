//! Manifests that K3s applies, and the lifecycle of their objects.
//!
//! K3s applies files and deletes nothing. To delete objects that are removed from a manifest whatever happens
//! meanwhile, the cluster itself stores an inventory of all objects that manifests requested: an object is added
//! before it is in a file, and removed after it is gone. The inventory has the lifetime of the data of the cluster,
//! as the objects do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    containers::Site,
    desired::Desired,
    inputs::Inputs,
    observed::Observed,
    refs::Manifest,
    steps::{Action, Plan, Target},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    child::state::{Child, ChildState, ClusterConfigMap, Found, INVENTORY},
    docker::spec::{FileChange, FileSpec},
    k3s::manifests::{self, ObjectRef, Written},
    time::{after, doubled},
};

/// Time for which K3s may continue to apply a file that it has read: it may recreate an object that was just deleted.
const SETTLED: SignedDuration = SignedDuration::from_secs(20);
/// Time after which a file that K3s has not applied is rewritten; doubled each time.
const AGAIN: SignedDuration = SignedDuration::from_secs(45);
/// Maximum of that time.
const SELDOM: SignedDuration = SignedDuration::from_mins(10);

/// Number of objects beyond the desired ones that are looked for at once: users of the cluster can write any number to the
/// inventory and the files, and each costs a request.
const OTHERS: usize = 1000;

/// Namespaces of the cluster itself, which are never deleted.
const IMMORTAL: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Inventory of the objects of manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Inventory {
    /// Time since which some of the objects are to be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropping: Option<Timestamp>,
    /// All objects that manifests requested and that are not known to be gone.
    objects: BTreeSet<ObjectRef>,
}

impl Inventory {
    /// Returns the inventory of the cluster. An unreadable inventory is empty: the files contain the current objects.
    fn of(state: &ChildState) -> Self {
        let held = state.config.get(&INVENTORY);
        held.and_then(|h| serde_json::from_str(&h.content).ok()).unwrap_or_default()
    }

    fn action(&self) -> Action {
        let text = serde_json::to_string(self).expect("plain values always serialize");
        let content = (!self.objects.is_empty()).then_some(text);
        Action::SetConfig(ClusterConfigMap { key: INVENTORY, content, claimed: true, readers: None })
    }
}

/// Returns the desired objects.
fn wanted(refs: &[Manifest]) -> BTreeSet<ObjectRef> {
    refs.iter().filter_map(|m| m.content.as_ref()).flat_map(|c| c.objects.iter().cloned()).collect()
}

/// Returns the objects of manifests, inventory and files, which [`Seen::objects`] covers. Of those that are not desired, as
/// many as are looked for at once; the others follow when these are gone.
pub fn asked(refs: &[Manifest], observed: &Observed) -> BTreeSet<ObjectRef> {
    let mut others = BTreeSet::new();
    if let Child::Reachable(state) = &observed.child {
        others.extend(Inventory::of(state).objects);
    }
    for content in observed.manifests.files.values().flat_map(BTreeMap::values) {
        let parsed = manifests::parse(manifests::written(content).text.as_bytes());
        others.extend(parsed.into_iter().flat_map(|p| p.objects));
    }
    let mut all = wanted(refs);
    let others: Vec<ObjectRef> = others.into_iter().filter(|o| !all.contains(o)).take(OTHERS).collect();
    all.extend(others);
    all
}

/// Changes of files, and whether all servers could be observed.
#[derive(Default)]
struct Files {
    writes: Vec<(Target, FileSpec)>,
    removes: Vec<(Target, Vec<String>)>,
    /// True if K3s will apply changed content.
    moves: bool,
    /// Servers that do not work now.
    unseen: Vec<String>,
}

fn files(
    desired: &Desired,
    refs: &[Manifest],
    missing: &BTreeSet<ObjectRef>,
    inputs: &Inputs<'_>,
    site: &Site<'_>,
) -> Files {
    let mut todo = Files::default();
    for server in &desired.servers {
        let name = &server.container.name;
        let seen =
            site.own(name).and_then(|d| Some((d, inputs.observed.manifests.files.get(&d.container.id)?)));
        let Some((detail, seen)) = seen else {
            todo.unseen.push(name.clone());
            continue;
        };
        let target = || Target::of(&detail.container);
        for manifest in refs {
            let Some(content) = &manifest.content else { continue };
            let path = manifests::path(&manifest.name);
            let before = seen.get(&path).map(|c| manifests::written(c));
            let same = before.as_ref().filter(|w| w.text == content.text);
            let times = match same {
                None => 1,
                // The object was deleted from outside, or K3s failed to apply it: K3s only retries changed files.
                Some(w) if !content.objects.is_disjoint(missing) && is_due(w, inputs.now) => {
                    w.times.saturating_add(1)
                }
                Some(_) => continue,
            };
            todo.moves |= same.is_none();
            let written = Written { text: &content.text, times, at: Some(inputs.now) };
            let content = manifests::render(&written);
            todo.writes.push((target(), FileSpec { path, mode: 0o600, content, change: FileChange::Live }));
        }
        let stale =
            |path: &String| manifests::name_of(path).is_some_and(|name| refs.iter().all(|m| m.name != name));
        let stale: Vec<String> = seen.keys().filter(|p| stale(p)).cloned().collect();
        if !stale.is_empty() {
            todo.moves = true;
            todo.removes.push((target(), stale));
        }
    }
    todo
}

fn is_due(written: &Written<'_>, now: Timestamp) -> bool {
    let patience = doubled(AGAIN, written.times.saturating_sub(1)).min(SELDOM);
    // A time in the future was not written by the operator.
    written.at.filter(|at| *at <= now).is_none_or(|at| now >= after(at, patience))
}

/// The objects of manifests: desired, recorded in the inventory, and to be deleted.
struct Objects {
    inventory: Inventory,
    /// Objects of the manifests of the spec.
    wanted: BTreeSet<ObjectRef>,
    /// All objects of manifests, inventory and files.
    known: BTreeSet<ObjectRef>,
    /// True if the contents of all manifests are known. Otherwise the removed objects cannot be determined.
    whole: bool,
    now: Timestamp,
}

impl Objects {
    fn new(state: &ChildState, inputs: &Inputs<'_>) -> Self {
        let refs = inputs.refs.manifests.as_slice();
        Self {
            inventory: Inventory::of(state),
            wanted: wanted(refs),
            known: asked(refs, inputs.observed),
            whole: refs.iter().all(|m| m.content.is_some()),
            now: inputs.now,
        }
    }

    /// Returns the objects that no manifest contains any more.
    fn dropped(&self) -> Vec<&ObjectRef> {
        self.known.difference(&self.wanted).filter(|_| self.whole).collect()
    }

    /// Returns the time since which objects are dropped. Users of the cluster can write to the inventory, and a time
    /// in the future would block its update.
    fn dropping_since(&self) -> Option<Timestamp> {
        self.inventory.dropping.filter(|since| *since <= self.now)
    }

    /// Plans the addition of all known objects to the inventory if it lacks some, or does not record when objects were
    /// dropped. `moves` is true if K3s will apply changed content, which may recreate dropped objects.
    fn extend_inventory(&self, plan: &mut Plan, moves: bool) -> Option<usize> {
        let covered = self.known.is_subset(&self.inventory.objects);
        let dropping = !self.dropped().is_empty();
        let since = self.dropping_since();
        let fresh = since.is_some_and(|s| self.now < after(s, SETTLED / 2));
        if covered && !(dropping && (since.is_none() || (moves && !fresh))) {
            return None;
        }
        updating(plan);
        let dropping = if dropping { Some(self.now) } else { since };
        let objects = self.known.union(&self.inventory.objects).cloned().collect();
        Some(plan.step(Inventory { dropping, objects }.action(), &[], ""))
    }

    /// Plans the removal of all but the desired objects from the inventory, once K3s has certainly finished with the
    /// previous files.
    fn reduce_inventory(&self, plan: &mut Plan) {
        // Those that have not been looked for yet.
        let rest = self.inventory.objects.difference(&self.known);
        let objects: BTreeSet<ObjectRef> = self.wanted.iter().chain(rest).cloned().collect();
        let dropping = self.dropping_since().filter(|_| objects.len() > self.wanted.len());
        let reduced = Inventory { dropping, objects };
        if self.inventory == reduced {
            return;
        }
        updating(plan);
        let finished = self.dropping_since().is_none_or(|s| self.now >= after(s, SETTLED));
        if self.dropped().is_empty() || finished {
            plan.step(reduced.action(), &[], "");
        }
    }
}

/// Plans the transition of manifests and their objects to the desired state.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>) {
    let refs = inputs.refs.manifests.as_slice();
    let (Child::Reachable(state), Some(found)) = (&inputs.observed.child, &inputs.observed.manifests.objects)
    else {
        add_unobserved(plan, inputs);
        return;
    };
    let objects = Objects::new(state, inputs);
    let is_there = |o: &ObjectRef| found.get(o).is_some_and(|f| !f.going);
    let missing: BTreeSet<ObjectRef> = objects.wanted.iter().filter(|o| !is_there(o)).cloned().collect();
    let leaving = leaving(&objects.dropped(), &objects.wanted, found);
    let todo = files(desired, refs, &missing, inputs, site);

    // The inventory comes first, since objects of a changed file would be forgotten otherwise.
    let recorded = objects.extend_inventory(plan, todo.moves);
    let mut changed: Vec<usize> = recorded.into_iter().collect();
    changed.extend(write(plan, &todo, recorded.as_slice()));
    for (object, found) in &leaving {
        let message = format!("deleting {object}: no manifest contains it any more");
        plan.waits(ConditionType::ManifestsReady, Reason::Deleting, message);
        if !found.going {
            let delete = Action::DeleteObject { object: (*object).clone(), uid: found.uid.clone() };
            plan.step(delete, &changed, "no manifest contains it any more");
        }
    }
    add_missing(plan, refs, &missing);
    for name in todo.unseen.iter().filter(|_| !objects.known.is_empty()) {
        let message = format!("waiting for {name} to be Ready before writing manifests to it");
        plan.waits(ConditionType::ManifestsReady, Reason::Pending, message);
    }
    if changed.is_empty() && leaving.is_empty() && todo.unseen.is_empty() && objects.whole {
        objects.reduce_inventory(plan);
    }
}

/// Adds the problem that the objects of manifests cannot be listed.
fn add_unobserved(plan: &mut Plan, inputs: &Inputs<'_>) {
    let refs = inputs.refs.manifests.as_slice();
    let held = inputs.observed.child.state().is_some_and(|state| state.config.contains_key(&INVENTORY));
    let why = inputs.observed.manifests.trouble.as_ref().filter(|_| held || !refs.is_empty());
    if let Some(why) = why {
        let message = format!("cannot list the objects of manifests: {why}");
        plan.waits(ConditionType::ManifestsReady, Reason::ApiNotAnswering, message);
    } else if !refs.is_empty() {
        let message = "waiting for the API of the cluster before applying manifests";
        plan.waits(ConditionType::ManifestsReady, Reason::Pending, message);
    }
}

/// Plans the changes of files after `after`, and returns their steps.
fn write(plan: &mut Plan, todo: &Files, after: &[usize]) -> Vec<usize> {
    let mut changed = Vec::new();
    for (container, file) in &todo.writes {
        let name = manifests::name_of(&file.path).unwrap_or_default();
        let why = format!("to apply the manifest {name}");
        let upload = Action::Upload { container: container.clone(), files: vec![file.clone()] };
        changed.push(plan.step(upload, after, why));
        updating(plan);
    }
    for (container, paths) in &todo.removes {
        let remove = Action::RemoveFiles { container: container.clone(), paths: paths.clone() };
        changed.push(plan.step(remove, after, "a manifest was removed from the spec"));
        updating(plan);
    }
    changed
}

fn updating(plan: &mut Plan) {
    plan.waits(ConditionType::ManifestsReady, Reason::Updating, "updating manifests");
}

/// Returns the dropped objects to delete. An object may have several references, with another API version or with a
/// namespace although it is cluster-scoped.
fn leaving<'a>(
    dropped: &[&'a ObjectRef],
    wanted: &BTreeSet<ObjectRef>,
    objects: &BTreeMap<ObjectRef, Found>,
) -> Vec<(&'a ObjectRef, Found)> {
    let kept: BTreeSet<&str> = wanted.iter().filter_map(|o| Some(objects.get(o)?.uid.as_str())).collect();
    let immortal = |o: &ObjectRef| o.kind == "Namespace" && IMMORTAL.contains(&o.name.as_str());
    let goes = |o: &&'a ObjectRef| {
        let found = objects.get(*o).filter(|f| !kept.contains(f.uid.as_str()) && !immortal(o));
        found.map(|f| (*o, f.clone()))
    };
    dropped.iter().filter_map(goes).collect()
}

/// Adds a problem for each manifest with missing objects.
fn add_missing(plan: &mut Plan, refs: &[Manifest], missing: &BTreeSet<ObjectRef>) {
    for manifest in refs {
        let Some(content) = &manifest.content else { continue };
        let gone: Vec<String> = content.objects.intersection(missing).map(ToString::to_string).collect();
        if let Some(first) = gone.first() {
            let more = match gone.len() - 1 {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            let message = format!(
                "waiting for K3s to apply the manifest {}: missing {first}{more}; if it persists, see the log of \
                 the server and the Events of the Addon localcluster-{}",
                manifest.name, manifest.name
            );
            plan.waits(ConditionType::ManifestsReady, Reason::ManifestNotApplied, message);
        }
    }
}
