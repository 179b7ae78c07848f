//! The tests that pages name as proof exist.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories with tests; the modules of a test are the path below.
const ROOTS: [&str; 7] = [
    "bty/src",
    "bty-py/src",
    "bty-script/src",
    "bty-web/src",
    "deploy/src",
    "media/live/src",
    "tests",
];

/// A test that a page names.
#[derive(Debug, PartialEq)]
struct NamedTest {
    /// The module that the page gives, such as `web/access`; may be a parent of the test's own.
    module: Option<String>,
    name: String,
}

/// Returns the tests that `line` names: ``` `web::access::name` ```, and plain names after a
/// module, as in ``` `services::auth`: `name`, `other_name` ```.
fn named_tests(line: &str) -> Vec<NamedTest> {
    let (mut tests, mut module) = (Vec::new(), None);
    let mut parts = line.split('`').skip(1);
    while let (Some(code), Some(after)) = (parts.next(), parts.next()) {
        if !code.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b':')) {
            continue;
        }
        let (path, name) = code.rsplit_once("::").unwrap_or(("", code));
        // names of tests are sentences
        if name.matches('_').count() < 3 {
            if after.starts_with(':') {
                module = Some(code.replace("::", "/"));
            }
            continue;
        }
        if !path.is_empty() {
            module = Some(path.replace("::", "/"));
        }
        tests.push(NamedTest { module: module.clone(), name: name.to_owned() });
    }
    tests
}

/// Returns the names of all tests, each with the modules that have one of that name.
fn all_tests(tree: &Path) -> HashMap<String, Vec<String>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for root in ROOTS {
        let root = tree.join(root);
        let mut dirs = vec![root.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let module = path.strip_prefix(&root).unwrap().with_extension("");
                    let module = module.to_str().unwrap().to_owned();
                    for name in tests_of(&fs::read_to_string(&path).unwrap()) {
                        found.entry(name).or_default().push(module.clone());
                    }
                }
            }
        }
    }
    found
}

/// Returns the names of the functions with a `test` attribute.
fn tests_of(source: &str) -> Vec<String> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = line.trim_start_matches("async ").strip_prefix("fn ")
            && std::mem::take(&mut is_test)
        {
            names.push(name.split(['(', '<']).next().unwrap_or_default().to_owned());
        }
    }
    names
}

fn is_in(module: &str, parent: &str) -> bool {
    module.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[test]
fn every_test_that_an_explanation_names_exists() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tests = all_tests(&tree);
    let pages: Vec<PathBuf> = fs::read_dir(tree.join("docs/explanation"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    let (mut count, mut missing) = (0, Vec::new());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for test in text.lines().flat_map(named_tests) {
            count += 1;
            let modules = tests.get(&test.name).map_or(&[][..], Vec::as_slice);
            let is_found =
                |module: &String| test.module.as_ref().is_none_or(|parent| is_in(module, parent));
            if !modules.iter().any(is_found) {
                missing.push(format!("{}: {test:?}, found in {modules:?}", page.display()));
            }
        }
    }
    assert!(count > 40, "only {count} names were recognized");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn names_of_tests_are_recognized_with_their_modules() {
    let line = "| a | `store::events`: `events_are_counted_and_kept`, \
                `old_ones_are_deleted_first`; \
                `web::state::a_state_is_kept_for_ever` | `cache.reach`, `bty::Client`, `no_test` |";
    let shown: Vec<String> = named_tests(line)
        .iter()
        .map(|test| format!("{} {}", test.module.as_deref().unwrap_or("-"), test.name))
        .collect();
    assert_eq!(
        shown,
        [
            "store/events events_are_counted_and_kept",
            "store/events old_ones_are_deleted_first",
            "web/state a_state_is_kept_for_ever",
        ]
    );
}
