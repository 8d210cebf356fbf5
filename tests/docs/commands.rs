//! Commands in the documentation: every line of a block marked `console` that begins with `$ `. Commands of this repository are
//! parsed by the programs themselves, with `--help` at their end, so that nothing is done. Of the others, what can be wrong
//! when this repository changes is compared with what it has: kinds, files, targets, charts. A program that is not known here
//! fails the test, so that a new one is thought about.

use std::{path::Path, process::Command};

use localcluster_operator::api::crds;

use super::pages;

/// Kinds of Kubernetes that commands name.
const KINDS: [&str; 10] = [
    "nodes",
    "pods",
    "secret",
    "secrets",
    "namespace",
    "crd",
    "deployment",
    "rolebinding",
    "configmap",
    "events",
];
/// Verbs of kubectl that commands use, with those of plugins.
const KUBECTL: [&str; 17] = [
    "annotate",
    "apply",
    "create",
    "delete",
    "describe",
    "edit",
    "exec",
    "get",
    "krew",
    "label",
    "localcluster",
    "logs",
    "patch",
    "run",
    "rollout",
    "scale",
    "wait",
];
/// Flags of kubectl that commands use; true if a value follows as a word of its own.
const KUBECTL_FLAGS: [(&str, bool); 28] = [
    ("-n", true),
    ("--namespace", true),
    ("-A", false),
    ("--all-namespaces", false),
    ("--all", false),
    ("-f", true),
    ("--filename", true),
    ("-k", true),
    ("-l", true),
    ("-o", true),
    ("-p", true),
    ("-w", false),
    ("--type", true),
    ("--for", true),
    ("--timeout", true),
    ("--context", true),
    ("--kubeconfig", true),
    ("--replicas", true),
    ("--image", true),
    ("--clusterrole", true),
    ("--user", true),
    ("--group", true),
    ("--dry-run", true),
    ("--overwrite", false),
    ("--server-side", false),
    ("--field-manager", true),
    ("--from-file", true),
    ("--manifest-url", true),
];
/// Programs that this repository does not change: only their own files are checked.
const OTHERS: [&str; 9] = ["base64", "cd", "cargo", "tar", "for", "do", "done", "echo", "docker"];

/// A command with the page that it is on.
struct Line {
    page: String,
    words: Vec<String>,
}

/// Splits a line into words as a shell does, with what ends a command as words of their own. Comments end the line.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, begun) = (Some(c), true),
            (None, '#') if word.is_empty() && !begun => break,
            // The end of a substitution.
            (None, ')') if !word.contains('(') => {}
            (None, ' ' | '|' | ';' | '&' | '>') => {
                if begun || !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
                begun = false;
                match c {
                    ' ' => {}
                    // What follows is a file.
                    '>' => all.push(">".into()),
                    _ => {
                        chars.next_if_eq(&c);
                        all.push("|".into());
                    }
                }
            }
            (None, c) => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        all.push(word);
    }
    all
}

/// All commands of all pages for users.
fn commands() -> Vec<Line> {
    let mut found = Vec::new();
    for (path, page) in pages() {
        let is_for_users = path.starts_with("docs") || path == Path::new("README.md");
        let mut inside = false;
        let mut lines = page.lines().filter(|_| is_for_users);
        while let Some(line) = lines.next() {
            if line.trim_start().starts_with("```") {
                inside = line.trim() == "```console" && !inside;
                continue;
            }
            let Some(first) = line.trim_start().strip_prefix("$ ").filter(|_| inside) else { continue };
            let mut text = first.to_owned();
            while let Some(begin) = text.strip_suffix('\\') {
                text = format!("{begin} {}", lines.next().expect("a line follows").trim());
            }
            for command in words(&text).split(|word| word == "|") {
                let end = command.iter().position(|word| word == ">").unwrap_or(command.len());
                let mut words = &command[..end];
                // HOST=$(kubectl …)
                let inner =
                    words.first().and_then(|word| word.split_once("=$(")).map(|(_, inner)| inner.to_owned());
                let mut owned: Vec<String> = Vec::new();
                if let Some(inner) = inner {
                    owned.push(inner);
                    words = &words[1..];
                }
                owned.extend(words.iter().cloned());
                if !owned.is_empty() {
                    found.push(Line { page: path.display().to_string(), words: owned });
                }
            }
        }
    }
    assert!(found.len() > 60, "{}", found.len());
    found
}

/// What is wrong with a command of this repository, which parses it itself.
fn parsed(program: &str, args: &[String]) -> Result<(), String> {
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let mut command = Command::new(program);
    command.env_clear().args(&args[..end]).arg("--help").args(&args[end..]);
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() && said.is_empty() { Ok(()) } else { Err(said) }
}

/// Whether a file that a command names is in the repository, if it is meant to be.
fn file(name: &str) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = ["deploy/", "charts/", "release/", "tests/"].iter().any(|dir| name.starts_with(dir));
    if !own || root.join(name).exists() { Ok(()) } else { Err(format!("there is no {name}")) }
}

