//! The registries file, whatever is in it: what goes in comes out, merging loses and leaks nothing, and containerd's
//! files are such as containerd reads.

use std::collections::{BTreeMap, BTreeSet};

use localcluster_operator::k3s::registries::{
    Auth, HostConfig, Mirror, Mirrored, Registries, Scheme, Tls, check, of_registries, parse, parse_rendered,
    upstream_of,
};
use proptest::{collection::btree_map, option, prelude::*, sample::select, test_runner::Config};

/// As many cases as fit into seconds, or as many as PROPTEST_CASES says.
fn cases(n: u32) -> Config {
    let asked = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { asked } else { Config { cases: n, ..asked } }
}

/// Few, so that keys, endpoints and their hosts meet.
const HOSTS: [&str; 7] = [
    "docker.io",
    "r.example",
    "r.example:443",
    "r.example:5443",
    "quay.io",
    "localhost:5000",
    "k3d-cache:5000",
];

fn host() -> impl Strategy<Value = String> {
    select(&HOSTS[..]).prop_map(str::to_owned)
}

fn registry() -> impl Strategy<Value = String> {
    prop_oneof![8 => host(), 1 => Just("*".to_owned())]
}

fn endpoint() -> impl Strategy<Value = String> {
    (select(&["", "http://", "https://"][..]), host(), select(&["", "/", "/v2", "/harbor/v2/hub"][..]))
        .prop_map(|(scheme, host, path)| format!("{scheme}{host}{path}"))
}

fn rewrites() -> impl Strategy<Value = BTreeMap<String, String>> {
    let pattern = select(&["^library/(.*)", "(a|b)[.]c", "^(?i)X-(.+)$", "(ü)"][..]);
    let replacement = select(&["hub/$1", "${1}_x", "", "#: {plain}", "ü'"][..]);
    btree_map(pattern.prop_map(str::to_owned), replacement.prop_map(str::to_owned), 0..3)
}

fn mirror() -> impl Strategy<Value = Mirror> {
    (proptest::collection::vec(endpoint(), 0..4), rewrites())
        .prop_map(|(endpoints, rewrites)| Mirror { endpoints, rewrites })
}

/// Marked so that it can be searched for. Where it is not `odd`, it is without what YAML writers disagree on.
fn secret(odd: bool) -> impl Strategy<Value = String> {
    let text = if odd {
        let odd = select(
            &['\0', '\n', '\r', '\u{7f}', '\u{85}', '\u{a0}', '\u{2028}', '\u{feff}', '\u{ffff}', '😀'][..],
        );
        let chars = prop_oneof![odd, any::<char>()];
        proptest::collection::vec(chars, 0..9).prop_map(|c| c.into_iter().collect()).boxed()
    } else {
        any::<String>().boxed()
    };
    text.prop_map(|s: String| format!("hunter2{s}"))
}

fn auth(odd: bool) -> impl Strategy<Value = Auth> {
    let secret = || secret(odd);
    prop_oneof![
        (secret(), secret()).prop_map(|(username, password)| Auth {
            username: Some(username),
            password: Some(password),
            ..Default::default()
        }),
        secret().prop_map(|password| Auth { password: Some(password), ..Default::default() }),
        secret().prop_map(|token| Auth { identity_token: Some(token), ..Default::default() }),
        Just(Auth { auth: Some("aHVudGVyMjpodW50ZXIy".into()), ..Default::default() }),
        Just(Auth::default()),
    ]
}

fn tls() -> impl Strategy<Value = Tls> {
    let path = || select(&["/etc/a b.pem", "/ü.pem", "/x: y"][..]).prop_map(str::to_owned);
    (option::of(path()), option::of((path(), path())), option::of(any::<bool>())).prop_map(
        |(ca_file, pair, insecure_skip_verify)| {
            let (cert_file, key_file) = pair.unzip();
            Tls { ca_file, cert_file, key_file, insecure_skip_verify }
        },
    )
}

