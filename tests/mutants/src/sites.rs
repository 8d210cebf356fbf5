//! Where a file is changed, and what stands there once all changes are compiled in.

use std::{collections::BTreeMap, ops::Range};

use proc_macro2::Span;
use syn::{
    Arm, BinOp, Block, Expr, ExprBinary, ExprMatch, ExprStruct, ExprUnary, ImplItemFn, ItemFn, Member, Pat,
    Signature, TraitItemFn,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::list::{Change, Genre};

/// A part of what stands at a site.
#[derive(Debug)]
pub enum Piece {
    Text(String),
    /// A range of the source, with the sites within it.
    Source(Range<usize>),
    /// What is there for one change: if it does not compile, nor does the change.
    Change(u32, Vec<Piece>),
}

/// A range of the source, and what replaces it.
#[derive(Debug)]
pub struct Site {
    pub range: Range<usize>,
    pub ids: Vec<u32>,
    pub pieces: Vec<Piece>,
}

/// Returns the sites of the changes of one file, in order, the outer before the inner. A change that is not found is at
/// none.
pub fn sites(source: &str, changes: &[&Change]) -> Vec<Site> {
    let file = syn::parse_file(source).expect("a file that compiles");
    let mut by_place: BTreeMap<_, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        by_place.entry((change.genre, change.line, change.column)).or_default().push(change);
    }
    let mut finder = Finder { by_place, sites: Vec::new() };
    finder.visit_file(&file);
    let mut sites = finder.sites;
    sites.sort_by_key(|site| (site.range.start, !site.range.is_empty(), usize::MAX - site.range.end));
    sites
}

struct Finder<'a> {
    by_place: BTreeMap<(Genre, usize, usize), Vec<&'a Change>>,
    sites: Vec<Site>,
}

fn text(text: impl Into<String>) -> Piece {
    Piece::Text(text.into())
}

fn source(of: &impl Spanned) -> Piece {
    Piece::Source(of.span().byte_range())
}

/// Whether a change is chosen.
fn on(id: u32) -> String {
    format!("crate::mutant::on({id})")
}

/// `(if A { a } else if B { b } else { original })`.
fn chain(changed: Vec<(u32, Vec<Piece>)>, original: Vec<Piece>) -> Vec<Piece> {
    let mut pieces = vec![text("(")];
    for (id, piece) in changed {
        pieces.push(text(format!("if {} {{ ", on(id))));
        pieces.push(Piece::Change(id, piece));
        pieces.push(text(" } else "));
    }
    pieces.push(text("{ "));
    pieces.extend(original);
    pieces.push(text(" })"));
    pieces
}

impl<'a> Finder<'a> {
    fn at(&self, genre: Genre, span: Span) -> Vec<&'a Change> {
        let start = span.start();
        self.by_place.get(&(genre, start.line, start.column)).cloned().unwrap_or_default()
    }

    fn add(&mut self, range: Range<usize>, changes: &[&Change], pieces: Vec<Piece>) {
        self.sites.push(Site { range, ids: changes.iter().map(|change| change.id).collect(), pieces });
    }

    /// The constants that a function returns.
    fn body(&mut self, signature: &Signature, block: &Block) {
        let Some(first) = block.stmts.first() else { return };
        let changes = self.at(Genre::FnValue, first.span());
        // A constant function cannot ask which change is chosen.
        if changes.is_empty() || signature.constness.is_some() {
            return;
        }
        let one = |change: &&Change| {
            let returned = format!(" if {} {{ return {}; }}", on(change.id), change.replacement);
            Piece::Change(change.id, vec![text(returned)])
        };
        let start = block.brace_token.span.open().byte_range().end;
        self.add(start..start, &changes, changes.iter().map(one).collect());
    }

    /// Without an arm for all that is left, only an arm with a guard can be left out.
    fn arm(&mut self, arm: &Arm, is_closed: bool) {
        let guard = arm.guard.as_ref().map(|(_, guard)| &**guard);
        let mut left_out = self.at(Genre::MatchArm, arm.span());
        left_out.retain(|_| is_closed || guard.is_some());
        let constant = guard.map(|guard| self.at(Genre::MatchArmGuard, guard.span())).unwrap_or_default();
        let all: Vec<_> = left_out.iter().chain(&constant).copied().collect();
        if !all.is_empty() {
            let mut pieces = vec![text(" if ")];
            pieces.extend(left_out.iter().map(|change| text(format!("!{} && ", on(change.id)))));
            pieces.push(text("("));
            for change in &constant {
                let (not, and) = if change.replacement == "true" { ("", "||") } else { ("!", "&&") };
                pieces.push(text(format!("{not}{} {and} (", on(change.id))));
            }
            pieces.push(guard.map_or_else(|| text("true"), source));
            pieces.push(text(")".repeat(constant.len() + 1) + " "));
            let range = arm.pat.span().byte_range().end..arm.fat_arrow_token.span().byte_range().start;
            self.add(range, &all, pieces);
        }
    }
}

