//! A file with all its changes compiled in.

use std::ops::Range;

use crate::sites::{Piece, Site};

/// A rewritten file.
#[derive(Default)]
pub struct Rewritten {
    pub text: String,
    /// Which changes a range of the text is there for.
    owners: Vec<(Range<usize>, Vec<u32>)>,
}

impl Rewritten {
    /// Returns the changes that an error at a range of the text comes from: those of the smallest part around it, if it
    /// is in one.
    pub fn owners(&self, range: Range<usize>) -> &[u32] {
        let around = |owned: &&(Range<usize>, _)| owned.0.start <= range.start && range.end <= owned.0.end;
        let smallest = self.owners.iter().filter(around).min_by_key(|(owned, _)| owned.len());
        smallest.map_or(&[], |(_, ids)| ids)
    }

    /// Returns the changes of the first part after a place: a `match` that lacks an arm is an error at its head.
    pub fn after(&self, place: usize) -> &[u32] {
        let after = self.owners.iter().filter(|(owned, _)| owned.start >= place);
        after.min_by_key(|(owned, _)| (owned.start, owned.len())).map_or(&[], |(_, ids)| ids)
    }
}

/// Rewrites a file. The sites are in order.
pub fn rewrite(source: &str, sites: &[Site]) -> Rewritten {
    let mut rewritten = Rewritten::default();
    copy(source, sites, 0..source.len(), &mut rewritten);
    rewritten
}

/// Writes a range of the source with the sites within it.
fn copy(source: &str, sites: &[Site], range: Range<usize>, to: &mut Rewritten) {
    let mut position = range.start;
    let first = sites.partition_point(|site| site.range.start < range.start);
    for site in &sites[first..] {
        if site.range.start > range.end {
            break;
        }
        // Those within another one are written with it.
        if site.range.start < position || site.range.end > range.end {
            continue;
        }
        to.text.push_str(&source[position..site.range.start]);
        let start = to.text.len();
        write(source, sites, &site.pieces, to);
        to.owners.push((start..to.text.len(), site.ids.clone()));
        position = site.range.end;
    }
    to.text.push_str(&source[position..range.end]);
}

