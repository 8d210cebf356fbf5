//! Watches of several namespaces as one: a store follows one watch, with one first list.

use std::{collections::BTreeMap, mem};

use futures::{
    StreamExt,
    stream::{BoxStream, iter, select_all},
};
use kube::{
    ResourceExt,
    runtime::watcher::{Error, Event},
};

/// Events of a watch.
pub(super) type Events<K> = BoxStream<'static, Result<Event<K>, Error>>;

/// Joins watches of different namespaces. Their first lists become one list; of later lists, only the changes are told.
pub(super) fn merged<K: ResourceExt + Clone + Send + 'static>(watches: Vec<Events<K>>) -> Events<K> {
    let mut merged = Merged::new(watches.len());
    let numbered = watches.into_iter().enumerate();
    let all = select_all(numbered.map(|(source, watch)| watch.map(move |event| (source, event)).boxed()));
    let told = all.flat_map(move |(source, event)| {
        iter(match event {
            Ok(event) => merged.add(source, event).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    });
    told.boxed()
}

/// The objects of all watches.
struct Merged<K>(Vec<Source<K>>);

/// The objects of a watch, by name.
struct Source<K> {
    known: BTreeMap<String, K>,
    /// Objects of the list that is being read.
    listing: BTreeMap<String, K>,
    /// True if a list was read completely.
    is_listed: bool,
}

impl<K: ResourceExt + Clone> Merged<K> {
    fn new(watches: usize) -> Self {
        let source = || Source { known: BTreeMap::new(), listing: BTreeMap::new(), is_listed: false };
        Self((0..watches).map(|_| source()).collect())
    }

    fn is_listed(&self) -> bool {
        self.0.iter().all(|source| source.is_listed)
    }

    /// Returns the events that follow from an event of a watch: none until all have listed their objects.
    fn add(&mut self, source: usize, event: Event<K>) -> Vec<Event<K>> {
        let was_listed = self.is_listed();
        let changes = self.0[source].add(event);
        if was_listed {
            return changes;
        }
        if !self.is_listed() {
            return Vec::new();
        }
        let objects = self.0.iter().flat_map(|source| source.known.values().cloned());
        [Event::Init].into_iter().chain(objects.map(Event::InitApply)).chain([Event::InitDone]).collect()
    }
}

impl<K: ResourceExt + Clone> Source<K> {
    /// Returns the changes of its objects by an event.
    fn add(&mut self, event: Event<K>) -> Vec<Event<K>> {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => drop(self.listing.insert(object.name_any(), object)),
            Event::InitDone => {
                self.is_listed = true;
                let before = mem::replace(&mut self.known, mem::take(&mut self.listing));
                let gone = before.into_iter().filter(|(name, _)| !self.known.contains_key(name));
                let gone = gone.map(|(_, object)| Event::Delete(object));
                return gone.chain(self.known.values().cloned().map(Event::Apply)).collect();
            }
            Event::Apply(object) => {
                self.known.insert(object.name_any(), object.clone());
                return vec![Event::Apply(object)];
            }
            Event::Delete(object) => {
                self.known.remove(&object.name_any());
                return vec![Event::Delete(object)];
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    fn object(namespace: &str, name: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn told(events: Vec<Event<ConfigMap>>) -> Vec<String> {
        let of = |o: ConfigMap| format!("{}/{}", o.namespace().unwrap(), o.name_any());
        let words = events.into_iter().map(|event| match event {
            Event::Init => "list".to_owned(),
            Event::InitApply(o) => format!("has {}", of(o)),
            Event::InitDone => "listed".to_owned(),
            Event::Apply(o) => format!("+{}", of(o)),
            Event::Delete(o) => format!("-{}", of(o)),
        });
        words.collect()
    }

    /// Adds these events, and returns what they become.
    fn add(merged: &mut Merged<ConfigMap>, source: usize, events: Vec<Event<ConfigMap>>) -> Vec<String> {
        events.into_iter().flat_map(|event| told(merged.add(source, event))).collect()
    }

    fn list(namespace: &str, names: &[&str]) -> Vec<Event<ConfigMap>> {
        let objects = names.iter().map(|name| Event::InitApply(object(namespace, name)));
        [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect()
    }

    #[test]
    fn first_lists_are_one_and_later_ones_are_changes() {
        let merged = &mut Merged::new(2);
        assert_eq!(add(merged, 0, list("a", &["x", "y"])), [""; 0]);
        // Before the other list is complete, it changes and is read again.
        assert_eq!(add(merged, 0, vec![Event::Delete(object("a", "x"))]), [""; 0]);
        assert_eq!(add(merged, 1, vec![Event::Init, Event::InitApply(object("b", "gone"))]), [""; 0]);
        assert_eq!(add(merged, 1, list("b", &["x"])), ["list", "has a/y", "has b/x", "listed"]);
        assert_eq!(add(merged, 1, vec![Event::Apply(object("b", "z"))]), ["+b/z"]);
        assert_eq!(add(merged, 0, list("a", &["new"])), ["-a/y", "+a/new"]);
        assert_eq!(add(merged, 1, list("b", &["x"])), ["-b/z", "+b/x"]);
        assert_eq!(add(merged, 0, vec![Event::Delete(object("a", "new"))]), ["-a/new"]);
        assert_eq!(add(merged, 0, list("a", &[])), [""; 0]);
    }
}
