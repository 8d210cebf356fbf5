//! The files: which ones kubectl reads, their locks, and writes that leave a whole file whatever happens.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    Changed, Error,
    edit::{self, Loaded},
};

/// kubectl holds a lock for milliseconds.
const LOCKED_FOR: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The kubeconfigs that kubectl reads, the first taking precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    paths: Vec<PathBuf>,
    patience: Duration,
}

impl Files {
    /// Returns the files by kubectl's rules: the one of `--kubeconfig`, or those in KUBECONFIG, or `~/.kube/config`.
    pub fn new(explicit: Option<&Path>, variable: Option<&str>, home: Option<&Path>) -> Result<Self, Error> {
        let mut paths: Vec<PathBuf> = match explicit {
            Some(file) => vec![file.to_owned()],
            None => {
                variable.unwrap_or_default().split(':').filter(|p| !p.is_empty()).map(Into::into).collect()
            }
        };
        let mut seen = BTreeSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        if paths.is_empty() {
            paths.push(home.ok_or(Error::NoPlace)?.join(".kube/config"));
        }
        Ok(Self { paths, patience: LOCKED_FOR })
    }

    /// Returns the files by the environment of the process.
    pub fn from_env(explicit: Option<&Path>) -> Result<Self, Error> {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        Self::new(explicit, std::env::var("KUBECONFIG").ok().as_deref(), home.as_deref())
    }

    /// Returns the files in the order of their precedence.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Returns the file for new entries: the first that exists, or else the last.
    fn default_file(&self) -> Option<&PathBuf> {
        self.paths.iter().find(|path| path.exists()).or_else(|| self.paths.last())
    }

    /// Reads all files that exist.
    pub(super) fn read(&self) -> Result<Vec<(PathBuf, Value)>, Error> {
        let mut files = Vec::new();
        for path in &self.paths {
            let text = match fs::read_to_string(path) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(cause) => return Err(Error::File { verb: "read", file: path.clone(), cause }),
            };
            let invalid = |cause| Error::Invalid { file: path.clone(), cause };
            files.push((path.clone(), edit::parse(&text).map_err(invalid)?));
        }
        Ok(files)
    }

    /// Applies a change, and returns the paths of the files that it changes, and all files.
    fn plan(&self, edit: Edit<'_>) -> Result<Planned, Error> {
        let mut files = self.read()?;
        let default = self.default_file().ok_or(Error::NoPlace)?;
        if !files.iter().any(|(path, _)| path == default) {
            files.push((default.clone(), serde_json::json!({})));
        }
        let loaded =
            files.iter().map(|(path, value)| Loaded { value: value.clone(), default: path == default });
        let mut after: Vec<Loaded> = loaded.collect();
        edit(&mut after)?;
        let current = edit::current_name(&after).map(str::to_owned);
        let changed = files.into_iter().zip(after).filter(|((_, before), after)| *before != after.value);
        Ok(Planned { changed: changed.map(|((path, _), after)| (path, after.value)).collect(), current })
    }

    /// Changes the files under their locks.
    pub(super) async fn change(
        &self,
        edit: impl Fn(&mut [Loaded]) -> Result<(), Error>,
    ) -> Result<Changed, Error> {
        let expected = self.plan(&edit)?;
        let mut locks = Vec::new();
        // As kubectl does, in the order of the names, so that two never wait for each other.
        for file in expected.changed.iter().map(|(path, _)| path).collect::<BTreeSet<_>>() {
            locks.push(Lock::acquire(file, self.patience).await?);
        }
        let planned = self.plan(&edit)?;
        if !planned.changed.iter().all(|(path, _)| locks.iter().any(|lock| lock.file == *path)) {
            return Err(Error::Changing);
        }
        let mut done = Changed { current: planned.current, ..Changed::default() };
        for (path, value) in planned.changed {
            let failed = |verb| {
                let file = path.clone();
                move |cause| Error::File { verb, file, cause }
            };
            let text = edit::render(&value).map_err(|cause| Error::Invalid { file: path.clone(), cause })?;
            done.backups.extend(back_up(&path).map_err(failed("back up"))?);
            replace(&path, &text).map_err(failed("write"))?;
            done.written.push(path);
        }
        Ok(done)
    }
}

type Edit<'a> = &'a dyn Fn(&mut [Loaded]) -> Result<(), Error>;

/// What a change makes of the files.
struct Planned {
    changed: Vec<(PathBuf, Value)>,
    current: Option<String>,
}

/// Returns `path` with something after its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The lock that kubectl and other clients take: `<file>.lock`.
struct Lock {
    file: PathBuf,
    lock: PathBuf,
}

impl Lock {
    async fn acquire(file: &Path, patience: Duration) -> Result<Self, Error> {
        let (file, lock) = (file.to_owned(), beside(file, ".lock"));
        let failed = |cause| Error::File { verb: "lock", file: file.clone(), cause };
        if let Some(dir) = lock.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        let until = Instant::now() + patience;
        loop {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock) {
                Ok(_) => return Ok(Self { file, lock }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && Instant::now() < until => {
                    sleep(LOOK_AGAIN).await;
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    return Err(Error::Locked { file, lock });
                }
                Err(cause) => return Err(failed(cause)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If it cannot be removed, the next program tells which file to remove.
        let _ = fs::remove_file(&self.lock);
    }
}

/// Copies the file as it was before the first write of this command, which no later one replaces.
fn back_up(path: &Path) -> io::Result<Option<PathBuf>> {
    let backup = beside(path, ".before-localcluster");
    if !path.exists() || backup.exists() {
        return Ok(None);
    }
    replace_as(&backup, &fs::read(path)?, Some(&fs::metadata(path)?))?;
    Ok(Some(backup))
}

/// Replaces the content of a file, through symbolic links. A new file is readable for its owner only; an old one keeps
/// its owner and permissions.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let (target, old) = match fs::canonicalize(path) {
        Ok(target) => {
            let old = fs::metadata(&target)?;
            (target, Some(old))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => (through(path), None),
        Err(error) => return Err(error),
    };
    replace_as(&target, text.as_bytes(), old.as_ref())
}

/// Returns where a symbolic link leads to that leads to nothing.
fn through(path: &Path) -> PathBuf {
    match fs::read_link(path) {
        Ok(target) => path.parent().unwrap_or(Path::new("")).join(target),
        Err(_) => path.to_owned(),
    }
}

fn replace_as(path: &Path, content: &[u8], like: Option<&fs::Metadata>) -> io::Result<()> {
    let new = beside(path, &format!(".new-{}", std::process::id()));
    let written = write_new(&new, content, like).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, content: &[u8], like: Option<&fs::Metadata>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if let Some(like) = like {
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o777))?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            chown(path, Some(like.uid()), Some(like.gid()))?;
        }
    }
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
