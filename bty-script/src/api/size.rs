//! The type `Size`: exact arithmetic with numbers of bytes. [`compare`](super::compare) compares
//! them.

use rhai::plugin::*;
use rhai::{Dynamic, INT};

use crate::api::types::{AnySize, SizeOrInt};
use crate::convert::Size;
use crate::error::{CallResult, HostError, raise_unplaced};

fn overflow(what: &str) -> Box<rhai::EvalAltResult> {
    raise_unplaced(HostError::usage(format!(
        "the {what} of sizes is out of range: below -2^63 or above 2^64 - 1 bytes"
    )))
}

fn wide(size: Size) -> i128 {
    i128::from(size.0)
}

/// A size, or an integer if negative, so that a difference of sizes can be compared with 0 and used
/// to sort an array.
fn signed(bytes: i128, what: &str) -> CallResult<Dynamic> {
    if let Ok(size) = u64::try_from(bytes) {
        return Ok(Dynamic::from(Size(size)));
    }
    INT::try_from(bytes).map(Dynamic::from).map_err(|_| overflow(what))
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

    /// Exactly: `size("500107862016")`.
    #[rhai_fn(name = "to_debug", pure)]
    pub fn to_debug(size: &mut Size) -> String {
        format!("size(\"{}\")", size.0)
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn add(a: Size, b: Size) -> CallResult<Size> {
        a.0.checked_add(b.0).map(Size).ok_or_else(|| overflow("sum"))
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn add_bytes(a: Size, b: INT) -> CallResult<SizeOrInt> {
        signed(wide(a) + i128::from(b), "sum")
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn add_to_bytes(a: INT, b: Size) -> CallResult<SizeOrInt> {
        add_bytes(b, a)
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
    pub fn subtract(a: Size, b: Size) -> CallResult<SizeOrInt> {
        signed(wide(a) - wide(b), "difference")
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract_bytes(a: Size, b: INT) -> CallResult<SizeOrInt> {
        signed(wide(a) - i128::from(b), "difference")
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract_from_bytes(a: INT, b: Size) -> CallResult<SizeOrInt> {
        signed(i128::from(a) - wide(b), "difference")
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

    #[rhai_fn(name = "/", return_raw)]
    pub fn divide(a: Size, by: INT) -> CallResult<Size> {
        let quotient = u64::try_from(by).ok().and_then(|by| a.0.checked_div(by));
        quotient.map(Size).ok_or_else(|| overflow("quotient"))
    }

    #[rhai_fn(name = "/", return_raw)]
    pub fn ratio(a: Size, b: Size) -> CallResult<INT> {
        let quotient = a.0.checked_div(b.0).ok_or_else(|| overflow("quotient"))?;
        Size(quotient).to_int()
    }

    #[rhai_fn(name = "%", return_raw)]
    pub fn remainder(a: Size, b: Size) -> CallResult<Size> {
        a.0.checked_rem(b.0).map(Size).ok_or_else(|| overflow("remainder"))
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
}
