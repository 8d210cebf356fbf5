//! The order of the code, read from the code: modules import only what is below them, in no large cycle, and nothing
//! that decides reaches Docker, Kubernetes, a clock, the environment or chance.

#[path = "support/source.rs"]
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use proc_macro2::{TokenStream, TokenTree};
use source::{is_test, sources};
use syn::{
    Item, ItemUse, Macro, UseTree,
    ext::IdentExt,
    visit::{self, Visit},
};

/// The top-level modules, bottom first: each imports only those before it.
const ORDER: [&str; 14] = [
    "time",
    "metrics",
    "api",
    "k3s",
    "docker",
    "child",
    "plan",
    "status",
    "config",
    "telemetry",
    "server",
    "lease",
    "controller",
    "cli",
];

/// Modules that decide. What they import is held to the same rule, however far away.
const PURE: [&str; 10] = [
    "time",
    "api",
    "k3s",
    "plan",
    "status",
    "cli::client::registry::contents",
    "cli::convert",
    "cli::ports",
    "cli::redact",
    "cli::valid",
];

/// Crates that a pure module may name: values, parsers and derives.
const PURE_CRATES: [&str; 18] = [
    "async_trait",
    "base64",
    "bytes",
    "cronexpr",
    "futures",
    "ipnet",
    "jiff",
    "k8s_openapi",
    "kube",
    "regex",
    "regex_syntax",
    "schemars",
    "serde",
    "serde_json",
    "serde_saphyr",
    "sha2",
    "std",
    "thiserror",
];

/// Parts of those crates that reach the outside. `jiff::Timestamp` is a value; only its `now` is a clock.
const IMPURE: [&str; 15] = [
    "kube::Api",
    "kube::Client",
    "kube::Config",
    "kube::client",
    "kube::config",
    "kube::runtime",
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Methods that read a clock, whatever the type's path.
const CLOCKS: [&str; 3] = ["Timestamp::now", "Zoned::now", "SystemTime::now"];

/// The most files that may import each other in a circle.
const LARGEST_CYCLE: usize = 2;

/// A module by its path below the crate, such as `plan::nodes::health`.
type Name = String;

/// What one file says.
#[derive(Default)]
struct Module {
    /// Paths into this crate, absolute, without `crate::`.
    own: BTreeSet<Vec<String>>,
    /// Paths into other crates.
    others: BTreeSet<Vec<String>>,
}

/// Collects the paths of a file, those of its tests excepted.
struct Paths<'a> {
    /// The module, as the parts of its path.
    at: Vec<String>,
    /// The names of all dependencies.
    crates: &'a BTreeSet<String>,
    found: Module,
}

impl Paths<'_> {
    fn add(&mut self, path: &[String]) {
        let Some(first) = path.first() else { return };
        match first.as_str() {
            "crate" => drop(self.found.own.insert(path[1..].to_vec())),
            "self" => drop(self.found.own.insert([&self.at, &path[1..]].concat())),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let base = &self.at[..self.at.len().saturating_sub(up)];
                self.found.own.insert([base, &path[up..]].concat());
            }
            name if self.crates.contains(name) => drop(self.found.others.insert(path.to_vec())),
            _ => {}
        }
        if let Some(clock) = CLOCKS.iter().find(|clock| path.join("::").ends_with(**clock)) {
            self.found.others.insert(clock.split("::").map(str::to_owned).collect());
        }
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.unraw().to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => self.add(before),
            UseTree::Name(name) => self.add(&with(&name.ident)),
            UseTree::Rename(name) => self.add(&with(&name.ident)),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
        }
    }

    /// Paths in a macro's arguments, which are not parsed.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 => path.push(ident.to_string()),
                TokenTree::Ident(ident) => {
                    self.add(&std::mem::take(&mut path));
                    path = vec![ident.to_string()];
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.add(&std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.add(&path);
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|s| s.ident.unraw().to_string()).collect();
        if parts.len() > 1 {
            self.add(&parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast Macro) {
        self.visit_path(&invoked.path);
        self.add_tokens(invoked.tokens.clone());
    }
}

/// The crates that src/ may name: its dependencies and the standard library.
fn crates() -> BTreeSet<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let name = |line: &str| Some(line.split_once(" = ")?.0.replace('-', "_"));
    let named = section.lines().filter(|line| line.starts_with(char::is_alphabetic)).filter_map(name);
    named.chain(["std".to_owned()]).collect()
}

