//! Headings of sortable tables: `sort=KEY` in the URL, `sort=-KEY` for descending order.

/// The heading of a column, as a link that sorts by it.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Title of the column.
    pub name: &'static str,
    /// URL of the list sorted by this column; if it is already sorted by it, in the opposite order.
    pub path: String,
    /// `ascending`, `descending`, or empty if the list is sorted by another column.
    pub order: &'static str,
}

/// A sortable column.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Title of the column.
    pub name: &'static str,
    /// Its key in URLs.
    pub key: &'static str,
    /// True if the first click sorts in descending order: newest or largest first.
    pub is_descending_first: bool,
}

/// Creates a column whose first click sorts in ascending order.
#[must_use]
pub const fn ascending(name: &'static str, key: &'static str) -> Head {
    Head { name, key, is_descending_first: false }
}

/// Creates a column whose first click sorts in descending order.
#[must_use]
pub const fn descending(name: &'static str, key: &'static str) -> Head {
    Head { name, key, is_descending_first: true }
}

/// Returns the headings of a list sorted by `sort`, or by the first column if it is empty.
#[must_use]
pub fn columns(heads: &[Head], sort: &str, path: impl Fn(&str) -> String) -> Vec<Column> {
    let now = if sort.is_empty() { heads.first().map_or("", |head| head.key) } else { sort };
    let column = |head: &Head| {
        let descending = format!("-{}", head.key);
        let (next, order) = match now {
            now if now == head.key => (descending.as_str(), "ascending"),
            now if now == descending => (head.key, "descending"),
            _ if head.is_descending_first => (descending.as_str(), ""),
            _ => (head.key, ""),
        };
        Column { name: head.name, path: path(next), order }
    };
    heads.iter().map(column).collect()
}

/// Returns the key in a `sort` parameter, and whether the order is descending.
#[must_use]
pub fn parse_sort(sort: &str) -> (&str, bool) {
    match sort.strip_prefix('-') {
        Some(key) => (key, true),
        None => (sort, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_sorts_and_a_second_one_reverses() {
        let heads = [ascending("MAC", "mac"), descending("Last seen", "seen")];
        let shown = |sort: &str| {
            let all = columns(&heads, sort, str::to_owned);
            all.into_iter()
                .map(|column| format!("{} {}", column.path, column.order))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(""), ["-mac ascending", "-seen "]);
        assert_eq!(shown("-seen"), ["mac ", "seen descending"]);
        assert_eq!(shown("seen"), ["mac ", "-seen ascending"]);
        assert_eq!((parse_sort("-seen"), parse_sort("mac")), (("seen", true), ("mac", false)));
    }
}
