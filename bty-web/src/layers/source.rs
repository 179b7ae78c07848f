//! Reads the sources of a crate: files, tokens, and the paths in them.

use std::path::{Path, PathBuf};

/// A source file, without its inline test modules.
pub(super) struct SourceFile {
    /// Its path below `src/`.
    pub(super) name: String,
    /// The module that it defines; empty for the root of the library. Modules of a binary begin
    /// with its directory.
    pub(super) module: Vec<String>,
    /// Number of leading segments of `module` that are the root of its crate.
    pub(super) root_len: usize,
    /// Identifiers, `::` and single characters.
    pub(super) tokens: Vec<String>,
}

/// Reads all source files of the crate `name` of this tree, sorted by path.
pub(super) fn sources(name: &str) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name).join("src");
    let paths = source_paths(&root);
    let is_binary = |dir: &Path| root != dir && paths.contains(&dir.join("main.rs"));
    let source = |path: &PathBuf| {
        let below = path.strip_prefix(&root).unwrap();
        let mut module: Vec<String> =
            below.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if matches!(below.file_name().unwrap().to_str().unwrap(), "lib.rs" | "main.rs") {
            module.pop();
        }
        let binary = path.ancestors().skip(1).find(|dir| is_binary(dir));
        SourceFile {
            name: below.to_str().unwrap().to_owned(),
            module,
            root_len: binary.map_or(0, |dir| dir.strip_prefix(&root).unwrap().iter().count()),
            tokens: without_test_modules(&tokens(&std::fs::read_to_string(path).unwrap())),
        }
    };
    paths.iter().map(source).collect()
}

fn source_paths(root: &Path) -> Vec<PathBuf> {
    let (mut dirs, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in dir.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Removes the bodies of inline modules marked `#[cfg(test)]`.
fn without_test_modules(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let (mut kept, mut i) = (Vec::with_capacity(tokens.len()), 0);
    while i < tokens.len() {
        let is_module = tokens[i..].iter().zip(MARK).filter(|(a, b)| a == b).count() == MARK.len()
            && tokens.get(i + MARK.len() + 1).is_some_and(|next| next == "{");
        if is_module {
            let body = i + MARK.len() + 1;
            i = body + group_len(&tokens[body..]);
        } else {
            kept.push(tokens[i].clone());
            i += 1;
        }
    }
    kept
}

/// Returns the number of tokens of the group that begins with `{`.
fn group_len(tokens: &[String]) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// Returns all paths in the tokens, as their segments; a `use` group is several paths.
pub(super) fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let is_root = |i: usize| {
        tokens.get(i + 1).is_some_and(|next| next == "::")
            && is_word(&tokens[i])
            && (i == 0 || tokens[i - 1] != "::")
    };
    (0..tokens.len()).filter(|&i| is_root(i)).flat_map(|i| path_at(&tokens[i..])).collect()
}

fn path_at(tokens: &[String]) -> Vec<Vec<String>> {
    let mut path = Vec::new();
    let mut rest = tokens;
    while let Some(first) = rest.first() {
        if first == "{" {
            let members = members(&rest[1..group_len(rest) - 1]);
            let joined = |member: Vec<String>| {
                path.iter().cloned().chain(member.into_iter().filter(|part| part != "self"))
            };
            return members
                .into_iter()
                .flat_map(path_at)
                .map(|member| joined(member).collect())
                .collect();
        }
        if !is_word(first) {
            break;
        }
        path.push(first.clone());
        match rest.get(1) {
            Some(next) if next == "::" => rest = &rest[2..],
            _ => break,
        }
    }
    vec![path]
}

/// Splits the inside of a group at its commas.
fn members(tokens: &[String]) -> Vec<&[String]> {
    let (mut members, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (i, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 0 => {
                members.push(&tokens[begin..i]);
                begin = i + 1;
            }
            _ => {}
        }
    }
    members.push(&tokens[begin..]);
    members.retain(|member| !member.is_empty());
    members
}

fn is_word(token: &str) -> bool {
    token.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Returns the identifiers, `::` and single characters of a source, without comments and string
/// literals.
pub(super) fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let (mut tokens, mut i) = (Vec::new(), 0);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while i < chars.len() {
        let rest = &chars[i..];
        i += match rest {
            ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
            ['"', ..] => text_len(rest),
            ['r', '#', '"', ..] => raw_text_len(rest),
            ['\'', '\\', ..] => 2 + rest[2..].iter().take_while(|c| **c != '\'').count(),
            ['\'', _, '\'', ..] => 3,
            [':', ':', ..] => {
                tokens.push("::".to_owned());
                2
            }
            [c, ..] if is_word(*c) => {
                let word: String = rest.iter().take_while(|c| is_word(**c)).collect();
                let len = word.chars().count();
                tokens.push(word);
                len
            }
            [c, ..] => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                1
            }
            [] => 0,
        };
    }
    tokens
}

/// Returns the length of a string literal with escapes.
fn text_len(chars: &[char]) -> usize {
    let mut i = 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// Returns the length of `r#"…"#`.
fn raw_text_len(chars: &[char]) -> usize {
    let end = chars[3..].windows(2).position(|pair| pair == ['"', '#']);
    end.map_or(chars.len(), |end| end + 5)
}

#[test]
fn paths_are_found_in_groups_and_not_in_comments_or_texts() {
    let source = r#"
        use crate::{domain::{mac::{self, Mac}, time}, store};
        // use crate::http::x;
        fn f() -> crate::services::X { "crate::tftp::y"; 'a'; '\''; rusqlite::z() }
    "#;
    let found: Vec<String> = paths(&tokens(source)).iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::domain::mac",
        "crate::domain::mac::Mac",
        "crate::domain::time",
        "crate::store",
        "domain::mac",
        "domain::mac::Mac",
        "domain::time",
        "mac",
        "mac::Mac",
        "crate::services::X",
        "rusqlite::z",
    ];
    assert_eq!(found, expected);
}

#[test]
fn inline_test_modules_are_left_out() {
    let source =
        "fn f() {} #[cfg(test)] mod tests { fn g() { h() } } #[cfg(test)] mod more; fn i() {}";
    let kept = without_test_modules(&tokens(source));
    assert!(!kept.contains(&"g".to_owned()) && kept.contains(&"i".to_owned()), "{kept:?}");
    assert!(kept.contains(&"more".to_owned()));
}