/// All modules of the library by name.
fn modules() -> &'static BTreeMap<Name, Module> {
    // Parsed once for all tests.
    static MODULES: OnceLock<BTreeMap<Name, Module>> = OnceLock::new();
    MODULES.get_or_init(parse)
}

fn parse() -> BTreeMap<Name, Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = crates();
    let mut modules = BTreeMap::new();
    for file in sources(root) {
        let relative = file.strip_prefix(root.join("src")).unwrap().with_extension("");
        let mut at: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        let last = at.last().unwrap().as_str();
        // The binaries, which only call the library.
        if last == "main" || at[0] == "bin" {
            continue;
        }
        if matches!(last, "mod" | "lib") {
            at.pop();
        }
        let mut paths = Paths { at: at.clone(), crates: &crates, found: Module::default() };
        paths.visit_file(&syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap());
        modules.insert(at.join("::"), paths.found);
    }
    modules
}

/// Which modules each module imports.
fn imports(modules: &BTreeMap<Name, Module>) -> BTreeMap<&str, BTreeSet<&str>> {
    let target = |path: &Vec<String>| {
        let longest = (1..=path.len()).rev().map(|n| path[..n].join("::"));
        longest.filter_map(|name| modules.get_key_value(&name)).map(|(name, _)| name.as_str()).next()
    };
    let of = |(name, module): (&'_ Name, &'_ Module)| -> BTreeSet<&str> {
        module.own.iter().filter_map(target).filter(|other| other != name).collect()
    };
    modules.iter().map(|(name, module)| (name.as_str(), of((name, module)))).collect()
}

/// All that is reached from a module, itself included.
fn reached<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::from([from]), vec![from]);
    while let Some(next) = open.pop() {
        open.extend(imports[next].iter().copied().filter(|other| found.insert(*other)));
    }
    found
}

#[test]
fn imports_form_no_large_cycle() {
    let modules = modules();
    let imports = imports(modules);
    let reached: BTreeMap<&str, _> = imports.keys().map(|name| (*name, reached(&imports, name))).collect();
    let mut cycles: Vec<Vec<&str>> = imports
        .keys()
        .map(|name| reached[name].iter().copied().filter(|other| reached[other].contains(name)).collect())
        .collect();
    cycles.sort_by_key(|cycle| std::cmp::Reverse(cycle.len()));
    let largest = cycles.first().unwrap();
    println!("{} modules; the largest cycle: {largest:?}", imports.len());
    assert!(largest.len() <= LARGEST_CYCLE, "these import each other: {largest:#?}");
}

/// Lines of a file of src/ without its tests: more are two ideas in one file.
const LONGEST_FILE: usize = 400;

#[test]
fn files_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lines = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        text.lines().take_while(|line| *line != "#[cfg(test)]").count()
    };
    let files = sources(root).into_iter().filter(|file| !file.ends_with("tests.rs"));
    let long: Vec<PathBuf> = files.filter(|file| lines(file) > LONGEST_FILE).collect();
    assert!(long.is_empty(), "files with more than {LONGEST_FILE} lines: {long:#?}");
}

#[test]
fn modules_import_only_what_is_below_them() {
    let modules = modules();
    let top = |name: &str| name.split("::").next().unwrap_or_default().to_owned();
    let rank = |name: &str| ORDER.iter().position(|module| *module == top(name));
    let mut wrong = Vec::new();
    for (name, imported) in imports(modules).into_iter().filter(|(name, _)| !name.is_empty()) {
        assert!(rank(name).is_some(), "{name} has no place in ORDER");
        wrong.extend(imported.into_iter().filter(|o| rank(o) > rank(name)).map(|o| format!("{name} → {o}")));
    }
    assert!(wrong.is_empty(), "imports from above: {wrong:#?}");
}

