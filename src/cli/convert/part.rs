//! A part of a file. What is converted is taken out of it; a comment tells of each field that is left when it is dropped,
//! so that none is forgotten.

use std::{cell::RefCell, rc::Rc};

use serde_json::Value;

/// Comments.
#[derive(Clone, Default)]
pub(super) struct Notes(Rc<RefCell<Vec<String>>>);

impl Notes {
    /// Returns all comments in the order of their paths in the file.
    pub fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    fn add(&self, path: &str, what: &str) {
        let note = format!("{path}: {what}");
        let mut notes = self.0.borrow_mut();
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
}

/// A value in a file.
pub(super) struct Part {
    value: Value,
    path: String,
    notes: Notes,
}

impl Part {
    /// Returns the root.
    pub fn new(value: Value, path: String, notes: &Notes) -> Self {
        Self { value, path, notes: notes.clone() }
    }

    /// Adds a comment about a field.
    pub fn note(&self, key: &str, what: &str) {
        self.notes.add(&join(&self.path, key), what);
    }

    /// Takes a field out.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.value.as_object_mut()?.remove(key).filter(|value| !value.is_null())
    }

    /// Takes a field out that is text, or a number or a truth value, which YAML does not distinguish for its authors.
    pub fn text(&mut self, key: &str) -> Option<String> {
        match self.value.get(key)? {
            Value::Null | Value::Array(_) | Value::Object(_) => None,
            Value::String(text) if text.is_empty() => self.take(key).and(None),
            _ => self.take(key).map(|value| text(&value)),
        }
    }

    /// Takes a number out.
    pub fn number(&mut self, key: &str) -> Option<i64> {
        let number = self.value.get(key).and_then(|value| text(value).parse().ok())?;
        self.take(key);
        Some(number)
    }

    /// Takes a field out that has fields; it is empty if there is none.
    pub fn part(&mut self, key: &str) -> Self {
        let value = self.take(key).unwrap_or_default();
        Self { value, path: join(&self.path, key), notes: self.notes.clone() }
    }

    /// Takes the items of a list out.
    pub fn parts(&mut self, key: &str) -> Vec<Self> {
        let path = join(&self.path, key);
        let Some(items) = self.list(key) else { return Vec::new() };
        let part = |(at, value)| Self { value, path: format!("{path}[{at}]"), notes: self.notes.clone() };
        items.into_iter().enumerate().map(part).collect()
    }

    /// Takes a list of texts out.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        self.list(key).unwrap_or_default().iter().map(text).filter(|text| !text.is_empty()).collect()
    }

    fn list(&mut self, key: &str) -> Option<Vec<Value>> {
        self.value.get(key)?.as_array()?;
        match self.take(key) {
            Some(Value::Array(items)) => Some(items),
            _ => None,
        }
    }

    /// Returns the whole value as text, if it is no mapping or list.
    pub fn whole(&mut self) -> Option<String> {
        if self.value.is_object() || self.value.is_array() || self.value.is_null() {
            return None;
        }
        let whole = text(&self.value);
        self.value = Value::Null;
        Some(whole)
    }

    /// Takes fields out that need no equal: what they ask for is so anyway, or no concern of a cluster.
    pub fn without(&mut self, keys: &[&str]) {
        for key in keys {
            self.take(key);
        }
    }

    /// Takes a field out that has no equal, and tells what to do instead.
    pub fn instead(&mut self, key: &str, what: &str) {
        if let Some(value) = self.take(key)
            && !is_empty(&value)
        {
            self.note(key, what);
        }
    }

    /// Reports whether the field exists in the file.
    pub fn is_some(&self) -> bool {
        !self.value.is_null()
    }

    /// Forgets all that is left.
    pub fn ignore(&mut self) {
        self.value = Value::Null;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let value = std::mem::take(&mut self.value);
        left(&self.notes, &self.path, &value);
    }
}

/// Tells of each field below a value.
fn left(notes: &Notes, path: &str, value: &Value) {
    match value {
        empty if is_empty(empty) => {}
        Value::Object(fields) => {
            for (key, value) in fields {
                left(notes, &join(path, key), value);
            }
        }
        _ => notes.add(if path.is_empty() { "the file" } else { path }, "has no equal, left out"),
    }
}

/// Reports whether a value says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", only) | (only, "") => only.to_owned(),
        (path, key) => format!("{path}.{key}"),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
