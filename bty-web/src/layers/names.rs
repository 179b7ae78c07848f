//! One name for one type: a reader never has to ask which of two is meant.

use std::collections::BTreeMap;

use super::source::sources;

#[test]
fn no_two_types_of_the_server_share_a_name() {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in sources("bty-web") {
        for name in types(&file.tokens) {
            by_name.entry(name).or_default().push(file.name.clone());
        }
    }
    by_name.retain(|_, files| files.len() > 1);
    assert!(by_name.is_empty(), "names of several types: {by_name:#?}");
}

/// Returns the names of the types that are defined outside of functions and implementations.
fn types(tokens: &[String]) -> Vec<String> {
    let (mut depth, mut found) = (0, Vec::new());
    for pair in tokens.windows(2) {
        match pair[0].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "struct" | "enum" | "trait" | "type" if depth == 0 => found.push(pair[1].clone()),
            _ => {}
        }
    }
    found
}

#[test]
fn associated_types_are_not_counted() {
    let text = "pub struct A(u8); impl B for A { type C = u8; } type D = A; enum E { F }";
    assert_eq!(types(&super::source::tokens(text)), ["A", "D", "E"]);
}
