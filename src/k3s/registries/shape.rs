//! The shape of the user's file: K3s drops keys that it does not know without a word, and does not start on values of
//! the wrong kind.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A YAML value without what it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Null,
    Bool,
    /// A number or a text: both are texts where one is wanted.
    Text,
    List(Vec<Shape>),
    Map(Vec<(String, Shape)>),
}

/// The keys of a map, and where those belong that are often written there.
struct Keys {
    known: &'static [&'static str],
    mistakes: &'static [(&'static [&'static str], &'static str)],
}

const PLAIN_HTTP: (&[&str], &str) = (
    &["http", "insecure", "plain_http", "plainhttp", "plain-http"],
    "for plain HTTP write an endpoint of http://… under mirrors",
);

const FILE: Keys = Keys {
    known: &["mirrors", "configs", "auths"],
    mistakes: &[
        (&["mirror"], "write mirrors"),
        (&["config"], "write configs"),
        (&["auth"], "write configs, and auth under the host"),
        (&["registries"], "write what is under it without it"),
    ],
};

const MIRROR: Keys = Keys {
    known: &["endpoint", "rewrite"],
    mistakes: &[
        (&["endpoints", "url", "urls", "server"], "write endpoint, with a list of URLs"),
        (&["rewrites"], "write rewrite"),
        (
            &["tls", "auth", "skip_verify", "insecure_skip_verify", "username", "password", "ca_file"],
            "that goes under configs, by the host of an endpoint",
        ),
        PLAIN_HTTP,
    ],
};

const CONFIG: Keys = Keys {
    known: &["auth", "tls"],
    mistakes: &[
        (&["token", "identity_token"], "write auth.identity_token, or auth.username and auth.password"),
        (&["username", "password"], "write it under auth"),
        (&["ca_file", "cert_file", "key_file", "insecure_skip_verify"], "write it under tls"),
        (&["skip_verify", "insecureSkipVerify", "skipVerify"], "write tls.insecure_skip_verify"),
        (&["ca"], "write tls.ca_file"),
        (&["endpoint", "endpoints", "rewrite", "rewrites"], "that goes under mirrors"),
        PLAIN_HTTP,
    ],
};

const AUTH: Keys = Keys {
    known: &["username", "password", "auth", "identity_token"],
    mistakes: &[
        (
            &["token", "registry_token", "registrytoken"],
            "write identity_token, or, where the token stands for a password, username and password",
        ),
        (&["user", "name", "login"], "write username"),
        (&["pass", "passwd"], "write password"),
        (&["email"], "leave it out"),
    ],
};

const TLS: Keys = Keys {
    known: &["ca_file", "cert_file", "key_file", "insecure_skip_verify"],
    mistakes: &[
        (&["ca", "ca_cert"], "write ca_file, with a path in the nodes"),
        (&["cert", "client_cert"], "write cert_file, with a path in the nodes"),
        (&["key", "client_key"], "write key_file, with a path in the nodes"),
        (&["skip_verify", "skipverify", "insecure", "verify"], "write insecure_skip_verify"),
        (&["http", "plain_http"], "for plain HTTP write an endpoint of http://… under mirrors"),
    ],
};

impl Keys {
    fn problem(&self, key: &str) -> String {
        let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
        let mistake = self.mistakes.iter().find(|(keys, _)| keys.iter().any(|k| plain(k) == plain(key)));
        let alike = self.known.iter().find(|k| plain(k) == plain(key));
        let instead = match (alike, mistake) {
            (Some(known), _) => format!("write {known}"),
            (None, Some((_, instead))) => (*instead).to_owned(),
            (None, None) if self.known == FILE.known && key.contains(['.', ':']) => {
                "a registry goes one level deeper, under mirrors or configs".into()
            }
            (None, None) => format!("it knows {} here", self.known.join(", ")),
        };
        format!("K3s does not know this key and would ignore it: {instead}")
    }
}

/// Whether it is a key that belongs on another level.
pub(super) fn is_misplaced(section: &str, name: &str) -> bool {
    FILE.known.contains(&name) || (section == "mirrors" && MIRROR.known.contains(&name))
}

