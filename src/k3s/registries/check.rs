//! Detection of registries settings that K3s or containerd would silently ignore or fail on.

use super::{
    DOCKER_HUB, DOCKER_HUB_HOST, Endpoint, HostConfig, Mirror, Registries, Tls,
    endpoint::{self, is_host},
    rewrite,
};
use crate::api::rules::{self, text};

/// Returns the problems of a complete registries file, each with its path in the file and what to write instead.
/// `has_file` reports whether a file will exist at a path in the nodes.
pub fn check(registries: &Registries, has_file: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Found::default();
    parts(&mut found, registries, has_file);
    for (name, mirror) in &registries.mirrors {
        if mirror.endpoints.is_empty() && !mirror.rewrites.is_empty() {
            found.add(
                &format!("mirrors[{name:?}].rewrite"),
                "rewrites only apply to requests to endpoints, and the registry has none; add one under endpoint",
            );
        }
    }
    for (host, config) in &registries.configs {
        let Some(auth) = &config.auth else { continue };
        if auth.username.is_some() != auth.password.is_some() {
            found.add(
                &format!("configs[{host:?}].auth"),
                "username and password require each other; set both",
            );
        }
    }
    found.0
}

/// Returns the problems of a single source, regardless of what it is merged with.
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
            found.add(&path, "image names of Docker Hub start with docker.io; use docker.io");
        } else if let Some((host, below)) = name.split_once('/').filter(|(host, _)| is_host(host)) {
            let (host, below) = if rules::begins_names(host) { (host, below) } else { (DOCKER_HUB, &**name) };
            found.add(
                &path,
                &format!(
                    "K3s matches mirrors by registry, never by a path; use {host} with a rewrite of \
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
                let why = "K3s replaces /v2 by this path, where no registry responds";
                found.add(&format!("{path}.endpoint[{i}]"), &format!("{why}; use {instead}"));
            }
        } else {
            // The value is not repeated, since it may contain a password.
            let problem = if endpoint.contains("://[") || endpoint.starts_with('[') {
                "containerd cannot parse IPv6 addresses; use a host name that resolves to the address"
            } else if endpoint.contains('@') {
                "a URL must not contain credentials; move them to configs"
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
                "the only endpoint is the registry itself, for which K3s does not apply rewrites; use {instead} to \
                 apply them"
            ),
        );
    }
}

/// Returns a different spelling of the only endpoint of a mirror if K3s would ignore its rewrites. K3s merges a last
/// endpoint that equals the default one into the default, which has no rewrites. After other endpoints that can be
/// intended: the others are requested with rewritten names, and the registry itself with its own. As the only endpoint
/// it cannot.
fn unwritten_rewrite(name: &str, mirror: &Mirror) -> Option<String> {
    let [only] = mirror.endpoints.as_slice() else { return None };
    let url = Endpoint::parse(only)?.url();
    let lost = !mirror.rewrites.is_empty() && Endpoint::default_of(name).is_some_and(|d| d.url() == url);
    lost.then(|| {
        let base = url.strip_suffix("/v2").unwrap_or(&url);
        // The same address, spelled differently. With a port present, a slash makes it different.
        if endpoint::port(name).is_some() { format!("{base}/v2/") } else { format!("{base}:443") }
    })
}

fn check_config_for_all(found: &mut Found, path: &str, registries: &Registries, config: &HostConfig) {
    if config.auth.is_some() {
        found.add(
            &format!("{path}.auth"),
            "containerd looks up credentials by host, never under *; add an entry for each host",
        );
    }
    if config.tls.is_some() && registries.mirrors.contains_key("*") {
        found.add(
            &format!("{path}.tls"),
            "K3s ignores this if mirrors has an entry for * too; add an entry for each host",
        );
    }
}

/// Checks an entry for the name of a mirror, which applies to the registry itself, the last fallback. That can be
/// intended, but not if the only endpoint is the same host with another port.
fn check_config_host(found: &mut Found, path: &str, registries: &Registries, host: &str) {
    let endpoints =
        || registries.mirrors.values().flat_map(|m| &m.endpoints).filter_map(|e| Endpoint::parse(e));
    if host == "index.docker.io" && !endpoints().any(|e| e.host() == host) {
        found.add(path, "no image is pulled from this host; for Docker Hub use docker.io");
    }
    let Some(mirror) = registries.mirrors.get(host) else { return };
    let [only] = mirror.endpoints.as_slice() else { return };
    let Some(only) = Endpoint::parse(only) else { return };
    let same_name = endpoint::name(only.host()) == endpoint::name(host) && host != DOCKER_HUB;
    if same_name && !registries.configs.contains_key(only.host()) && !endpoints().any(|e| e.host() == host) {
        found.add(
            path,
            &format!(
                "configs apply to the host of an endpoint with its port, and the only endpoint of {host} is a \
                 different one; use configs[{:?}]",
                only.host()
            ),
        );
    }
}