#[test]
fn what_decides_reaches_nothing_outside() {
    let modules = modules();
    let imports = imports(modules);
    let pure = |name: &&str| PURE.iter().any(|p| name == p || name.starts_with(&format!("{p}::")));
    let mut wrong = BTreeSet::new();
    for name in imports.keys().copied().filter(pure) {
        for reached in reached(&imports, name) {
            for path in &modules[reached].others {
                let text = path.join("::");
                let impure = IMPURE.iter().any(|i| text == *i || text.starts_with(&format!("{i}::")));
                let clock = CLOCKS.contains(&text.as_str());
                if impure || clock || !PURE_CRATES.contains(&path[0].as_str()) {
                    wrong.insert(format!("{name} reaches {text} by {reached}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Files of the shell that change something, and why each may.
const WRITERS: [(&str, &str); 23] = [
    ("execute", "executes the steps"),
    ("kube_io", "implements the writes to the management cluster"),
    ("place_io", "implements the writes about placeholders and Nodes"),
    ("hosts", "takes the mark of a silent agent away"),
    ("hosts/act", "carries out the decisions about the placement of objects, each of which is one call"),
    ("pools/act", "carries out the decisions about pools and claims, each of which is one call"),
    ("pools/io", "implements the writes about pools and claims"),
    ("agent", "marks its own Node"),
    ("hosting", "lets a placeholder go when its object has stopped"),
    ("pass", "writes the status"),
    ("policy_status", "writes the status of HostPolicies, which have no plan"),
    ("panics", "writes the status after a panic"),
    ("reconcile", "writes the status of a paused object, and the finalizer that precedes all steps"),
    ("expiry", "deletes the object itself at the end of its time to live, which ends all of its plans"),
    ("pulls", "pulls images in the background, which takes minutes"),
    ("preload", "imports images in the background, which takes minutes"),
    ("ports", "binds host ports with a temporary container: only that shows whether they are free"),
    ("balance", "runs a command in a container, which only reads"),
    ("hang", "runs a command in a container, which only reads"),
    ("resolvers", "starts a temporary container: Docker tells only that one what the host's resolvers are"),
    ("quorum", "runs a command in containers, which only reads"),
    ("host_limits", "runs a command in a container, which only reads"),
    ("measures", "runs a command in a container, which only reads"),
];

/// Methods of the seams that only read.
const READS: [&str; 17] = [
    "info",
    "containers",
    "inspect",
    "networks",
    "volumes",
    "image",
    "image_names",
    "check_access",
    "read_file",
    "read_tree",
    "path_info",
    "logs",
    "events",
    "observe",
    "there",
    "accepts",
    "changes",
];

/// Calls that change something in the management cluster: methods of `kube::Api`, and functions that call them.
const KUBE_WRITES: [&str; 21] = [
    ".create(",
    ".patch(",
    ".patch_status(",
    "api.replace(",
    ".delete(",
    ".delete_collection(",
    "kube_io::delete_unchanged(",
    "kube_io::write_status(",
    "kube_io::write_policy_status",
    "kube_io::set_finalizer(",
    "io::create(",
    "io::patch(",
    "io::write_claim(",
    "place_io::write_place(",
    "place_io::write_unchanged_status(",
    "place_io::patch_node(",
    "place_io::create_placeholder(",
    "place_io::delete_placeholder(",
    "place_io::end_placeholder(",
    "place_io::release_placeholder(",
    "place_io::apply_budget(",
];

/// Calls of the methods of a trait that are no reads. `receiver` ends the expression that they are called on.
fn writes_of(file: &str, seam: &str, receiver: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let mut calls = Vec::new();
    for item in syn::parse_file(&text).unwrap().items {
        let Item::Trait(found) = item else { continue };
        for method in found.items.into_iter().filter(|_| found.ident == seam) {
            let syn::TraitItem::Fn(method) = method else { continue };
            let name = method.sig.ident.to_string();
            if !READS.contains(&name.as_str()) {
                calls.push(format!("{receiver}.{name}("));
            }
        }
    }
    assert!(!calls.is_empty(), "{file} has no trait {seam}");
    calls
}

/// Every change of Docker, of the created clusters and of the management cluster is a step of a plan.
#[test]
fn one_place_changes_anything() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut calls: Vec<String> = KUBE_WRITES.iter().map(|call| (*call).to_owned()).collect();
    calls.extend(writes_of("src/docker/engine.rs", "Engine", "engine"));
    calls.extend(writes_of("src/child/api.rs", "ChildApi", ""));
    calls.extend(writes_of("src/controller/management_api.rs", "ManagementApi", ""));
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for file in sources(root) {
        let Ok(inside) = file.strip_prefix(root.join("src/controller")) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        let mut text = text.split("#[cfg(test)]").next().unwrap().to_owned();
        text.retain(|c| !c.is_whitespace());
        let writes: Vec<&str> =
            calls.iter().map(String::as_str).filter(|call| text.contains(*call)).collect();
        if !writes.is_empty() {
            found.insert(inside.with_extension("").display().to_string(), writes);
        }
    }
    let allowed: BTreeSet<&str> = WRITERS.iter().map(|(file, _)| *file).collect();
    let writers: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert!(writers == allowed, "only {allowed:?} may change something: {found:#?}");
}

/// The command changes Docker by the steps of a plan, too.
#[test]
fn one_place_of_the_command_changes_docker() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut calls = writes_of("src/docker/engine.rs", "Engine", "engine");
    calls.extend([".start_session(", ".load_images(", ".upload_archive("].map(str::to_owned));
    let mut writers = BTreeSet::new();
    for file in sources(root) {
        let Ok(inside) = file.strip_prefix(root.join("src/cli")) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        let mut text = text.split("#[cfg(test)]").next().unwrap().to_owned();
        text.retain(|c| !c.is_whitespace());
        if calls.iter().any(|call| text.contains(call.as_str())) {
            writers.insert(inside.with_extension("").display().to_string());
        }
    }
    let allowed = [
        // They run commands in containers, which only read.
        "client/check/host",
        "hub/observe",
        // It loads archives that a user names, and lists images in containers.
        "client/import",
        // It unpacks the images of an archive that a user names.
        "client/registry",
        // It runs the command of a user in a container.
        "client/shell",
        "hub/execute",
    ];
    assert_eq!(writers, allowed.map(str::to_owned).into());
}

/// bollard's types stay behind the one seam.
#[test]
fn one_place_talks_to_docker() {
    for (name, module) in modules().iter().filter(|(name, _)| !name.starts_with("docker")) {
        assert!(!module.others.iter().any(|path| path[0] == "bollard"), "{name} names bollard");
    }
}

/// What the tests above rely on: a path is found wherever it stands, and tests are left out.
#[test]
fn paths_are_found_wherever_they_stand() {
    let text = r"
        use super::{below, nodes::{self, health::works as w}};
        #[cfg(test)]
        use tokio::time;
        fn f() -> std::fs::File { println!(); tokio::join!(self::g(), crate::x::h()) }
        #[cfg(test)]
        mod tests { use bollard::Docker; }
        fn t() { jiff::Timestamp::now(); }
    ";
    let file = syn::parse_file(text).unwrap();
    let crates = ["std", "tokio", "bollard", "jiff"].map(str::to_owned).into();
    let at = vec!["plan".to_owned(), "here".to_owned()];
    let mut paths = Paths { at, crates: &crates, found: Module::default() };
    paths.visit_file(&file);
    let join = |set: &BTreeSet<Vec<String>>| set.iter().map(|p| p.join("::")).collect::<Vec<_>>();
    let own = ["plan::below", "plan::here::g", "plan::nodes", "plan::nodes::health::works", "x::h"];
    assert_eq!(join(&paths.found.own), own);
    let others = ["Timestamp::now", "jiff::Timestamp::now", "std::fs::File", "tokio::join"];
    assert_eq!(join(&paths.found.others), others);
}
