//! Tests the structure of the server and the dependencies between crates: reads the sources,
//! collects the names in each file, and compares them with the rules.

use std::collections::BTreeSet;
use std::path::Path;

use source::{SourceFile, paths, sources};

mod circles;
mod names;
mod source;

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
const SHARED: [&str; 7] =
    ["blocking", "clock", "conditional", "durable", "random", "state_dir", "worker"];

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
    // it sends the files of the cache host
    ("http/api/cache.rs", "cache"),
    // for the names of boot programs
    ("http/pxe/boot_files.rs", "tftp"),
    // it adds users of every role
    ("http/router/tests.rs", "store"),
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
    for source in sources("bty-web") {
        let (file, own) = (&source.name, module_of(&source.name));
        let layer = LAYERS.iter().find(|(layer, _)| *layer == layer_of(own));
        for root in roots(&source) {
            let (is_allowed, named) = match root {
                Name::Own(module) => {
                    (layer.is_none_or(|(_, known)| known.contains(&layer_of(&module))), module)
                }
                Name::Foreign(name) => {
                    let owners = OWNERS.iter().find(|(owned, _)| *owned == name);
                    (owners.is_none_or(|(_, owners)| owners.contains(&own)), name)
                }
            };
            let exception = EXCEPTIONS.iter().find(|known| **known == (&**file, &*named));
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
    let clocks = ["Time", "Timestamp", "Instant"];
    for source in sources("bty-web").iter().filter(|source| source.name.starts_with("domain/")) {
        let reads = |path: &Vec<String>| {
            let is_now = path.ends_with(&["now".to_owned()]);
            is_now && clocks.iter().any(|clock| path.iter().any(|part| part == clock))
        };
        assert!(!paths(&source.tokens).iter().any(reads), "{} reads the clock", source.name);
        let has_clock = source.tokens.iter().any(|token| token == "SystemTime");
        assert!(!has_clock, "{} reads the clock", source.name);
    }
}

/// Files that may name the assembly of all services: it, what starts and stops it, the state from
/// which handlers take single services, and the tests of all routes.
const ASSEMBLY: [&str; 5] =
    ["services/app.rs", "server.rs", "server/parts.rs", "http/state.rs", "http/router/tests.rs"];

#[test]
fn handlers_and_services_name_the_services_that_they_use_and_not_all_of_them() {
    for source in sources("bty-web") {
        let is_allowed = ASSEMBLY.contains(&&*source.name);
        let names_all = source.tokens.iter().any(|token| token == "App");
        assert!(is_allowed || !names_all, "{} names App", source.name);
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

/// Returns the roots of all paths in a file.
fn roots(source: &SourceFile) -> BTreeSet<Name> {
    paths(&source.tokens).into_iter().filter_map(|path| root(&path, source)).collect()
}

fn root(path: &[String], source: &SourceFile) -> Option<Name> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    match path.first()?.as_str() {
        "crate" => path.get(1).cloned().map(Name::Own),
        // enough `super`s to leave all directories lead to the crate root, fewer into the same
        // layer
        "super" if ups < source.module.len() => None,
        "super" => path.get(ups).filter(|part| is_module(part)).cloned().map(Name::Own),
        name => Some(Name::Foreign(name.to_owned())),
    }
}

/// True for a top-level module.
fn is_module(name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    root.join(format!("{name}.rs")).exists()
}
