//! The copy of the sources in which files are rewritten.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    fs,
    hash::{Hash, Hasher},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Returns the files of the repository that exist.
pub fn files(repository: &Path) -> BTreeSet<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository)
        .output()
        .expect("git runs");
    let list = String::from_utf8(output.stdout).expect("names of files are UTF-8");
    list.split_terminator('\0').map(PathBuf::from).filter(|file| repository.join(file).is_file()).collect()
}

/// Returns a digest of what judges and is judged.
pub fn digest(repository: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let relevant = |file: &&PathBuf| {
        let is_tool = file.starts_with("tests/mutants");
        file.starts_with("src") || file.starts_with("tests") && !is_tool || file.as_os_str() == "Cargo.lock"
    };
    for file in files(repository).iter().filter(relevant) {
        file.hash(&mut hasher);
        fs::read(repository.join(file)).expect("a file that is listed").hash(&mut hasher);
    }
    hasher.finish()
}

/// Writes a file unless it has this content: a file that is written is compiled anew.
pub fn write(to: &Path, content: &[u8], mode: u32) {
    if fs::read(to).is_ok_and(|old| old == content) {
        return;
    }
    fs::create_dir_all(to.parent().expect("a file is in a directory")).expect("a directory is made");
    fs::write(to, content).expect("a file is written");
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).expect("a file has its mode");
}

/// Makes the tree hold the files of the repository and no others, except for those that `skip` names.
pub fn copy(repository: &Path, tree: &Path, skip: impl Fn(&Path) -> bool) {
    let wanted = files(repository);
    for file in wanted.iter().filter(|file| !skip(file)) {
        let from = repository.join(file);
        let mode = fs::metadata(&from).expect("a file that is listed").permissions().mode();
        write(&tree.join(file), &fs::read(&from).expect("a file that is listed"), mode);
    }
    let keep = |file: &Path| wanted.contains(file) || skip(file);
    for directory in ["src", "tests"] {
        remove_others(tree, &tree.join(directory), &keep);
    }
}

fn remove_others(tree: &Path, directory: &Path, keep: &impl Fn(&Path) -> bool) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("an entry of a directory").path();
        if path.is_dir() {
            remove_others(tree, &path, keep);
        } else if !keep(path.strip_prefix(tree).expect("a path in the tree")) {
            fs::remove_file(&path).expect("a file is removed");
        }
    }
}
