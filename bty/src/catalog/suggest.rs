//! Suggestions for a misspelled name.

/// Only this many characters of a name are compared, which bounds the time for a hostile catalog.
const COMPARED_CHARS: usize = 64;

/// Up to three of `names` that are similar to `text`, quoted, the most similar first.
pub(super) fn similar<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let fold = |text: &str| {
        text.chars().take(COMPARED_CHARS).flat_map(char::to_lowercase).collect::<Vec<_>>()
    };
    let text = fold(text);
    let max_distance = ((text.len() + 1) / 3).max(1);
    let mut candidates: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let folded = fold(name);
            let contains =
                text.len() >= 3 && folded.windows(text.len()).any(|window| window == text);
            // a name that contains the text is closer than any misspelling
            let distance = if contains { 0 } else { distance(&text, &folded, max_distance)? };
            Some((distance, name))
        })
        .collect();
    candidates.sort();
    candidates.into_iter().take(3).map(|(_, name)| format!("{name:?}")).collect()
}

/// The Levenshtein distance between `a` and `b`, or `None` if it is larger than `max`.
fn distance(a: &[char], b: &[char], max: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > max {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().filter(|&distance| distance <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_changed_letters() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, expected) in [
            ("", "", Some(0)),
            ("debian", "debain", Some(2)),
            ("abc", "xyz", Some(3)),
            ("a", "abcde", None),
        ] {
            assert_eq!(distance(&chars(a), &chars(b), 3), expected, "{a} {b}");
        }
    }

    #[test]
    fn finds_misspelled_and_partial_names() {
        let all = ["debian 13", "debian 12", "fedora", "ubuntu server"];
        let found = |text: &str| similar(text, all.iter().copied());
        assert_eq!(found("Fedroa"), ["\"fedora\""]);
        assert_eq!(found("debian"), ["\"debian 12\"", "\"debian 13\""]);
        assert_eq!(found("server"), ["\"ubuntu server\""]);
        assert!(found("windows").is_empty());
        assert!(found("").is_empty());
    }
}
