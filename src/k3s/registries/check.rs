//! What K3s or containerd would take without a word and not act on, or choke on.

use super::{
    DOCKER_HUB, DOCKER_HUB_HOST, Endpoint, HostConfig, Mirror, Registries, Tls,
    endpoint::{self, is_host},
    rewrite,
};
use crate::api::rules::{self, text};

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

/// What is wrong whatever else it is merged with, of what one person wrote in one place.
pub fn check_part(registries: &Registries, has_file: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Found::default();
    parts(&mut found, registries, has_file);
    for (host, config) in &registries.configs {
        check_config_of_mirrored(&mut found, registries, host, config);
    }
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
        } else if let Some((host, below)) = name.split_once('/').filter(|(host, _)| is_host(host)) {
            let (host, below) = if rules::begins_names(host) { (host, below) } else { (DOCKER_HUB, &**name) };
            found.add(
                &path,
                &format!(
                    "K3s goes by the registry alone, and never by a path: write {host}, with a rewrite of \
                     \"^{below}/(.*)\""
                ),
            );
        } else if name != "*" && !is_host(name) {
            found.add(&path, text::MIRRORED);
        } else if name != "*" && !rules::begins_names(name) {
            found.add(&path, text::MIRRORED_WORD);
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
        if let Some(read) = Endpoint::parse(endpoint) {
            if let Some(instead) = read.below_v2() {
                let why = "K3s puts the path in the place of /v2, where no registry answers";
                found.add(&format!("{path}.endpoint[{i}]"), &format!("{why}: write {instead}"));
            }
        } else {
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
            &format!("{path}.endpoint[0]"),
            &format!(
                "the only endpoint is the registry itself, which K3s asks by names as they are, without the rewrites: \
                 write it as {instead} to have them rewritten there"
            ),
        );
    }
}

