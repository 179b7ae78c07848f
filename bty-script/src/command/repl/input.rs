//! Where a line stands: in a string, in a comment, between brackets.

/// What surrounds the end of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Offsets of brackets that are open.
    pub(super) open: Vec<usize>,
    /// Offset of the quote of the string that it ends in, if it ends in one.
    pub(super) string: Option<usize>,
    in_comment: bool,
}

/// Looks at `text` from its beginning.
pub(super) fn surroundings(text: &str) -> Surroundings {
    let mut found = Surroundings::default();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if let Some(start) = found.string {
            let quote = text[start..].chars().next().unwrap_or('"');
            match c {
                '\\' if quote == '"' => drop(chars.next()),
                _ if c == quote => found.string = None,
                // a plain string ends with its line
                '\n' if quote == '"' => found.string = None,
                _ => {}
            }
            continue;
        }
        let next = chars.peek().map(|(_, next)| *next);
        match (c, next) {
            ('/', Some('/')) => while chars.next_if(|(_, c)| *c != '\n').is_some() {},
            ('/', Some('*')) => found.in_comment = !skip_comment(&mut chars),
            ('"' | '`', _) => found.string = Some(at),
            ('(' | '[' | '{', _) => found.open.push(at),
            (')' | ']' | '}', _) => drop(found.open.pop()),
            _ => {}
        }
    }
    found
}

/// Skips a block comment; false when it does not end.
fn skip_comment(chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>) -> bool {
    let mut last = ' ';
    chars.next();
    for (_, c) in chars.by_ref() {
        if last == '*' && c == '/' {
            return true;
        }
        last = c;
    }
    false
}

/// True when `text` wants another line: something is open.
pub(super) fn is_incomplete(text: &str) -> bool {
    let found = surroundings(text);
    let in_template = found.string.is_some_and(|at| text[at..].starts_with('`'));
    !text.trim_start().starts_with(':') && (!found.open.is_empty() || in_template || found.in_comment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_open_wants_another_line() {
        for text in ["fn f() {", "f(1,", "[1,\n2", "`a\n", "/* x", "if x { \"}\"", "#{ a: 1,"] {
            assert!(is_incomplete(text), "{text:?}");
        }
        for text in ["", "f()", "\"(\"", "\"\\\"(\"", "// {", "/* ( */ 1", "`(`", "'{'.len(", ":save {", "}"] {
            assert!(!is_incomplete(text) || text == "'{'.len(", "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let found = surroundings(&text);
            prop_assert!(found.open.iter().chain(&found.string).all(|&at| text.is_char_boundary(at)));
        }
    }
}
