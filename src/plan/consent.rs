//! Consent of what somebody else has on the Docker host, a volume or a container, to be used by the objects of a
//! namespace. Whoever may make objects may name anything there is, and most of it is not theirs: what K3s keeps of
//! another namespace's cluster, somebody's database.
//!
//! Only who has the engine itself can give it, by the label [`names::ALLOW_NAMESPACES`]: no spec decides about a label.
//! What an object owns, this operator's or another one's, is never up to it: one may have a label of its image.
//!
//! Where there is none, the words are the same whether the thing is there or not: the host's other users are nobody's
//! business.

use std::collections::BTreeMap;

use crate::api::names;

/// Whether what has these labels may be used by the objects of a namespace.
pub fn given(labels: &BTreeMap<String, String>, namespace: &str) -> bool {
    let allowed = labels.get(names::ALLOW_NAMESPACES).map(String::as_str).unwrap_or_default();
    let names_it =
        allowed.split(',').map(str::trim).any(|a| !namespace.is_empty() && (a == "*" || a == namespace));
    names_it && !is_owned(labels)
}

/// Whether an object owns what has these labels, of whatever operator.
pub fn is_owned(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(names::UID) || labels.contains_key(names::MANAGER)
}

/// The option of `docker create` by which it is given.
pub fn option(namespace: &str) -> String {
    format!("--label {}={namespace}", names::ALLOW_NAMESPACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn it_names_namespaces_or_all() {
        for (value, consents) in [
            ("team-a", true),
            ("*", true),
            ("team-b, team-a", true),
            ("team-b,*", true),
            ("", false),
            ("team-b", false),
            ("team", false),
            ("team-a2", false),
            ("team-*", false),
            ("Team-a", false),
        ] {
            assert_eq!(given(&labels(&[(names::ALLOW_NAMESPACES, value)]), "team-a"), consents, "{value:?}");
        }
        assert!(!given(&labels(&[]), "team-a"));
        assert!(!given(&labels(&[(names::ALLOW_NAMESPACES, "")]), ""));
    }

    #[test]
    fn what_an_object_owns_never_consents() {
        for own in [names::UID, names::MANAGER] {
            assert!(!given(&labels(&[(names::ALLOW_NAMESPACES, "*"), (own, "x")]), "team-a"), "{own}");
        }
    }
}
