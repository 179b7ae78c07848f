//! Names that a person may have meant.

/// Longer names are compared by their beginning, so that a hostile catalog costs no time.
const COMPARED_CHARS: usize = 64;

/// Up to three of `names` that are close to `wanted`, quoted, the closest first.
pub(super) fn names<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let fold = |text: &str| {
        text.chars().take(COMPARED_CHARS).flat_map(char::to_lowercase).collect::<Vec<_>>()
    };
    let wanted = fold(wanted);
    let allowed = ((wanted.len() + 1) / 3).max(1);
    let mut close: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let folded = fold(name);
            let part =
                wanted.len() >= 3 && folded.windows(wanted.len()).any(|window| window == wanted);
            // one that contains what was written is closer than any misspelling
            let away = if part { 0 } else { distance(&wanted, &folded, allowed)? };
            Some((away, name))
        })
        .collect();
    close.sort();
    close.into_iter().take(3).map(|(_, name)| format!("{name:?}")).collect()
}

/// Letters to insert, delete or replace to get from `a` to `b`, if not more than `allowed`
/// (Levenshtein).
fn distance(a: &[char], b: &[char], allowed: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > allowed {
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
    row.last().copied().filter(|&distance| distance <= allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_changed_letters() {
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
    fn finds_misspelt_and_partial_names() {
        let all = ["debian 13", "debian 12", "fedora", "ubuntu server"];
        let found = |wanted: &str| names(wanted, all.iter().copied());
        assert_eq!(found("Fedroa"), ["\"fedora\""]);
        assert_eq!(found("debian"), ["\"debian 12\"", "\"debian 13\""]);
        assert_eq!(found("server"), ["\"ubuntu server\""]);
        assert!(found("windows").is_empty());
        assert!(found("").is_empty());
    }
}