/// `a && b` or `a || b`, each the other one if the change is chosen, without a second copy of the operands.
fn short(and: bool, id: u32, left: &Expr, right: &Expr) -> Vec<Piece> {
    let (compared, rest) = if and { ("!=", "") } else { ("==", "!") };
    vec![
        text("(if ("),
        source(left),
        text(format!(") {compared} {} {{ ", on(id))),
        source(right),
        text(format!(" }} else {{ {rest}{} }})", on(id))),
    ]
}

/// Reports whether a chain of `&&` binds names.
fn binds(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(ExprBinary { left, op: BinOp::And(_), right, .. }) => binds(left) || binds(right),
        _ => false,
    }
}

fn binary(expression: &ExprBinary, changes: &[&Change]) -> Vec<Piece> {
    let ExprBinary { left, op, right, .. } = expression;
    let with =
        |op: &str| vec![text("(("), source(left), text(format!(") {op} (")), source(right), text("))")];
    // Whether two values are equal is a bool, and its opposite needs no second copy of the operands.
    let opposite = |id, op| {
        let mut pieces = vec![text("(")];
        pieces.extend(with(op));
        pieces.push(text(format!(" != {})", on(id))));
        pieces
    };
    match (op, changes) {
        (BinOp::And(_), [change]) if change.replacement == "||" => {
            return short(true, change.id, left, right);
        }
        (BinOp::Or(_), [change]) if change.replacement == "&&" => {
            return short(false, change.id, left, right);
        }
        (BinOp::Eq(_), [change]) if change.replacement == "!=" => return opposite(change.id, "=="),
        (BinOp::Ne(_), [change]) if change.replacement == "==" => return opposite(change.id, "!="),
        _ => {}
    }
    let original =
        vec![text("("), source(left), text(") "), source(op), text(" ("), source(right), text(")")];
    chain(changes.iter().map(|change| (change.id, with(&change.replacement))).collect(), original)
}

impl<'a> Visit<'a> for Finder<'_> {
    fn visit_item_fn(&mut self, item: &'a ItemFn) {
        self.body(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a ImplItemFn) {
        self.body(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a TraitItemFn) {
        if let Some(block) = &item.default {
            self.body(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, expression: &'a ExprBinary) {
        let changes = self.at(Genre::BinaryOperator, expression.op.span());
        if !changes.is_empty() && !binds(&expression.left) && !binds(&expression.right) {
            let pieces = binary(expression, &changes);
            self.add(expression.span().byte_range(), &changes, pieces);
        }
        visit::visit_expr_binary(self, expression);
    }

    fn visit_expr_unary(&mut self, expression: &'a ExprUnary) {
        let changes = self.at(Genre::UnaryOperator, expression.op.span());
        if !changes.is_empty() {
            let changed = changes.iter().map(|change| (change.id, vec![source(&*expression.expr)])).collect();
            let original = vec![source(&expression.op), source(&*expression.expr)];
            self.add(expression.span().byte_range(), &changes, chain(changed, original));
        }
        visit::visit_expr_unary(self, expression);
    }

    fn visit_expr_match(&mut self, expression: &'a ExprMatch) {
        let is_closed =
            expression.arms.iter().any(|arm| matches!(arm.pat, Pat::Wild(_)) && arm.guard.is_none());
        for arm in &expression.arms {
            self.arm(arm, is_closed);
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_expr_struct(&mut self, expression: &'a ExprStruct) {
        for field in &expression.fields {
            let changes = self.at(Genre::StructField, field.span());
            let (Some(base), Member::Named(name)) = (&expression.rest, &field.member) else { continue };
            if changes.is_empty() {
                continue;
            }
            let from_base = |id| {
                let base = [text("{ let base: "), source(&expression.path), text(" = "), source(&**base)];
                (id, base.into_iter().chain([text(format!("; base.{name} }}"))]).collect())
            };
            // Its own value may be its name alone: the site must not contain itself.
            let own = field.colon_token.map_or_else(|| text(name.to_string()), |_| source(&field.expr));
            let mut pieces = vec![text(format!("{name}: "))];
            pieces.extend(chain(changes.iter().map(|change| from_base(change.id)).collect(), vec![own]));
            self.add(field.span().byte_range(), &changes, pieces);
        }
        visit::visit_expr_struct(self, expression);
    }
}
