//! Contexts in the user's kubeconfig, by the rules of kubectl: which of the files in KUBECONFIG is written, its lock, and
//! that everything else in it stays.

mod edit;
mod files;

use std::path::PathBuf;

use serde_json::Value;

pub use files::Files;

/// Name of the extension that marks an entry as made by this command.
const MARK: &str = "localcluster.dev";

/// Error of a change or a read of kubeconfigs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no home directory to have the default file in.
    #[error("no kubeconfig: neither KUBECONFIG nor HOME is set; set KUBECONFIG to the path of a file")]
    NoPlace,
    /// A file cannot be read or written.
    #[error("cannot {verb} {}: {cause}; check the path in KUBECONFIG and the permissions", file.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A file is no kubeconfig. The cause shows nothing of its content.
    #[error("cannot read {}: it is no kubeconfig: {cause}; correct the file, nothing was changed", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: String,
    },
    /// Another program holds the lock.
    #[error("cannot change {}: {} exists, so another program is changing it; remove the lock file if none does", file.display(), lock.display())]
    Locked {
        /// The file.
        file: PathBuf,
        /// Its lock.
        lock: PathBuf,
    },
    /// The files change faster than they are locked.
    #[error("cannot change the kubeconfig: its files changed in the meantime; repeat the command")]
    Changing,
    /// Another program or person made an entry of this name.
    #[error(
        "the kubeconfig has another {kind} {name:?}: {whose}; choose another name for this one, or replace it with --force"
    )]
    Taken {
        /// The kind of entry.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Whose it is.
        whose: String,
    },
    /// The file to merge has no usable context.
    #[error("cannot merge the kubeconfig of the cluster: {0}; check the Secret that contains it")]
    Source(String),
}

/// Whose an entry is: another object's entry of the same name is not replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The object that the entry leads to, such as `namespace/name`.
    pub owner: String,
    /// The management cluster of that object, such as the URL of its API.
    pub management: String,
}

/// A context with its cluster and its user.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// Name of the context and of the cluster.
    pub name: String,
    /// The cluster.
    pub cluster: Value,
    /// Name of the user.
    pub user_name: String,
    /// The user.
    pub user: Value,
    /// Whose it is.
    pub origin: Origin,
    /// The context of the management cluster, in which commands for the cluster of this one go on.
    pub via: Option<String>,
}

impl Entry {
    /// Returns the current context of a self-contained kubeconfig.
    pub fn parse(yaml: &str, origin: Origin) -> Result<Self, Error> {
        let file = edit::parse(yaml).map_err(Error::Source)?;
        edit::current(&file, origin).map_err(Error::Source)
    }

    /// Returns the entry under another name.
    pub fn renamed(mut self, name: &str) -> Self {
        let role = self.user_name.split_once('@').map_or("admin", |(role, _)| role);
        self.user_name = format!("{role}@{name}");
        name.clone_into(&mut self.name);
        self
    }

    /// Returns the URL of the API server.
    pub fn server(&self) -> &str {
        self.cluster.get("server").and_then(Value::as_str).unwrap_or_default()
    }
}

/// How an entry is merged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Merge {
    /// Makes it the current context.
    pub switch: bool,
    /// Replaces an entry of the same name whoever made it.
    pub force: bool,
}

/// What a change of kubeconfigs did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The files that were written, the one with the context first.
    pub written: Vec<PathBuf>,
    /// Copies of files as they were before the first write of this command.
    pub backups: Vec<PathBuf>,
    /// The current context after the change.
    pub current: Option<String>,
}

impl Files {
    /// Merges a context, with its cluster and its user. An entry of the same name is replaced if it has the same origin or
    /// leads to the same API server.
    pub async fn merge(&self, entry: &Entry, how: Merge) -> Result<Changed, Error> {
        self.change(|files| edit::merge(files, entry, how)).await
    }

    /// Removes a context with its cluster and its user, if they were merged for this origin. If it was the current
    /// context, the one before it becomes current again.
    pub async fn remove(&self, name: &str, origin: &Origin) -> Result<Changed, Error> {
        self.change(|files| {
            edit::remove(files, name, origin);
            Ok(())
        })
        .await
    }

    /// Makes a context the current one; `false` if there is none of this name.
    pub async fn switch(&self, name: &str) -> Result<Option<Changed>, Error> {
        if !self.read()?.iter().any(|(_, file)| edit::has_context(file, name)) {
            return Ok(None);
        }
        self.change(|files| {
            edit::switch(files, name);
            Ok(())
        })
        .await
        .map(Some)
    }

    /// Returns the context of the management cluster: the current one, or that through which it was merged.
    pub fn management(&self) -> Result<Option<String>, Error> {
        let files = self.read()?;
        Ok(edit::management(files.iter().map(|(_, file)| file)))
    }

    /// Returns the same of those that were merged by way of the context `via` of a management cluster.
    pub fn merged_via(&self, via: &str) -> Result<Vec<(String, Origin)>, Error> {
        Ok(self.read()?.iter().flat_map(|(_, file)| edit::merged_via(file, via)).collect())
    }

    /// Returns the origins of all contexts that were merged by this command, with the names of the contexts.
    pub fn merged(&self) -> Result<Vec<(String, Origin)>, Error> {
        Ok(self.read()?.iter().flat_map(|(_, file)| edit::merged(file)).collect())
    }
}
