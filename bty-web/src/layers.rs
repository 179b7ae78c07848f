//! Tests the layers of the server and the dependencies between crates: reads the sources, collects
//! the names in each file, and compares them with the rules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Layers, each with the modules of this crate that it may use. `shared` means [`SHARED`].
const LAYERS: [(&str, &[&str]); 7] = [
    ("domain", &["domain"]),
    ("store", &["store", "domain", "shared"]),
    ("cache", &["cache", "store", "domain", "shared"]),
    ("tftp", &["tftp", "domain", "shared"]),
    // cache and tftp for their counters, config for types of options
    ("services", &["services", "store", "cache", "tftp", "domain", "config", "shared"]),
    ("http", &["http", "services", "domain", "config", "shared"]),
    ("shared", &["domain", "shared"]),
];

/// Modules without a layer, which may use only the domain.
const SHARED: [&str; 6] = ["blocking", "clock", "conditional", "durable", "random", "state_dir"];

/// Crates that only some modules may use.
const OWNERS: [(&str, &[&str]); 7] = [
    ("rusqlite", &["store"]),
    ("rusqlite_migration", &["store"]),
    // outside of http, only for the types of methods and headers
    ("axum", &["http", "server", "client", "command", "conditional", "fleet"]),
    ("axum_extra", &["http"]),
    ("askama", &["http"]),
    ("clap", &["command", "fleet"]),
    // not the domain, which is never asynchronous
    (
        "tokio",
        &["blocking", "cache", "command", "fleet", "http", "server", "services", "store", "tftp"],
    ),
];

/// Exceptions: files and what they may use beyond the rules, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    // the type of the cookie key comes from the cookie jar
    ("services/auth.rs", "axum_extra"),
    // they send the files of the cache host
    ("http/sendfile.rs", "cache"),
    ("http/api/cache.rs", "cache"),
    // for the names of boot programs
    ("http/pxe/boot_files.rs", "tftp"),
];

/// Crates, each with the crates on which it must not depend.
const DIRECTIONS: [(&str, &[&str]); 4] = [
    ("bty", &["askama", "axum", "bty-script", "bty-web", "clap", "pyo3", "rhai", "rusqlite"]),
    ("bty-script", &["askama", "axum", "bty-web", "pyo3", "rusqlite"]),
    ("bty-web", &["bty-py", "pyo3", "rhai"]),
    ("bty-py", &["askama", "axum", "bty-web", "clap", "rhai", "rusqlite"]),
];

#[test]
fn every_layer_names_only_the_layers_below_it() {
    let mut unused: BTreeSet<_> = EXCEPTIONS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, path) in sources() {
        let own = module_of(&file);
        let layer = LAYERS.iter().find(|(layer, _)| *layer == layer_of(own));
        for root in names(&path, &file) {
            let (is_allowed, named) = match root {
                Name::Own(module) => {
                    (layer.is_none_or(|(_, known)| known.contains(&layer_of(&module))), module)
                }
                Name::Foreign(name) => {
                    let owners = OWNERS.iter().find(|(owned, _)| *owned == name);
                    (owners.is_none_or(|(_, owners)| owners.contains(&own)), name)
                }
            };
            let exception = EXCEPTIONS.iter().find(|known| **known == (&*file, &*named));
            match exception {
                _ if is_allowed => {}
                Some(exception) => {
                    unused.remove(exception);
                }
                None => wrong.push(format!("{file} names {named}")),
            }
        }
    }
    assert!(wrong.is_empty(), "against the arrows:\n{}", wrong.join("\n"));
    assert!(unused.is_empty(), "exceptions that nothing needs any more: {unused:?}");
}

#[test]
fn the_domain_reads_no_clock() {
    for (file, path) in sources().filter(|(file, _)| file.starts_with("domain/")) {
        let text = std::fs::read_to_string(path).unwrap();
        for clock in ["Time::now(", "Timestamp::now(", "SystemTime", "Instant::now("] {
            assert!(!text.contains(clock), "{file} reads the clock: {clock}");
        }
    }
}

#[test]
fn crates_depend_in_one_direction() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (name, forbidden) in DIRECTIONS {
        let text = std::fs::read_to_string(tree.join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        for dependency in forbidden {
            assert!(!dependencies.contains_key(*dependency), "{name} depends on {dependency}");
        }
    }
}

/// Returns all files of this crate, with their paths below `src/`.
fn sources() -> impl Iterator<Item = (String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut dirs, mut files) = (vec![root.clone()], Vec::new());
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
        .into_iter()
        .map(move |path| (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), path))
}

/// Returns the top-level module that a file belongs to.
fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn layer_of(module: &str) -> &str {
    if SHARED.contains(&module) { "shared" } else { module }
}

/// The root of a path in a source.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    /// A top-level module of this crate.
    Own(String),
    /// A crate, or anything else at the start of a path.
    Foreign(String),
}

/// Returns the roots of all paths in a file, including those in `use` groups.
fn names(path: &Path, file: &str) -> BTreeSet<Name> {
    let tokens = tokens(&std::fs::read_to_string(path).unwrap());
    let mut found = BTreeSet::new();
    for (i, token) in tokens.iter().enumerate() {
        let is_root =
            tokens.get(i + 1).is_some_and(|next| next == "::") && (i == 0 || tokens[i - 1] != "::");
        match token.as_str() {
            _ if !is_root => {}
            "crate" => {
                found.extend(first_segments(&tokens[i + 2..]).into_iter().map(Name::Own));
            }
            "super" => {
                let ups = tokens[i..].chunks(2).take_while(|pair| *pair == ["super", "::"]).count();
                // enough `super`s to leave all directories lead to the crate root, fewer into the
                // same layer
                if ups >= file.split('/').count() {
                    let members = first_segments(&tokens[i + 2 * ups..]);
                    found.extend(members.into_iter().filter(|m| is_module(m)).map(Name::Own));
                }
            }
            name => {
                found.insert(Name::Foreign(name.to_owned()));
            }
        }
    }
    found
}

/// True for a top-level module.
fn is_module(name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    root.join(format!("{name}.rs")).exists()
}

/// Returns the first segments of `a::b`, or of all members of `{a::b, c}`.
fn first_segments(tokens: &[String]) -> Vec<String> {
    if tokens.first().is_none_or(|token| token != "{") {
        return tokens.first().cloned().into_iter().collect();
    }
    let (mut depth, mut is_first, mut found) = (0, false, Vec::new());
    for token in tokens {
        match token.as_str() {
            "{" => {
                depth += 1;
                is_first = depth == 1;
            }
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," if depth == 1 => is_first = true,
            name if is_first && depth == 1 => {
                found.push(name.to_owned());
                is_first = false;
            }
            _ => {}
        }
    }
    found
}

/// Returns the identifiers, `::` and single characters of a source, without comments and string
/// literals.
fn tokens(source: &str) -> Vec<String> {
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
        use crate::{domain::{mac::Mac, time}, store};
        // use crate::http::x;
        fn f() -> crate::services::X { "crate::tftp::y"; 'a'; '\''; rusqlite::z() }
    "#;
    let tokens = tokens(source);
    let own: Vec<String> = (0..tokens.len())
        .filter(|&i| tokens[i] == "crate")
        .flat_map(|i| first_segments(&tokens[i + 2..]))
        .collect();
    assert_eq!(own, ["domain", "store", "services"]);
    assert!(tokens.windows(2).any(|pair| pair == ["rusqlite", "::"]));
}
