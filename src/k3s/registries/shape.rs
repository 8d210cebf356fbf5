//! Structure of the user's file: K3s silently ignores unknown keys, and does not start with values of the wrong type.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The structure of a YAML value without its content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Null,
    Bool,
    /// A number or a string: both are accepted where a string is expected.
    Text,
    List(Vec<Shape>),
    Map(Vec<(String, Shape)>),
}

/// Known keys of a map, and advice for keys that are often used there by mistake.
struct Keys {
    known: &'static [&'static str],
    mistakes: &'static [(&'static [&'static str], &'static str)],
}

const PLAIN_HTTP: (&[&str], &str) = (
    &["http", "insecure", "plain_http", "plainhttp", "plain-http"],
    "for plain HTTP, use an http:// endpoint under mirrors",
);

const FILE: Keys = Keys {
    known: &["mirrors", "configs", "auths"],
    mistakes: &[
        (&["mirror"], "use mirrors"),
        (&["config"], "use configs"),
        (&["auth"], "use configs, with auth under the host"),
        (&["registries"], "remove this key and move its content up one level"),
    ],
};

const MIRROR: Keys = Keys {
    known: &["endpoint", "rewrite"],
    mistakes: &[
        (&["endpoints", "url", "urls", "server"], "use endpoint with a list of URLs"),
        (&["rewrites"], "use rewrite"),
        (
            &["tls", "auth", "skip_verify", "insecure_skip_verify", "username", "password", "ca_file"],
            "move it to configs, under the host of an endpoint",
        ),
        PLAIN_HTTP,
    ],
};

const CONFIG: Keys = Keys {
    known: &["auth", "tls"],
    mistakes: &[
        (&["token", "identity_token"], "use auth.identity_token, or auth.username and auth.password"),
        (&["username", "password"], "move it to auth"),
        (&["ca_file", "cert_file", "key_file", "insecure_skip_verify"], "move it to tls"),
        (&["skip_verify", "insecureSkipVerify", "skipVerify"], "use tls.insecure_skip_verify"),
        (&["ca"], "use tls.ca_file"),
        (&["endpoint", "endpoints", "rewrite", "rewrites"], "move it to mirrors"),
        PLAIN_HTTP,
    ],
};

const AUTH: Keys = Keys {
    known: &["username", "password", "auth", "identity_token"],
    mistakes: &[
        (
            &["token", "registry_token", "registrytoken"],
            "use identity_token, or, if the token is a password, username and password",
        ),
        (&["user", "name", "login"], "use username"),
        (&["pass", "passwd"], "use password"),
        (&["email"], "remove it"),
    ],
};

const TLS: Keys = Keys {
    known: &["ca_file", "cert_file", "key_file", "insecure_skip_verify"],
    mistakes: &[
        (&["ca", "ca_cert"], "use ca_file with a path in the nodes"),
        (&["cert", "client_cert"], "use cert_file with a path in the nodes"),
        (&["key", "client_key"], "use key_file with a path in the nodes"),
        (&["skip_verify", "skipverify", "insecure", "verify"], "use insecure_skip_verify"),
        (&["http", "plain_http"], "for plain HTTP, use an http:// endpoint under mirrors"),
    ],
};

impl Keys {
    fn problem(&self, key: &str) -> String {
        let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
        let mistake = self.mistakes.iter().find(|(keys, _)| keys.iter().any(|k| plain(k) == plain(key)));
        let alike = self.known.iter().find(|k| plain(k) == plain(key));
        let instead = match (alike, mistake) {
            (Some(known), _) => format!("use {known}"),
            (None, Some((_, instead))) => (*instead).to_owned(),
            (None, None) if self.known == FILE.known && key.contains(['.', ':']) => {
                "move the registry one level down, under mirrors or configs".into()
            }
            (None, None) => format!("known keys here are {}", self.known.join(", ")),
        };
        format!("unknown key, which K3s ignores; {instead}")
    }
}

/// Reports whether a key belongs to another level.
pub(super) fn is_misplaced(section: &str, name: &str) -> bool {
    FILE.known.contains(&name) || (section == "mirrors" && MIRROR.known.contains(&name))
}

