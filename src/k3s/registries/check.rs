//! What K3s or containerd would take without a word and not act on, or choke on.

use super::{
    DOCKER_HUB, DOCKER_HUB_HOST, Endpoint, HostConfig, Mirror, Registries, Tls,
    endpoint::{self, is_host},
    rewrite,
};
use crate::api::rules::text;

/// Problems of a complete set, each with its path in the file and what to write instead. `has_file` tells whether there
/// will be a file at a path of the nodes.
pub fn check(registries: &Registries, has_file: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Found::default();
    parts(&mut found, registries, has_file);
    for (name, mirror) in &registries.mirrors {
        if mirror.endpoints.is_empty() && !mirror.rewrites.is_empty() {
            found.add(
                &format!("mirrors[{name:?}].rewrite"),
                "names are only rewritten on their way to endpoints, and the registry has none: add one under endpoint",
            );
        }
    }
    for (host, config) in &registries.configs {
        let Some(auth) = &config.auth else { continue };
        if auth.username.is_some() != auth.password.is_some() {
            found.add(&format!("configs[{host:?}].auth"), "username and password go together: write both");
        }
    }
    found.0
}

/// What is wrong whatever else the file is merged with.
pub(super) fn check_parts(registries: &Registries, has_file: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Found::default();
    parts(&mut found, registries, has_file);
    found.0
}

#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn add(&mut self, path: &str, problem: &str) {
        self.0.push(format!("{path}: {problem}"));
    }
}

fn parts(found: &mut Found, registries: &Registries, has_file: &dyn Fn(&str) -> bool) {
    for (name, mirror) in &registries.mirrors {
        let path = format!("mirrors[{name:?}]");
        if ["index.docker.io", DOCKER_HUB_HOST].contains(&name.as_str()) {
            found.add(&path, "image names of Docker Hub begin with docker.io: write that");
        } else if name != "*" && !is_host(name) {
            found.add(&path, text::MIRRORED);
        }
        check_mirror(found, &path, name, mirror);
    }
    for (host, config) in &registries.configs {
        let path = format!("configs[{host:?}]");
        if host == "*" {
            check_config_for_all(found, &path, registries, config);
        } else if !is_host(host) {
            found.add(&path, text::CONFIG_HOST);
        } else {
            check_config_host(found, &path, registries, host);
        }
        check_auth(found, &path, config);
        if let Some(tls) = &config.tls {
            check_tls(found, &format!("{path}.tls"), tls, has_file);
        }
    }
}

fn check_mirror(found: &mut Found, path: &str, name: &str, mirror: &Mirror) {
    for (i, endpoint) in mirror.endpoints.iter().enumerate() {
        if Endpoint::parse(endpoint).is_none() {
            // Not repeated: there may be a password in it.
            let problem = if endpoint.contains("://[") || endpoint.starts_with('[') {
                "containerd's parser breaks on IPv6 addresses: write a name that leads there"
            } else if endpoint.contains('@') {
                "a URL is no place for a login: write it without, and the login under configs"
            } else {
                text::ENDPOINT
            };
            found.add(&format!("{path}.endpoint[{i}]"), problem);
        }
    }
    for (pattern, replacement) in &mirror.rewrites {
        if let Some(problem) = rewrite::problem(pattern, replacement) {
            found.add(&format!("{path}.rewrite[{pattern:?}]"), &problem);
        }
    }
    if let Some(instead) = unwritten_rewrite(name, mirror) {
        found.add(
            &format!("{path}.endpoint[{}]", mirror.endpoints.len() - 1),
            &format!(
                "the last endpoint is where K3s goes anyway, by which it loses the rewrites: write it as {instead}"
            ),
        );
    }
}

/// A last endpoint that equals the default one takes its place, and that has no rewrites.
fn unwritten_rewrite(name: &str, mirror: &Mirror) -> Option<String> {
    let (last, before) = mirror.endpoints.split_last()?;
    let url = Endpoint::parse(last)?.url();
    let seen = |e: &String| Endpoint::parse(e).is_some_and(|e| e.url() == url);
    let lost = !mirror.rewrites.is_empty()
        && Endpoint::default_of(name).is_some_and(|d| d.url() == url)
        && !before.iter().any(seen);
    lost.then(|| {
        let base = url.strip_suffix("/v2").unwrap_or(&url);
        // The same place by another text. Where there is a port already, a slash makes it another one.
        if endpoint::port(name).is_some() { format!("{base}/v2/") } else { format!("{base}:443") }
    })
}

