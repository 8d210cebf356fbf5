//! Join tokens: a bare secret, or `K10<hash of the CA>::<user>:<secret>`.

use crate::api::local_cluster::NodeRole;

/// Returns the secret of a token.
pub fn secret_of(token: &[u8]) -> Option<&[u8]> {
    let token = token.trim_ascii();
    let whole = token.starts_with(b"K10").then(|| token.windows(2).position(|w| w == b"::")).flatten();
    let secret = match whole {
        Some(begin) => {
            let rest = &token[begin + 2..];
            &rest[rest.iter().position(|b| *b == b':')? + 1..]
        }
        None => token,
    };
    (!secret.is_empty()).then_some(secret)
}

/// Reports whether two tokens have the same secret.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    secret_of(one).is_some() && secret_of(one) == secret_of(other)
}

/// Returns the hash of the CA in a complete token. K3s joins only a cluster with this CA.
pub fn ca_hash_of(token: &[u8]) -> Option<&str> {
    let rest = token.trim_ascii().strip_prefix(b"K10")?;
    let hash = std::str::from_utf8(rest.get(..64)?).ok()?;
    let hex = hash.bytes().all(|b| b.is_ascii_hexdigit());
    (hex && rest[64..].starts_with(b"::")).then_some(hash)
}

/// Returns a token for agents or servers with which they join only a cluster whose CA has this hash. Any other token is
/// returned as it is: K3s then trusts the first CA that it sees.
pub fn pinned(token: &[u8], ca_hash: Option<&str>, role: NodeRole) -> Vec<u8> {
    let user = match role {
        NodeRole::Server => "server",
        NodeRole::Agent => "node",
    };
    match (ca_hash, secret_of(token)) {
        (Some(hash), Some(secret)) => [format!("K10{hash}::{user}:").as_bytes(), secret].concat(),
        _ => token.to_vec(),
    }
}

/// Reports whether a token is a bare secret of characters without special meaning in a shell, a URL or the files of
/// K3s. Only such a token can replace another one.
pub fn is_bare(token: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    !token.is_empty() && token.len() <= 512 && !token.starts_with(b"-") && token.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_whole_tokens() {
        for (token, secret) in [
            ("abc", Some("abc")),
            ("abc\n", Some("abc")),
            ("K10aa::server:abc\n", Some("abc")),
            ("K10aa::server:a:b", Some("a:b")),
            ("K10aa::server", None),
            ("K10aa::server:", None),
            ("", None),
        ] {
            assert_eq!(secret_of(token.as_bytes()), secret.map(str::as_bytes), "{token:?}");
        }
    }

    #[test]
    fn a_pinned_token_names_the_ca() {
        let hash = "0f".repeat(32);
        let text = |token: &[u8], ca, role| String::from_utf8(pinned(token, ca, role)).unwrap();
        let agent = text(b"abc\n", Some(&hash), NodeRole::Agent);
        assert_eq!(agent, format!("K10{hash}::node:abc"));
        assert_eq!(
            (ca_hash_of(agent.as_bytes()), secret_of(agent.as_bytes())),
            (Some(&*hash), Some(&b"abc"[..]))
        );
        let other = format!("K10{}::server:a:b", "aa".repeat(32));
        assert_eq!(text(other.as_bytes(), Some(&hash), NodeRole::Server), format!("K10{hash}::server:a:b"));
        assert_eq!(text(b"abc", None, NodeRole::Agent), "abc");
        for token in [
            "abc",
            "K10aa::server:abc",
            &format!("K10{hash}:server:abc"),
            &format!("K10{}::a:b", "x".repeat(64)),
        ] {
            assert_eq!(ca_hash_of(token.as_bytes()), None, "{token}");
        }
    }

    #[test]
    fn only_plain_secrets_take_the_place_of_others() {
        assert!(is_bare(b"aB3-_.") && is_bare(&[b'a'; 512]));
        for token in ["", "-a", "a b", "a$b", "K10aa::server:abc", "a\"b", "a,b", "a\nb", "\u{e4}"] {
            assert!(!is_bare(token.as_bytes()), "{token:?}");
        }
        assert!(!is_bare(&[b'a'; 513]));
    }
}
