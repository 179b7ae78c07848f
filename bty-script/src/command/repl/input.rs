//! Scans a line for open strings, comments and brackets.

/// What is open at the end of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InputContext {
    /// Offsets of open brackets.
    pub(super) open: Vec<usize>,
    /// Offset of the quote of an open string.
    pub(super) string: Option<usize>,
    in_comment: bool,
    /// The last character that is neither white space nor part of a comment.
    last: Option<char>,
}

pub(super) fn scan(text: &str) -> InputContext {
    let mut found = InputContext::default();
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
        let is_comment = c == '/' && matches!(next, Some('/' | '*'));
        if !c.is_whitespace() && !is_comment {
            found.last = Some(c);
        }
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

/// Skips a block comment and those nested in it; false if it does not end.
fn skip_comment(chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>) -> bool {
    chars.next();
    let mut depth = 1;
    while let Some((_, c)) = chars.next() {
        match (c, chars.peek().map(|(_, next)| *next)) {
            ('*', Some('/')) => depth -= 1,
            ('/', Some('*')) => depth += 1,
            _ => continue,
        }
        chars.next();
        if depth == 0 {
            return true;
        }
    }
    false
}

/// True if `text` continues on another line: something is open, or it ends with an operator.
pub(super) fn is_incomplete(text: &str) -> bool {
    let found = scan(text);
    let in_template = found.string.is_some_and(|at| text[at..].starts_with('`'));
    let waits =
        found.string.is_none() && found.last.is_some_and(|last| "+-*/%=<>&|^,".contains(last));
    let is_open = !found.open.is_empty() || in_template || found.in_comment || waits;
    is_open && !text.trim_start().starts_with(':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn open_input_continues_on_another_line() {
        for text in [
            "fn f() {",
            "f(1,",
            "[1,\n2",
            "`a\n",
            "/* x",
            "/* /* */",
            "1 +",
            "let x =",
            "a && // b",
            "if x { \"}\"",
            "#{ a: 1,",
        ] {
            assert!(is_incomplete(text), "{text:?}");
        }
        for text in [
            "",
            "f()",
            "\"(\"",
            "\"\\\"(\"",
            "// {",
            "/* ( */ 1",
            "`(`",
            ":save {",
            "}",
            "/* /* */ */ 1",
            "\"a +\"",
            "1 // +",
        ] {
            assert!(!is_incomplete(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let found = scan(&text);
            let mut offsets = found.open.iter().chain(&found.string);
            prop_assert!(offsets.all(|&at| text.is_char_boundary(at)));
        }
    }
}