fn config(odd: bool) -> impl Strategy<Value = HostConfig> {
    (option::of(auth(odd)), option::of(tls())).prop_map(|(auth, tls)| HostConfig { auth, tls })
}

/// Those that a user may write, with each login where containerd looks for it.
fn registries(odd: bool) -> impl Strategy<Value = Registries> {
    (btree_map(registry(), mirror(), 0..5), btree_map(host(), config(odd), 0..5)).prop_filter_map(
        "refused",
        |(mirrors, mut configs)| {
            if let Some(hub) = configs.get_mut("docker.io") {
                hub.auth = None;
            }
            let all = Registries { mirrors, configs };
            parse(&all.render(), &|_| true).is_ok().then_some(all)
        },
    )
}

fn caches() -> impl Strategy<Value = Vec<Mirrored>> {
    let one = (select(&["a", "b", "c"][..]), option::of(5000..5003u16), any::<bool>(), option::of(host()))
        .prop_map(|(name, host_port, secure, upstream)| Mirrored {
            hostname: name.into(),
            port: 5000,
            host: host_port.map(|p| format!("localhost:{p}")),
            scheme: if secure { Scheme::Https } else { Scheme::Http },
            upstream,
        });
    proptest::collection::vec(one, 0..5)
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn what_goes_in_comes_out(all in registries(true)) {
        let text = all.render();
        prop_assert_eq!(parse(&text, &|_| true), Ok(all.clone()), "{}", text);
        prop_assert_eq!(parse_rendered(&text), Some(all.clone()), "{}", text);
        prop_assert!(text.is_ascii());
        let debug = format!("{all:?}");
        prop_assert!(!debug.contains("hunter2"), "{}", debug);
    }

    /// However it is written, what is accepted is written so that a reader that knows nothing of it reads the same.
    #[test]
    fn what_is_accepted_is_read_by_all(all in registries(false), style in any::<bool>()) {
        let value = as_value(&all);
        let text = if style { value.to_string() } else { serde_saphyr::to_string(&value).unwrap() };
        let read = parse(&text, &|_| true);
        prop_assert_eq!(read.as_ref(), Ok(&all), "{}", text);
        let lenient: serde_json::Value = serde_saphyr::from_str(&read.unwrap().render()).unwrap();
        let nothing = serde_json::json!({});
        for section in ["mirrors", "configs"] {
            let of = |v: &serde_json::Value| v.get(section).unwrap_or(&nothing).clone();
            prop_assert_eq!(of(&lenient), of(&value));
        }
    }

    #[test]
    fn merging_is_what_it_says(base in registries(false), over in registries(false)) {
        let mut all = base.clone();
        all.merge(over.clone());
        let none = Mirror::default();
        let keys = |of: &dyn Fn(&Registries) -> BTreeSet<String>| [of(&all), &of(&base) | &of(&over)];
        let [mirrors, union] = keys(&|r| r.mirrors.keys().cloned().collect());
        prop_assert_eq!(mirrors, union);
        let [configs, union] = keys(&|r| r.configs.keys().cloned().collect());
        prop_assert_eq!(configs, union);
        for (name, mirror) in &all.mirrors {
            let [b, o] = [&base, &over].map(|r| r.mirrors.get(name).unwrap_or(&none));
            let endpoints = if o.endpoints.is_empty() { &b.endpoints } else { &o.endpoints };
            let rewrites = if o.rewrites.is_empty() { &b.rewrites } else { &o.rewrites };
            prop_assert_eq!((&mirror.endpoints, &mirror.rewrites), (endpoints, rewrites));
        }
        for (host, config) in &all.configs {
            let [b, o] = [&base, &over].map(|r| r.configs.get(host).cloned().unwrap_or_default());
            prop_assert_eq!(config.tls.is_some(), b.tls.is_some() || o.tls.is_some());
            let [tls, b_tls, o_tls] = [config.tls.clone(), b.tls, o.tls].map(Option::unwrap_or_default);
            prop_assert_eq!(tls.ca_file, o_tls.ca_file.or(b_tls.ca_file));
            prop_assert_eq!(tls.cert_file, o_tls.cert_file.or(b_tls.cert_file));
            prop_assert_eq!(tls.key_file, o_tls.key_file.or(b_tls.key_file));
            prop_assert_eq!(tls.insecure_skip_verify, o_tls.insecure_skip_verify.or(b_tls.insecure_skip_verify));
            let [auth, b_auth, o_auth] = [config.auth.clone(), b.auth, o.auth].map(Option::unwrap_or_default);
            if o_auth == Auth::default() {
                prop_assert!(auth == b_auth);
            } else {
                // One way to log in, the user's, and of the user's all.
                prop_assert!(auth.auth == o_auth.auth && auth.identity_token == o_auth.identity_token);
                let named = o_auth.username.is_some() || o_auth.password.is_some();
                let below = if named { b_auth } else { Auth::default() };
                prop_assert!(auth.username == o_auth.username.or(below.username));
                prop_assert!(auth.password == o_auth.password.or(below.password));
            }
        }
        let mut again = all.clone();
        again.merge(over);
        prop_assert_eq!(&again, &all);
        again.merge(Registries::default());
        prop_assert_eq!(&again, &all);
        let mut onto_nothing = Registries::default();
        onto_nothing.merge(all.clone());
        prop_assert_eq!(onto_nothing, all);
    }

    /// Also of what the operator makes itself.
    #[test]
    fn containerd_reads_its_files(list in caches(), over in registries(false), default_endpoint in any::<bool>()) {
        let mut all = of_registries(&list);
        prop_assert_eq!(parse(&all.render(), &|_| true), Ok(all.clone()));
        prop_assert_eq!(check(&all, &|_| true), [""; 0]);
        all.merge(over);
        let written = ["docker.io", "gone.example:5000", "_default"];
        let files = all.hosts_over(default_endpoint, written);
        for directory in written {
            prop_assert!(files.contains_key(directory));
        }
        for (directory, text) in &files {
            prop_assert!(text.starts_with("# File generated by k3s. DO NOT EDIT.\n"));
            prop_assert!(!directory.contains('/') && !directory.contains('*'));
            prop_assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMjp"), "{}", text);
            if let Err(problem) = toml(text) {
                prop_assert!(false, "{}\n{}", problem, text);
            }
        }
        // A login alone changes no file that was there without it, but for making one.
        let mut without = all.clone();
        without.configs.values_mut().for_each(|c| c.auth = None);
        let files = all.hosts(true);
        for (directory, text) in without.hosts(true) {
            prop_assert_eq!(files.get(&directory), Some(&text));
        }
    }

    /// Nothing makes the readers panic, and messages are sentences.
    #[test]
    fn any_text_is_read_or_refused(text in ".*", url in ".*") {
        for text in [text.clone(), format!("mirrors: {text}"), format!("configs: {{r: {{auth: {text}}}}}")] {
            if let Err(problems) = parse(&text, &|_| false) {
                prop_assert!(!problems.is_empty() && problems.iter().all(|p| !p.is_empty()));
            }
            if let Some(read) = parse_rendered(&text) {
                read.hosts(true);
                check(&read, &|_| true);
            }
        }
        upstream_of(&url).ok();
        upstream_of(&format!("https://{url}")).ok();
    }
}

