//! Configuration of a registry: a file, since environment variables are visible to anyone who can inspect containers,
//! and some settings (passwords of a cache, TLS) have no other form that is suitable for secrets.

use std::fmt::{self, Write};

use jiff::Timestamp;

use crate::{
    docker::spec::{FileChange, FileSpec},
    k3s::{certificate, registries::REGISTRY_PORT},
    plan::validate::{ValidProxy, ValidRegistry},
};

/// Data directory of a registry.
pub const DATA: &str = "/var/lib/registry";
/// Configuration file. The entry point of the image serves with the file if it is the only argument and ends in
/// `.yml`.
pub const CONFIG_FILE: &str = "/etc/localcluster/registry.yml";
/// Configuration file of a cache that serves without its upstream.
pub const OFFLINE_FILE: &str = "/etc/localcluster/offline.yml";
/// File with the users of a registry that requires credentials.
pub const HTPASSWD_FILE: &str = "/etc/localcluster/htpasswd";
const CERTIFICATE_FILE: &str = "/etc/localcluster/tls.crt";
const KEY_FILE: &str = "/etc/localcluster/tls.key";

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

/// A certificate with its key, and the CA that clients trust, all in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate with its chain.
    pub certificate: Vec<u8>,
    /// Private key of the certificate.
    pub key: Vec<u8>,
    /// CA certificate.
    pub ca: Vec<u8>,
}

impl Tls {
    /// Returns the end of the certificate; `None` if it cannot be parsed.
    pub fn end(&self) -> Option<Timestamp> {
        certificate::end_in_pem(&self.certificate)
    }
}

/// Contents of the Secrets that a Registry references.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Credentials for the upstream registry of a cache.
    pub upstream: Option<Login>,
    /// List of users.
    pub htpasswd: Option<Vec<u8>>,
    /// Credentials of clusters.
    pub client: Option<Login>,
    /// Certificate for HTTPS.
    pub tls: Option<Tls>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl fmt::Debug for Secrets {
    /// Omits the contents, which are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("upstream", &self.upstream)
            .field("htpasswd", &self.htpasswd.is_some())
            .field("client", &self.client)
            .field("tls", &self.tls)
            .finish()
    }
}

impl Secrets {
    /// Reports whether a text, such as a log line, contains a password or a password hash.
    pub fn are_in(&self, text: &str) -> bool {
        let passwords = [&self.upstream, &self.client].into_iter().flatten().map(|l| l.password.as_str());
        let htpasswd = self.htpasswd.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let hashes = htpasswd.lines().filter_map(|l| l.split_once(':')).map(|(_, hash)| hash.trim());
        passwords.chain(hashes).any(|secret| !secret.is_empty() && text.contains(secret))
    }
}

/// Returns the files that the registry reads. It reads all of them only at start, except for the list of users: it
/// checks the modification time with every request and rereads the list when that differs (2.8 and 3 alike).
/// A `read_only` registry refuses pushes and deletions with the status 405.
pub fn files(valid: &ValidRegistry, secrets: &Secrets, read_only: bool) -> Vec<FileSpec> {
    let file = |path: &str, content: &[u8], change| FileSpec {
        path: path.into(),
        mode: 0o600,
        content: content.to_vec(),
        change,
    };
    let mut files =
        vec![file(CONFIG_FILE, render(valid, secrets, read_only).as_bytes(), FileChange::Recreate)];
    if let Some(tls) = &secrets.tls {
        files.push(file(CERTIFICATE_FILE, &tls.certificate, FileChange::Recreate));
        files.push(file(KEY_FILE, &tls.key, FileChange::Recreate));
    }
    if let Some(htpasswd) = &secrets.htpasswd {
        files.push(file(HTPASSWD_FILE, htpasswd, FileChange::Live));
    }
    files
}

/// Returns the file with the configuration of a cache that serves without its upstream: what it has, and nobody changes that.
/// It contains no secret.
pub fn offline(valid: &ValidRegistry, secrets: &Secrets) -> FileSpec {
    let content = render(valid, secrets, true).into_bytes();
    FileSpec { path: OFFLINE_FILE.into(), mode: 0o600, content, change: FileChange::Replace }
}

