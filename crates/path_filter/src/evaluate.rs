//! Evaluates a parsed path in lax mode, as Postgres does (`jsonpath_exec.c`). Pure.
//!
//! In lax mode, a path never fails: a member of a value that is no object is absent. A step takes
//! the elements of an array instead of the array, one level deep. So do the operands of a
//! comparison, which is true if any pair of items compares true, and otherwise unknown if any pair
//! cannot be compared.

use crate::{Comparison, Condition, Literal, Operand, Path, Step, document::Document, json::Value};
use std::cmp::Ordering;

/// Number of steps that each filter has anyway, and the maximum. A path that visits more items than
/// this is left to Postgres, which has a time limit.
const STEPS_FREE: u32 = 32;
const STEPS_MAX: u32 = 2000;

/// Members of one object that count as one step.
const MEMBERS_PER_STEP: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::True, Self::True) => Self::True,
            _ => Self::Unknown,
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// An item of a sequence. A literal of the path is one, too.
#[derive(Clone, Copy)]
enum Item<'v, 'a> {
    Value(&'v Value<'a>),
    Literal(&'v Literal),
}

/// One evaluation. Its functions return `None` if Postgres must decide.
pub struct Evaluation<'d, 'a> {
    document: &'d Document<'a>,
    root: &'d Value<'a>,
    steps: u32,
}

impl<'d, 'a> Evaluation<'d, 'a> {
    pub fn new(document: &'d Document<'a>, root: &'d Value<'a>) -> Self {
        Self { document, root, steps: 0 }
    }

    fn take_steps(&mut self, steps: usize) -> Option<()> {
        self.steps = self.steps.checked_add(u32::try_from(steps).ok()?)?;
        if self.steps <= STEPS_FREE {
            Some(())
        } else if self.steps <= STEPS_MAX {
            self.document.take_steps(u32::try_from(steps).ok()?)
        } else {
            None
        }
    }

    /// Evaluates a condition. `current` is what `@` means.
    pub fn condition(&mut self, condition: &Condition, current: &'d Value<'a>) -> Option<Truth> {
        self.take_steps(1)?;
        Some(match condition {
            Condition::And(one, other) => match self.condition(one, current)? {
                Truth::False => Truth::False,
                one => one.and(self.condition(other, current)?),
            },
            Condition::Or(one, other) => match self.condition(one, current)? {
                Truth::True => Truth::True,
                one => one.not().and(self.condition(other, current)?.not()).not(),
            },
            Condition::Not(inner) => self.condition(inner, current)?.not(),
            Condition::IsUnknown(inner) => Truth::from(self.condition(inner, current)? == Truth::Unknown),
            Condition::Exists(path) => Truth::from(self.exists(path, current)?),
            Condition::Compare(one, comparison, other) => {
                let others = self.operand(other, current)?;
                let mut result = Truth::False;
                for one in self.operand(one, current)? {
                    self.take_steps(others.len())?;
                    let found = any(others.iter().map(|other| compare(*comparison, one, *other)));
                    match found {
                        Truth::True => return Some(Truth::True),
                        Truth::Unknown => result = Truth::Unknown,
                        Truth::False => {}
                    }
                }
                result
            }
            Condition::StartsWith(operand, start) => {
                let starts = |item: Item<'_, '_>| match string(item) {
                    Some(string) => Truth::from(string.starts_with(start)),
                    None => Truth::Unknown,
                };
                any(self.operand(operand, current)?.into_iter().map(starts))
            }
        })
    }

    /// Reports whether a path finds an item.
    pub fn exists(&mut self, path: &Path, current: &'d Value<'a>) -> Option<bool> {
        let mut found = Vec::new();
        self.path(path, current, &mut found)?;
        Some(!found.is_empty())
    }

    /// Returns the items of an operand, with the elements of arrays in their place.
    fn operand<'v>(&mut self, operand: &'v Operand, current: &'d Value<'a>) -> Option<Vec<Item<'v, 'a>>>
    where
        'd: 'v,
    {
        match operand {
            Operand::Literal(literal) => Some(vec![Item::Literal(literal)]),
            Operand::Path(path) => self.items(path, current),
        }
    }

    fn items<'v>(&mut self, path: &Path, current: &'d Value<'a>) -> Option<Vec<Item<'v, 'a>>>
    where
        'd: 'v,
    {
        let mut found = Vec::new();
        self.path(path, current, &mut found)?;
        let mut items = Vec::with_capacity(found.len());
        for value in found {
            match value {
                Value::Array(elements) => {
                    self.take_steps(elements.len())?;
                    items.extend(elements.iter().map(Item::Value));
                }
                value => items.push(Item::Value(value)),
            }
        }
        Some(items)
    }

