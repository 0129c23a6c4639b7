//! Casts in expressions.

use crate::token::Tree;

/// Splits an expression into the part before its casts, and the types of the casts. Returns `None`
/// if a cast is not understood; `numeric(5,0)`, for example, rounds.
pub fn without_casts(mut trees: &[Tree]) -> Option<(&[Tree], Vec<String>)> {
    let mut casts = Vec::new();
    loop {
        if let [Tree::Round(inner)] = trees {
            trees = inner;
        } else if let Some(at) = trees.iter().rposition(|tree| *tree == Tree::Operator("::".to_owned())) {
            casts.push(type_name(&trees[at + 1..])?);
            trees = &trees[..at];
        } else {
            return Some((trees, casts));
        }
    }
}

fn type_name(trees: &[Tree]) -> Option<String> {
    let mut name = String::new();
    for tree in trees {
        match tree {
            Tree::Word(word) | Tree::Quoted(word) => {
                if !name.is_empty() && !name.ends_with('.') {
                    name.push(' ');
                }
                name.push_str(word);
            }
            Tree::Operator(dot) if dot == "." => name.push('.'),
            Tree::Square(inside) if inside.is_empty() => name.push_str("[]"),
            _ => return None,
        }
    }
    (!name.is_empty()).then_some(name)
}