fn check_config_for_all(found: &mut Found, path: &str, registries: &Registries, config: &HostConfig) {
    if config.auth.is_some() {
        found.add(
            &format!("{path}.auth"),
            "containerd looks a login up by its host, never under *: write a config for each host",
        );
    }
    if config.tls.is_some() && registries.mirrors.contains_key("*") {
        found.add(
            &format!("{path}.tls"),
            "K3s ignores it where mirrors has an entry for * too: write a config for each host",
        );
    }
}

/// A config under a mirror's name is for the registry itself, which is asked last. That can be meant so; it is not where
/// the one endpoint is the same host at another port.
fn check_config_host(found: &mut Found, path: &str, registries: &Registries, host: &str) {
    let endpoints =
        || registries.mirrors.values().flat_map(|m| &m.endpoints).filter_map(|e| Endpoint::parse(e));
    if host == "index.docker.io" && !endpoints().any(|e| e.host() == host) {
        found.add(path, "nothing is pulled from there: for Docker Hub write docker.io");
    }
    let Some(mirror) = registries.mirrors.get(host) else { return };
    let [only] = mirror.endpoints.as_slice() else { return };
    let Some(only) = Endpoint::parse(only) else { return };
    let same_name = endpoint::name(only.host()) == endpoint::name(host) && host != DOCKER_HUB;
    if same_name && !registries.configs.contains_key(only.host()) && !endpoints().any(|e| e.host() == host) {
        found.add(
            path,
            &format!(
                "it is for the host of an endpoint, with its port, and the only endpoint of {host} is another one: \
                 write configs[{:?}]",
                only.host()
            ),
        );
    }
}

fn check_auth(found: &mut Found, path: &str, config: &HostConfig) {
    use base64::Engine;
    let Some(auth) = &config.auth else { return };
    if auth.identity_token.is_some() && auth.username.is_some() {
        found.add(
            &format!("{path}.auth"),
            "containerd takes username and ignores identity_token: write one of the two",
        );
    }
    let readable = |text: &String| {
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .is_ok_and(|bytes| String::from_utf8(bytes).is_ok_and(|s| s.contains(':')))
    };
    if auth.auth.as_ref().is_some_and(|a| !readable(a)) {
        found.add(
            &format!("{path}.auth.auth"),
            "it is not name:password in base64: write username and password instead",
        );
    }
}

