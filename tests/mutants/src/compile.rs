//! Compiles all changes in. Those that do not compile are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    Settings,
    list::{Change, Genre},
    rewrite::{self, Rewritten},
    sites, tree,
};

/// Writes the tree with all changes that compile. Adds the others to `dropped`, and returns the number of sites, and the
/// changes of functions that have none, since they are constant.
pub fn rewritten(
    settings: &Settings,
    repository: &Path,
    changes: &[Change],
    dropped: &mut BTreeSet<u32>,
) -> (usize, BTreeSet<u32>) {
    let mut constant = BTreeSet::new();
    let mut by_file: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        by_file.entry(&change.file).or_default().push(change);
    }
    let generated = [Path::new("src/mutant.rs"), Path::new("src/lib.rs")];
    tree::copy(repository, &settings.tree, |file| {
        generated.contains(&file) || file.to_str().is_some_and(|file| by_file.contains_key(file))
    });
    let runtime = include_str!("mutant.rs.in").replace("COUNT", &(changes.len() + 1).to_string());
    tree::write(&settings.tree.join("src/mutant.rs"), runtime.as_bytes(), 0o644);
    let library = fs::read_to_string(repository.join("src/lib.rs")).expect("src/lib.rs");
    let library = format!("#![allow(warnings)]\n{library}\npub mod mutant;\n");
    tree::write(&settings.tree.join("src/lib.rs"), library.as_bytes(), 0o644);
    loop {
        let mut count = 0;
        let mut files = BTreeMap::new();
        for (file, changes) in &by_file {
            let source = fs::read_to_string(repository.join(file)).expect("a file with changes");
            let kept: Vec<_> =
                changes.iter().copied().filter(|change| !dropped.contains(&change.id)).collect();
            let sites = sites::sites(&source, &kept);
            let found: BTreeSet<_> = sites.iter().flat_map(|site| &site.ids).collect();
            for change in kept.iter().filter(|change| !found.contains(&change.id)) {
                dropped.insert(change.id);
                if change.genre == Genre::FnValue {
                    constant.insert(change.id);
                }
            }
            count += sites.len();
            let rewritten = rewrite::rewrite(&source, &sites);
            tree::write(&settings.tree.join(file), rewritten.text.as_bytes(), 0o644);
            files.insert(*file, rewritten);
        }
        let wrong = check(settings, &files);
        if wrong.is_empty() {
            return (count, constant);
        }
        println!("{} changes do not compile", wrong.len());
        dropped.extend(wrong);
    }
}

/// Returns the changes that the compiler refuses.
fn check(settings: &Settings, files: &BTreeMap<&str, Rewritten>) -> BTreeSet<u32> {
    let (messages, good) = cargo(settings, &["check", "--lib"]);
    let errors: Vec<_> = messages
        .iter()
        .map(|message| &message["message"])
        .filter(|message| message["level"] == "error")
        .collect();
    let wrong: BTreeSet<_> = errors.iter().flat_map(|error| owners(error, files)).collect();
    if !good && wrong.is_empty() {
        for error in errors {
            eprintln!("{}", error["rendered"].as_str().unwrap_or_default());
        }
        panic!("the tree does not compile, and that comes from no change");
    }
    wrong
}

/// Returns the changes that an error comes from: those at its own place, or else at
/// another one that it names, or else those that follow.
fn owners(error: &Value, files: &BTreeMap<&str, Rewritten>) -> Vec<u32> {
    let mut spans: Vec<_> = error["spans"].as_array().into_iter().flatten().collect();
    spans.sort_by_key(|span| span["is_primary"] != true);
    let place = |span: &&Value| {
        let file = files.get(span["file_name"].as_str()?)?;
        let [start, end] = ["byte_start", "byte_end"].map(|name| span[name].as_u64().map(|at| at as usize));
        Some((file, start?..end?))
    };
    let places: Vec<_> = spans.iter().filter_map(place).collect();
    let around = places.iter().map(|(file, range)| file.owners(range.clone()));
    let after = places.iter().map(|(file, range)| file.after(range.end));
    around.chain(after).find(|ids| !ids.is_empty()).unwrap_or_default().to_vec()
}

/// Builds the test programs, and returns the name and path of each.
pub fn programs(settings: &Settings) -> Vec<(String, PathBuf)> {
    let mut arguments = vec!["test", "--no-run", "--lib"];
    arguments.extend(settings.programs.iter().flat_map(|program| ["--test", program]));
    let (messages, good) = cargo(settings, &arguments);
    for message in messages.iter().filter(|message| message["message"]["level"] == "error") {
        eprintln!("{}", message["message"]["rendered"].as_str().unwrap_or_default());
    }
    assert!(good, "the tests do not compile with the changes");
    let program = |message: &Value| {
        let path = message["executable"].as_str()?;
        let test = message["profile"]["test"] == true;
        test.then(|| (message["target"]["name"].as_str().unwrap_or_default().to_owned(), path.into()))
    };
    messages.iter().filter_map(program).collect()
}

/// Runs cargo in the tree, and returns its messages and whether it succeeded.
fn cargo(settings: &Settings, arguments: &[&str]) -> (Vec<Value>, bool) {
    let output = Command::new("cargo")
        .args(arguments)
        .args(["--locked", "--message-format=json"])
        .current_dir(&settings.tree)
        .env("CARGO_TARGET_DIR", &settings.target)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    (text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(), output.status.success())
}
