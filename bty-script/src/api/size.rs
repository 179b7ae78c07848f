//! The type `Size`: exact arithmetic with numbers of bytes. [`compare`](super::compare) compares
//! them.

use std::ops::{Range, RangeInclusive};

use rhai::plugin::*;
use rhai::{Dynamic, FLOAT, INT};

use super::compare;
use super::types::{AnySize, SizeOrInt};
use crate::convert::Size;
use crate::error::{CallResult, HostError, raise_unplaced};

/// Every integer below this, as a float, fits into a size.
const SIZE_END: FLOAT = 18_446_744_073_709_551_616.0;

fn overflow(what: &str) -> Box<rhai::EvalAltResult> {
    raise_unplaced(HostError::usage(format!(
        "the {what} of sizes is out of range: below -2^63 or above 2^64 - 1 bytes"
    )))
}

fn wide(size: Size) -> i128 {
    i128::from(size.0)
}

/// The number of bytes that an operand means: of a size, a number without a fraction, or a string
/// that is a size.
fn operand(value: &Dynamic) -> CallResult<i128> {
    match value.as_int() {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Size::from_dynamic(value).map(wide),
    }
}

/// A size, or an integer if negative, so that a difference of sizes can be compared with 0 and used
/// to sort an array.
fn signed(bytes: i128, what: &str) -> CallResult<Dynamic> {
    if let Ok(size) = u64::try_from(bytes) {
        return Ok(Dynamic::from(Size(size)));
    }
    INT::try_from(bytes).map(Dynamic::from).map_err(|_| overflow(what))
}

/// A computed number of bytes, rounded down.
#[allow(clippy::cast_possible_truncation)] // the range is checked
fn rounded(bytes: FLOAT, what: &str) -> CallResult<Dynamic> {
    let bytes = bytes.floor();
    if (-SIZE_END..SIZE_END).contains(&bytes) {
        signed(bytes as i128, what)
    } else {
        Err(overflow(what))
    }
}

/// Adding a string to a size joins them to a string. If the string is a size itself, that is
/// probably a mistake.
fn not_a_size(text: &str) -> CallResult<&str> {
    if bty::size::parse(text).is_err() {
        return Ok(text);
    }
    let error = HostError::usage(format!("cannot add a size and the string {text:?}"));
    Err(raise_unplaced(
        error
            .hint(format!("use size({text:?}) to add sizes, or `${{…}}` to join both to a string")),
    ))
}

#[export_module]
pub(super) mod functions {
    /// A size from a string (`"4G"`, `"500GB"`, `"4096"`) or a number of bytes. `K`, `M`, `G`, `T`
    /// and `KiB` to `TiB` are powers of 1024, `KB` to `TB` are powers of 1000.
    #[rhai_fn(name = "size", return_raw)]
    pub fn size(value: AnySize) -> CallResult<Size> {
        Size::from_dynamic(&value)
    }

    /// The number of bytes as an integer. Fails above 2^63 - 1.
    #[rhai_fn(get = "bytes", pure, return_raw)]
    pub fn bytes(size: &mut Size) -> CallResult<INT> {
        size.to_int()
    }

    /// In a readable unit: `465.8 GiB`.
    #[rhai_fn(name = "to_string", pure)]
    pub fn to_string(size: &mut Size) -> String {
        size.to_string()
    }