/// Reports whether a cache was told to remove images after a time.
fn expires(proxy: &ValidProxy) -> bool {
    proxy.ttl.as_ref().is_some_and(|ttl| ttl.contains(|digit| ('1'..='9').contains(&digit)))
}

/// Renders the configuration. One that is read-only has no upstream. Environment variables of the user override it.
fn render(valid: &ValidRegistry, secrets: &Secrets, read_only: bool) -> String {
    let mut out = format!(
        "# Written by localcluster-operator.
version: 0.1
log:
  level: info
  fields:
    service: registry
storage:
  filesystem:
    rootdirectory: {DATA}
  delete:
    enabled: {delete}
  cache:
    blobdescriptor: inmemory
{maintenance}http:
  addr: :{REGISTRY_PORT}
  # What is under way when the registry is stopped comes to its end.
  draintimeout: 5s
  headers:
    X-Content-Type-Options: [nosniff]
",
        // Without it, nothing that has expired is removed.
        delete = valid.delete_enabled || valid.proxy.as_ref().is_some_and(expires),
        // Only then, so that the containers of others keep their hash.
        maintenance = if read_only { "  maintenance:\n    readonly:\n      enabled: true\n" } else { "" },
    );
    let mut line = |text: &str| writeln!(out, "{text}").expect("writing to a String never fails");
    if secrets.tls.is_some() {
        line("  tls:");
        line(&format!("    certificate: {CERTIFICATE_FILE}"));
        line(&format!("    key: {KEY_FILE}"));
    }
    line("health:");
    line("  storagedriver:");
    line("    enabled: true");
    line("    interval: 10s");
    line("    threshold: 3");
    if secrets.htpasswd.is_some() {
        line("auth:");
        line("  htpasswd:");
        line("    realm: localcluster");
        line(&format!("    path: {HTPASSWD_FILE}"));
    }
    if let Some(proxy) = valid.proxy.as_ref().filter(|_| !read_only) {
        line("proxy:");
        line(&format!("  remoteurl: {}", quoted(&proxy.remote_url)));
        if let Some(login) = &secrets.upstream {
            line(&format!("  username: {}", quoted(&login.username)));
            line(&format!("  password: {}", quoted(&login.password)));
        }
        if let Some(ttl) = &proxy.ttl {
            line(&format!("  ttl: {ttl}"));
        }
    }
    out
}

/// Returns a YAML double-quoted scalar that all parsers accept: characters that YAML calls unprintable are escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        let plain =
            !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            _ if plain => out.push(c),
            _ => write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a String never fails"),
        }
    }
    out.push('"');
    out
}

