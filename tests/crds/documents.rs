//! What people are shown can be applied as it stands: all YAML of the Markdown files, the samples, and files as people
//! have them. Applied again it changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use localcluster_operator::k3s::registries;
use serde_json::Value;

use super::{LC, REGISTRY, Server, problems, root, with_count};

/// A YAML text that is to be applied as a whole.
struct Document {
    /// Where it is.
    place: String,
    text: String,
}

impl Document {
    fn objects(&self) -> Vec<Value> {
        serde_saphyr::from_multiple(&self.text).unwrap_or_else(|e| panic!("{}: {e}", self.place))
    }

    /// In a namespace of the test's, and so that an operator that runs meanwhile leaves it alone.
    fn inside(&self, namespace: &str) -> String {
        let paused = "annotations: {localcluster.dev/paused: \"true\"}";
        let mut text = String::new();
        for line in self.text.lines() {
            let line = match (line.strip_prefix("metadata: {"), line) {
                (Some(rest), _) => format!("metadata: {{{paused}, {rest}"),
                (None, "metadata:") => format!("metadata:\n  {paused}"),
                _ => line.to_owned(),
            };
            text += &(line + "\n");
        }
        for object in self.objects() {
            if let Some(own) = object["metadata"]["namespace"].as_str() {
                text = text.replace(&format!("namespace: {own}"), &format!("namespace: {namespace}"));
            }
        }
        text
    }
}

/// The files below a directory that end so.
fn files(dir: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(dir)).unwrap() {
        let path = entry.unwrap().path();
        let relative = path.strip_prefix(root()).unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(relative.to_str().unwrap(), end));
        } else if path.to_str().unwrap().ends_with(end) {
            found.push(relative);
        }
    }
    found.sort();
    found
}

/// The fenced blocks of a Markdown file: what they are, and their text.
fn blocks(file: &Path) -> Vec<(String, Document)> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let mut found = Vec::new();
    let mut open: Option<(String, Document)> = None;
    for (i, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                let place = format!("{}:{}", file.display(), i + 1);
                open = Some((language.trim().to_owned(), Document { place, text: String::new() }));
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some((_, block))) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block without an end", file.display());
    found
}

fn markdown() -> Vec<PathBuf> {
    [PathBuf::from("README.md")].into_iter().chain(files("docs", ".md")).collect()
}

/// All that is to be applied.
fn documents() -> Vec<Document> {
    let shown =
        markdown().into_iter().flat_map(|file| blocks(&file)).filter(|(language, _)| language == "yaml");
    let shown = shown.map(|(_, block)| block);
    let dirs = ["deploy/samples", "tests/field/clusters"];
    let whole = dirs.iter().flat_map(|dir| files(dir, ".yaml")).map(|file| Document {
        place: file.display().to_string(),
        text: fs::read_to_string(root().join(file)).unwrap(),
    });
    shown.chain(whole).collect()
}

/// What is marked as YAML is whole objects, and nothing else looks like a part of one.
#[test]
fn blocks_are_whole_or_no_yaml() {
    let mut seen = 0;
    for (language, block) in markdown().iter().flat_map(|file| blocks(file)) {
        if language == "yaml" {
            seen += 1;
            for object in block.objects() {
                let whole = object["apiVersion"].is_string()
                    && object["kind"].is_string()
                    && object["metadata"]["name"].is_string();
                assert!(whole, "{}: no whole object, which nobody can apply: {object}", block.place);
            }
            continue;
        }
        assert!(
            ["", "console", "text"].contains(&language.as_str()),
            "{}: {language} is neither yaml, of whole objects, nor console or text",
            block.place
        );
        let part = |line: &&str| {
            ["apiVersion:", "kind:", "spec:", "metadata:"].iter().any(|k| line.trim_start().starts_with(k))
        };
        assert_eq!(block.text.lines().find(part), None, "{}: objects are to be marked as yaml", block.place);
    }
    assert!(seen > 20, "only {seen} blocks were found");
}

/// What the schema does not see, the operator does: registries files and all that is between fields.
#[test]
fn the_operator_takes_all_of_them() {
    for document in documents() {
        for mut object in document.objects() {
            if object["kind"] != LC && object["kind"] != REGISTRY {
                continue;
            }
            if object["spec"].is_null() {
                object["spec"] = serde_json::json!({});
            }
            with_count(&mut object);
            let found = problems(&object.to_string());
            assert_eq!(found, Some(Vec::new()), "{}", document.place);
            if let Some(text) = object["spec"]["registries"]["config"]["inline"].as_str() {
                let read = registries::parse(text, &|_| false);
                assert!(read.is_ok(), "{}: {read:#?}", document.place);
            }
        }
    }
}

#[test]
fn all_of_them_are_taken_and_a_second_time_changes_nothing() {
    let server = Server::new("documents");
    // Of what somebody else keeps a status, its spec alone.
    let state = |text: &str| {
        let all: Value =
            serde_json::from_str(&server.must_with(&["get", "-o", "json", "-f", "-"], text)).unwrap();
        let of = |object: &Value| match object["metadata"]["generation"].as_i64() {
            Some(generation) => (generation.to_string(), object["spec"].clone()),
            None if object["status"].is_object() => (String::new(), object["spec"].clone()),
            None => (object["metadata"]["resourceVersion"].to_string(), Value::Null),
        };
        let all = all["items"].as_array().cloned().unwrap_or_else(|| vec![all.clone()]);
        all.iter().map(of).collect::<Vec<_>>()
    };
    for document in documents() {
        let text = document.inside(&server.namespace);
        server.must_with(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &text);
        for apply in [&["apply", "-f", "-"][..], &["apply", "--server-side", "-f", "-"]] {
            server.must_with(apply, &text);
            let before = state(&text);
            let said = server.must_with(apply, &text);
            // Of a Secret with stringData kubectl never says so (kubernetes/kubernetes#87736).
            let secret = |line: &str| line.starts_with("secret/") && line.ends_with(" configured");
            let same = |line: &str| {
                [" unchanged", " serverside-applied"].iter().any(|end| line.ends_with(end)) || secret(line)
            };
            assert!(said.lines().all(same), "{}, by {apply:?}: {said}", document.place);
            assert_eq!(state(&text), before, "{}, by {apply:?}", document.place);
            server.must_with(&["delete", "--wait=true", "--timeout=60s", "-f", "-"], &text);
        }
    }
}

/// As little as possible: without `spec`, with nothing behind it, and with nothing in it are the same.
#[test]
fn what_says_nothing_is_the_defaults() {
    let server = Server::new("nothing");
    for kind in [LC, REGISTRY] {
        let mut specs = Vec::new();
        for (i, spec) in ["", "spec:\n", "spec: null\n", "spec: {}\n"].iter().enumerate() {
            for apply in
                [&["create", "-f", "-"][..], &["apply", "-f", "-"], &["apply", "--server-side", "-f", "-"]]
            {
                let text = format!(
                    "apiVersion: localcluster.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: n{i}\n  \
                     annotations: {{localcluster.dev/paused: \"true\"}}\n{spec}"
                );
                server.must_with(apply, &text);
                if apply[0] == "apply" {
                    server.must_with(apply, &text);
                }
                let object = server.get(&format!("{kind}/n{i}"));
                assert_eq!(object["metadata"]["generation"], 1, "{apply:?}\n{text}");
                specs.push(object["spec"].clone());
                server.must(&["delete", &format!("{kind}/n{i}")]);
            }
        }
        assert!(specs[0].is_object() && specs.iter().all(|s| *s == specs[0]), "{kind}: {specs:#?}");
    }
}