    /// Returns the scalars that a comparison with a path from the document compares.
    pub fn scalars(&mut self, path: &Path) -> Option<Vec<crate::Constant>> {
        let constant = |item| {
            Some(crate::Constant(match scalar(item) {
                Scalar::Null => Literal::Null,
                Scalar::Bool(value) => Literal::Bool(value),
                Scalar::Number(value) => Literal::Number(value.clone()),
                Scalar::String(value) => Literal::String(value.into()),
                Scalar::None => return None,
            }))
        };
        Some(self.items(path, self.root)?.into_iter().filter_map(constant).collect())
    }

    fn path(&mut self, path: &Path, current: &'d Value<'a>, found: &mut Vec<&'d Value<'a>>) -> Option<()> {
        let from = if path.is_from_root { self.root } else { current };
        self.steps(&path.steps, from, true, found)
    }

    /// Appends what the steps find. `unwraps` means that the first step takes the elements of an
    /// array.
    fn steps(
        &mut self,
        steps: &[Step],
        value: &'d Value<'a>,
        unwraps: bool,
        found: &mut Vec<&'d Value<'a>>,
    ) -> Option<()> {
        self.take_steps(1)?;
        let Some((step, rest)) = steps.split_first() else {
            found.push(value);
            return Some(());
        };
        match (step, value) {
            (Step::Elements, Value::Array(elements)) => self.each(elements, rest, true, found),
            (Step::Elements, _) => self.steps(rest, value, true, found),
            (_, Value::Array(elements)) if unwraps => self.each(elements, steps, false, found),
            (Step::Member(name), Value::Object(members)) => {
                self.take_steps(members.len() / MEMBERS_PER_STEP)?;
                match value.member(name) {
                    Some(member) => self.steps(rest, member, true, found),
                    None => Some(()),
                }
            }
            (Step::Member(_), _) => Some(()),
            (Step::Filter(condition), _) => match self.condition(condition, value)? {
                Truth::True => self.steps(rest, value, true, found),
                Truth::False | Truth::Unknown => Some(()),
            },
        }
    }

    fn each(
        &mut self,
        elements: &'d [Value<'a>],
        steps: &[Step],
        unwraps: bool,
        found: &mut Vec<&'d Value<'a>>,
    ) -> Option<()> {
        elements.iter().try_for_each(|element| self.steps(steps, element, unwraps, found))
    }
}

/// Combines the results of all pairs of a predicate.
fn any(results: impl Iterator<Item = Truth>) -> Truth {
    let mut any = Truth::False;
    for result in results {
        match result {
            Truth::True => return Truth::True,
            Truth::Unknown => any = Truth::Unknown,
            Truth::False => {}
        }
    }
    any
}

/// Compares two items. Null equals null, and differs from everything else. Other values compare
/// only with values of their type; arrays and objects do not compare.
fn compare(comparison: Comparison, one: Item<'_, '_>, other: Item<'_, '_>) -> Truth {
    let ordering = match (scalar(one), scalar(other)) {
        (Scalar::Null, Scalar::Null) => Ordering::Equal,
        (Scalar::Null, _) | (_, Scalar::Null) => return Truth::from(comparison == Comparison::NotEqual),
        (Scalar::Bool(one), Scalar::Bool(other)) => one.cmp(&other),
        (Scalar::Number(one), Scalar::Number(other)) => one.cmp(other),
        (Scalar::String(one), Scalar::String(other)) => one.cmp(other),
        _ => return Truth::Unknown,
    };
    Truth::from(match comparison {
        Comparison::Equal => ordering.is_eq(),
        Comparison::NotEqual => ordering.is_ne(),
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    })
}

enum Scalar<'v> {
    Null,
    Bool(bool),
    Number(&'v crate::Number),
    String(&'v [u8]),
    /// An array or an object.
    None,
}

fn scalar<'v>(item: Item<'v, '_>) -> Scalar<'v> {
    match item {
        Item::Value(Value::Null) | Item::Literal(Literal::Null) => Scalar::Null,
        Item::Value(Value::Bool(value)) | Item::Literal(Literal::Bool(value)) => Scalar::Bool(*value),
        Item::Value(Value::Number(value)) | Item::Literal(Literal::Number(value)) => Scalar::Number(value),
        Item::Value(Value::String(value)) => Scalar::String(value),
        Item::Literal(Literal::String(value)) => Scalar::String(value),
        Item::Value(Value::Array(_) | Value::Object(_)) => Scalar::None,
    }
}

fn string<'v>(item: Item<'v, '_>) -> Option<&'v [u8]> {
    match scalar(item) {
        Scalar::String(string) => Some(string),
        _ => None,
    }
}