fn kubectl(args: &[String]) -> Result<(), String> {
    let definitions: Vec<_> = crds::all().into_iter().map(|(_, crd)| crd.spec.names).collect();
    let mut kinds: Vec<String> = KINDS.map(str::to_owned).into();
    for names in definitions {
        kinds.extend(names.short_names.unwrap_or_default());
        kinds.extend([
            names.plural.clone(),
            names.kind.to_lowercase(),
            format!("{}.localcluster.dev", names.plural),
        ]);
    }
    let (mut plain, mut rest) = (Vec::new(), args.iter());
    while let Some(arg) = rest.next() {
        if arg == "--" {
            break;
        }
        if !arg.starts_with('-') || arg == "-" {
            plain.push(arg.as_str());
            continue;
        }
        let (flag, value) =
            arg.split_once('=').map_or((arg.as_str(), None), |(flag, value)| (flag, Some(value)));
        let known = KUBECTL_FLAGS.iter().find(|(of, _)| *of == flag);
        let (_, takes) =
            known.ok_or_else(|| format!("the flag {flag} is not known here; add it if kubectl has it"))?;
        let value = if *takes && value.is_none() { rest.next().map(String::as_str) } else { value };
        if let ("-f" | "-k" | "--filename", Some(value)) = (flag, value) {
            file(value)?;
        }
    }
    let Some((verb, objects)) = plain.split_first() else { return Err("it has no verb".into()) };
    if !KUBECTL.contains(verb) {
        return Err(format!("the verb {verb} is not known here; add it if kubectl has it"));
    }
    if matches!(*verb, "apply" | "exec" | "krew" | "logs" | "run") {
        return Ok(());
    }
    let named = objects.first().copied().unwrap_or_default();
    let mut wanted = named.split(',').map(|kind| kind.split('/').next().unwrap_or_default());
    match wanted.find(|kind| !kind.is_empty() && !kinds.iter().any(|known| known == kind)) {
        Some(kind) => Err(format!("the kind {kind} is not known")),
        None => Ok(()),
    }
}

fn checked(words: &[String]) -> Result<(), String> {
    let (program, args) = words.split_first().expect("there is a word");
    match program.as_str() {
        "localcluster" => parsed(env!("CARGO_BIN_EXE_localcluster"), args),
        "localcluster-operator" => parsed(env!("CARGO_BIN_EXE_localcluster-operator"), args),
        "kubectl" if args.first().is_some_and(|verb| verb == "localcluster") => {
            parsed(env!("CARGO_BIN_EXE_localcluster"), &args[1..])
        }
        "kubectl" => kubectl(args),
        // The operator's image has its verbs.
        "docker" if args.iter().any(|arg| arg.starts_with("localcluster-operator:")) => {
            let image = args.iter().position(|arg| arg.starts_with("localcluster-operator:")).unwrap();
            parsed(env!("CARGO_BIN_EXE_localcluster-operator"), &args[image + 1..])
        }
        "make" => {
            let makefile =
                std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).unwrap();
            let targets = args.iter().filter(|arg| !arg.contains('='));
            let missing =
                |target: &&String| !makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            targets
                .into_iter()
                .find(missing)
                .map_or(Ok(()), |target| Err(format!("there is no target {target}")))
        }
        "helm" => args.iter().try_for_each(|arg| file(arg)),
        own if own.contains('/') => file(own),
        other if OTHERS.contains(&other) => args.iter().try_for_each(|arg| file(arg)),
        other => Err(format!(
            "the program {other} is not known here: have its arguments checked, or add it to OTHERS"
        )),
    }
}

#[test]
fn every_command_is_one() {
    let wrong: Vec<String> = commands()
        .into_iter()
        .filter_map(|line| {
            let error = checked(&line.words).err()?;
            Some(format!("{}: {}: {error}", line.page, line.words.join(" ")))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_no_command_is_found() {
    for (line, why) in [
        ("localcluster create dev --nodes 2", "unexpected argument '--nodes'"),
        ("localcluster make dev", "unrecognized subcommand"),
        ("localcluster-operator crds --format html", "invalid value"),
        ("docker run --rm localcluster-operator:1 up --port 1", "unexpected argument"),
        ("kubectl get clusters", "the kind clusters"),
        ("kubectl get lc --wide", "the flag --wide"),
        ("kubectl apply -f deploy/none.yaml", "there is no deploy/none.yaml"),
        ("make everything", "no target everything"),
        ("helm install x charts/none", "there is no charts/none"),
        ("podman ps", "the program podman"),
    ] {
        let told = checked(&words(line)).expect_err(line);
        assert!(told.contains(why), "{line}: {told}");
    }
    let line = words(r#"a 'b c'=d "e"f && g | h >i # j"#);
    assert_eq!(line, ["a", "b c=d", "ef", "|", "g", "|", "h", ">", "i"]);
}
