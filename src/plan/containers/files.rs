//! Files of an existing container: which ones differ, and how they are updated.

use sha2::{Digest, Sha256};

use super::existing::{Existing, FILES_CHANGED};
use crate::{
    api::names,
    docker::{
        engine::ContainerDetail,
        spec::{ContainerSpec, FileChange, FileSpec},
    },
    k3s,
    plan::{
        hash,
        observed::Observed,
        steps::{Action, Plan},
    },
};

impl Existing<'_> {
    /// Returns the files that are updated in place because they differ.
    pub(super) fn stale_files(&self) -> Vec<FileSpec> {
        let live = self.spec.files.iter().filter(|f| f.change.is_live());
        live.filter(|f| differs(self.site.observed, self.detail, f)).cloned().collect()
    }

    /// Returns the join token if it is pinned to the CA of the cluster and the one in the container is not. While the CA is
    /// unknown, the token in the container is kept.
    pub(super) fn stale_token(&self) -> Option<&FileSpec> {
        let pinned =
            |f: &&FileSpec| f.change == FileChange::Token && k3s::token::ca_hash_of(&f.content).is_some();
        self.spec.files.iter().filter(pinned).find(|f| differs(self.site.observed, self.detail, f))
    }

    /// Plans the update of that token after `after`; `None` if there is none. It takes effect at the next start of K3s, and
    /// no Event reports it.
    pub(super) fn pin_token(&self, plan: &mut Plan, after: &[usize]) -> Option<usize> {
        let files = vec![self.stale_token()?.clone()];
        Some(plan.step(Action::Upload { container: self.target(), files }, after, ""))
    }

    /// Plans the update of those files after `after`; `None` if there are none.
    pub(super) fn upload_stale(&self, plan: &mut Plan, after: &[usize]) -> Option<usize> {
        let files = self.stale_files();
        let upload = |files| Action::Upload { container: self.target(), files };
        (!files.is_empty()).then(|| plan.step(upload(files), after, FILES_CHANGED))
    }

    /// Plans the update of the files that its process reads again after SIGHUP, and the signal; `None` if none
    /// differs.
    pub(super) fn reload(&self, plan: &mut Plan) -> Option<usize> {
        let hangup = self.spec.files.iter().filter(|f| f.change == FileChange::Hangup);
        let hangup: Vec<&FileSpec> = hangup.collect();
        // The last file records that the signal was sent, so it is uploaded after the signal.
        let (marker, content) = hangup.split_last()?;
        if hangup.iter().all(|f| self.has(f)) {
            return None;
        }
        let upload = |files| Action::Upload { container: self.target(), files };
        let stale: Vec<FileSpec> = content.iter().filter(|f| !self.has(f)).map(|f| (*f).clone()).collect();
        let uploaded =
            (!stale.is_empty()).then(|| plan.step(upload(stale), &[], "its configuration changed"));
        let signal = Action::Signal { container: self.target(), signal: "SIGHUP" };
        let signalled = plan.step(signal, uploaded.as_slice(), "");
        Some(plan.step(upload(vec![(*marker).clone()]), &[signalled], ""))
    }

    /// Reports whether the container has a file with this content.
    fn has(&self, file: &FileSpec) -> bool {
        let seen = self.site.observed.files.get(&(self.detail.container.id.clone(), file.path.clone()));
        matches!(seen, Some(Some(hash)) if *hash == file.sha256())
    }
}

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
        || spec.files.iter().any(|f| match f.change {
            FileChange::Recreate => differs(observed, detail, f),
            FileChange::Token => has_other_secret(observed, detail, f),
            FileChange::Replace
            | FileChange::Keep
            | FileChange::Hangup
            | FileChange::Live
            | FileChange::LiveFrom(_) => false,
        })
}

/// Reports whether the join token was read back and has another secret or is missing.
fn has_other_secret(observed: &Observed, detail: &ContainerDetail, file: &FileSpec) -> bool {
    let wanted = k3s::token::secret_of(&file.content).map(|secret| Sha256::digest(secret).into());
    observed.secrets.get(&detail.container.id).is_some_and(|seen| *seen != wanted)
}

/// Reports whether a file was read back and differs or is missing. A file that was not read is left unchanged:
/// missing information is no reason to replace a container.
fn differs(observed: &Observed, detail: &ContainerDetail, file: &FileSpec) -> bool {
    let seen = observed.files.get(&(detail.container.id.clone(), file.path.clone()));
    seen.is_some_and(|hash| *hash != Some(file.sha256()))
}
