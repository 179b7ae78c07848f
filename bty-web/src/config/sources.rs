//! Where a configuration comes from.

use std::path::PathBuf;

/// The sources of a configuration.
pub struct Sources<'a> {
    /// Returns an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Files and directories that replace the default ones.
    pub named: &'a [PathBuf],
}
