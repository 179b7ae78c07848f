//! Syntax highlighting of scripts with a simple tokenizer. Unrecognized text stays plain.

use super::pictures::escape;

const KEYWORDS: [&str; 26] = [
    "let", "const", "fn", "if", "else", "for", "in", "while", "loop", "do", "until", "break",
    "continue", "return", "throw", "try", "catch", "switch", "import", "export", "as", "private",
    "this", "true", "false", "global",
];

/// Returns the lines of a script as HTML.
#[must_use]
pub fn lines(source: &str) -> Vec<String> {
    let mut marked = MarkedLines { lines: vec![String::new()] };
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (class, len) = token(rest, first);
        marked.push(class, &rest[..len]);
        rest = &rest[len..];
    }
    marked.lines
}

struct MarkedLines {
    lines: Vec<String>,
}

impl MarkedLines {
    /// Appends a token. A token that spans several lines gets a span on each of them.
    fn push(&mut self, class: &str, text: &str) {
        for (i, part) in text.split('\n').enumerate() {
            if i > 0 {
                self.lines.push(String::new());
            }
            let part = escape(&part.replace('\t', "    ").replace('\r', ""));
            let Some(line) = self.lines.last_mut() else { continue };
            if class.is_empty() || part.is_empty() {
                line.push_str(&part);
            } else {
                line.push_str(&format!("<span class=\"{class}\">{part}</span>"));
            }
        }
    }
}

/// Returns the class and the length in bytes of the token at the start of `rest`.
fn token(rest: &str, first: char) -> (&'static str, usize) {
    if rest.starts_with("//") {
        let class =
            if rest.starts_with("///") || rest.starts_with("//!") { "doc" } else { "comment" };
        return (class, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return ("comment", rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if matches!(first, '"' | '`' | '\'') {
        return ("string", string(rest, first));
    }
    if first.is_ascii_digit() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
        return ("number", end.unwrap_or(rest.len()));
    }
    if first.is_alphabetic() || first == '_' {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = &rest[..end];
        if KEYWORDS.contains(&word) {
            return ("keyword", end);
        }
        let is_call = rest[end..].starts_with('(');
        return (if is_call { "call" } else { "" }, end);
    }
    ("", first.len_utf8())
}

fn string(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if quote != '`' => is_escaped = true,
            // an unterminated string ends at the end of its line, instead of including the rest of
            // the script
            '\n' if quote != '`' => return at,
            c if c == quote => return at + c.len_utf8(),
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
    fn tokens_get_classes_and_markup_is_escaped() {
        let lines = lines("//! A <b> title\nfn boot(m) { flash(\"<x>\", 0x1f) } // `");
        assert_eq!(lines[0], "<span class=\"doc\">//! A &lt;b&gt; title</span>");
        assert_eq!(
            lines[1],
            "<span class=\"keyword\">fn</span> <span class=\"call\">boot</span>(m) { \
             <span class=\"call\">flash</span>(\
             <span class=\"string\">&quot;&lt;x&gt;&quot;</span>, \
             <span class=\"number\">0x1f</span>) } \
             <span class=\"comment\">// `</span>"
        );
    }

    proptest! {
        #[test]
        fn any_text_keeps_its_lines_and_is_escaped(
            source in "[a-z<>&\"'`/*\\\\\n é0-9_(){}]{0,200}",
        ) {
            let lines = lines(&source);
            prop_assert_eq!(lines.len(), source.split('\n').count());
            for line in lines {
                let plain = line.replace("</span>", "");
                let tags = plain.matches('<').count();
                prop_assert_eq!(tags, plain.matches("<span class=\"").count());
            }
        }
    }
}
