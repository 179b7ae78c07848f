//! Sizes: exact arithmetic with numbers of bytes.

use rhai::plugin::*;
use rhai::{Dynamic, INT};

use crate::convert::Size;
use crate::error::{HostError, Outcome, raise_unplaced};

fn overflow(what: &str) -> Box<rhai::EvalAltResult> {
    raise_unplaced(HostError::usage(format!("the {what} is no size: below zero, or above 2^64 - 1 bytes")))
}

#[export_module]
pub(super) mod functions {
    /// A size from text (`"4G"`, `"500GB"`, `"4096"`) or a number of bytes. `K M G T` and `KiB…` are powers of 1024, `KB MB GB TB` of 1000.
    #[rhai_fn(name = "size", return_raw)]
    pub fn size(value: Dynamic) -> Outcome<Size> {
        Size::from_dynamic(&value)
    }

    /// The number of bytes, as an integer. Fails above 2^63 - 1.
    #[rhai_fn(get = "bytes", pure, return_raw)]
    pub fn bytes(size: &mut Size) -> Outcome<INT> {
        size.to_int()
    }

    /// As people read it: `465.8 GiB`.
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
    pub fn add(a: Size, b: Size) -> Outcome<Size> {
        a.0.checked_add(b.0).map(Size).ok_or_else(|| overflow("sum"))
    }

    #[rhai_fn(name = "+", return_raw)]
    pub fn add_bytes(a: Size, b: INT) -> Outcome<Size> {
        a.0.checked_add_signed(b).map(Size).ok_or_else(|| overflow("sum"))
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract(a: Size, b: Size) -> Outcome<Size> {
        a.0.checked_sub(b.0).map(Size).ok_or_else(|| overflow("difference"))
    }

    #[rhai_fn(name = "-", return_raw)]
    pub fn subtract_bytes(a: Size, b: INT) -> Outcome<Size> {
        let less = b.checked_neg().and_then(|b| a.0.checked_add_signed(b));
        less.map(Size).ok_or_else(|| overflow("difference"))
    }

    #[rhai_fn(name = "*", return_raw)]
    pub fn multiply(a: Size, times: INT) -> Outcome<Size> {
        let product = u64::try_from(times).ok().and_then(|times| a.0.checked_mul(times));
        product.map(Size).ok_or_else(|| overflow("product"))
    }

    #[rhai_fn(name = "*", return_raw)]
    pub fn multiply_left(times: INT, a: Size) -> Outcome<Size> {
        multiply(a, times)
    }

    #[rhai_fn(name = "/", return_raw)]
    pub fn divide(a: Size, by: INT) -> Outcome<Size> {
        let quotient = u64::try_from(by).ok().and_then(|by| a.0.checked_div(by));
        quotient.map(Size).ok_or_else(|| overflow("quotient"))
    }

    #[rhai_fn(name = "/", return_raw)]
    pub fn ratio(a: Size, b: Size) -> Outcome<INT> {
        let quotient = a.0.checked_div(b.0).ok_or_else(|| overflow("quotient"))?;
        Size(quotient).to_int()
    }

    #[rhai_fn(name = "%", return_raw)]
    pub fn remainder(a: Size, b: Size) -> Outcome<Size> {
        a.0.checked_rem(b.0).map(Size).ok_or_else(|| overflow("remainder"))
    }

    #[rhai_fn(name = "==")]
    pub fn equal(a: Size, b: Size) -> bool {
        a == b
    }

    #[rhai_fn(name = "!=")]
    pub fn unequal(a: Size, b: Size) -> bool {
        a != b
    }

    #[rhai_fn(name = "<")]
    pub fn less(a: Size, b: Size) -> bool {
        a < b
    }

    #[rhai_fn(name = "<=")]
    pub fn at_most(a: Size, b: Size) -> bool {
        a <= b
    }

    #[rhai_fn(name = ">")]
    pub fn more(a: Size, b: Size) -> bool {
        a > b
    }

    #[rhai_fn(name = ">=")]
    pub fn at_least(a: Size, b: Size) -> bool {
        a >= b
    }

    #[rhai_fn(name = "==")]
    pub fn equal_bytes(a: Size, b: INT) -> bool {
        i128::from(a.0) == i128::from(b)
    }

    #[rhai_fn(name = "!=")]
    pub fn unequal_bytes(a: Size, b: INT) -> bool {
        i128::from(a.0) != i128::from(b)
    }

    #[rhai_fn(name = "<")]
    pub fn less_bytes(a: Size, b: INT) -> bool {
        i128::from(a.0) < i128::from(b)
    }

    #[rhai_fn(name = "<=")]
    pub fn at_most_bytes(a: Size, b: INT) -> bool {
        i128::from(a.0) <= i128::from(b)
    }

    #[rhai_fn(name = ">")]
    pub fn more_bytes(a: Size, b: INT) -> bool {
        i128::from(a.0) > i128::from(b)
    }

    #[rhai_fn(name = ">=")]
    pub fn at_least_bytes(a: Size, b: INT) -> bool {
        i128::from(a.0) >= i128::from(b)
    }

    #[rhai_fn(name = "==")]
    pub fn bytes_equal(a: INT, b: Size) -> bool {
        i128::from(a) == i128::from(b.0)
    }

    #[rhai_fn(name = "!=")]
    pub fn bytes_unequal(a: INT, b: Size) -> bool {
        i128::from(a) != i128::from(b.0)
    }

    #[rhai_fn(name = "<")]
    pub fn bytes_less(a: INT, b: Size) -> bool {
        i128::from(a) < i128::from(b.0)
    }

    #[rhai_fn(name = "<=")]
    pub fn bytes_at_most(a: INT, b: Size) -> bool {
        i128::from(a) <= i128::from(b.0)
    }

    #[rhai_fn(name = ">")]
    pub fn bytes_more(a: INT, b: Size) -> bool {
        i128::from(a) > i128::from(b.0)
    }

    #[rhai_fn(name = ">=")]
    pub fn bytes_at_least(a: INT, b: Size) -> bool {
        i128::from(a) >= i128::from(b.0)
    }
}
