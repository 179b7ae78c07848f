//! Comparison operators: exact between sizes, numbers and strings that are sizes, and an error
//! where rhai alone would silently return `false`.
//!
//! A guard such as `if disk.size_bytes > limit { throw … }` must not be skipped because its sides
//! have different types, so ordering values of different types is an error. Comparing them for
//! equality returns `false`, because scripts rely on `x == ()` and `disk == "auto"`. The exception
//! is a number or a size compared with a string that is a size: it is converted, or is an error.

use std::any::TypeId;
use std::cmp::Ordering;
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, LazyLock};

use bty::size;
use rhai::plugin::RhaiFunc;
use rhai::{
    Array, Blob, Dynamic, Engine, FLOAT, FnPtr, FuncRegistration, INT, ImmutableString, Map, Module,
};

use super::HOST_TYPES;
use crate::convert::Size;
use crate::error::{CallResult, HostError, raise_unplaced};

/// An operator, and the orderings for which it is true.
struct Operator {
    name: &'static str,
    holds: fn(Ordering) -> bool,
}

const ORDER: [Operator; 4] = [
    Operator { name: "<", holds: Ordering::is_lt },
    Operator { name: "<=", holds: Ordering::is_le },
    Operator { name: ">", holds: Ordering::is_gt },
    Operator { name: ">=", holds: Ordering::is_ge },
];
const EQUALITY: [Operator; 2] = [
    Operator { name: "==", holds: Ordering::is_eq },
    Operator { name: "!=", holds: Ordering::is_ne },
];

/// Built once, and shared by all engines.
static COMPARISONS: LazyLock<Arc<Module>> = LazyLock::new(|| Arc::new(comparisons()));

/// Works only with [`Engine::set_fast_operators`] off: otherwise the engine compares its own types
/// without calling these functions.
pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(Arc::clone(&COMPARISONS));
}

fn comparisons() -> Module {
    let own = [
        TypeId::of::<()>(),
        TypeId::of::<bool>(),
        TypeId::of::<char>(),
        TypeId::of::<INT>(),
        TypeId::of::<FLOAT>(),
        TypeId::of::<ImmutableString>(),
        TypeId::of::<Array>(),
        TypeId::of::<Map>(),
        TypeId::of::<Blob>(),
        TypeId::of::<FnPtr>(),
        TypeId::of::<Range<INT>>(),
        TypeId::of::<RangeInclusive<INT>>(),
    ];
    let unlike = own
        .iter()
        .flat_map(|a| own.iter().map(move |b| [*a, *b]))
        .filter(|[a, b]| is_unlike(*a, *b));
    let any = TypeId::of::<Dynamic>();
    let hosts = HOST_TYPES.iter().flat_map(|host| [[host(), any], [any, host()]]);
    let size = TypeId::of::<Size>();
    let numbers = [TypeId::of::<INT>(), TypeId::of::<FLOAT>()].into_iter();
    let text = TypeId::of::<ImmutableString>();
    let equal = numbers
        .flat_map(|number| [[number, text], [text, number]])
        .chain([[size, any], [any, size]]);

    let mut module = Module::new();
    for operator in &ORDER {
        add(&mut module, operator, unlike.clone().chain(hosts.clone()).chain([[text, text]]));
    }
    for operator in &EQUALITY {
        add(&mut module, operator, equal.clone());
    }
    module
}

/// True for pairs of types for which rhai's ordering operators always return false.
fn is_unlike(a: TypeId, b: TypeId) -> bool {
    let are = |one: TypeId, other: TypeId| (a, b) == (one, other) || (a, b) == (other, one);
    let (text, unit) = (TypeId::of::<ImmutableString>(), TypeId::of::<()>());
    (a != b || are(unit, unit))
        && !are(TypeId::of::<INT>(), TypeId::of::<FLOAT>())
        && !are(text, TypeId::of::<char>())
}

fn add(module: &mut Module, operator: &'static Operator, pairs: impl Iterator<Item = [TypeId; 2]>) {
    let compare = |_: Option<rhai::NativeCallContext<'_>>, args: &mut [&mut Dynamic]| {
        evaluate(operator, &args[0].flatten_clone(), &args[1].flatten_clone()).map(Dynamic::from)
    };
    let func = RhaiFunc::Method {
        func: Arc::new(compare),
        has_context: false,
        is_pure: true,
        is_volatile: false,
    };
    for pair in pairs {
        FuncRegistration::new(operator.name).in_global_namespace().set_into_module_raw(
            module,
            pair,
            func.clone(),
        );
    }
}

/// Evaluates `a operator b`.
fn evaluate(operator: &Operator, a: &Dynamic, b: &Dynamic) -> CallResult<bool> {
    let is_equality = EQUALITY.iter().any(|equality| equality.name == operator.name);
    let is_or_reads_as_size = |value: &Dynamic| value.is::<Size>() || reads_as_size(value);
    let is_unlike = a.is_unit() || b.is_unit() || ![a, b].into_iter().any(is_or_reads_as_size);
    if is_equality && is_unlike {
        return Ok(operator.name == "!=");
    }
    order(operator.name, a, b).map(operator.holds)
}

