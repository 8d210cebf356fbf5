//! Every sentence that a user reads, in one file for review: conditions, Events, refusals, log lines, the command
//! line's help and the API's descriptions. A change of wording shows in the diff of `tests/language/*.txt`;
//! `UPDATE=1 cargo test --test language` writes them.

#[path = "support/source.rs"]
mod source;

use std::{env, fmt::Write as _, fs, path::Path, process::Command};

use localcluster_operator::api::{condition::ConditionType, reason::Reason};
use proc_macro2::{TokenStream, TokenTree};
use source::{is_test, sources};
use syn::{
    Item, LitStr, Macro,
    visit::{self, Visit},
};

/// Collects the sentences among the string literals of a file, those of its tests excepted.
#[derive(Default)]
struct Sentences(Vec<String>);

impl Sentences {
    fn add(&mut self, text: &str) {
        let words = text.split_whitespace().filter(|word| word.chars().any(char::is_alphabetic)).count();
        // Shell commands and the like are no sentences, and do no harm in the list.
        if words >= 3 {
            self.0.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }

    fn add_tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse2::<LitStr>(TokenTree::Literal(literal).into()) {
                        self.add(&text.value());
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Sentences {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(item) {
            visit::visit_item(self, item);
        }
    }

    /// Documentation is an attribute. What of it users read is in the CRDs and in the help.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.add(&text.value());
    }

    fn visit_macro(&mut self, invoked: &'ast Macro) {
        self.add_tokens(invoked.tokens.clone());
    }
}

/// Compares a text with the file that holds it, or writes the file.
fn is_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language").join(name);
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(
        golden == text,
        "{} is out of date, first here: {differs:?}. If the new wording is meant, run `UPDATE=1 cargo test --test language`",
        path.display()
    );
}

#[test]
fn messages() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for file in sources(root) {
        let mut sentences = Sentences::default();
        sentences.visit_file(&syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap());
        if !sentences.0.is_empty() {
            writeln!(text, "{}", file.strip_prefix(root).unwrap().display()).unwrap();
            for sentence in sentences.0 {
                writeln!(text, "  {sentence}").unwrap();
            }
            writeln!(text).unwrap();
        }
    }
    is_golden("messages.txt", &text);
}

/// Verbs of `localcluster`, besides those of `registry` and `kubeconfig`.
const VERBS: [&str; 17] = [
    "up",
    "down",
    "create",
    "list",
    "status",
    "delete",
    "start",
    "stop",
    "logs",
    "shell",
    "import-image",
    "hold",
    "adopt",
    "convert",
    "check",
    "report",
    "completion",
];

#[test]
fn help() {
    let mut text = String::new();
    for command in [&[][..], &["run"], &["crds"], &["policy", "check"]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_localcluster-operator"));
        let help = program.args(command).arg("--help").output().unwrap();
        writeln!(text, "{}", String::from_utf8(help.stdout).unwrap()).unwrap();
    }
    let verbs = VERBS.map(|verb| vec![verb]);
    let kubeconfig = ["get", "merge", "use"].map(|verb| vec!["kubeconfig", verb]);
    let registry = ["export", "import"].map(|verb| vec!["registry", verb]);
    for command in [vec![]].into_iter().chain(verbs).chain(registry).chain(kubeconfig) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_localcluster"));
        let help = program.args(&command).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(command.is_empty() || help.contains("\nExample"), "{command:?} has no example: {help}");
        if command.is_empty() {
            let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
            let verbs: Vec<&str> = listed
                .lines()
                .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
                .filter_map(|line| line.split_whitespace().next())
                .filter(|verb| !matches!(*verb, "help" | "registry" | "kubeconfig"))
                .collect();
            assert_eq!(verbs, VERBS, "the help of each verb is compared");
        }
        writeln!(text, "{help}").unwrap();
    }
    is_golden("help.txt", &text);
}

/// Asserts that docs/status.md names each of these words.
fn are_documented(what: &str, words: impl IntoIterator<Item = String>) {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/status.md")).unwrap();
    let missing: Vec<String> =
        words.into_iter().filter(|word| !page.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "docs/status.md lacks these {what}: {missing:?}");
}

#[test]
fn every_reason_is_documented() {
    are_documented("reasons", Reason::ALL.iter().map(|reason| reason.to_string()));
    are_documented("condition types", ConditionType::ALL.iter().map(|type_| type_.to_string()));
}

/// Returns the texts between two markers.
fn between(text: &str, before: &str, after: &str) -> Vec<String> {
    text.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0.to_owned())).collect()
}

/// Returns the reasons among the string literals of a text.
fn reasons(text: &str) -> Vec<String> {
    let word = |word: &&str| {
        word.len() > 1 && word.starts_with(char::is_uppercase) && word.chars().all(char::is_alphanumeric)
    };
    text.split('"').skip(1).step_by(2).filter(word).map(str::to_owned).collect()
}

/// Names of steps and reasons of Events are read from the code that defines them.
#[test]
fn every_event_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = |file| fs::read_to_string(root.join(file)).unwrap();
    let (steps, events) = (source("src/plan/steps.rs"), source("src/plan/steps/event.rs"));
    let kinds = reasons(&between(&steps, "pub fn kind(", "\n    }\n")[0]);
    let done = reasons(&between(&events, "fn completed(", "\n}\n")[0]);
    assert!(kinds.len() > 20 && done.len() >= kinds.len(), "{kinds:?} and {done:?}");
    are_documented("steps", kinds);
    are_documented("Events of steps", done);
    let mut others = Vec::new();
    for file in sources(root).iter().filter(|file| file.starts_with(root.join("src/controller"))) {
        let text = fs::read_to_string(file).unwrap();
        let calls = ["event(", "warning("].map(|call| between(&text, call, ";"));
        others.extend(calls.iter().flatten().flat_map(|call| reasons(call)));
    }
    assert!(others.iter().any(|reason| reason == "Expired"), "{others:?}");
    are_documented("other Events", others);
}
