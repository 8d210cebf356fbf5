//! Rendering of the registries file.

use std::fmt::Write;

use super::{Auth, HostConfig, Mirror, Registries, Tls};

impl Registries {
    /// Renders the file. An empty file is written too, since it replaces an earlier one on the volume of a node.
    pub fn render(&self) -> String {
        let mut out = String::from("# Written by localcluster-operator.\n");
        if self.mirrors.is_empty() && self.configs.is_empty() {
            out.push_str("mirrors: {}\n");
        }
        if !self.mirrors.is_empty() {
            out.push_str("mirrors:\n");
        }
        for (name, mirror) in &self.mirrors {
            mirror.write(&mut out, name);
        }
        if !self.configs.is_empty() {
            out.push_str("configs:\n");
        }
        for (host, config) in &self.configs {
            config.write(&mut out, host);
        }
        out
    }
}

impl Mirror {
    fn write(&self, out: &mut String, name: &str) {
        if *self == Self::default() {
            return line(out, 1, &quoted(name), " {}");
        }
        line(out, 1, &quoted(name), "");
        if !self.endpoints.is_empty() {
            line(out, 2, "endpoint", "");
        }
        for endpoint in &self.endpoints {
            writeln!(out, "      - {}", quoted(endpoint)).expect("writing to a String never fails");
        }
        if !self.rewrites.is_empty() {
            line(out, 2, "rewrite", "");
        }
        for (pattern, replacement) in &self.rewrites {
            line(out, 3, &quoted(pattern), &format!(" {}", quoted(replacement)));
        }
    }
}

impl HostConfig {
    fn write(&self, out: &mut String, host: &str) {
        if *self == Self::default() {
            return line(out, 1, &quoted(host), " {}");
        }
        line(out, 1, &quoted(host), "");
        if let Some(Auth { username, password, auth, identity_token }) = &self.auth {
            let fields = [
                ("username", username),
                ("password", password),
                ("auth", auth),
                ("identity_token", identity_token),
            ];
            section(out, "auth", fields.map(|(key, value)| (key, value.as_deref().map(quoted))));
        }
        if let Some(Tls { ca_file, cert_file, key_file, insecure_skip_verify }) = &self.tls {
            let fields = [
                ("ca_file", ca_file.as_deref().map(quoted)),
                ("cert_file", cert_file.as_deref().map(quoted)),
                ("key_file", key_file.as_deref().map(quoted)),
                ("insecure_skip_verify", insecure_skip_verify.map(|b| b.to_string())),
            ];
            section(out, "tls", fields);
        }
    }
}

fn section<const N: usize>(out: &mut String, name: &str, fields: [(&str, Option<String>); N]) {
    let empty = fields.iter().all(|(_, value)| value.is_none());
    line(out, 2, name, if empty { " {}" } else { "" });
    for (key, value) in fields {
        if let Some(value) = value {
            line(out, 3, key, &format!(" {value}"));
        }
    }
}

fn line(out: &mut String, depth: usize, key: &str, value: &str) {
    writeln!(out, "{:indent$}{key}:{value}", "", indent = depth * 2)
        .expect("writing to a String never fails");
}

/// Returns a YAML double-quoted scalar. Non-ASCII characters are escaped, since the parser of K3s takes some of them
/// for line breaks and rejects others.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    /// k3d-io/k3d#1179: `rewrite` was lost.
    #[test]
    fn k3d_10_all_fields_arrive_as_written() {
        let text = r#"
            mirrors:
              "*": {endpoint: ["https://any.example"]}
              docker.io:
                endpoint: ["https://harbor.example/v2/hub", "http://10.0.0.1:5000"]
                rewrite: {"^library/(.*)[.]x$": "hub/$1", "a": ""}
              quay.io:
            configs:
              harbor.example:
                auth: {username: alice, password: 'p"\a$1é😀'}
                tls: {ca_file: /ca.pem, cert_file: /c.pem, key_file: /k.pem, insecure_skip_verify: false}
              10.0.0.1:5000: {auth: {identity_token: t}}
              none.example: {}
              hollow.example: {auth: {}, tls: {}}
        "#;
        let all = parse(text, &|_| true).unwrap();
        insta::assert_snapshot!(all.render(), @r#"
        # Written by localcluster-operator.
        mirrors:
          "*":
            endpoint:
              - "https://any.example"
          "docker.io":
            endpoint:
              - "https://harbor.example/v2/hub"
              - "http://10.0.0.1:5000"
            rewrite:
              "^library/(.*)[.]x$": "hub/$1"
              "a": ""
          "quay.io": {}
        configs:
          "10.0.0.1:5000":
            auth:
              identity_token: "t"
          "harbor.example":
            auth:
              username: "alice"
              password: "p\"\\a$1\u00e9\U0001f600"
            tls:
              ca_file: "/ca.pem"
              cert_file: "/c.pem"
              key_file: "/k.pem"
              insecure_skip_verify: false
          "hollow.example":
            auth: {}
            tls: {}
          "none.example": {}
        "#);
        assert_eq!(parse(&all.render(), &|_| true), Ok(all));
    }

    #[test]
    fn logins_alone() {
        let all = parse("configs: {r: {auth: {username: u, password: p}}}", &|_| true).unwrap();
        insta::assert_snapshot!(all.render(), @r#"
        # Written by localcluster-operator.
        configs:
          "r":
            auth:
              username: "u"
              password: "p"
        "#);
    }
}
