//! The hub's context in the user's kubeconfig.

use super::super::kubeconfig::{Changed, Entry, Files, Merge, Origin};
use crate::{docker::engine::Engine, plan::hub::down::Clusters};

/// Merges the context; reports whether something changed. Only a new context becomes the current one.
pub async fn merge(engine: &dyn Engine, name: &str, kubeconfig: &str) -> Result<bool, String> {
    let origin = origin(engine, name).await?;
    merge_into(&Files::from_env(None).map_err(words)?, name, kubeconfig, origin).await
}

/// Removes the context if it leads to this hub, and those of its clusters unless they run on; reports whether it was there.
pub async fn remove(engine: &dyn Engine, name: &str, clusters: Clusters) -> Result<bool, String> {
    let origin = origin(engine, name).await?;
    // Without a kubeconfig there is no context.
    let Ok(files) = Files::from_env(None) else { return Ok(false) };
    remove_from(&files, name, &origin, clusters).await
}

/// The hub of an engine: another engine's hub may have the same name.
async fn origin(engine: &dyn Engine, name: &str) -> Result<Origin, String> {
    let id = engine.info().await.map_err(|e| e.to_string())?.id;
    Ok(Origin { owner: format!("hub {name}"), management: format!("Docker Engine {id}") })
}

async fn merge_into(files: &Files, name: &str, kubeconfig: &str, origin: Origin) -> Result<bool, String> {
    let known = files.merged().map_err(words)?.iter().any(|(context, of)| context == name && *of == origin);
    let entry = Entry::parse(kubeconfig, origin).map_err(words)?;
    let how = Merge { switch: !known, force: false };
    told("merged", name, &files.merge(&entry, how).await.map_err(words)?)
}

async fn remove_from(files: &Files, name: &str, origin: &Origin, clusters: Clusters) -> Result<bool, String> {
    let is_own = files.merged().map_err(words)?.iter().any(|(context, of)| context == name && of == origin);
    if is_own && clusters != Clusters::Keep {
        for (context, of) in files.merged_via(name).map_err(words)? {
            told("removed", &context, &files.remove(&context, &of).await.map_err(words)?)?;
        }
    }
    told("removed", name, &files.remove(name, origin).await.map_err(words)?)
}

fn told(done: &str, name: &str, changed: &Changed) -> Result<bool, String> {
    for file in &changed.written {
        super::say(&format!("{done} context {name} in {}", file.display()));
    }
    for file in &changed.backups {
        super::say(&format!("the kubeconfig as it was before is {}", file.display()));
    }
    Ok(!changed.written.is_empty())
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = r"{apiVersion: v1, kind: Config, current-context: hub,
        contexts: [{name: hub, context: {cluster: hub, user: admin@hub}}],
        clusters: [{name: hub, cluster: {server: 'https://127.0.0.1:16443'}}],
        users: [{name: admin@hub, user: {token: t}}]}";

    fn of(engine: &str) -> Origin {
        Origin { owner: "hub hub".into(), management: engine.into() }
    }

    #[tokio::test]
    async fn it_comes_once_and_only_the_own_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let files = Files::new(Some(&path), None, None).unwrap();
        assert_eq!(merge_into(&files, "hub", KUBECONFIG, of("a")).await, Ok(true));
        assert_eq!(merge_into(&files, "hub", KUBECONFIG, of("a")).await, Ok(false));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("current-context: hub"), "{text}");

        // The user works with another cluster: `up` again does not switch back.
        std::fs::write(&path, text.replace("current-context: hub", "current-context: other")).unwrap();
        assert_eq!(merge_into(&files, "hub", KUBECONFIG, of("a")).await, Ok(false));
        let moved = KUBECONFIG.replace("16443", "16444");
        assert_eq!(merge_into(&files, "hub", &moved, of("a")).await, Ok(true));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("current-context: other") && text.contains("16444"), "{text}");

        let other = KUBECONFIG.replace("16443", "16445");
        assert!(merge_into(&files, "hub", &other, of("b")).await.is_err());
        let gone = Clusters::Delete;
        assert_eq!(remove_from(&files, "hub", &of("b"), gone).await, Ok(false));
        assert_eq!(remove_from(&files, "hub", &of("a"), gone).await, Ok(true));
        assert!(!std::fs::read_to_string(&path).unwrap().contains("16444"));
    }

    #[tokio::test]
    async fn the_contexts_of_its_clusters_go_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let files = Files::new(Some(&path), None, None).unwrap();
        for clusters in [Clusters::Keep, Clusters::Delete] {
            merge_into(&files, "hub", KUBECONFIG, of("a")).await.unwrap();
            for (name, via) in [("k3d-dev", Some("hub")), ("k3d-other", Some("another")), ("k3d-none", None)]
            {
                let origin =
                    Origin { owner: format!("default/{name}"), management: "https://127.0.0.1:16443".into() };
                let entry = Entry::parse(KUBECONFIG, origin).unwrap().renamed(name);
                let entry = Entry { via: via.map(str::to_owned), ..entry };
                files.merge(&entry, Merge::default()).await.unwrap();
            }
            // Another engine's hub of this name.
            assert_eq!(remove_from(&files, "hub", &of("b"), clusters).await, Ok(false));
            assert!(std::fs::read_to_string(&path).unwrap().contains("k3d-dev"));
            assert_eq!(remove_from(&files, "hub", &of("a"), clusters).await, Ok(true));
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.contains("k3d-dev"), clusters == Clusters::Keep, "{text}");
            assert!(text.contains("k3d-other") && text.contains("k3d-none"), "{text}");
        }
    }
}
