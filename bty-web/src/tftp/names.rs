//! Names of the files that clients may request, and their directories.

use std::path::PathBuf;

use crate::domain::error::{Error, Result};

/// Name of the script that iPXE requests on its own from the server that it was loaded from.
pub const AUTOEXEC: &str = "autoexec.ipxe";

/// Boot programs: those of Debian's package `ipxe`, and their names in other distributions.
pub const PROGRAMS: [&str; 6] = [
    "snponly.efi",
    "ipxe.efi",
    "ipxe-amd64.efi",
    "snponly-arm64.efi",
    "ipxe-arm64.efi",
    "undionly.kpxe",
];

/// Checks that there is a directory to serve.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) if none of `roots` is a
/// readable directory.
pub fn check_roots(roots: &[PathBuf]) -> Result<()> {
    if roots.iter().any(|root| std::fs::read_dir(root).is_ok()) {
        return Ok(());
    }
    let named: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    Err(Error::invalid(format!(
        "nothing to serve: {} is not a readable directory; set --root to the directory of the boot \
         programs",
        named.join(" or ")
    )))
}

/// Checks the file names that an operator allows in addition to [`PROGRAMS`].
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) for a path, a hidden file, or
/// an empty name.
pub fn check_names(names: &[String]) -> Result<()> {
    let is_plain =
        |name: &String| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
    match names.iter().find(|name| !is_plain(name)) {
        Some(wrong) => Err(Error::invalid(format!("{wrong:?} is not a plain file name"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_can_be_allowed() {
        assert!(check_names(&["shim.efi".into()]).is_ok());
        for wrong in ["", "a/b", "..", ".x", "a\\b"] {
            assert!(check_names(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
