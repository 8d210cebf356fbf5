//! Reading the file: the user's strictly, a node's as K3s does.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Auth, DOCKER_HUB, DOCKER_HUB_HOST, HostConfig, Mirror, Registries, Tls,
    check::check_part,
    shape::{Shape, is_misplaced},
};

/// Reads the user's file. What K3s would ignore or choke on is refused, each with its path and what to write instead;
/// no message repeats a value, as that may be a password. `has_file` tells whether there will be a file at a path of
/// the nodes.
pub fn parse(text: &str, has_file: &dyn Fn(&str) -> bool) -> Result<Registries, Vec<String>> {
    let documents: Vec<Shape> = serde_saphyr::from_multiple(text).map_err(|e| vec![unreadable(text, &e)])?;
    if documents.iter().skip(1).any(|d| *d != Shape::Null) {
        return Err(vec![
            "K3s reads only the first of several documents: join them into one, without ---".into(),
        ]);
    }
    let mut problems = documents.first().map(Shape::problems).unwrap_or_default();
    match read(text) {
        Ok(file) => {
            let mut registries = file.meant();
            // Told already.
            registries.mirrors.retain(|name, _| !is_misplaced("mirrors", name));
            registries.configs.retain(|name, _| !is_misplaced("configs", name));
            problems.extend(check_part(&registries, has_file));
            if problems.is_empty() {
                return Ok(registries);
            }
        }
        // What is of the wrong kind is among the problems already.
        Err(e) if problems.is_empty() => problems.push(unreadable(text, &e)),
        Err(_) => {}
    }
    Err(problems)
}

/// Reads a file that is in a node, as K3s would: keys that it does not know are not there. None when it is no YAML, or
/// of a shape that K3s does not start with.
pub fn parse_rendered(text: &str) -> Option<Registries> {
    read(text).ok().map(Into::into)
}

fn read(text: &str) -> Result<File, serde_saphyr::Error> {
    let documents: Vec<Option<File>> = serde_saphyr::from_multiple(text)?;
    Ok(documents.into_iter().next().flatten().unwrap_or_default())
}

/// An error without anything of the file but a key.
fn unreadable(text: &str, error: &serde_saphyr::Error) -> String {
    let location = error.location();
    let place = location.map(|l| format!("line {}: ", l.line())).unwrap_or_default();
    let line = || {
        let number = usize::try_from(location?.line()).ok()?;
        text.lines().nth(number.checked_sub(1)?)
    };
    let problem = match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("{key} is there twice, and K3s would take one of the two: join them")
        }
        _ if text.lines().any(|l| l.trim_start().starts_with("*:")) => {
            "this is no YAML: write \"*\" in quotes".into()
        }
        _ if line().is_some_and(is_indented_by_tab) => {
            "this is no YAML, as lines are not indented by tabs there: write blanks".into()
        }
        _ if line().is_some_and(has_no_escape) => {
            "this is no YAML, as a backslash in double quotes begins an escape, and this is none: leave it out ($1), or \
             write the text in single quotes"
                .into()
        }
        _ => {
            "this is no YAML that K3s can read: write it as in K3s's documentation of registries.yaml".into()
        }
    };
    place + &problem
}

fn is_indented_by_tab(line: &str) -> bool {
    line.trim_start_matches([' ', '\t']).len() < line.trim_start_matches(' ').len()
}

/// Whether there is a backslash in double quotes that begins none of YAML's escapes.
fn has_no_escape(line: &str) -> bool {
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => match chars.next() {
                Some(c) if !"0abt\tnvfre \"/\\N_LPxuU".contains(c) => return true,
                _ => {}
            },
            _ => {}
        }
    }
    false
}

#[derive(Default, Deserialize)]
struct File {
    mirrors: Option<BTreeMap<String, Option<MirrorEntry>>>,
    configs: Option<BTreeMap<String, Option<ConfigEntry>>>,
    auths: Option<BTreeMap<String, Option<AuthEntry>>>,
}

#[derive(Default, Deserialize)]
struct MirrorEntry {
    endpoint: Option<Vec<Option<String>>>,
    rewrite: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Default, Deserialize)]
