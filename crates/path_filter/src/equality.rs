//! What a filter needs at least: that a member has one value. Pure.
//!
//! A caller with many filters can look up the values of a document once, instead of evaluating each
//! filter. A filter whose equality does not hold rejects the document. One whose equality holds is
//! not decided.

use crate::{
    Comparison, Condition, Document, Kind, Literal, Operand, Path, PathFilter, Step, document::Root,
    evaluate::Evaluation,
};
use std::sync::Arc;

/// A path of members from the document, like `$.data.tenant_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemberPath(Arc<Path>);

/// A string, number or boolean value, or null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Constant(pub(crate) Literal);

impl PathFilter {
    /// Returns a path and a value which it must have in every document that the filter accepts.
    /// Returns `None` if the filter has no such form. Of several, the longest path is the most
    /// selective one, supposedly.
    pub fn equality(&self) -> Option<(MemberPath, Constant)> {
        let condition = match &self.0 {
            Kind::Condition(condition) => condition,
            // The document is an object, so `@` is the document.
            Kind::Path(path) => match &*path.steps {
                [Step::Filter(condition)] => condition,
                _ => return None,
            },
        };
        equality(condition)
    }
}

fn equality(condition: &Condition) -> Option<(MemberPath, Constant)> {
    match condition {
        // If one side is false, the other one does not matter, even if it is unknown.
        Condition::And(one, other) => [one, other]
            .into_iter()
            .filter_map(|side| equality(side))
            .max_by_key(|(path, _)| path.0.steps.len()),
        Condition::Compare(Operand::Path(path), Comparison::Equal, Operand::Literal(value))
        | Condition::Compare(Operand::Literal(value), Comparison::Equal, Operand::Path(path)) => {
            let is_plain = path.steps.iter().all(|step| matches!(step, Step::Member(_)));
            let path = || Path { is_from_root: true, steps: path.steps.clone() };
            is_plain.then(|| (MemberPath(Arc::new(path())), Constant(value.clone())))
        }
        _ => None,
    }
}

impl MemberPath {
    /// Returns the values that a comparison with this path compares. Returns `None` if they are not
    /// certain.
    pub fn values(&self, document: &Document<'_>) -> Option<Vec<Constant>> {
        let root = match document.root() {
            Root::Json(root) => root,
            Root::NotJsonb => return Some(Vec::new()),
            Root::Uncertain => return None,
        };
        Evaluation::new(document, root).scalars(&self.0)
    }
}
