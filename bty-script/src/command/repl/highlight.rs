//! Highlights a line of script: strings, numbers, comments, keywords, known functions.

const KEYWORDS: [&str; 27] = [
    "let", "const", "fn", "if", "else", "switch", "for", "in", "while", "loop", "do", "until",
    "break", "continue", "return", "throw", "try", "catch", "import", "export", "as", "true",
    "false", "this", "global", "private", "is",
];

const STRING: &str = "32";
const NUMBER: &str = "36";
const COMMENT: &str = "90";
const KEYWORD: &str = "1";
const FUNCTION: &str = "34";

/// Adds escape sequences to `line`; the text itself does not change.
pub(super) fn paint(line: &str, is_function: &dyn Fn(&str) -> bool) -> String {
    let mut painted = String::with_capacity(line.len() * 2);
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let (len, style) = piece(rest, c, is_function);
        let text = &rest[..len];
        match style {
            Some(style) => painted.push_str(&format!("\x1b[{style}m{text}\x1b[0m")),
            None => painted.push_str(text),
        }
        rest = &rest[len..];
    }
    painted
}

/// Length and style of the first token of `rest`.
fn piece(rest: &str, c: char, is_function: &dyn Fn(&str) -> bool) -> (usize, Option<&'static str>) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Some(COMMENT));
    }
    if matches!(c, '"' | '`') {
        return (string_len(rest, c), Some(STRING));
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word_len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    if c.is_ascii_digit() {
        return (word_len, Some(NUMBER));
    }
    if word_len == 0 {
        return (c.len_utf8(), None);
    }
    let word = &rest[..word_len];
    let style = if KEYWORDS.contains(&word) {
        Some(KEYWORD)
    } else {
        is_function(word).then_some(FUNCTION)
    };
    (word_len, style)
}

fn string_len(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_get_their_colors() {
        let painted = paint("let x = disks(\"a\") + 1; // y", &|word| word == "disks");
        let wanted = "\x1b[1mlet\x1b[0m x = \x1b[34mdisks\x1b[0m(\x1b[32m\"a\"\x1b[0m) + \
                      \x1b[36m1\x1b[0m; \x1b[90m// y\x1b[0m";
        assert_eq!(painted, wanted);
    }

    proptest! {
        #[test]
        fn the_text_itself_stays(line in "[ -~äß\n]*") {
            let painted = paint(&line, &|_| false);
            let mut bare = painted.clone();
            for style in [STRING, NUMBER, COMMENT, KEYWORD, FUNCTION, "0"] {
                bare = bare.replace(&format!("\x1b[{style}m"), "");
            }
            prop_assert_eq!(bare, line);
        }
    }
}
