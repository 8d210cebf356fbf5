//! Collection of the errors of a spec.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::LazyLock,
};

use regex::Regex;

use crate::api::{
    local_cluster::{LocalRef, SecretKeyRef},
    registry::EnvVar,
    rules::{
        Refused,
        format::{self, Format},
        pattern, text,
    },
};

/// Errors of a spec, each as `path: what is required`.
pub type Problems = Vec<String>;

/// Collects errors. Unparsable fields get a placeholder value, which is discarded because of the error.
#[derive(Default)]
pub(super) struct Checker {
    pub(super) problems: Problems,
}

impl Checker {
    /// Returns the parsed value, or else the errors.
    pub(super) fn done<T>(self, valid: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(valid) } else { Err(self.problems) }
    }

    /// Adds an error unless a requirement holds.
    pub(super) fn check(&mut self, holds: bool, path: impl Display, message: &str) {
        if !holds {
            self.problems.push(format!("{path}: {message}"));
        }
    }

    /// Checks the format of a text.
    pub(super) fn fits(&mut self, path: impl Display, value: &str, format: &Format) {
        self.check(fits(value, format), path, format.message);
    }

    /// Checks that names are unique.
    pub(super) fn distinct<'a>(&mut self, path: &str, names: impl IntoIterator<Item = &'a String>) {
        let mut seen = BTreeSet::new();
        let distinct = names.into_iter().all(|name| seen.insert(name));
        self.check(distinct, path, text::TWICE);
    }

    /// Checks that a name is in no table of refused names.
    pub(super) fn refuse(&mut self, path: &str, name: &str, table: &[Refused], dashes: &str) {
        for refused in table.iter().filter(|r| r.has(name)) {
            self.check(false, path, &refused.message(dashes));
        }
    }

    /// Checks the name of a referenced object, if there is one.
    pub(super) fn object_name(&mut self, path: impl Display, name: Option<&String>) {
        if let Some(name) = name {
            self.fits(path, name, &format::OBJECT_NAME);
        }
    }

    /// Checks a reference, and returns the name of the object.
    pub(super) fn local_ref(&mut self, path: &str, reference: &LocalRef) -> String {
        let LocalRef { name } = reference;
        self.object_name(format_args!("{path}.name"), Some(name));
        name.clone()
    }

    /// Checks a reference to a key of a Secret.
    pub(super) fn secret_key(&mut self, path: &str, reference: &SecretKeyRef) -> SecretKeyRef {
        let SecretKeyRef { secret_name, key } = reference;
        self.object_name(format_args!("{path}.secretName"), Some(secret_name));
        self.fits(format_args!("{path}.key"), key, &format::SECRET_KEY);
        reference.clone()
    }

    /// Checks the path of a directory of the Docker host.
    pub(super) fn host_path(&mut self, path: impl Display, value: &str) {
        let plain = !value.split('/').any(|part| matches!(part, "." | ".."));
        self.check(plain && fits(value, &format::HOST_PATH), path, format::HOST_PATH.message);
    }

    /// Parses environment variables.
    pub(super) fn env(&mut self, path: &str, env: &[EnvVar], table: &[Refused]) -> BTreeMap<String, String> {
        for (i, EnvVar { name, value: _ }) in env.iter().enumerate() {
            let path = format!("{path}[{i}].name");
            self.fits(&path, name, &format::ENV_NAME);
            self.refuse(&path, name, table, "");
        }
        self.distinct(path, env.iter().map(|v| &v.name));
        env.iter().map(|v| (v.name.clone(), v.value.clone())).collect()
    }
}

/// Reports whether a text has a format.
fn fits(value: &str, format: &Format) -> bool {
    value.len() <= format.max && is(format.pattern, value)
}

/// Returns a regular expression that matches the whole value.
pub(super) fn whole(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).expect("a pattern of our own is one")
}

/// Reports whether `value` matches a `pattern` of [`pattern`] completely.
pub fn is(pattern: &'static str, value: &str) -> bool {
    static COMPILED: LazyLock<BTreeMap<&'static str, Regex>> =
        LazyLock::new(|| pattern::ALL.iter().map(|p| (*p, whole(p))).collect());
    COMPILED.get(pattern).is_some_and(|regex| regex.is_match(value))
}