impl Shape {
    /// What K3s would ignore or choke on.
    pub fn problems(&self) -> Vec<String> {
        let mut out = Vec::new();
        if !matches!(self, Self::Null | Self::Map(_)) {
            out.push("a registries file is a map: write mirrors and configs".into());
        }
        for (section, value) in self.known(&mut out, "", &FILE) {
            for (name, entry) in value.entries(&mut out, section) {
                let path = format!("{section}[{name:?}]");
                if FILE.known.contains(&name) {
                    out.push(format!(
                        "{path}: {name} is one level too deep, where K3s takes it for a registry of that name and uses \
                         nothing of it: write it as far to the left as {section}"
                    ));
                    continue;
                }
                if is_misplaced(section, name) {
                    out.push(format!(
                        "{path}: the registry above it is missing: write docker.io: or another one there"
                    ));
                    continue;
                }
                match section {
                    "mirrors" => entry.mirror(&mut out, &path),
                    "configs" => entry.config(&mut out, &path),
                    _ => entry.texts(&mut out, &path, &AUTH),
                }
            }
        }
        out
    }

    fn mirror(&self, out: &mut Vec<String>, path: &str) {
        for (key, value) in self.known(out, path, &MIRROR) {
            let path = format!("{path}.{key}");
            match (key, value) {
                (_, Self::Null) => {}
                ("endpoint", Self::List(urls)) => {
                    for (i, _) in urls.iter().enumerate().filter(|(_, url)| **url != Self::Text) {
                        out.push(format!("{path}[{i}]: write a URL"));
                    }
                }
                ("endpoint", _) => {
                    out.push(format!("{path}: write a list, even of one URL: [\"https://…\"]"))
                }
                _ => {
                    for (pattern, replacement) in value.entries(out, &path) {
                        replacement.text(out, &format!("{path}[{pattern:?}]"));
                    }
                }
            }
        }
    }

    fn config(&self, out: &mut Vec<String>, path: &str) {
        for (key, value) in self.known(out, path, &CONFIG) {
            value.texts(out, &format!("{path}.{key}"), if key == "auth" { &AUTH } else { &TLS });
        }
    }

    /// A map of texts, and of the one truth value.
    fn texts(&self, out: &mut Vec<String>, path: &str, keys: &Keys) {
        for (key, value) in self.known(out, path, keys) {
            let path = format!("{path}.{key}");
            if key != "insecure_skip_verify" {
                value.text(out, &path);
            } else if !matches!(value, Self::Bool | Self::Null) {
                out.push(format!("{path}: write true or false, without quotes"));
            }
        }
    }

    fn text(&self, out: &mut Vec<String>, path: &str) {
        if matches!(self, Self::List(_) | Self::Map(_)) {
            out.push(format!("{path}: write a text"));
        }
    }

