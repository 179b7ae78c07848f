//! The listing of the public API in `public-api.txt`: a change to the API is a change to that file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::Item;

use render::Lines;
use source::{Found, Module};

mod render;
mod source;

/// Set to accept the API as it is now.
const ACCEPT: &str = "BTY_ACCEPT_API";

const HEAD: &str = "\
# The public API, all features on, as a test compares it: types are named as in the source, and
# `use` shows further paths of an item. BTY_ACCEPT_API=1 cargo test -p bty-core accepts a change.
";

/// Finds the public items below a root module, and the path of each.
#[derive(Default)]
struct Api<'a> {
    /// Paths of public modules.
    modules: Vec<(String, &'a Module)>,
    /// The first public path of each item, with the item.
    items: BTreeMap<String, &'a Item>,
    lines: Lines,
}

impl<'a> Api<'a> {
    fn add_modules(&mut self, path: &str, module: &'a Module) {
        for item in &module.items {
            let (Item::Mod(declared), true) = (item, source::is_public(item)) else { continue };
            let name = declared.ident.to_string();
            let path = join(path, &name);
            self.lines.add(&path, format!("mod {path}"));
            self.add_modules(&path, &module.children[&name]);
        }
        // after those below it: the path of an item in a module is preferred to one at the root
        self.modules.push((path.to_owned(), module));
    }

    fn add_items(&mut self) {
        for (path, module) in self.modules.clone() {
            for item in module.items.iter().filter(|item| source::is_public(item)) {
                if let Some(name) = source::name_of(item) {
                    self.items.insert(join(&path, &name), item);
                }
            }
        }
    }

    /// Adds what `pub use` brings to public modules.
    fn add_uses(&mut self, root: &'a Module) {
        for (path, module) in self.modules.clone() {
            for item in module.items.iter().filter(|item| source::is_public(item)) {
                let Item::Use(used) = item else { continue };
                for (name, from) in source::leaves(&used.tree) {
                    self.add_use(root, module, join(&path, &name), &from);
                }
            }
        }
    }

    fn add_use(&mut self, root: &'a Module, module: &Module, path: String, from: &[String]) {
        match source::resolve(root, module, from) {
            Some(Found::Item(item)) => {
                match self.items.iter().find(|(_, known)| std::ptr::eq(**known, item)) {
                    Some((first, _)) => self.lines.add(&path, format!("use {first} as {path}")),
                    None => drop(self.items.insert(path, item)),
                }
            }
            Some(Found::Module) => panic!("{path}: a module that is public through `pub use`"),
            None => self.lines.add(&path, format!("use {} as {path}", from.join("::"))),
        }
    }

    /// The lines of all items and of their implementations.
    fn render(mut self, root: &Module) -> String {
        let names: BTreeMap<String, String> =
            self.items.keys().map(|path| (last(path).to_owned(), path.clone())).collect();
        for (path, item) in &self.items {
            self.lines.add_item(path, item);
        }
        let mut private = BTreeSet::new();
        root.visit(&mut |item| {
            if matches!(item, Item::Enum(_) | Item::Struct(_) | Item::Trait(_)) {
                private.extend(source::name_of(item).filter(|name| !names.contains_key(name)));
            }
        });
        root.visit(&mut |item| self.lines.add_impl(item, &names, &private));
        format!("{HEAD}\n{}", self.lines.into_text())
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") }
}

fn last(path: &str) -> &str {
    path.rsplit("::").next().expect("a path has a name")
}

/// The listing of the crate whose root is `lib`.
fn listing(lib: &Path) -> String {
    let root = Module::read(lib);
    let mut api = Api::default();
    api.add_modules("", &root);
    api.add_items();
    api.add_uses(&root);
    api.render(&root)
}

/// The lines of `text` that `other` does not have, each after `sign`.
fn missing(text: &str, other: &str, sign: &str) -> String {
    let other: BTreeSet<&str> = other.lines().collect();
    let lines = text.lines().filter(|line| !other.contains(line));
    lines.map(|line| format!("{sign} {line}\n")).collect()
}

fn check(crate_dir: &Path) {
    let path = crate_dir.join("public-api.txt");
    let now = listing(&crate_dir.join("src/lib.rs"));
    if std::env::var_os(ACCEPT).is_some() {
        fs::write(&path, &now).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        now == listed,
        "the public API differs from {}:\n{}{}if that is intended, run the test again with \
         {ACCEPT}=1, commit the file, and tell users in CHANGELOG.md",
        path.display(),
        missing(&listed, &now, "-"),
        missing(&now, &listed, "+")
    );
}

#[test]
fn the_public_api_is_as_listed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    check(dir);
    // it is not beside a packaged crate
    let scripts = dir.with_file_name("bty-script");
    if scripts.exists() {
        check(&scripts);
    }
}

/// The listing of a crate of one file.
fn listing_of(code: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let lib = dir.path().join("lib.rs");
    fs::write(&lib, code).unwrap();
    listing(&lib)
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn each_change_of_the_api_changes_the_listing() {
    let code = "
        mod inner { pub struct Moved(pub u32, u8); pub(crate) fn hidden() {} }
        pub use inner::Moved;
        pub use other::{self as renamed, Thing};
        pub use external::{self};
        pub mod shapes {
            /// A shape.
            #[derive(Clone)] #[non_exhaustive]
            pub struct Shape<'a> { /// The name.
                pub name: &'a str, count: u32 }
            impl<'a> Shape<'a> {
                pub fn rename(
                    self,
                    name: &'a str,
                ) -> Self { self }
                fn count(&self) -> u32 { 0 }
            }
            impl std::fmt::Display for Shape<'_> {}
            impl Shape<'_> { pub fn grow(mut self) -> Self { self } }
            struct Hidden;
            impl Area for Hidden {}
            impl Secret for Shape<'_> {}
            trait Secret {}
            pub enum Kind { Round { radius: u32 }, Square(u8), Other }
            pub trait Area: Send { fn area(&self) -> u64; fn is_empty(&self) -> bool { true }
                /// The unit.
                const UNIT: u8; type Of; }
            impl<T: Area> Area for Box<T> {}
            pub const LIMIT: u64 = 7;
            pub fn biggest(of: &[Shape<'_>]) -> Option<&Shape<'_>> { None }
        }
        setters! { Shape { name: impl Into<String>, } }
        string_enum! { pub enum Word: \"word\" { Yes = \"yes\", } }
        #[cfg(test)] pub mod tests {}
    ";
    let expected = "\
struct Moved(u32, _)
use external as external
use other::Thing as Thing
use other as renamed
enum Word, of words
Word::Yes = \"yes\"
mod shapes
trait shapes::Area: Send
const shapes::Area::UNIT: u8
fn shapes::Area::area(&self) -> u64
fn shapes::Area::is_empty(&self) -> bool, provided
type shapes::Area::Of
impl<T: Area> Area for Box<T>
enum shapes::Kind
shapes::Kind::Other
shapes::Kind::Round { radius: u32 }
shapes::Kind::Square(u8)
const shapes::LIMIT: u64
struct shapes::Shape<'a>, derive(Clone), non_exhaustive
impl std::fmt::Display for shapes::Shape<'_>
fn shapes::Shape::grow(self) -> Self
fn shapes::Shape::name(self, value: impl Into<String>) -> Self
shapes::Shape::name: &'a str
fn shapes::Shape::rename(self, name: &'a str) -> Self
fn shapes::biggest(of: &[Shape<'_>]) -> Option<&Shape<'_>>
";
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(sorted(&listing_of(code)), sorted(expected));
}
