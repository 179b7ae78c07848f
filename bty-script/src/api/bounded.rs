//! Replaces rhai functions that allocate as much as their argument says by bounded ones.
//!
//! Scripts of operators run without rhai's size limits, which cost time on every change of a
//! container; the meter watches memory instead. It cannot stop a single call, so these calls check
//! their argument.

use rhai::plugin::*;
use rhai::{Array, Blob, Dynamic, INT, ImmutableString};

use crate::error::CallResult;

/// Maximum length of a string or blob, in bytes.
const BYTES_MAX: usize = 16 << 20;
/// Maximum length of an array.
const ITEMS_MAX: usize = 1 << 20;

fn bounded(len: INT, most: usize, what: &str) -> CallResult<usize> {
    let len = usize::try_from(len).unwrap_or(0);
    if len <= most {
        Ok(len)
    } else {
        Err(EvalAltResult::ErrorDataTooLarge(what.to_owned(), Position::NONE).into())
    }
}

fn padded(text: &ImmutableString, len: INT, with: &str) -> CallResult<ImmutableString> {
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
    /// A blob of `len` zero bytes.
    #[rhai_fn(name = "blob", return_raw)]
    pub fn blob(len: INT) -> CallResult<Blob> {
        Ok(vec![0; bounded(len, BYTES_MAX, "Size of BLOB")?])
    }

    /// A blob of `len` bytes with one value.
    #[rhai_fn(name = "blob", return_raw)]
    pub fn blob_of(len: INT, value: INT) -> CallResult<Blob> {
        Ok(vec![value.to_le_bytes()[0]; bounded(len, BYTES_MAX, "Size of BLOB")?])
    }

    /// Extends a blob to at least `len` bytes with one value.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_blob(blob: &mut Blob, len: INT, value: INT) -> CallResult<()> {
        let len = bounded(len, BYTES_MAX, "Size of BLOB")?;
        if len > blob.len() {
            blob.resize(len, value.to_le_bytes()[0]);
        }
        Ok(())
    }

    /// Extends an array to at least `len` elements with copies of a value.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_array(array: &mut Array, len: INT, value: Dynamic) -> CallResult<()> {
        let len = bounded(len, ITEMS_MAX, "Size of array")?;
        if len > array.len() {
            array.resize(len, value);
        }
        Ok(())
    }

    /// Extends a string to at least `len` characters with copies of a character.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_text(text: &mut ImmutableString, len: INT, with: char) -> CallResult<()> {
        *text = padded(text, len, with.encode_utf8(&mut [0; 4]))?;
        Ok(())
    }

    /// Extends a string to at least `len` characters with copies of a string.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_text_with(text: &mut ImmutableString, len: INT, with: &str) -> CallResult<()> {
        *text = padded(text, len, with)?;
        Ok(())
    }
}
