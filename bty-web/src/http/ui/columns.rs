//! Heads of tables that can be sorted by: `sort=KEY` in the address, with `-` before it for the
//! other way.

/// A column that can be sorted by.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// The address of the list, sorted by it, or the other way when it is already.
    pub path: String,
    /// `ascending`, `descending` or nothing.
    pub order: &'static str,
}

/// What is known of a column beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Its name.
    pub name: &'static str,
    /// Its key in addresses.
    pub key: &'static str,
    /// The largest is wanted first: of times, the newest.
    pub is_down_first: bool,
}

/// A column that begins with the smallest.
#[must_use]
pub const fn up(name: &'static str, key: &'static str) -> Head {
    Head { name, key, is_down_first: false }
}

/// A column that begins with the largest.
#[must_use]
pub const fn down(name: &'static str, key: &'static str) -> Head {
    Head { name, key, is_down_first: true }
}

/// The columns of a list that is sorted by `sort`, by the first one when that is empty.
#[must_use]
pub fn columns(heads: &[Head], sort: &str, path: impl Fn(&str) -> String) -> Vec<Column> {
    let now = if sort.is_empty() { heads.first().map_or("", |head| head.key) } else { sort };
    let column = |head: &Head| {
        let down = format!("-{}", head.key);
        let (next, order) = match now {
            now if now == head.key => (down.as_str(), "ascending"),
            now if now == down => (head.key, "descending"),
            _ if head.is_down_first => (down.as_str(), ""),
            _ => (head.key, ""),
        };
        Column { name: head.name, path: path(next), order }
    };
    heads.iter().map(column).collect()
}

/// The key that a list is sorted by, and whether it is the other way.
#[must_use]
pub fn key(sort: &str) -> (&str, bool) {
    match sort.strip_prefix('-') {
        Some(key) => (key, true),
        None => (sort, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_sorts_and_another_one_turns_it_around() {
        let heads = [up("MAC", "mac"), down("Last seen", "seen")];
        let shown = |sort: &str| {
            let all = columns(&heads, sort, str::to_owned);
            all.into_iter()
                .map(|column| format!("{} {}", column.path, column.order))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(""), ["-mac ascending", "-seen "]);
        assert_eq!(shown("-seen"), ["mac ", "seen descending"]);
        assert_eq!(shown("seen"), ["mac ", "-seen ascending"]);
        assert_eq!((key("-seen"), key("mac")), (("seen", true), ("mac", false)));
    }
}