    /// The entries with keys that are known; tells of the others.
    fn known<'a>(&'a self, out: &mut Vec<String>, path: &str, keys: &Keys) -> Vec<(&'a str, &'a Self)> {
        let dot = if path.is_empty() { "" } else { "." };
        let entries = if path.is_empty() && !matches!(self, Self::Map(_)) {
            Vec::new()
        } else {
            self.entries(out, path)
        };
        let (known, unknown): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(key, _)| keys.known.contains(key));
        // A key of x-… says itself that it is for nobody: anchors are put there.
        let unknown = unknown.into_iter().filter(|(key, _)| !key.starts_with("x-"));
        out.extend(unknown.map(|(key, _)| format!("{path}{dot}{key}: {}", keys.problem(key))));
        known
    }

    fn entries<'a>(&'a self, out: &mut Vec<String>, path: &str) -> Vec<(&'a str, &'a Self)> {
        match self {
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.as_str(), value)).collect(),
            Self::Null => Vec::new(),
            _ => {
                out.push(format!("{path}: write a map: keys with values"));
                Vec::new()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Shape::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Map(entries))
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<Shape, A::Error> {
        data.variant::<IgnoredAny>().map(|_| Shape::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    /// k3d-io/k3d#1179 again: keys that nobody acts on were dropped without a word. k3d-io/k3d#866: TLS at the mirror.
    #[test]
    fn k3d_10_and_22_unknown_keys_are_told_with_the_right_one() {
        for (text, told) in [
            ("mirror: {}", "mirror: K3s does not know this key and would ignore it: write mirrors"),
            (
                "foo: {}",
                "foo: K3s does not know this key and would ignore it: it knows mirrors, configs, auths here",
            ),
            (
                "mirrors: {r.test: {endpoints: [x]}}",
                r#"mirrors["r.test"].endpoints: K3s does not know this key"#,
            ),
            ("mirrors: {r.test: {endpoints: [x]}}", "write endpoint"),
            ("mirrors: {r.test: {rewrites: {a: b}}}", "write rewrite"),
            ("mirrors: {r.test: {tls: {ca_file: x}}}", "under configs"),
            ("mirrors: {r.test: {insecure: true}}", "endpoint of http://"),
            ("configs: {r: {http: true}}", "endpoint of http://"),
            ("configs: {r: {token: hunter2}}", "auth.identity_token"),
            ("configs: {r: {username: hunter2}}", "under auth"),
            ("configs: {r: {skip_verify: true}}", "write tls.insecure_skip_verify"),
            ("configs: {r: {auth: {token: hunter2}}}", r#"configs["r"].auth.token: K3s does not"#),
            ("configs: {r: {auth: {identityToken: hunter2}}}", "write identity_token"),
            ("configs: {r: {auth: {identitytoken: hunter2}}}", "write identity_token"),
            ("configs: {r: {tls: {insecureSkipVerify: true}}}", "write insecure_skip_verify"),
            ("configs: {r: {tls: {skip_verify: true}}}", "write insecure_skip_verify"),
            ("configs: {r: {tls: {ca: /x}}}", "write ca_file"),
            ("configs: {r: {tls: {caFile: /x}}}", "write ca_file"),
            ("configs: {r: {tls: {http: true}}}", "endpoint of http://"),
            ("auths: {r: {token: hunter2}}", r#"auths["r"].token"#),
            // On the wrong level.
            ("mirrors: {configs: {}}", r#"mirrors["configs"]: configs is one level too deep"#),
            ("mirrors: {auths: ~}", "write it as far to the left as mirrors"),
            ("mirrors: {configs: {'r:5000': {auth: {password: hunter2}}}}", "one level too deep"),
            ("configs: {mirrors: {r.test: {endpoint: [x]}}}", "as far to the left as configs"),
            ("mirrors: {endpoint: ['http://x']}", "the registry above it is missing"),
            ("r.test: {endpoint: [x]}", "one level deeper, under mirrors or configs"),
            // Of the wrong kind.
            ("mirrors: [r]", "mirrors: write a map"),
            ("mirrors: {r.test: 'http://x'}", r#"mirrors["r.test"]: write a map"#),
            ("mirrors: {r.test: {endpoint: 'http://x'}}", r#"mirrors["r.test"].endpoint: write a list"#),
            ("mirrors: {r.test: {endpoint: [~]}}", r#"mirrors["r.test"].endpoint[0]: write a URL"#),
            ("mirrors: {r.test: {rewrite: [{a: b}]}}", "write a map"),
            ("mirrors: {r.test: {rewrite: {a: [b]}}}", "write a text"),
            ("configs: {r: {auth: hunter2}}", r#"configs["r"].auth: write a map"#),
            ("configs: {r: {auth: {username: {hunter2: x}}}}", r#"configs["r"].auth.username: write a text"#),
            ("configs: {r: {tls: {insecure_skip_verify: 'true'}}}", "without quotes"),
            ("configs: {r: {tls: {insecure_skip_verify: 1}}}", "without quotes"),
            ("configs: {r: {tls: {insecure_skip_verify: 'yes'}}}", "without quotes"),
        ] {
            let found = parse(text, &|_| true).unwrap_err();
            assert!(found.len() == 1 && found[0].contains(told), "{text}: {found:#?}");
            assert!(!found[0].contains("hunter2"), "{found:#?}");
        }
    }
}