/// The file as a plain value.
fn as_value(all: &Registries) -> serde_json::Value {
    use serde_json::{Map, Value, json};
    let some = |fields: Vec<(&str, Option<Value>)>| {
        Value::Object(fields.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect::<Map<_, _>>())
    };
    let text = |t: &Option<String>| t.clone().map(Value::from);
    let mirrors: Map<_, _> = all
        .mirrors
        .iter()
        .map(|(name, m)| {
            let endpoint = (!m.endpoints.is_empty()).then(|| json!(m.endpoints));
            let rewrite = (!m.rewrites.is_empty()).then(|| json!(m.rewrites));
            (name.clone(), some(vec![("endpoint", endpoint), ("rewrite", rewrite)]))
        })
        .collect();
    let configs: Map<_, _> = all
        .configs
        .iter()
        .map(|(host, c)| {
            let auth = c.auth.as_ref().map(|a| {
                some(vec![
                    ("username", text(&a.username)),
                    ("password", text(&a.password)),
                    ("auth", text(&a.auth)),
                    ("identity_token", text(&a.identity_token)),
                ])
            });
            let tls = c.tls.as_ref().map(|t| {
                some(vec![
                    ("ca_file", text(&t.ca_file)),
                    ("cert_file", text(&t.cert_file)),
                    ("key_file", text(&t.key_file)),
                    ("insecure_skip_verify", t.insecure_skip_verify.map(Value::from)),
                ])
            });
            (host.clone(), some(vec![("auth", auth), ("tls", tls)]))
        })
        .collect();
    json!({"mirrors": mirrors, "configs": configs})
}