/// The order of two values. Fails for values without an order; the error names `operation`.
pub(super) fn order(operation: &str, a: &Dynamic, b: &Dynamic) -> CallResult<Ordering> {
    let sizes = (a.read_lock::<Size>().map(|size| *size), b.read_lock::<Size>().map(|size| *size));
    let ordering = match sizes {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(size), None) => compare_size(size, b)?,
        (None, Some(size)) => compare_size(size, a)?.map(Ordering::reverse),
        (None, None) => order_plain(operation, a, b)?,
    };
    ordering.ok_or_else(|| raise_unplaced(unlike(operation, a, b)))
}

/// The order of two numbers, strings, characters or booleans; `None` for other values.
fn order_plain(operation: &str, a: &Dynamic, b: &Dynamic) -> CallResult<Option<Ordering>> {
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return Ok(Some(a.cmp(&b)));
    }
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return Ok(a.partial_cmp(&b));
    }
    if let (Some(a), Some(b)) = (a.read_lock::<ImmutableString>(), b.read_lock::<ImmutableString>())
    {
        refuse_sizes_in_text(operation, &a, &b)?;
        return Ok(Some(a.cmp(&b)));
    }
    if let (Ok(a), Ok(b)) = (a.as_char(), b.as_char()) {
        return Ok(Some(a.cmp(&b)));
    }
    Ok(a.as_bool().ok().zip(b.as_bool().ok()).map(|(a, b)| a.cmp(&b)))
}

#[allow(clippy::cast_precision_loss)] // as the language compares integers with floats
fn number(value: &Dynamic) -> Option<FLOAT> {
    value.as_float().or_else(|_| value.as_int().map(|int| int as FLOAT)).ok()
}

/// Fails for two strings that are sizes with units: by their characters, `"100G"` comes before
/// `"20G"`, which no script means.
pub(super) fn refuse_sizes_in_text(operation: &str, a: &str, b: &str) -> CallResult<()> {
    let is_size = |text: &str| {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
        !unit.is_empty() && !unit.eq_ignore_ascii_case("b") && size::parse(text).is_ok()
    };
    if !is_size(a) || !is_size(b) {
        return Ok(());
    }
    let message = format!("cannot compare the strings {a:?} and {b:?} with {operation}");
    Err(raise_unplaced(
        HostError::usage(message).hint(format!("they are sizes: use size({a:?}) for one of them")),
    ))
}

/// Compares `size` with a number, or with a string that is a size; `None` for other values.
fn compare_size(size: Size, other: &Dynamic) -> CallResult<Option<Ordering>> {
    if let Ok(bytes) = other.as_int() {
        return Ok(Some(i128::from(size.0).cmp(&i128::from(bytes))));
    }
    if let Ok(number) = other.as_float() {
        return Ok(compare_float(size.0, number));
    }
    if other.is_string() {
        return Size::from_dynamic(other).map(|other| Some(size.cmp(&other)));
    }
    Ok(None)
}

/// Compares exactly: converting a size of 2^53 or more to a float would lose digits.
// the cast is within the range of a size, and the fraction is compared by itself
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn compare_float(bytes: u64, number: FLOAT) -> Option<Ordering> {
    const ABOVE: FLOAT = 18_446_744_073_709_551_616.0;
    if number.is_nan() {
        return None;
    }
    if number < 0.0 {
        return Some(Ordering::Greater);
    }
    if number >= ABOVE {
        return Some(Ordering::Less);
    }
    let fraction = if number.fract() > 0.0 { Ordering::Less } else { Ordering::Equal };
    Some(bytes.cmp(&(number.trunc() as u64)).then(fraction))
}

fn reads_as_size(value: &Dynamic) -> bool {
    value.read_lock::<ImmutableString>().is_some_and(|text| size::parse(&text).is_ok())
}

fn unlike(operator: &str, a: &Dynamic, b: &Dynamic) -> HostError {
    let error =
        HostError::usage(format!("cannot compare {} and {} with {operator}", kind(a), kind(b)));
    let text = [a, b].into_iter().find(|value| value.is_string());
    let has_number = [a, b].into_iter().any(|value| value.is_int() || value.is_float());
    let is_nan = |value: &&Dynamic| value.as_float().is_ok_and(FLOAT::is_nan);
    match text {
        _ if [a, b].iter().any(is_nan) => {
            error.hint("the number is NaN, the result of a calculation such as 0.0 / 0.0")
        }
        _ if a.is_unit() || b.is_unit() => error
            .hint("() means that the value is unknown: check x == () first, or use x ?? default"),
        Some(text) if has_number && reads_as_size(text) => error.hint(format!(
            "use size({text:?}) for a number of bytes, or parse_int({text:?}) for a number"
        )),
        Some(_) if has_number => {
            error.hint("use parse_int() or parse_float() to convert a string to a number")
        }
        _ => error.hint("compare values of the same type"),
    }
}

/// The type of `value` in words, for messages.
fn kind(value: &Dynamic) -> &'static str {
    match value.type_id() {
        id if id == TypeId::of::<()>() => "()",
        id if id == TypeId::of::<bool>() => "true or false",
        id if id == TypeId::of::<char>() => "a character",
        id if id == TypeId::of::<INT>() || id == TypeId::of::<FLOAT>() => "a number",
        id if id == TypeId::of::<ImmutableString>() => "a string",
        id if id == TypeId::of::<Array>() => "an array",
        id if id == TypeId::of::<Map>() => "a map",
        id if id == TypeId::of::<Size>() => "a size",
        _ => "another value",
    }
}
