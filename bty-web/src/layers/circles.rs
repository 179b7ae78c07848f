//! No circle among the files of a crate: what a file depends on does not depend on it in turn.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{SourceFile, paths, sources};

#[test]
fn no_files_of_the_server_depend_on_each_other_in_a_circle() {
    assert_eq!(circles(&dependencies(&sources("bty-web"), true)), [""; 0]);
}

/// In these crates a file and its own parts may depend on each other: `topic.rs` defines the types
/// of a topic and calls its parts in `topic/`, which use these types.
#[test]
fn no_files_of_the_libraries_depend_on_each_other_in_a_circle() {
    for name in ["bty", "bty-script"] {
        assert_eq!(circles(&dependencies(&sources(name), false)), [""; 0], "{name}");
    }
}

/// The files that each file depends on, by their names below `src/`.
type Dependencies = BTreeMap<String, BTreeSet<String>>;

/// Reads the dependencies from the paths in the files. `counts_parts` includes the paths that begin
/// with a module of the file itself. The roots of crates are left out: everything may use what they
/// re-export.
fn dependencies(files: &[SourceFile], counts_parts: bool) -> Dependencies {
    let by_module: BTreeMap<&[String], &str> = files
        .iter()
        .filter(|file| file.module.len() > file.root_len)
        .map(|file| (&*file.module, &*file.name))
        .collect();
    let used = |file: &SourceFile| {
        let target = |path: Vec<String>| {
            let absolute =
                absolute(file, &path, |module| by_module.contains_key(module), counts_parts)?;
            (0..=absolute.len()).rev().find_map(|len| by_module.get(&absolute[..len]).copied())
        };
        let targets = paths(&file.tokens).into_iter().filter_map(target);
        targets.filter(|target| *target != file.name).map(str::to_owned).collect()
    };
    files.iter().map(|file| (file.name.clone(), used(file))).collect()
}

/// Returns the path from the root; `None` for a path into another crate or to an item in scope.
fn absolute(
    file: &SourceFile,
    path: &[String],
    is_module: impl Fn(&[String]) -> bool,
    counts_parts: bool,
) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let joined = |base: &[String], rest: &[String]| [base, rest].concat();
    match path.first()?.as_str() {
        "crate" => Some(joined(&file.module[..file.root_len], &path[1..])),
        "self" => Some(joined(&file.module, &path[1..])),
        "super" => {
            Some(joined(file.module.get(..file.module.len().checked_sub(ups)?)?, &path[ups..]))
        }
        _ => {
            let part = joined(&file.module, path);
            (counts_parts && is_module(&part[..=file.module.len()])).then_some(part)
        }
    }
}

/// Returns each group of files that can all reach each other.
fn circles(dependencies: &Dependencies) -> Vec<String> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        dependencies.keys().map(|file| (file.as_str(), reach(dependencies, file))).collect();
    let circle = |file: &&str| -> Option<String> {
        let both = reached[file].iter().filter(|other| reached[**other].contains(*file));
        let members: Vec<&str> = both.copied().collect();
        (!members.is_empty()).then(|| members.join(" "))
    };
    let found: BTreeSet<String> = reached.keys().filter_map(circle).collect();
    found.into_iter().collect()
}

/// Returns the files that `file` depends on, directly or through others.
fn reach<'a>(dependencies: &'a Dependencies, file: &str) -> BTreeSet<&'a str> {
    let (mut reached, mut waiting) = (BTreeSet::new(), vec![file]);
    while let Some(next) = waiting.pop() {
        for used in dependencies.get(next).into_iter().flatten() {
            if reached.insert(used.as_str()) {
                waiting.push(used);
            }
        }
    }
    reached
}

#[test]
fn circles_are_found_through_groups_parents_and_parts() {
    let file = |name: &str, text: &str| SourceFile {
        name: format!("{name}.rs"),
        module: name.split('/').map(str::to_owned).collect(),
        root_len: 0,
        tokens: super::source::tokens(text),
    };
    let of = |files: &[SourceFile], counts_parts| circles(&dependencies(files, counts_parts));
    let two = [file("a", "use crate::{b::B, c};"), file("b", "fn f() { crate::a::g() }")];
    assert_eq!(of(&two, false), ["a.rs b.rs"]);
    let door = [file("a", "pub use part::P;"), file("a/part", "use super::Q;")];
    assert_eq!(of(&door, false), [""; 0]);
    assert_eq!(of(&door, true), ["a.rs a/part.rs"]);
    let none = [file("a", "use crate::b::B;"), file("b", "use other::a::A; use self::a::A;")];
    assert_eq!(of(&none, true), [""; 0]);
}
