//! Join tokens: a bare secret, or `K10<hash of the CA>::<user>:<secret>`.

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
    fn only_plain_secrets_take_the_place_of_others() {
        assert!(is_bare(b"aB3-_.") && is_bare(&[b'a'; 512]));
        for token in ["", "-a", "a b", "a$b", "K10aa::server:abc", "a\"b", "a,b", "a\nb", "\u{e4}"] {
            assert!(!is_bare(token.as_bytes()), "{token:?}");
        }
        assert!(!is_bare(&[b'a'; 513]));
    }
}