/// Checks credentials and insecure TLS for the name of a mirrored registry. Four K3s issues are about this alone
/// (k3s-io/k3s#3937, #11185, #12736, #13215): users who set them for the mirrored name mean the mirrors, which do not
/// use them. They only apply to the registry itself, which can be expressed by listing it as an endpoint with the same
/// effect. Credentials for Docker Hub are for Docker Hub.
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
        // The other rule reports the first case.
        if same_name || hosts.iter().any(known) {
            return;
        }
        let itself = itself.url();
        found.add(
            &path,
            &format!(
                "configs apply to the host of an endpoint, and no endpoint of {host} uses this entry; use {}, or, for \
                 {host} itself, which K3s tries last, add it as the last endpoint: {}",
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
                    "configs apply to the host of an endpoint with its port, and no endpoint is {host}; use {}",
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
            "containerd ignores identity_token if username is set; remove one of the two",
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
            "must be name:password in base64; set username and password instead",
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
                    "spec.files does not create {file} on the nodes; use spec.registries.configs[].tls.{instead}, or \
                     add the file to spec.files"
                ),
            );
        }
    }
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        let (there, missing) =
            if tls.cert_file.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
        found.add(path, &format!("{there} has no effect without {missing}; set both"));
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
            ("mirrors: {'http://r:5000': {}}", r#"mirrors["http://r:5000"]: must be a registry"#),
            ("mirrors: {r.test/p/q: {}}", r#"use r.test with a rewrite of "^p/q/(.*)""#),
            ("mirrors: {rancher/x: {}}", r#"use docker.io with a rewrite of "^rancher/x/(.*)""#),
            ("mirrors: {rancher: {}}", r#"mirrors["rancher"]: matches no image name"#),
            (
                "mirrors: {r.test: {endpoint: ['https://x/v2', 'https://x/y']}}",
                r#"mirrors["r.test"].endpoint[1]: K3s replaces /v2 by this path, where no registry responds; use https://x/v2/y"#,
            ),
            ("mirrors: {index.docker.io: {}}", "use docker.io"),
            ("mirrors: {registry-1.docker.io: {}}", "start with docker.io"),
            ("mirrors: {r.test: {endpoint: ['ftp://x']}}", r#"mirrors["r.test"].endpoint[0]: must be a URL"#),
            ("mirrors: {r.test: {endpoint: ['http://a', '']}}", "endpoint[1]"),
            ("mirrors: {r.test: {endpoint: ['https://[::1]:5000']}}", "IPv6"),
            ("mirrors: {r.test: {endpoint: ['https://u:pw@x']}}", "to configs"),
            (r"mirrors: {r.test: {endpoint: [x], rewrite: {'a\.b': c}}}", "[.]"),
            ("mirrors: {r.test: {endpoint: [x], rewrite: {'(': c}}}", "RE2"),
            ("mirrors: {r.test: {endpoint: [x], rewrite: {a: $1}}}", "parentheses"),
            ("mirrors: {r.test: {endpoint: ['https://r.test'], rewrite: {a: b}}}", "use https://r.test:443"),
            ("mirrors: {'r:5443': {endpoint: ['https://r:5443'], rewrite: {a: b}}}", "https://r:5443/v2/"),
            (
                "mirrors: {docker.io: {endpoint: [docker.io], rewrite: {a: b}}}",
                r#"mirrors["docker.io"].endpoint[0]: the only endpoint is the registry itself, for which K3s does not apply rewrites; use https://registry-1.docker.io:443"#,
            ),
            ("configs: {'https://r': {}}", r#"configs["https://r"]: must be the host of an endpoint"#),
            ("configs: {r/p: {}}", "without a"),
            ("configs: {index.docker.io: {auth: {identity_token: x}}}", "use docker.io"),
            ("configs: {'*': {auth: {identity_token: x}}}", "for each host"),
            ("{mirrors: {'*': }, configs: {'*': {tls: {}}}}", "for each host"),
            ("configs: {r: {auth: {username: u, identity_token: x}}}", "one of the two"),
            ("configs: {r: {auth: {auth: hunter2}}}", "base64"),
            ("configs: {r: {tls: {ca_file: /no}}}", "caSecretName, or add the file to spec.files"),
            ("configs: {r: {tls: {cert_file: /there}}}", "without key_file"),
            ("configs: {r: {tls: {key_file: /there}}}", "without cert_file"),
            ("configs: {r: {tls: {key_file: /no, cert_file: /there}}}", "clientSecretName"),
            (
                "{mirrors: {r.example: {endpoint: ['https://r.example:5443']}}, configs: {r.example: {tls: {ca_file: \
                 /there}}}}",
                r#"configs["r.example"]: configs apply to the host of an endpoint with its port, and the only endpoint of r.example is a different one; use configs["r.example:5443"]"#,
            ),
            (
                "{mirrors: {r.test: {endpoint: ['https://a/v2', 'https://a', 'http://b:1']}}, configs: {r.test: \
                 {auth: {identity_token: pw}}}}",
                r#"configs["r.test"]: configs apply to the host of an endpoint, and no endpoint of r.test uses this entry; use configs["a"] or configs["b:1"], or, for r.test itself, which K3s tries last, add it as the last endpoint: https://r.test"#,
            ),
            (
                "{mirrors: {r.test: {endpoint: ['https://r.test:1', 'https://r.test:2']}}, configs: {r.test: {auth: \
                 {identity_token: pw}}}}",
                r#"use configs["r.test:1"] or configs["r.test:2"]"#,
            ),
            (
                "{mirrors: {docker.io: {endpoint: [a]}}, configs: {docker.io: {tls: {insecure_skip_verify: true}}}}",
                "https://registry-1.docker.io",
            ),
            (
                "{mirrors: {'k3d-r:5000': {endpoint: ['https://k3d-r:5000']}}, configs: {k3d-r: {auth: \
                 {identity_token: pw}}}}",
                r#"configs["k3d-r"]: configs apply to the host of an endpoint with its port, and no endpoint is k3d-r; use configs["k3d-r:5000"]"#,
            ),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].contains(told), "{text}: {found:#?}");
            assert!(!found[0].contains("pw") && !found[0].contains("hunter2"), "{found:#?}");
        }
    }

    /// Of a part, another source may give the rest.
    #[test]
    fn what_a_complete_file_lacks_is_told() {
        let told = |text: &str| check(&parse(text, &|_| true).unwrap(), &|_| true);
        let sound = "{mirrors: {r.test: , s.test: {endpoint: [x]}, t.test: {endpoint: [x], rewrite: {a: b}}}, \
                     configs: {r: {}, s: {auth: {username: u, password: p}}, t: {auth: {identity_token: t}}}}";
        assert_eq!(told(sound), [""; 0]);
        for (text, words) in [
            ("mirrors: {r.test: {rewrite: {a: b}}}", r#"mirrors["r.test"].rewrite: rewrites only apply"#),
            ("configs: {r: {auth: {username: u}}}", r#"configs["r"].auth: username and password"#),
            ("configs: {r: {auth: {password: p}}}", r#"configs["r"].auth: username and password"#),
        ] {
            let found = told(text);
            assert!(found.len() == 1 && found[0].starts_with(words), "{text}: {found:#?}");
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
            // For the registry itself, if the mirror does not have the image.
            "{mirrors: {docker.io: {endpoint: ['http://cache:5000']}}, configs: {docker.io: {auth: {username: u, \
             password: p}}}}",
            "{mirrors: {docker.io: {endpoint: ['http://cache:5000']}}, configs: {registry-1.docker.io: {auth: \
             {identity_token: t}}}}",
            "{mirrors: {r.test: {endpoint: ['https://other:5443']}}, configs: {r.test: {tls: {ca_file: /there}}}}",
            "{mirrors: {r.test: {endpoint: ['https://r.test:5443']}}, configs: {r.test: {}, 'r.test:5443': {tls: \
             {ca_file: /there}}}}",
            "{mirrors: {r.test: {endpoint: ['https://r.test:5443', 'https://r.test']}}, configs: {r.test: {tls: {}}}}",
            "{mirrors: {'r:5000': {endpoint: ['http://r:5000']}}, configs: {'r:5000': {tls: {insecure_skip_verify: \
             true}}}}",
            "{mirrors: {r.test: {endpoint: [a, r.test]}}, configs: {r.test: {auth: {identity_token: t}}}}",
            "{mirrors: {r.test: {endpoint: [a]}}, configs: {a: {}, r.test: {auth: {identity_token: t}}}}",
            "{mirrors: {r.test: }, configs: {r.test: {auth: {identity_token: t}}}}",
            "{mirrors: {r.test: {endpoint: ['https://other:5443']}}, configs: {another: {auth: {identity_token: t}}}}",
            "{mirrors: {'r:5000': {endpoint: ['http://r:5000']}, r.test: }, configs: {'r:5000': {}, r: {auth: \
             {identity_token: t}}}}",
            // Single words that are registries.
            "mirrors: {localhost: , 'cache:5000': , Cache: }",
            // Parts that another source completes.
            "mirrors: {docker.io: {rewrite: {a: b}}}",
            "configs: {r: {auth: {password: p}}}",
            // Not the only endpoint: the mirror is requested with rewritten names, and the registry itself with its
            // own.
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
            found[0].contains("add one under endpoint") && found[1].contains("require each other"),
            "{found:#?}"
        );
    }
}