fn write(source: &str, sites: &[Site], pieces: &[Piece], to: &mut Rewritten) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => to.text.push_str(text),
            Piece::Source(range) => copy(source, sites, range.clone(), to),
            Piece::Change(id, pieces) => {
                let start = to.text.len();
                write(source, sites, pieces, to);
                to.owners.push((start..to.text.len(), vec![*id]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        list::{Change, Genre},
        sites::sites,
    };

    /// A change at the first place of a text, after a mark if there is one.
    fn change(source: &str, id: u32, genre: Genre, place: &str, replacement: &str) -> Change {
        let (before, mark) = place.split_once('|').unwrap_or(("", place));
        let at = source.find(&format!("{before}{mark}")).expect("the place") + before.len();
        Change {
            id,
            name: String::new(),
            file: String::new(),
            genre,
            line: source[..at].matches('\n').count() + 1,
            column: source[..at].rsplit('\n').next().unwrap_or_default().chars().count(),
            replacement: replacement.to_owned(),
            returns: String::new(),
        }
    }

    fn rewritten(source: &str, changes: &[(Genre, &str, &str)]) -> String {
        let changes: Vec<_> = changes
            .iter()
            .zip(1..)
            .map(|((genre, place, replacement), id)| change(source, id, *genre, place, replacement))
            .collect();
        let text = rewrite(source, &sites(source, &changes.iter().collect::<Vec<_>>())).text;
        syn::parse_file(&text).expect("what is written is Rust");
        text.replace("crate::mutant::on", "on")
    }

    /// A source, its changes, and what it becomes.
    type Row = (&'static str, &'static [(Genre, &'static str, &'static str)], &'static str);

    #[test]
    fn each_genre_is_chosen_at_run_time() {
        use Genre::*;
        let cases: [Row; 16] = [
            (
                "fn f() -> u8 { g() }",
                &[(FnValue, "g()", "0"), (FnValue, "g()", "1")],
                "fn f() -> u8 { if on(1) { return 0; } if on(2) { return 1; } g() }",
            ),
            ("const fn f() -> u8 { 7 }", &[(FnValue, "7", "0")], "const fn f() -> u8 { 7 }"),
            (
                "fn f() { a && b }",
                &[(BinaryOperator, "&&", "||")],
                "fn f() { (if (a) != on(1) { b } else { on(1) }) }",
            ),
            (
                "fn f() { a || b }",
                &[(BinaryOperator, "||", "&&")],
                "fn f() { (if (a) == on(1) { b } else { !on(1) }) }",
            ),
            ("fn f() { a == b }", &[(BinaryOperator, "==", "!=")], "fn f() { (((a) == (b)) != on(1)) }"),
            ("fn f() { a != b }", &[(BinaryOperator, "!=", "==")], "fn f() { (((a) != (b)) != on(1)) }"),
            (
                "fn f() { a as u8 > b }",
                &[(BinaryOperator, ">", "<"), (BinaryOperator, ">", ">=")],
                "fn f() { (if on(1) { ((a as u8) < (b)) } else if on(2) { ((a as u8) >= (b)) } else { (a as u8) > (b) }) }",
            ),
            (
                "fn f() { a += 1; }",
                &[(BinaryOperator, "+=", "-=")],
                "fn f() { (if on(1) { ((a) -= (1)) } else { (a) += (1) }); }",
            ),
            ("fn f() { !a }", &[(UnaryOperator, "!", "")], "fn f() { (if on(1) { a } else { !a }) }"),
            (
                "fn f() { match a { 1 if b => 2, _ => 3 } }",
                &[(MatchArmGuard, "if |b", "true"), (MatchArmGuard, "if |b", "false"), (MatchArm, "1", "")],
                "fn f() { match a { 1 if !on(3) && (on(1) || (!on(2) && (b))) => 2, _ => 3 } }",
            ),
            (
                "fn f() { match a { 1 => 2, _ => 3 } }",
                &[(MatchArm, "1", "")],
                "fn f() { match a { 1 if !on(1) && (true) => 2, _ => 3 } }",
            ),
            // An arm with a guard closes no match: only those with guards can be left out.
            (
                "fn f() { match a { _ if b => 1, 2 if c => 3, 4 => 5, d => 6 } }",
                &[(MatchArm, "2", ""), (MatchArm, "4", "")],
                "fn f() { match a { _ if b => 1, 2 if !on(1) && (c) => 3, 4 => 5, d => 6 } }",
            ),
            (
                "fn f() { S { a: 1, ..d() } }",
                &[(StructField, "a", "")],
                "fn f() { S { a: (if on(1) { { let base: S = d(); base.a } } else { 1 }), ..d() } }",
            ),
            (
                "fn f() { S { a, ..d() } }",
                &[(StructField, "{ |a", "")],
                "fn f() { S { a: (if on(1) { { let base: S = d(); base.a } } else { a }), ..d() } }",
            ),
            // What binds a name has no other operator.
            (
                "fn f() { if let A = a && b == c {} }",
                &[(BinaryOperator, "&&", "||"), (BinaryOperator, "==", "!=")],
                "fn f() { if let A = a && (((b) == (c)) != on(2)) {} }",
            ),
            // Columns count characters.
            (
                "fn f() { \"é\" == a && !b }",
                &[(BinaryOperator, "&&", "||"), (BinaryOperator, "==", "!="), (UnaryOperator, "!", "")],
                "fn f() { (if ((((\"é\") == (a)) != on(2))) != on(1) { (if on(3) { b } else { !b }) } else { on(1) }) }",
            ),
        ];
        for (source, changes, expected) in cases {
            assert_eq!(rewritten(source, changes), expected, "{source}");
        }
    }

    /// The inner change is there for each of the outer ones.
    #[test]
    fn an_operand_that_is_written_twice_has_its_changes_twice() {
        use Genre::*;
        let text = rewritten("fn f() { !(a < b) }", &[(UnaryOperator, "!", ""), (BinaryOperator, "<", "==")]);
        assert_eq!(text.matches("on(2)").count(), 2, "{text}");
    }

    #[test]
    fn an_error_belongs_to_the_smallest_part_around_it() {
        let source = "fn f() -> bool { a == b }";
        let changes = [
            change(source, 1, Genre::FnValue, "a", "one"),
            change(source, 2, Genre::FnValue, "a", "two"),
            change(source, 3, Genre::BinaryOperator, "==", "!="),
        ];
        let rewritten = rewrite(source, &sites(source, &changes.iter().collect::<Vec<_>>()));
        let owners = |text: &str| {
            let start = rewritten.text.find(text).expect("a part");
            rewritten.owners(start..start + text.len()).to_vec()
        };
        assert_eq!(owners("one"), [1]);
        assert_eq!(owners("two"), [2]);
        assert_eq!(owners("=="), [3]);
        assert_eq!(owners("fn f"), [0; 0]);
        assert_eq!(rewritten.after(0), [1]);
    }
}
