//! Comparisons that cannot hold, as far as the text of a script shows the types of both sides.

use bty::size;
use rhai::{Expr, FnCallExpr};

use crate::reference::{Function, Kind};

const ORDER: [&str; 4] = ["<", "<=", ">", ">="];
const EQUALITY: [&str; 2] = ["==", "!="];

/// Something wrong, and what was meant.
type Wrong = (String, Option<String>);

/// What the text of an expression shows of its value.
enum Shown {
    Size,
    Number,
    Text(String),
    Unit,
    Other(&'static str),
}

impl Shown {
    fn of(expr: &Expr, known: &[Function]) -> Option<Self> {
        Some(match expr {
            Expr::StringConstant(text, _) => Self::Text(text.to_string()),
            Expr::IntegerConstant(..) | Expr::FloatConstant(..) => Self::Number,
            Expr::BoolConstant(..) => Self::Other("true or false"),
            Expr::Array(..) => Self::Other("an array"),
            Expr::Map(..) => Self::Other("a map"),
            Expr::Unit(..) => Self::Unit,
            Expr::FnCall(call, _) if call.namespace.is_empty() && call.name == "size" => Self::Size,
            Expr::Dot(pair, ..) => return Self::of_field(&pair.rhs, known),
            _ => return None,
        })
    }

    /// A field that is known as a size (where it may be unknown too), or only as a number.
    fn of_field(expr: &Expr, known: &[Function]) -> Option<Self> {
        let name = match expr {
            Expr::Dot(pair, ..) => return Self::of_field(&pair.rhs, known),
            Expr::Property(property, _) => property.2.as_str(),
            _ => return None,
        };
        let fields = known.iter().filter(|f| f.kind == Kind::Field && f.name == name);
        let mut types: Vec<&str> = fields.map(|f| f.returns.as_str()).collect();
        types.sort_unstable();
        types.dedup();
        match types[..] {
            ["Size"] | ["Size", "any"] => Some(Self::Size),
            ["int"] => Some(Self::Number),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Size => "a size",
            Self::Number => "a number",
            Self::Text(_) => "a text",
            Self::Unit => "()",
            Self::Other(name) => name,
        }
    }
}

/// What is wrong with a comparison, or with looking for a value in an array that is written out.
pub(super) fn comparison(call: &FnCallExpr, known: &[Function]) -> Option<Wrong> {
    let operator = call.name.as_str();
    let [left, right] = &call.args[..] else { return None };
    if operator == "contains" {
        let Expr::Array(items, _) = left else { return None };
        return items.iter().find_map(|item| sides(item, right, "==", known));
    }
    let is_comparison = ORDER.contains(&operator) || EQUALITY.contains(&operator);
    is_comparison.then(|| sides(left, right, operator, known)).flatten()
}

fn sides(left: &Expr, right: &Expr, operator: &str, known: &[Function]) -> Option<Wrong> {
    let is_order = ORDER.contains(&operator);
    let (left, right) = (Shown::of(left, known), Shown::of(right, known));
    if is_order && matches!((&left, &right), (Some(Shown::Unit), _) | (_, Some(Shown::Unit))) {
        let hint = "ask x == () whether it is known".to_owned();
        return Some((format!("() cannot be compared by {operator}"), Some(hint)));
    }
    let (left, right) = (left?, right?);
    let cannot =
        || format!("{} and {} cannot be compared by {operator}", left.name(), right.name());
    match (&left, &right) {
        (Shown::Size, Shown::Text(text)) | (Shown::Text(text), Shown::Size) => {
            let error = size::parse(text).err()?;
            Some((error.to_string(), error.next_step().map(str::to_owned)))
        }
        (Shown::Number, Shown::Text(text)) | (Shown::Text(text), Shown::Number) => {
            let is_size = size::parse(text).is_ok();
            (is_order || is_size)
                .then(|| (cannot(), is_size.then(|| format!("write size({text:?})"))))
        }
        (Shown::Size, Shown::Number) | (Shown::Number, Shown::Size) => None,
        _ if is_order && left.name() != right.name() => Some((cannot(), None)),
        _ => None,
    }
}

/// What is wrong with `switch subject`: sizes match no case.
pub(super) fn switch(subject: &Expr, known: &[Function]) -> Option<Wrong> {
    matches!(Shown::of(subject, known)?, Shown::Size).then(|| {
        let hint = "compare it with if, or switch on its .bytes with numbers".to_owned();
        ("a size matches no case of a switch".to_owned(), Some(hint))
    })
}
