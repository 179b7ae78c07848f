//! Finds comparisons that always fail, as far as the types of both sides are known from the source.

use bty::size;
use rhai::{Expr, FnCallExpr};

use crate::reference::{Function, FunctionKind};

const ORDER: [&str; 4] = ["<", "<=", ">", ">="];
const EQUALITY: [&str; 2] = ["==", "!="];

/// Message and hint of a finding.
pub(super) type Mismatch = (String, Option<String>);

/// What the source shows about one side of a comparison.
enum Operand {
    Size,
    Number,
    Text(String),
    Unit,
    Other(&'static str),
}

impl Operand {
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

    /// A field whose name always means a size (or a size that may be unknown), or always a number.
    fn of_field(expr: &Expr, known: &[Function]) -> Option<Self> {
        let name = match expr {
            Expr::Dot(pair, ..) => return Self::of_field(&pair.rhs, known),
            Expr::Property(property, _) => property.2.as_str(),
            _ => return None,
        };
        let fields = known.iter().filter(|f| f.kind == FunctionKind::Field && f.name == name);
        let mut types: Vec<&str> = fields.flat_map(|f| f.returns.split(" | ")).collect();
        types.retain(|kind| *kind != "()");
        types.sort_unstable();
        types.dedup();
        match types[..] {
            ["Size"] => Some(Self::Size),
            ["int"] => Some(Self::Number),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Size => "a size",
            Self::Number => "a number",
            Self::Text(_) => "a string",
            Self::Unit => "()",
            Self::Other(name) => name,
        }
    }
}

/// The finding about a comparison, or about a search in an array literal.
pub(super) fn comparison(call: &FnCallExpr, known: &[Function]) -> Option<Mismatch> {
    let operator = call.name.as_str();
    let [left, right] = &call.args[..] else { return None };
    if operator == "contains" {
        let Expr::Array(items, _) = left else { return None };
        return items.iter().find_map(|item| sides(item, right, "==", known));
    }
    let is_comparison = ORDER.contains(&operator) || EQUALITY.contains(&operator);
    is_comparison.then(|| sides(left, right, operator, known)).flatten()
}

fn sides(left: &Expr, right: &Expr, operator: &str, known: &[Function]) -> Option<Mismatch> {
    let is_order = ORDER.contains(&operator);
    let (left, right) = (Operand::of(left, known), Operand::of(right, known));
    if is_order && matches!((&left, &right), (Some(Operand::Unit), _) | (_, Some(Operand::Unit))) {
        let hint = "check x == () first".to_owned();
        return Some((format!("cannot compare () with {operator}"), Some(hint)));
    }
    let (left, right) = (left?, right?);
    let cannot = || format!("cannot compare {} and {} with {operator}", left.name(), right.name());
    match (&left, &right) {
        (Operand::Size, Operand::Text(text)) | (Operand::Text(text), Operand::Size) => {
            let error = size::parse(text).err()?;
            Some((format!("{error:#}"), error.next_step().map(str::to_owned)))
        }
        (Operand::Number, Operand::Text(text)) | (Operand::Text(text), Operand::Number) => {
            let is_size = size::parse(text).is_ok();
            (is_order || is_size)
                .then(|| (cannot(), is_size.then(|| format!("use size({text:?})"))))
        }
        (Operand::Size, Operand::Number) | (Operand::Number, Operand::Size) => None,
        _ if is_order && left.name() != right.name() => Some((cannot(), None)),
        _ => None,
    }
}

/// The finding about `switch` on a size, which never matches a case.
pub(super) fn switch(subject: &Expr, known: &[Function]) -> Option<Mismatch> {
    matches!(Operand::of(subject, known)?, Operand::Size).then(switch_on_size)
}

pub(super) fn switch_on_size() -> Mismatch {
    let hint = "use if, or switch on its .bytes".to_owned();
    ("a size never matches a case of switch".to_owned(), Some(hint))
}