    /// The exact number of bytes, as an expression: `size("500107862016")`.
    #[rhai_fn(name = "to_debug", pure)]
    pub fn to_debug(size: &mut Size) -> String {
        format!("size(\"{}\")", size.0)
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn add(a: Size, b: Dynamic) -> CallResult<SizeOrInt> {
        signed(wide(a) + operand(&b)?, "sum")
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn add_number(a: INT, b: Size) -> CallResult<SizeOrInt> {
        add(b, a.into())
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn add_float(a: FLOAT, b: Size) -> CallResult<SizeOrInt> {
        add(b, a.into())
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn append(a: Size, text: &str) -> CallResult<String> {
        not_a_size(text).map(|text| format!("{a}{text}"))
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn prepend(text: &str, a: Size) -> CallResult<String> {
        not_a_size(text).map(|text| format!("{text}{a}"))
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract(a: Size, b: Dynamic) -> CallResult<SizeOrInt> {
        signed(wide(a) - operand(&b)?, "difference")
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract_from(a: Dynamic, b: Size) -> CallResult<SizeOrInt> {
        signed(operand(&a)? - wide(b), "difference")
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract_sizes(a: Size, b: Size) -> CallResult<SizeOrInt> {
        signed(wide(a) - wide(b), "difference")
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn negate(a: Size) -> CallResult<SizeOrInt> {
        signed(-wide(a), "negative")
    }

    #[rhai_fn(name = "*", return_raw)]
    pub fn multiply(a: Size, times: INT) -> CallResult<SizeOrInt> {
        wide(a)
            .checked_mul(i128::from(times))
            .ok_or_else(|| overflow("product"))
            .and_then(|n| signed(n, "product"))
    }

    #[rhai_fn(name = "*", return_raw)]
    pub fn multiply_left(times: INT, a: Size) -> CallResult<SizeOrInt> {
        multiply(a, times)
    }

    #[rhai_fn(name = "*", return_raw)]
    pub fn scale(a: Size, by: FLOAT) -> CallResult<Dynamic> {
        rounded(a.0 as FLOAT * by, "product")
    }

    #[rhai_fn(name = "*", return_raw)]
    pub fn scale_left(by: FLOAT, a: Size) -> CallResult<Dynamic> {
        scale(a, by)
    }

    #[rhai_fn(name = "/", return_raw)]
    pub fn divide(a: Size, by: INT) -> CallResult<Size> {
        let quotient = u64::try_from(by).ok().and_then(|by| a.0.checked_div(by));
        quotient.map(Size).ok_or_else(|| overflow("quotient"))
    }

    #[rhai_fn(name = "/", return_raw)]
    pub fn divide_scaled(a: Size, by: FLOAT) -> CallResult<Dynamic> {
        rounded(a.0 as FLOAT / by, "quotient")
    }

    #[rhai_fn(name = "/", return_raw)]
    pub fn ratio(a: Size, b: Size) -> CallResult<INT> {
        let quotient = a.0.checked_div(b.0).ok_or_else(|| overflow("quotient"))?;
        Size(quotient).to_int()
    }

    #[rhai_fn(name = "/", return_raw)]
    pub fn ratio_to_text(a: Size, b: &str) -> CallResult<INT> {
        ratio(a, Size::from_dynamic(&b.into())?)
    }

    #[rhai_fn(name = "%", return_raw)]
    pub fn remainder(a: Size, b: Dynamic) -> CallResult<Size> {
        let b = Size::from_dynamic(&b)?;
        a.0.checked_rem(b.0).map(Size).ok_or_else(|| overflow("remainder"))
    }

    /// True if the size, as a number of bytes, is in the range.
    #[rhai_fn(name = "contains", pure)]
    pub fn range_contains(range: &mut Range<INT>, size: Size) -> bool {
        size.to_int().is_ok_and(|bytes| range.contains(&bytes))
    }

    /// True if the size, as a number of bytes, is in the range.
    #[rhai_fn(name = "contains", pure)]
    pub fn inclusive_range_contains(range: &mut RangeInclusive<INT>, size: Size) -> bool {
        size.to_int().is_ok_and(|bytes| range.contains(&bytes))
    }

    /// The larger of two sizes. Numbers of bytes and strings such as `"4G"` are converted.
    #[rhai_fn(name = "max", return_raw)]
    pub fn max_of(a: Size, b: AnySize) -> CallResult<Size> {
        Ok(a.max(Size::from_dynamic(&b)?))
    }

    /// The larger of two sizes. Numbers of bytes and strings such as `"4G"` are converted.
    #[rhai_fn(name = "max", return_raw)]
    pub fn max_with(a: AnySize, b: Size) -> CallResult<Size> {
        max_of(b, a)
    }

    /// The smaller of two sizes. Numbers of bytes and strings such as `"4G"` are converted.
    #[rhai_fn(name = "min", return_raw)]
    pub fn min_of(a: Size, b: AnySize) -> CallResult<Size> {
        Ok(a.min(Size::from_dynamic(&b)?))
    }

    /// The smaller of two sizes. Numbers of bytes and strings such as `"4G"` are converted.
    #[rhai_fn(name = "min", return_raw)]
    pub fn min_with(a: AnySize, b: Size) -> CallResult<Size> {
        min_of(b, a)
    }

    /// The later of two strings. Fails for strings that are sizes: use `size()` for one of them.
    #[rhai_fn(name = "max", return_raw)]
    pub fn max_text(a: &str, b: &str) -> CallResult<String> {
        compare::refuse_sizes_in_text("max()", a, b)?;
        Ok(a.max(b).to_owned())
    }

    /// The earlier of two strings. Fails for strings that are sizes: use `size()` for one of them.
    #[rhai_fn(name = "min", return_raw)]
    pub fn min_text(a: &str, b: &str) -> CallResult<String> {
        compare::refuse_sizes_in_text("min()", a, b)?;
        Ok(a.min(b).to_owned())
    }
}