/// Reads the TOML that containerd's files are made of: tables with dotted keys, and strings, truth values and arrays.
/// Gives the tables with their keys.
fn toml(text: &str) -> Result<BTreeMap<Vec<String>, BTreeSet<String>>, String> {
    let mut tables = BTreeMap::from([(Vec::new(), BTreeSet::new())]);
    let mut table: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = |what: &str| format!("{what}: {line}");
        if let Some(header) = line.strip_prefix('[') {
            let (keys, rest) = dotted(header).ok_or_else(|| bad("no table"))?;
            if rest != "]" {
                return Err(bad("no end of the table's name"));
            }
            table = keys;
            if tables.insert(table.clone(), BTreeSet::new()).is_some() {
                return Err(bad("a table twice"));
            }
            continue;
        }
        let (keys, rest) = dotted(line).ok_or_else(|| bad("no key"))?;
        let rest = rest.trim_start().strip_prefix('=').ok_or_else(|| bad("no ="))?;
        if value(rest.trim_start()) != Some("") {
            return Err(bad("no value"));
        }
        if !tables.get_mut(&table).expect("it was inserted").insert(keys.join(".")) {
            return Err(bad("a key twice"));
        }
    }
    Ok(tables)
}

fn dotted(mut text: &str) -> Option<(Vec<String>, &str)> {
    let mut keys = Vec::new();
    loop {
        let (key, rest) = if text.starts_with('"') {
            string(text)?
        } else {
            let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')?;
            (text[..end].to_owned(), &text[end..])
        };
        if key.is_empty() {
            return None;
        }
        keys.push(key);
        match rest.strip_prefix('.') {
            Some(rest) => text = rest,
            None => return Some((keys, rest)),
        }
    }
}

/// What follows a value.
fn value(text: &str) -> Option<&str> {
    if text.starts_with('"') {
        return Some(string(text)?.1);
    }
    if let Some(mut rest) = text.strip_prefix('[') {
        loop {
            rest = value(rest.trim_start())?.trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.strip_prefix(']'),
            }
        }
    }
    text.strip_prefix("true").or_else(|| text.strip_prefix("false"))
}

/// A basic string, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[i + 1..])),
            '\\' => match chars.next()?.1 {
                c @ ('b' | 't' | 'n' | 'f' | 'r' | '"' | '\\') => out.push(c),
                _ => return None,
            },
            c if c.is_control() && c != '\t' => return None,
            c => out.push(c),
        }
    }
    None
}

/// The reader of the tests is one.
#[test]
fn the_toml_reader_refuses_what_is_none() {
    for good in
        ["a = \"b\"", "[host.\"http://x\".rewrite]\n\"a/(.*)\" = \"$1\"", "a = [[\"b\", \"c\"]]", "a = true"]
    {
        assert!(toml(good).is_ok(), "{good}");
    }
    for bad in [
        "a",
        "a = b",
        "a = \"b",
        "a = \"\\.\"",
        "a = \"b\" c",
        "[a",
        "[a]\n[a]",
        "a = true\na = true",
        "\"a\\d\" = \"\"",
    ] {
        assert!(toml(bad).is_err(), "{bad}");
    }
}