impl Shape {
    /// Returns the settings that K3s would ignore or fail on.
    pub fn problems(&self) -> Vec<String> {
        let mut out = Vec::new();
        if !matches!(self, Self::Null | Self::Map(_)) {
            out.push("a registries file must be a map with mirrors and configs".into());
        }
        for (section, value) in self.known(&mut out, "", &FILE) {
            for (name, entry) in value.entries(&mut out, section) {
                let path = format!("{section}[{name:?}]");
                if FILE.known.contains(&name) {
                    out.push(format!(
                        "{path}: {name} is one level too deep, where K3s takes it for a registry with that name and \
                         ignores it; indent it like {section}"
                    ));
                    continue;
                }
                if is_misplaced(section, name) {
                    out.push(format!(
                        "{path}: the registry key above it is missing; add docker.io: or another registry"
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
                        out.push(format!("{path}[{i}]: must be a URL"));
                    }
                }
                ("endpoint", _) => {
                    out.push(format!("{path}: must be a list, even for a single URL: [\"https://…\"]"))
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

    /// Checks a map of strings and of the only boolean.
    fn texts(&self, out: &mut Vec<String>, path: &str, keys: &Keys) {
        for (key, value) in self.known(out, path, keys) {
            let path = format!("{path}.{key}");
            if key != "insecure_skip_verify" {
                value.text(out, &path);
            } else if !matches!(value, Self::Bool | Self::Null) {
                out.push(format!("{path}: must be true or false, without quotes"));
            }
        }
    }

    fn text(&self, out: &mut Vec<String>, path: &str) {
        if matches!(self, Self::List(_) | Self::Map(_)) {
            out.push(format!("{path}: must be a string"));
        }
    }

    /// Returns the entries with known keys and reports the others.
    fn known<'a>(&'a self, out: &mut Vec<String>, path: &str, keys: &Keys) -> Vec<(&'a str, &'a Self)> {
        let dot = if path.is_empty() { "" } else { "." };
        let entries = if path.is_empty() && !matches!(self, Self::Map(_)) {
            Vec::new()
        } else {
            self.entries(out, path)
        };
        let (known, unknown): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(key, _)| keys.known.contains(key));
        // A key of x-… is meant to be ignored: it is used for anchors.
        let unknown = unknown.into_iter().filter(|(key, _)| !key.starts_with("x-"));
        out.extend(unknown.map(|(key, _)| format!("{path}{dot}{key}: {}", keys.problem(key))));
        known
    }

    fn entries<'a>(&'a self, out: &mut Vec<String>, path: &str) -> Vec<(&'a str, &'a Self)> {
        match self {
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.as_str(), value)).collect(),
            Self::Null => Vec::new(),
            _ => {
                out.push(format!("{path}: must be a map: keys with values"));
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

    /// k3d-io/k3d#1179 again: keys without effect were silently dropped. k3d-io/k3d#866: TLS at the mirror.
    #[test]
    fn k3d_10_and_22_unknown_keys_are_told_with_the_right_one() {
        for (text, told) in [
            ("mirror: {}", "mirror: unknown key, which K3s ignores; use mirrors"),
            ("foo: {}", "foo: unknown key, which K3s ignores; known keys here are mirrors, configs, auths"),
            (
                "mirrors: {r.test: {endpoints: [x]}}",
                r#"mirrors["r.test"].endpoints: unknown key, which K3s ignores"#,
            ),
            ("mirrors: {r.test: {endpoints: [x]}}", "use endpoint"),
            ("mirrors: {r.test: {rewrites: {a: b}}}", "use rewrite"),
            ("mirrors: {r.test: {tls: {ca_file: x}}}", "to configs"),
            ("mirrors: {r.test: {insecure: true}}", "an http:// endpoint"),
            ("configs: {r: {http: true}}", "an http:// endpoint"),
            ("configs: {r: {token: hunter2}}", "auth.identity_token"),
            ("configs: {r: {username: hunter2}}", "to auth"),
            ("configs: {r: {skip_verify: true}}", "use tls.insecure_skip_verify"),
            ("configs: {r: {auth: {token: hunter2}}}", r#"configs["r"].auth.token: unknown key"#),
            ("configs: {r: {auth: {identityToken: hunter2}}}", "use identity_token"),
            ("configs: {r: {auth: {identitytoken: hunter2}}}", "use identity_token"),
            ("configs: {r: {tls: {insecureSkipVerify: true}}}", "use insecure_skip_verify"),
            ("configs: {r: {tls: {skip_verify: true}}}", "use insecure_skip_verify"),
            ("configs: {r: {tls: {ca: /x}}}", "use ca_file"),
            ("configs: {r: {tls: {caFile: /x}}}", "use ca_file"),
            ("configs: {r: {tls: {http: true}}}", "an http:// endpoint"),
            ("auths: {r: {token: hunter2}}", r#"auths["r"].token"#),
            // On the wrong level.
            ("mirrors: {configs: {}}", r#"mirrors["configs"]: configs is one level too deep"#),
            ("mirrors: {auths: ~}", "indent it like mirrors"),
            ("mirrors: {configs: {'r:5000': {auth: {password: hunter2}}}}", "one level too deep"),
            ("configs: {mirrors: {r.test: {endpoint: [x]}}}", "indent it like configs"),
            ("mirrors: {endpoint: ['http://x']}", "the registry key above it is missing"),
            ("r.test: {endpoint: [x]}", "one level down, under mirrors or configs"),
            // Of the wrong type.
            ("mirrors: [r]", "mirrors: must be a map"),
            ("mirrors: {r.test: 'http://x'}", r#"mirrors["r.test"]: must be a map"#),
            ("mirrors: {r.test: {endpoint: 'http://x'}}", r#"mirrors["r.test"].endpoint: must be a list"#),
            ("mirrors: {r.test: {endpoint: [~]}}", r#"mirrors["r.test"].endpoint[0]: must be a URL"#),
            ("mirrors: {r.test: {rewrite: [{a: b}]}}", "must be a map"),
            ("mirrors: {r.test: {rewrite: {a: [b]}}}", "must be a string"),
            ("configs: {r: {auth: hunter2}}", r#"configs["r"].auth: must be a map"#),
            (
                "configs: {r: {auth: {username: {hunter2: x}}}}",
                r#"configs["r"].auth.username: must be a string"#,
            ),
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