fn check_tls(found: &mut Found, path: &str, tls: &Tls, has_file: &dyn Fn(&str) -> bool) {
    let files = [
        ("ca_file", &tls.ca_file, "caSecretName"),
        ("cert_file", &tls.cert_file, "clientSecretName"),
        ("key_file", &tls.key_file, "clientSecretName"),
    ];
    for (field, file, instead) in files {
        if let Some(file) = file.as_ref().filter(|f| !has_file(f)) {
            found.add(
                &format!("{path}.{field}"),
                &format!(
                    "no file of the spec puts {file} into the nodes: use spec.registries.configs[].tls.{instead}, or \
                     put it there by spec.files"
                ),
            );
        }
    }
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        let (there, missing) =
            if tls.cert_file.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
        found.add(path, &format!("{there} is of no use without {missing}: write both"));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    fn problems(text: &str) -> Vec<String> {
        parse(text, &|path| path == "/there").err().unwrap_or_default()
    }

    #[test]
    fn what_k3s_would_ignore_is_refused() {
        for (text, told) in [
            ("mirrors: {'http://r:5000': {}}", r#"mirrors["http://r:5000"]: write a registry"#),
            ("mirrors: {r/p: {}}", "without a scheme or a path"),
            ("mirrors: {index.docker.io: {}}", "write that"),
            ("mirrors: {registry-1.docker.io: {}}", "begin with docker.io"),
            ("mirrors: {r: {endpoint: ['ftp://x']}}", r#"mirrors["r"].endpoint[0]: write a URL"#),
            ("mirrors: {r: {endpoint: ['http://a', '']}}", "endpoint[1]"),
            ("mirrors: {r: {endpoint: ['https://[::1]:5000']}}", "IPv6"),
            ("mirrors: {r: {endpoint: ['https://u:pw@x']}}", "under configs"),
            (r"mirrors: {r: {endpoint: [x], rewrite: {'a\.b': c}}}", "[.]"),
            ("mirrors: {r: {endpoint: [x], rewrite: {'(': c}}}", "RE2"),
            ("mirrors: {r: {endpoint: [x], rewrite: {a: $1}}}", "parentheses"),
            ("mirrors: {r: {endpoint: ['https://r'], rewrite: {a: b}}}", "write it as https://r:443"),
            ("mirrors: {'r:5443': {endpoint: ['https://r:5443'], rewrite: {a: b}}}", "https://r:5443/v2/"),
            (
                "mirrors: {docker.io: {endpoint: [x, 'https://docker.io'], rewrite: {a: b}}}",
                r#"mirrors["docker.io"].endpoint[1]: the last endpoint is where K3s goes anyway"#,
            ),
            ("configs: {'https://r': {}}", r#"configs["https://r"]: write the host of an endpoint"#),
            ("configs: {r/p: {}}", "without a"),
            ("configs: {index.docker.io: {auth: {identity_token: x}}}", "write docker.io"),
            ("configs: {'*': {auth: {identity_token: x}}}", "for each host"),
            ("{mirrors: {'*': }, configs: {'*': {tls: {}}}}", "for each host"),
            ("configs: {r: {auth: {username: u, identity_token: x}}}", "one of the two"),
            ("configs: {r: {auth: {auth: hunter2}}}", "base64"),
            ("configs: {r: {tls: {ca_file: /no}}}", "caSecretName, or put it there by spec.files"),
            ("configs: {r: {tls: {cert_file: /there}}}", "without key_file"),
            ("configs: {r: {tls: {key_file: /there}}}", "without cert_file"),
            ("configs: {r: {tls: {key_file: /no, cert_file: /there}}}", "clientSecretName"),
            (
                "{mirrors: {r.example: {endpoint: ['https://r.example:5443']}}, configs: {r.example: {tls: {ca_file: /there}}}}",
                r#"configs["r.example"]: it is for the host of an endpoint, with its port, and the only endpoint of r.example is another one: write configs["r.example:5443"]"#,
            ),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].contains(told), "{text}: {found:#?}");
            assert!(!found[0].contains("pw") && !found[0].contains("hunter2"), "{found:#?}");
        }
    }

    #[test]
    fn what_works_is_not() {
        for text in [
            "",
            "---\n",
            "{}",
            "mirrors:\nconfigs:\n",
            "mirrors: {docker.io: }",
            "mirrors: {'*': {endpoint: [x]}}",
            "configs: {'*': {tls: {insecure_skip_verify: true}}}",
            // For the registry itself, when the mirror has not got the image.
            "{mirrors: {docker.io: {endpoint: ['http://cache:5000']}}, configs: {docker.io: {auth: {username: u, password: p}}}}",
            "{mirrors: {docker.io: {endpoint: ['http://cache:5000']}}, configs: {registry-1.docker.io: {auth: {identity_token: t}}}}",
            "{mirrors: {r: {endpoint: ['https://other:5443']}}, configs: {r: {tls: {ca_file: /there}}}}",
            "{mirrors: {r: {endpoint: ['https://r:5443']}}, configs: {r: {}, 'r:5443': {tls: {ca_file: /there}}}}",
            "{mirrors: {r: {endpoint: ['https://r:5443', 'https://r']}}, configs: {r: {tls: {}}}}",
            "{mirrors: {'r:5000': {endpoint: ['http://r:5000']}}, configs: {'r:5000': {tls: {insecure_skip_verify: true}}}}",
            // Parts of what another layer completes.
            "mirrors: {docker.io: {rewrite: {a: b}}}",
            "configs: {r: {auth: {password: p}}}",
            // Not the last, or a second time.
            "mirrors: {r: {endpoint: ['https://r', x], rewrite: {a: b}}}",
            "mirrors: {r: {endpoint: ['https://r', x, r], rewrite: {a: b}}}",
            "mirrors: {r: {endpoint: ['https://r:443'], rewrite: {a: b}}}",
        ] {
            assert_eq!(problems(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_complete_set_is_looked_at_as_a_whole() {
        let part = parse("{mirrors: {r: {rewrite: {a: b}}}, configs: {r: {auth: {password: p}}}}", &|_| true);
        let found = check(&part.unwrap(), &|_| true);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found[0].contains("add one under endpoint") && found[1].contains("go together"),
            "{found:#?}"
        );
    }
}
