//! Comparing secrets.

use subtle::ConstantTimeEq as _;

/// Compares two secrets in constant time, regardless of where they differ.
///
/// Sessions and API tokens do not need it: the store looks them up by their digests.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}
