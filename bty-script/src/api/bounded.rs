//! Functions of the language that make something as large as they are told, within bounds.
//!
//! The limits of the engine on the size of values cost time with every change of a container, so
//! operators' scripts run without them, and memory is watched instead. What grows by one call alone
//! has to be bounded by the call.

use rhai::plugin::*;
use rhai::{Array, Blob, Dynamic, INT, ImmutableString};

use crate::error::Outcome;

/// The longest text or blob, in bytes.
const BYTES_MAX: usize = 16 << 20;
/// The longest array.
const ITEMS_MAX: usize = 1 << 20;

fn bounded(len: INT, most: usize, what: &str) -> Outcome<usize> {
    let len = usize::try_from(len).unwrap_or(0);
    if len <= most {
        Ok(len)
    } else {
        Err(EvalAltResult::ErrorDataTooLarge(what.to_owned(), Position::NONE).into())
    }
}

fn padded(text: &ImmutableString, len: INT, with: &str) -> Outcome<ImmutableString> {
    let len = bounded(len, BYTES_MAX / 4, "Length of string")?;
    let have = text.chars().count();
    if len <= have || with.is_empty() {
        return Ok(text.clone());
    }
    let (missing, unit) = (len - have, with.chars().count());
    let rest: String = with.chars().take(missing % unit).collect();
    Ok(format!("{text}{}{rest}", with.repeat(missing / unit)).into())
}

#[export_module]
pub(super) mod functions {
    /// A blob of so many zero bytes.
    #[rhai_fn(name = "blob", return_raw)]
    pub fn blob(len: INT) -> Outcome<Blob> {
        Ok(vec![0; bounded(len, BYTES_MAX, "Size of BLOB")?])
    }

    /// A blob of so many bytes of one value.
    #[rhai_fn(name = "blob", return_raw)]
    pub fn blob_of(len: INT, value: INT) -> Outcome<Blob> {
        Ok(vec![value.to_le_bytes()[0]; bounded(len, BYTES_MAX, "Size of BLOB")?])
    }

    /// Makes a blob so long at least, with bytes of one value at its end.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_blob(blob: &mut Blob, len: INT, value: INT) -> Outcome<()> {
        let len = bounded(len, BYTES_MAX, "Size of BLOB")?;
        if len > blob.len() {
            blob.resize(len, value.to_le_bytes()[0]);
        }
        Ok(())
    }

    /// Makes an array so long at least, with copies of a value at its end.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_array(array: &mut Array, len: INT, value: Dynamic) -> Outcome<()> {
        let len = bounded(len, ITEMS_MAX, "Size of array")?;
        if len > array.len() {
            array.resize(len, value);
        }
        Ok(())
    }

    /// Makes a text so many characters long at least, with copies of a character at its end.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_text(text: &mut ImmutableString, len: INT, with: char) -> Outcome<()> {
        *text = padded(text, len, with.encode_utf8(&mut [0; 4]))?;
        Ok(())
    }

    /// Makes a text so many characters long at least, with copies of a text at its end.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_text_with(text: &mut ImmutableString, len: INT, with: &str) -> Outcome<()> {
        *text = padded(text, len, with)?;
        Ok(())
    }
}