/// Returns what is invalid in a list of users; `None` if it is valid.
pub fn htpasswd_problem(content: &[u8]) -> Option<String> {
    let write = "write one line per user, as printed by `htpasswd -Bbn NAME PASSWORD`";
    let Ok(text) = std::str::from_utf8(content) else {
        return Some(format!("it is not valid UTF-8; {write}"));
    };
    let mut users = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        users += 1;
        let number = number + 1;
        // The line itself is not shown: it may be a plain-text password.
        let Some((name, hash)) = line.split_once(':') else {
            return Some(format!("line {number} has no colon between a name and a hash; {write}"));
        };
        if name.is_empty() {
            return Some(format!("line {number} has no name before the colon; {write}"));
        }
        if !["$2y$", "$2a$", "$2b$"].iter().any(|begin| hash.starts_with(begin)) || hash.len() < 60 {
            return Some(format!(
                "the hash in line {number} is not a bcrypt hash, and the registry supports no other; {write}"
            ));
        }
    }
    (users == 0).then(|| format!("it contains no users; {write}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        api::{
            RegistrySpec,
            registry::{AuthSpec, ProxySpec, TlsSpec},
        },
        plan::validate,
    };

    fn valid(change: impl FnOnce(&mut RegistrySpec)) -> ValidRegistry {
        let mut spec = RegistrySpec::default();
        change(&mut spec);
        validate::registry("default", "images", &spec).unwrap()
    }

    fn login(password: &str) -> Login {
        Login { username: "user".into(), password: password.into() }
    }

    fn all() -> Secrets {
        Secrets {
            upstream: Some(login("p\"w: \\x")),
            htpasswd: Some(b"user:$2y$05$hash".to_vec()),
            client: Some(login("client-password")),
            tls: Some(Tls { certificate: b"certificate".to_vec(), key: b"key".to_vec(), ca: b"ca".to_vec() }),
        }
    }

    fn cache(spec: &mut RegistrySpec) {
        spec.proxy = Some(ProxySpec {
            remote_url: "https://registry-1.docker.io".into(),
            credentials_secret: Some("hub".into()),
            ttl: Some("168h".into()),
        });
    }

    #[test]
    fn a_plain_registry() {
        insta::assert_snapshot!(render(&valid(|s| s.delete_enabled = true), &Secrets::default(), false), @r#"
        # Written by localcluster-operator.
        version: 0.1
        log:
          level: info
          fields:
            service: registry
        storage:
          filesystem:
            rootdirectory: /var/lib/registry
          delete:
            enabled: true
          cache:
            blobdescriptor: inmemory
        http:
          addr: :5000
          # What is under way when the registry is stopped comes to its end.
          draintimeout: 5s
          headers:
            X-Content-Type-Options: [nosniff]
        health:
          storagedriver:
            enabled: true
            interval: 10s
            threshold: 3
        "#);
    }

    #[test]
    fn a_full_registry_differs_by_its_maintenance() {
        let [open, full] = [false, true].map(|full| render(&valid(|_| {}), &Secrets::default(), full));
        let added: Vec<&str> = full.lines().filter(|line| !open.lines().any(|l| l == *line)).collect();
        assert_eq!(added, ["  maintenance:", "    readonly:", "      enabled: true"]);
        #[derive(serde::Deserialize)]
        struct File {
            storage: std::collections::BTreeMap<String, serde_json::Value>,
        }
        let read: File = serde_saphyr::from_str(&full).unwrap();
        assert_eq!(read.storage["maintenance"], serde_json::json!({"readonly": {"enabled": true}}));
    }

    #[test]
    fn a_cache_with_everything() {
        let valid = valid(|s| {
            cache(s);
            s.auth = Some(AuthSpec { htpasswd_secret: "users".into(), client_secret: None });
            s.tls = Some(TlsSpec { secret_name: "tls".into(), ca_secret_name: None });
        });
        insta::assert_snapshot!(render(&valid, &all(), false), @r#"
        # Written by localcluster-operator.
        version: 0.1
        log:
          level: info
          fields:
            service: registry
        storage:
          filesystem:
            rootdirectory: /var/lib/registry
          delete:
            enabled: true
          cache:
            blobdescriptor: inmemory
        http:
          addr: :5000
          # What is under way when the registry is stopped comes to its end.
          draintimeout: 5s
          headers:
            X-Content-Type-Options: [nosniff]
          tls:
            certificate: /etc/localcluster/tls.crt
            key: /etc/localcluster/tls.key
        health:
          storagedriver:
            enabled: true
            interval: 10s
            threshold: 3
        auth:
          htpasswd:
            realm: localcluster
            path: /etc/localcluster/htpasswd
        proxy:
          remoteurl: "https://registry-1.docker.io"
          username: "user"
          password: "p\"w: \\x"
          ttl: 168h
        "#);
        let files = files(&valid, &all(), false);
        let told: Vec<_> = files.iter().map(|f| format!("{} {:o} {:?}", f.path, f.mode, f.change)).collect();
        assert_eq!(
            told,
            [
                "/etc/localcluster/registry.yml 600 Recreate",
                "/etc/localcluster/tls.crt 600 Recreate",
                "/etc/localcluster/tls.key 600 Recreate",
                "/etc/localcluster/htpasswd 600 Live",
            ]
        );
    }

    #[test]
    fn a_cache_removes_what_has_expired_only_if_it_is_told_a_time() {
        for (ttl, removes) in
            [(None, false), (Some("0s"), false), (Some("0h0m"), false), (Some("1h30m"), true)]
        {
            let valid = valid(|s| {
                cache(s);
                s.proxy.as_mut().unwrap().ttl = ttl.map(str::to_owned);
            });
            let rendered = render(&valid, &all(), false);
            assert!(rendered.contains(&format!("delete:\n    enabled: {removes}\n")), "{ttl:?}: {rendered}");
        }
    }

    #[test]
    fn a_cache_without_its_upstream_takes_nothing() {
        let valid = valid(|s| {
            cache(s);
            s.tls = Some(TlsSpec { secret_name: "tls".into(), ca_secret_name: None });
            s.auth = Some(AuthSpec { htpasswd_secret: "users".into(), client_secret: None });
        });
        let (serving, alone) = (render(&valid, &all(), false), offline(&valid, &all()));
        let alone = String::from_utf8(alone.content).unwrap();
        let (common, proxy) = serving.split_once("proxy:").unwrap();
        let readonly = "  maintenance:\n    readonly:\n      enabled: true\nhttp:";
        assert_eq!(alone, common.replace("http:", readonly), "it differs in nothing else");
        assert!(proxy.contains("password"));
    }

    #[test]
    fn no_secret_is_in_what_is_printed() {
        let text = format!("{:?} {:?}", all(), files(&valid(cache), &all(), false));
        for secret in ["p\"w", "$2y$", "client-password", "certificate\"", "user"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(all().are_in("refused client-password") && all().are_in("x $2y$05$hash"));
        assert!(!all().are_in("all is well") && !Secrets::default().are_in(""));
    }

    #[test]
    fn users_have_bcrypt_hashes() {
        let hash = format!("$2y$05${}", "a".repeat(53));
        let problem = |text: &str| htpasswd_problem(text.as_bytes()).unwrap_or_default();
        assert_eq!(problem(&format!("# people\n\na:{hash}\r\nb:{hash}\n")), "");
        for (text, says) in [
            ("", "no user"),
            ("# nobody\n", "no user"),
            ("secret", "line 1 has no colon"),
            (&format!("a:{hash}\n:{hash}"), "line 2 has no name"),
            ("a:$apr1$x$y", "line 1 is not a bcrypt hash"),
            ("a:password", "line 1 is not a bcrypt hash"),
            ("a:$2y$05$short", "line 1 is not a bcrypt hash"),
        ] {
            let told = problem(text);
            assert!(told.contains(says) && told.contains("htpasswd -Bbn"), "{text:?}: {told}");
            assert!(!told.contains("secret") && !told.contains("password is"), "{told}");
        }
        assert!(htpasswd_problem(&[0xff, b':']).unwrap().contains("not valid UTF-8"));
    }

    /// Any text. That of `any::<String>()` has no control characters.
    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter)
    }

    #[test]
    fn unprintable_characters_are_escaped() {
        assert_eq!(quoted("a\n\u{7f}\u{2028}\u{feff}é"), r#""a\u000a\u007f\u2028\ufeffé""#);
    }

    proptest! {
        /// A YAML parser restores the input.
        #[test]
        fn credentials_survive(username in text(), password in text()) {
            #[derive(serde::Deserialize)]
            struct File {
                proxy: Proxy,
            }
            #[derive(serde::Deserialize)]
            struct Proxy {
                remoteurl: String,
                username: String,
                password: String,
                ttl: String,
            }
            let login = Login { username: username.clone(), password: password.clone() };
            let secrets = Secrets { upstream: Some(login), ..Secrets::default() };
            let text = render(&valid(cache), &secrets, false);
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            let file: File = serde_saphyr::from_str(&text).unwrap();
            prop_assert_eq!(file.proxy.remoteurl, "https://registry-1.docker.io");
            prop_assert_eq!((file.proxy.username, file.proxy.password), (username, password));
            prop_assert_eq!(file.proxy.ttl, "168h");
        }
    }
}
