//! Tests that hold conventions of the source text.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

mod public_api;

/// Programs whose options a hint may name.
const OTHER_PROGRAMS: [&str; 4] = ["blockdev ", "sgdisk ", "xz ", "zstd "];

/// The subcommands of the `bty` command.
const SUBCOMMANDS: [&str; 15] = [
    "catalog",
    "check",
    "disks",
    "docs",
    "eject",
    "erase",
    "flash",
    "image",
    "images",
    "inventory",
    "repl",
    "run",
    "test",
    "verify",
    "wizard",
];

/// The files of the library, without those of tests.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if matches!(name, "tests" | "conventions") {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The text of each file up to its tests.
fn sources() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
        (path, code)
    };
    paths.into_iter().map(read).collect()
}

/// The string literals of Rust source text, without raw strings.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => {
                chars.by_ref().find(|&c| c == '\n');
            }
            '\'' if chars.peek() == Some(&'"') => {
                chars.nth(1);
            }
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next().filter(|&c| c != '"') {
                    text.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

fn names_an_option(text: &str) -> bool {
    let options = text.match_indices("--").filter(|(at, dashes)| {
        let is_start = text[..*at].chars().next_back().is_none_or(|c| !c.is_ascii_alphanumeric());
        is_start && text[at + dashes.len()..].starts_with(|c: char| c.is_ascii_lowercase())
    });
    options.count() > 0 && !OTHER_PROGRAMS.iter().any(|program| text.contains(program))
}

fn names_a_subcommand(text: &str) -> bool {
    text.match_indices("bty ").any(|(at, name)| {
        let rest = &text[at + name.len()..];
        let end = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
        SUBCOMMANDS.contains(&&rest[..end])
    })
}

/// The library has other users than the command: a [`Remedy`](crate::Remedy) says what to offer.
#[test]
fn no_message_names_an_option_or_a_subcommand_of_the_command() {
    assert!(names_an_option("give it with --sha256") && names_a_subcommand("bty disks lists them"));
    assert!(!names_an_option("run blockdev --setrw") && !names_a_subcommand("bty flashed by hand"));
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let named = literals(&code);
        let named = named.iter().filter(|text| names_an_option(text) || names_a_subcommand(text));
        wrong.extend(named.map(|text| format!("{}: {text:?}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_types_share_a_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // a stand-in for a module that is compiled without its feature has the names of that module
    let is_stand_in = |path: &Path| path.to_string_lossy().ends_with("absent.rs");
    for (path, code) in sources().into_iter().filter(|(path, _)| !is_stand_in(path)) {
        for line in code.lines() {
            // types of a trait are indented
            let indented = line.starts_with(' ');
            let words: Vec<&str> = line
                .split_whitespace()
                .skip_while(|word| word.starts_with("pub"))
                .take(2)
                .collect();
            let [kind, name] = words[..] else { continue };
            let is_type = matches!(kind, "struct" | "enum" | "trait" | "union")
                || (kind == "type" && !indented);
            if is_type {
                let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap();
                places.entry(name.to_owned()).or_default().push(path.display().to_string());
            }
        }
    }
    places.remove("");
    places.retain(|_, paths| paths.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}
