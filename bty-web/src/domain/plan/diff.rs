//! Differences between two revisions of a plan.

/// Returns a unified diff with three lines of context; empty if the texts are equal.
#[must_use]
pub fn lines(before: &str, after: &str) -> String {
    if before == after {
        return String::new();
    }
    let diff = similar::TextDiff::from_lines(before, after);
    diff.unified_diff().context_radius(3).to_string()
}
