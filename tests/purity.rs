//! The core stays pure: nothing that decides can reach Docker, Kubernetes, a clock, the environment or chance.

use std::{fs, path::Path};

const PURE: [&str; 3] = ["src/plan", "src/k3s", "src/status.rs"];

/// What none of them may name, outside of comments. `jiff::Timestamp` is a value there; only its `now` is a clock.
const FORBIDDEN: [&str; 14] = [
    "bollard",
    "tokio",
    "kube::Client",
    "kube::{",
    "kube::Api",
    "reqwest",
    "hyper",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "getrandom",
    "rand::",
    "std::env",
    "std::fs",
];

fn files(path: &Path, out: &mut Vec<std::path::PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), out);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        out.push(path.to_owned());
    }
}

#[test]
fn what_decides_reaches_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for path in PURE {
        let mut sources = Vec::new();
        files(&root.join(path), &mut sources);
        assert!(!sources.is_empty(), "{path} is empty");
        for source in sources {
            let text = fs::read_to_string(&source).unwrap();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in FORBIDDEN.iter().filter(|w| code.contains(**w)) {
                    found.push(format!("{}:{}: {word}", source.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// bollard's types stay behind the one seam.
#[test]
fn one_place_talks_to_docker() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    files(&root, &mut sources);
    for source in sources.iter().filter(|s| !s.starts_with(root.join("docker"))) {
        let text = fs::read_to_string(source).unwrap();
        let uses = text.lines().any(|l| {
            let code = l.split("//").next().unwrap_or_default();
            code.contains("bollard::") && !code.contains("docker")
        });
        assert!(!uses, "{} uses bollard", source.display());
    }
}
