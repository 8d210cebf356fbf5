use std::os::unix::fs::symlink;

use super::*;
use crate::cli::kubeconfig::{Entry, Merge, Origin};

fn origin() -> Origin {
    Origin { owner: "default/dev".into(), management: "https://127.0.0.1:6550".into() }
}

fn dev() -> Entry {
    let file = "{current-context: k3d-dev, contexts: [{name: k3d-dev, context: {cluster: k3d-dev, user: admin@k3d-dev}}],
        clusters: [{name: k3d-dev, cluster: {server: 'https://127.0.0.1:1'}}], users: [{name: admin@k3d-dev, user: {token: x}}]}";
    Entry::parse(file, origin()).unwrap()
}

const SWITCH: Merge = Merge { switch: true, force: false };
const WORK: &str = "current-context: work\ncontexts: [{name: work, context: {cluster: work}}]\n";

fn at(dir: &Path, names: &[&str]) -> Files {
    let paths: Vec<String> = names.iter().map(|name| dir.join(name).display().to_string()).collect();
    Files { patience: Duration::ZERO, ..Files::new(None, Some(&paths.join(":")), None).unwrap() }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_files_are_those_of_kubectl() {
    let home = Some(Path::new("/home/me"));
    let paths = |explicit: Option<&str>, variable| {
        let files = Files::new(explicit.map(Path::new), variable, home).unwrap();
        files.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(paths(None, None), ["/home/me/.kube/config"]);
    assert_eq!(paths(None, Some("")), ["/home/me/.kube/config"]);
    assert_eq!(paths(None, Some("/a::/b:/a")), ["/a", "/b"]);
    assert_eq!(paths(Some("/c"), Some("/a")), ["/c"]);
    assert!(matches!(Files::new(None, None, None), Err(Error::NoPlace)));
}

#[tokio::test]
async fn a_new_file_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files { patience: Duration::ZERO, ..Files::new(None, None, Some(dir.path())).unwrap() };
    let done = files.merge(&dev(), SWITCH).await.unwrap();
    let file = dir.path().join(".kube/config");
    assert_eq!(
        done,
        Changed { written: vec![file.clone()], backups: vec![], current: Some("k3d-dev".into()) }
    );
    assert_eq!((mode(&file), names(file.parent().unwrap())), (0o600, vec!["config".to_owned()]));
    // Nothing to change: nothing is written.
    assert_eq!(files.merge(&dev(), SWITCH).await.unwrap().written, Vec::<PathBuf>::new());
    assert_eq!(files.merged().unwrap(), [("k3d-dev".to_owned(), origin())]);
    files.remove("k3d-dev", &origin()).await.unwrap();
    assert!(files.merged().unwrap().is_empty());
}

#[tokio::test]
async fn the_first_write_leaves_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (file, backup) = (dir.path().join("config"), dir.path().join("config.before-localcluster"));
    fs::write(&file, WORK).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let files = at(dir.path(), &["config"]);
    let done = files.merge(&dev(), SWITCH).await.unwrap();
    assert_eq!(done.backups, [backup.clone()]);
    assert_eq!(
        (fs::read_to_string(&backup).unwrap().as_str(), mode(&backup), mode(&file)),
        (WORK, 0o640, 0o640)
    );
    let done = files.remove("k3d-dev", &origin()).await.unwrap();
    assert_eq!((done.backups, done.current.as_deref()), (vec![], Some("work")));
    assert_eq!(fs::read_to_string(&backup).unwrap(), WORK);
    assert_eq!(names(dir.path()), ["config", "config.before-localcluster"]);
}

#[tokio::test]
async fn of_several_files_the_first_that_exists_is_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("b"), WORK).unwrap();
    let files = at(dir.path(), &["a", "b", "c"]);
    assert_eq!(files.merge(&dev(), SWITCH).await.unwrap().written, [dir.path().join("b")]);
    assert!(!dir.path().join("a").exists() && !dir.path().join("c").exists());
    let none = at(dir.path(), &["x", "y"]);
    assert_eq!(none.merge(&dev(), SWITCH).await.unwrap().written, [dir.path().join("y")]);
}

#[tokio::test]
async fn links_stay_links() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/config"), WORK).unwrap();
    symlink("real/config", dir.path().join("config")).unwrap();
    symlink("real/new", dir.path().join("dangling")).unwrap();
    for name in ["config", "dangling"] {
        let link = dir.path().join(name);
        at(dir.path(), &[name]).merge(&dev(), SWITCH).await.unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{name}");
        assert!(fs::read_to_string(&link).unwrap().contains("k3d-dev"), "{name}");
    }
}

#[tokio::test]
async fn a_lock_is_waited_for_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (file, lock) = (dir.path().join("config"), dir.path().join("config.lock"));
    fs::write(&lock, "").unwrap();
    let mut files = at(dir.path(), &["config"]);
    let told = files.merge(&dev(), SWITCH).await.unwrap_err().to_string();
    let (file, at) = (file.display(), lock.display());
    assert_eq!(
        told,
        format!(
            "cannot change {file}: {at} exists, so another program is changing it; remove the lock file if none does"
        )
    );
    files.patience = LOCKED_FOR;
    let merged = tokio::spawn(async move { files.merge(&dev(), SWITCH).await });
    sleep(Duration::from_millis(1)).await;
    fs::remove_file(&lock).unwrap();
    merged.await.unwrap().unwrap();
    assert!(!lock.exists());
}

#[tokio::test]
async fn those_who_merge_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files { patience: LOCKED_FOR, ..at(dir.path(), &["config"]) };
    let merges = (0..10).map(|n| {
        let (files, entry) = (files.clone(), dev().renamed(&format!("k3d-{n}")));
        tokio::spawn(async move { files.merge(&entry, Merge::default()).await })
    });
    for merged in futures::future::join_all(merges).await {
        merged.unwrap().unwrap();
    }
    assert_eq!(files.merged().unwrap().len(), 10);
}

#[tokio::test]
async fn a_broken_file_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    fs::write(&file, "users: [secret").unwrap();
    let told = at(dir.path(), &["config"]).merge(&dev(), SWITCH).await.unwrap_err().to_string();
    assert!(told.contains("it is no kubeconfig") && !told.contains("secret"), "{told}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "users: [secret");
    assert_eq!(names(dir.path()), ["config"]);
}