struct ConfigEntry {
    auth: Option<AuthEntry>,
    tls: Option<TlsEntry>,
}

#[derive(Deserialize)]
struct AuthEntry {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    identity_token: Option<String>,
}

#[derive(Deserialize)]
struct TlsEntry {
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    insecure_skip_verify: Option<bool>,
}

impl From<File> for Registries {
    fn from(file: File) -> Self {
        let mirrors = file.mirrors.unwrap_or_default().into_iter();
        let configs = file.configs.unwrap_or_default().into_iter();
        Registries {
            mirrors: mirrors.map(|(name, m)| (name, m.unwrap_or_default().into())).collect(),
            configs: configs.map(|(host, c)| (host, c.unwrap_or_default().into())).collect(),
        }
    }
}

impl File {
    /// What a user means by it, with each login where containerd looks for it.
    fn meant(mut self) -> Registries {
        let auths = self.auths.take().unwrap_or_default();
        let mut all = Registries::from(self);
        all.name_docker_hub();
        // K3s still reads these and hands them to nobody. They mean what `configs` says now.
        for (key, auth) in auths {
            if let Some(auth) = auth {
                all.configs.entry(login_host(&key)).or_default().auth.get_or_insert(auth.into());
            }
        }
        all
    }
}

/// The host that an entry of `auths` is for: those may be URLs, as in Docker's own file.
fn login_host(key: &str) -> String {
    let host = match key.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
        None => key,
    };
    if [DOCKER_HUB, "index.docker.io"].contains(&host) { DOCKER_HUB_HOST.into() } else { host.into() }
}

impl From<MirrorEntry> for Mirror {
    fn from(entry: MirrorEntry) -> Self {
        let rewrites = entry.rewrite.unwrap_or_default().into_iter();
        Self {
            endpoints: entry.endpoint.unwrap_or_default().into_iter().flatten().collect(),
            rewrites: rewrites.map(|(pattern, r)| (pattern, r.unwrap_or_default())).collect(),
        }
    }
}

impl From<ConfigEntry> for HostConfig {
    fn from(entry: ConfigEntry) -> Self {
        Self { auth: entry.auth.map(Into::into), tls: entry.tls.map(Into::into) }
    }
}

impl From<AuthEntry> for Auth {
    fn from(entry: AuthEntry) -> Self {
        Self {
            username: given(entry.username),
            password: given(entry.password),
            auth: given(entry.auth),
            identity_token: given(entry.identity_token),
        }
    }
}

impl From<TlsEntry> for Tls {
    fn from(entry: TlsEntry) -> Self {
        Self {
            ca_file: given(entry.ca_file),
            cert_file: given(entry.cert_file),
            key_file: given(entry.key_file),
            insecure_skip_verify: entry.insecure_skip_verify,
        }
    }
}

