use std::collections::BTreeSet;

use bty::CancelToken;

use super::*;
use crate::ImportRoot;

fn engine() -> Engine {
    Engine::new(ScriptContext::compute_only(), Limits::operator())
}

/// The examples of a page and their results: the first two columns of its tables.
fn examples(page: &str) -> Vec<(String, String)> {
    // code with backticks in it is between two of them and a space
    let code = |cell: &str| {
        let bare = cell.trim().strip_prefix("`` ").and_then(|rest| rest.strip_suffix(" ``"));
        bare.unwrap_or_else(|| cell.trim().trim_matches('`')).replace("\\|", "|")
    };
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let columns = rows.map(|line| line.trim_start_matches("| ").split(" | ").collect::<Vec<_>>());
    columns.map(|columns| (code(columns[0]), code(columns[1]))).collect()
}

#[test]
fn every_example_of_the_page_about_the_language_has_the_result_that_it_shows() {
    let (engine, page) = (engine(), include_str!("../../../docs/reference/language.md"));
    let examples = examples(page);
    assert!(examples.len() > 70, "{} examples", examples.len());
    for (example, result) in examples {
        let text = format!("let found = {{ {example} }};\nassert_eq(found, {result});");
        let script = engine.compile("example.rhai", &text, &ImportRoot::None);
        let outcome = script.and_then(|script| engine.run(&script, &[], &CancelToken::new()));
        assert!(outcome.is_ok(), "{example}: {:?}", outcome.err());
    }
}

#[test]
fn any_is_said_only_where_any_value_is_meant() {
    let vague = functions(&engine()).into_iter().filter(|f| {
        !f.is_standard
            && f.kind != FunctionKind::Operator
            && (f.returns == "any" || f.params.iter().any(|(_, kind)| kind == "any"))
    });
    let names: Vec<String> = vague.map(|f| f.signature()).collect();
    let expected = [
        "Outcome.value -> any",
        "assert_eq(found: any, expected: any)",
        "http::get_json(url: String) -> any",
        "http::post_json(url: String, value: any) -> any",
        "parse_json(text: String) -> any",
        "test::throws(function: fn) -> any",
        "to_json(value: any) -> String",
    ];
    let found: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn definitions_of_editors_have_the_types_of_the_reference() {
    let files = definitions();
    let disks = files.iter().find(|(name, _)| name == "disks.d.rhai").map(|(_, text)| text);
    let text = disks.expect("the module has a file");
    assert!(text.contains("fn list() -> [Disk];"), "{text}");
    assert!(
        text.contains("fn create_file(path: string, size: Size | int | string) -> Disk;"),
        "{text}"
    );
    for (name, text) in &files {
        let lines = text.lines().filter(|line| !line.starts_with("///"));
        for line in lines {
            let words = line.split(|c: char| !c.is_alphanumeric());
            let rust =
                types::SHOWN.iter().find(|(rust, _)| words.clone().any(|word| word == *rust));
            assert_eq!(rust, None, "{name}: {line}");
        }
    }
}
