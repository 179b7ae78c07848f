//! What has changed between two revisions, line by line.

/// The lines of a unified diff without context marks: `-` for what is gone, `+` for what is new, a
/// blank for what stayed. Two equal texts have none.
#[must_use]
pub fn lines(before: &str, after: &str) -> String {
    if before == after {
        return String::new();
    }
    let diff = similar::TextDiff::from_lines(before, after);
    diff.unified_diff().context_radius(3).to_string()
}