/// To K3s, an empty text is none.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse(text, &|_| true).unwrap_err()
    }

    #[test]
    fn values_are_taken_as_they_are_written() {
        let text = "configs: {r: {auth: {username: 0123, password: 1e3}}, s: {auth: {username: yes, password: 'null'}}}";
        let all = parse(text, &|_| true).unwrap();
        let told = |host: &str| {
            let auth = all.auth().remove(host).unwrap();
            (auth.username.unwrap(), auth.password.unwrap())
        };
        assert_eq!(told("r"), ("0123".into(), "1e3".into()));
        assert_eq!(told("s"), ("yes".into(), "null".into()));
        let empty =
            parse("configs: {r: {auth: {username: '', password: ~}, tls: {ca_file: ''}}}", &|_| false);
        let empty = empty.unwrap();
        assert_eq!(empty.configs["r"].auth, Some(Auth::default()));
        assert!(empty.auth().is_empty());
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        let text = "
            mirrors:
              a.test: &m {endpoint: ['http://x']}
              b.test: *m
              c.test: {<<: *m, rewrite: {a: b}}
        ";
        let all = parse(text, &|_| true).unwrap();
        assert!(all.mirrors.values().all(|m| m.endpoints == ["http://x"]));
        assert_eq!(all.mirrors["c.test"].rewrites.len(), 1);
    }

    /// K3s reads YAML 1.1, and no key that it does not know.
    #[test]
    fn what_k3s_takes_is_taken() {
        let all =
            parse("{x-a: &a [x], mirrors: {r.test: {endpoint: *a, x-b: {endpoints: 1}}}, x-c: ~}", &|_| true);
        assert_eq!(all.unwrap().mirrors["r.test"].endpoints, ["x"]);
        for (word, truth) in
            [("TRUE", true), ("Yes", true), ("on", true), ("y", true), ("NO", false), ("Off", false)]
        {
            let all = parse(&format!("configs: {{r: {{tls: {{insecure_skip_verify: {word}}}}}}}"), &|_| true);
            let tls = all.unwrap().configs.remove("r").unwrap().tls.unwrap();
            assert_eq!(tls.insecure_skip_verify, Some(truth), "{word}");
        }
        // Keys and texts that look like truth values are texts.
        let all = parse(
            "{mirrors: {localhost: {rewrite: {on: yes}}}, configs: {y: {auth: {password: on}}}}",
            &|_| true,
        );
        let all = all.unwrap();
        assert_eq!(all.mirrors["localhost"].rewrites["on"], "yes");
        assert_eq!(all.configs["y"].auth.as_ref().unwrap().password.as_deref(), Some("on"));
    }

    #[test]
    fn the_old_auths_are_logins() {
        let text = "
            auths:
              r.example: {username: old, password: old}
              'https://s.example:5000/v1/': {identity_token: t}
              'https://index.docker.io/v1/': {auth: dTpw}
            configs:
              r.example: {auth: {username: new, password: new}}
        ";
        let auth = parse(text, &|_| true).unwrap().auth();
        let hosts: Vec<_> = auth.keys().map(String::as_str).collect();
        assert_eq!(hosts, ["r.example", "registry-1.docker.io", "s.example:5000"]);
        assert_eq!(auth["r.example"].username.as_deref(), Some("new"));
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for (text, told) in [
            ("mirrors: {", "line 1: this is no YAML"),
            ("mirrors:\n  *: {}\n", "in quotes"),
            ("mirrors: {}\n---\nconfigs: {}\n", "first of several documents"),
            ("mirrors:\n  r: {}\n  r: {}\n", "line 3: r is there twice"),
            (
                "mirrors:\n\tr.test: {}\n",
                "line 2: this is no YAML, as lines are not indented by tabs there: write blanks",
            ),
            (
                "configs:\n  r:\n    auth:\n  \t  password: hunter2\n",
                "line 4: this is no YAML, as lines are not indented by tabs",
            ),
            (
                "mirrors: {r.test: {endpoint: [x], rewrite: {\"^a/(.*)\": \"b/\\$1\"}}}",
                "a backslash in double quotes begins an escape, and this is none: leave it out ($1)",
            ),
            ("configs: {r: {auth: {username: u, password: \"hunter2\\!\"}}}", "in single quotes"),
            ("hunter2", "mirrors and configs"),
            ("[hunter2]", "mirrors and configs"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].contains(told), "{text}: {found:#?}");
            assert!(!found[0].contains("hunter2") && found[0].lines().count() == 1, "{found:#?}");
        }
    }

    /// All at once, so that they need not be found one after another.
    #[test]
    fn all_problems_are_told() {
        let found = problems("{mirrors: {'http://r': {endpoints: [x]}}, configs: {r: {tls: {ca: /x}}}}");
        assert_eq!(found.len(), 3, "{found:#?}");
    }

    #[test]
    fn a_nodes_file_is_read_as_k3s_does() {
        let all = parse_rendered(
            "{mirrors: {r.test: {endpoints: [x]}}, configs: {r: {auth: {username: u, token: x}}}, x: 1}",
        );
        assert_eq!(all.unwrap().auth()["r"].username.as_deref(), Some("u"));
        assert_eq!(parse_rendered(""), Some(Registries::default()));
        assert_eq!(parse_rendered("mirrors: ["), None);
    }
}
