//! Names of files that clients choose.

use crate::domain::error::{Error, ErrorKind, Result};

const NAME_BYTES_MAX: usize = 255;

/// Refuses names that lead to another directory, and hidden files. `what` is the kind of file, such
/// as `a boot file`.
///
/// # Errors
/// [`ErrorKind::Malformed`] for a name that is not that of a visible file in its directory.
pub fn check_file_name<'a>(what: &str, name: &'a str) -> Result<&'a str> {
    let is_plain = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0'])
        && !name.chars().any(char::is_control);
    if is_plain {
        Ok(name)
    } else {
        let detail = format!("invalid name of {what}: expected a file name without a directory");
        Err(Error::new(ErrorKind::Malformed, detail))
    }
}