/// An endpoint that equals the default one and is the last takes its place, and that has no rewrites. Behind others that
/// can be meant so: those are asked by other names, and the registry itself by its own. Alone it can not.
fn unwritten_rewrite(name: &str, mirror: &Mirror) -> Option<String> {
    let [only] = mirror.endpoints.as_slice() else { return None };
    let url = Endpoint::parse(only)?.url();
    let lost = !mirror.rewrites.is_empty() && Endpoint::default_of(name).is_some_and(|d| d.url() == url);
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

/// Four reports of K3s's are of this alone (k3s-io/k3s#3937, #11185, #12736, #13215): who writes a login, or whom to
/// trust blindly, under the name that is mirrored means the mirrors, and they get nothing of it. The one it can be meant
/// for is the registry itself, and then that can be said by naming it as an endpoint, which is the same to K3s. A login
/// for Docker Hub is for Docker Hub.
fn check_config_of_mirrored(found: &mut Found, registries: &Registries, host: &str, config: &HostConfig) {
    let path = format!("configs[{host:?}]");
    let hosts = |of: &Mirror| -> Vec<String> {
        let mut hosts: Vec<String> = Vec::new();
        for host in of.endpoints.iter().filter_map(|e| Endpoint::parse(e)).map(|e| e.host().to_owned()) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    };
    let known = |host: &String| registries.configs.contains_key(host);
    let configs =
        |hosts: &[String]| hosts.iter().map(|h| format!("configs[{h:?}]")).collect::<Vec<_>>().join(" or ");
    let all: Vec<String> = registries.mirrors.values().flat_map(hosts).collect();
    let blind = config.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify == Some(true));
    let login = host != DOCKER_HUB && config.auth.as_ref().is_some_and(|auth| !auth.is_empty());
    if all.iter().any(|h| h == host) || [DOCKER_HUB_HOST, "*"].contains(&host) || !(blind || login) {
        return;
    }
    if let Some(mirror) = registries.mirrors.get(host) {
        let hosts = hosts(mirror);
        let Some(itself) = Endpoint::default_of(host).filter(|_| !hosts.is_empty()) else { return };
        let same_name = mirror.endpoints.len() == 1
            && endpoint::name(&hosts[0]) == endpoint::name(host)
            && host != DOCKER_HUB;
        // The first is told by the other rule.
        if same_name || hosts.iter().any(known) {
            return;
        }
        let itself = itself.url();
        found.add(
            &path,
            &format!(
                "it is for the host of an endpoint, and all endpoints of {host} are other ones, which get nothing of \
                 it: write {}; if it is for {host} itself, which K3s asks last, add that as the last endpoint: {}",
                configs(&hosts),
                itself.strip_suffix("/v2").unwrap_or(&itself),
            ),
        );
    } else if endpoint::port(host).is_none() {
        let at_a_port: Vec<String> =
            all.into_iter().filter(|h| endpoint::name(h) == host && endpoint::port(h).is_some()).collect();
        if !at_a_port.is_empty() && !at_a_port.iter().any(known) {
            found.add(
                &path,
                &format!(
                    "it is for the host of an endpoint, with its port, and no endpoint is {host}: write {}",
                    configs(&at_a_port)
                ),
            );
        }
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
            ("mirrors: {r.test/p/q: {}}", r#"write r.test, with a rewrite of "^p/q/(.*)""#),
            ("mirrors: {rancher/x: {}}", r#"write docker.io, with a rewrite of "^rancher/x/(.*)""#),
            ("mirrors: {rancher: {}}", r#"mirrors["rancher"]: no image name begins with it"#),
            (
                "mirrors: {r.test: {endpoint: ['https://x/v2', 'https://x/y']}}",
                r#"mirrors["r.test"].endpoint[1]: K3s puts the path in the place of /v2, where no registry answers: write https://x/v2/y"#,
            ),
            ("mirrors: {index.docker.io: {}}", "write that"),
            ("mirrors: {registry-1.docker.io: {}}", "begin with docker.io"),
            ("mirrors: {r.test: {endpoint: ['ftp://x']}}", r#"mirrors["r.test"].endpoint[0]: write a URL"#),
            ("mirrors: {r.test: {endpoint: ['http://a', '']}}", "endpoint[1]"),
            ("mirrors: {r.test: {endpoint: ['https://[::1]:5000']}}", "IPv6"),
            ("mirrors: {r.test: {endpoint: ['https://u:pw@x']}}", "under configs"),
            (r"mirrors: {r.test: {endpoint: [x], rewrite: {'a\.b': c}}}", "[.]"),
            ("mirrors: {r.test: {endpoint: [x], rewrite: {'(': c}}}", "RE2"),
            ("mirrors: {r.test: {endpoint: [x], rewrite: {a: $1}}}", "parentheses"),
            (
                "mirrors: {r.test: {endpoint: ['https://r.test'], rewrite: {a: b}}}",
                "write it as https://r.test:443",
            ),
            ("mirrors: {'r:5443': {endpoint: ['https://r:5443'], rewrite: {a: b}}}", "https://r:5443/v2/"),
            (
                "mirrors: {docker.io: {endpoint: [docker.io], rewrite: {a: b}}}",
                r#"mirrors["docker.io"].endpoint[0]: the only endpoint is the registry itself, which K3s asks by names as they are, without the rewrites: write it as https://registry-1.docker.io:443"#,
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
            (
                "{mirrors: {r.test: {endpoint: ['https://a/v2', 'https://a', 'http://b:1']}}, configs: {r.test: {auth: {identity_token: pw}}}}",
                r#"configs["r.test"]: it is for the host of an endpoint, and all endpoints of r.test are other ones, which get nothing of it: write configs["a"] or configs["b:1"]; if it is for r.test itself, which K3s asks last, add that as the last endpoint: https://r.test"#,
            ),
            (
                "{mirrors: {docker.io: {endpoint: [a]}}, configs: {docker.io: {tls: {insecure_skip_verify: true}}}}",
                "https://registry-1.docker.io",
            ),
            (
                "{mirrors: {'k3d-r:5000': {endpoint: ['https://k3d-r:5000']}}, configs: {k3d-r: {auth: {identity_token: pw}}}}",
                r#"configs["k3d-r"]: it is for the host of an endpoint, with its port, and no endpoint is k3d-r: write configs["k3d-r:5000"]"#,
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
            "{mirrors: {r.test: {endpoint: ['https://other:5443']}}, configs: {r.test: {tls: {ca_file: /there}}}}",
            "{mirrors: {r.test: {endpoint: ['https://r.test:5443']}}, configs: {r.test: {}, 'r.test:5443': {tls: {ca_file: /there}}}}",
            "{mirrors: {r.test: {endpoint: ['https://r.test:5443', 'https://r.test']}}, configs: {r.test: {tls: {}}}}",
            "{mirrors: {'r:5000': {endpoint: ['http://r:5000']}}, configs: {'r:5000': {tls: {insecure_skip_verify: true}}}}",
            "{mirrors: {r.test: {endpoint: [a, r.test]}}, configs: {r.test: {auth: {identity_token: t}}}}",
            "{mirrors: {r.test: {endpoint: [a]}}, configs: {a: {}, r.test: {auth: {identity_token: t}}}}",
            "{mirrors: {r.test: }, configs: {r.test: {auth: {identity_token: t}}}}",
            "{mirrors: {'r:5000': {endpoint: ['http://r:5000']}, r.test: }, configs: {'r:5000': {}, r: {auth: {identity_token: t}}}}",
            // Words that are registries.
            "mirrors: {localhost: , 'cache:5000': , Cache: }",
            // Parts of what another layer completes.
            "mirrors: {docker.io: {rewrite: {a: b}}}",
            "configs: {r: {auth: {password: p}}}",
            // Not alone: the mirror is asked by other names, and the registry itself by its own.
            "mirrors: {docker.io: {endpoint: [x, 'https://docker.io'], rewrite: {a: b}}}",
            "mirrors: {r.test: {endpoint: [x, r.test], rewrite: {a: b}}}",
            "mirrors: {r.test: {endpoint: ['https://r.test', x], rewrite: {a: b}}}",
            "mirrors: {r.test: {endpoint: ['https://r.test', x, r.test], rewrite: {a: b}}}",
            "mirrors: {r.test: {endpoint: ['https://r.test:443'], rewrite: {a: b}}}",
        ] {
            assert_eq!(problems(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_complete_set_is_looked_at_as_a_whole() {
        let part =
            parse("{mirrors: {r.test: {rewrite: {a: b}}}, configs: {r: {auth: {password: p}}}}", &|_| true);
        let found = check(&part.unwrap(), &|_| true);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found[0].contains("add one under endpoint") && found[1].contains("go together"),
            "{found:#?}"
        );
    }
}
