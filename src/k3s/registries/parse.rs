//! Parsing of registries files: strict for the user's file, and as K3s does for the file of a node.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Auth, DOCKER_HUB, DOCKER_HUB_HOST, HostConfig, Mirror, Registries, Tls,
    check::check_part,
    shape::{Shape, is_misplaced},
};

/// Parses the user's file. Settings that K3s would ignore or fail on are refused, each with its path and what to write
/// instead; no message repeats a value, which may be a password. `has_file` reports whether a file will exist at a path
/// in the nodes.
pub fn parse(text: &str, has_file: &dyn Fn(&str) -> bool) -> Result<Registries, Vec<String>> {
    let documents: Vec<Shape> = serde_saphyr::from_multiple(text).map_err(|e| vec![unreadable(text, &e)])?;
    if documents.iter().skip(1).any(|d| *d != Shape::Null) {
        return Err(vec![
            "K3s only reads the first of several documents; merge them into one, without ---".into(),
        ]);
    }
    let mut problems = documents.first().map(Shape::problems).unwrap_or_default();
    match read(text) {
        Ok(file) => {
            let mut registries = file.meant();
            // Reported already.
            registries.mirrors.retain(|name, _| !is_misplaced("mirrors", name));
            registries.configs.retain(|name, _| !is_misplaced("configs", name));
            problems.extend(check_part(&registries, has_file));
            if problems.is_empty() {
                return Ok(registries);
            }
        }
        // Values of the wrong type are reported already.
        Err(e) if problems.is_empty() => problems.push(unreadable(text, &e)),
        Err(_) => {}
    }
    Err(problems)
}

/// Parses a file of a node as K3s does, which ignores unknown keys. Returns None if it is not valid YAML, or if K3s
/// would not start with it.
pub fn parse_rendered(text: &str) -> Option<Registries> {
    read(text).ok().map(Into::into)
}

fn read(text: &str) -> Result<File, serde_saphyr::Error> {
    let documents: Vec<Option<File>> = serde_saphyr::from_multiple(text)?;
    Ok(documents.into_iter().next().flatten().unwrap_or_default())
}

/// Describes an error without any content of the file other than a key.
fn unreadable(text: &str, error: &serde_saphyr::Error) -> String {
    let location = error.location();
    let place = location.map(|l| format!("line {}: ", l.line())).unwrap_or_default();
    let line = || {
        let number = usize::try_from(location?.line()).ok()?;
        text.lines().nth(number.checked_sub(1)?)
    };
    let problem = match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("duplicate key {key}, of which K3s would use only one; merge the entries")
        }
        _ if text.lines().any(|l| l.trim_start().starts_with("*:")) => {
            "not valid YAML; write \"*\" in quotes".into()
        }
        _ if line().is_some_and(is_indented_by_tab) => {
            "not valid YAML: tabs cannot be used for indentation; use spaces".into()
        }
        _ if line().is_some_and(has_no_escape) => {
            "not valid YAML: a backslash in double quotes starts an escape sequence, and this one is invalid; remove \
             the backslash ($1), or use single quotes"
                .into()
        }
        _ => {
            "not valid YAML for K3s; see the K3s documentation of registries.yaml".into()
        }
    };
    place + &problem
}

fn is_indented_by_tab(line: &str) -> bool {
    line.trim_start_matches([' ', '\t']).len() < line.trim_start_matches(' ').len()
}

/// Reports whether a backslash in double quotes starts an invalid YAML escape.
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
    /// Returns the registries that the user means, with all credentials under the key that containerd looks up.
    fn meant(mut self) -> Registries {
        let auths = self.auths.take().unwrap_or_default();
        let mut all = Registries::from(self);
        all.name_docker_hub();
        // K3s still reads these without using them. They mean what `configs` means now.
        for (key, auth) in auths {
            if let Some(auth) = auth {
                all.configs.entry(login_host(&key)).or_default().auth.get_or_insert(auth.into());
            }
        }
        all
    }
}

/// Returns the host that an entry of `auths` is for: the keys may be URLs, as in the configuration file of Docker.
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

/// Returns None for an empty text, which K3s treats as unset.
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
        let text = "configs: {r: {auth: {username: 0123, password: 1e3}}, s: {auth: {username: yes, password: \
            'null'}}}";
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

    /// K3s reads YAML 1.1 and ignores unknown keys.
    #[test]
    fn what_k3s_takes_is_taken() {
        // What is not set is as if it were not there.
        let all = parse("mirrors: {r.test: {endpoint: ~, rewrite: ~}}", &|_| true).unwrap();
        assert_eq!(all.mirrors["r.test"].endpoints, [""; 0]);
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
        // Keys and strings that look like booleans are strings.
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
            ("mirrors: {", "line 1: not valid YAML"),
            ("mirrors:\n  *: {}\n", "in quotes"),
            ("mirrors: {}\n---\nconfigs: {}\n", "first of several documents"),
            ("mirrors:\n  r: {}\n  r: {}\n", "line 3: duplicate key r"),
            (
                "mirrors:\n\tr.test: {}\n",
                "line 2: not valid YAML: tabs cannot be used for indentation; use spaces",
            ),
            (
                "configs:\n  r:\n    auth:\n  \t  password: hunter2\n",
                "line 4: not valid YAML: tabs cannot be used for indentation",
            ),
            (
                "mirrors: {r.test: {endpoint: [x], rewrite: {\"^a/(.*)\": \"b/\\$1\"}}}",
                "a backslash in double quotes starts an escape sequence, and this one is invalid; remove the \
                 backslash ($1)",
            ),
            ("configs: {r: {auth: {username: u, password: \"hunter2\\!\"}}}", "use single quotes"),
            // What is wrong is none of these.
            ("mirrors: 'hunter2' hunter2", "see the K3s documentation"),
            ("mirrors: 'hunter2' \\!", "see the K3s documentation"),
            ("mirrors: \"\\n\" hunter2", "see the K3s documentation"),
            ("hunter2", "mirrors and configs"),
            ("[hunter2]", "mirrors and configs"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].contains(told), "{text}: {found:#?}");
            assert!(!found[0].contains("hunter2") && found[0].lines().count() == 1, "{found:#?}");
        }
    }

    /// All problems at once, so that users do not find them one by one.
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
