//! The modules of a crate, parsed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use syn::{Attribute, Item, UseTree, Visibility};

pub(super) struct Module {
    /// Path from the root of the crate.
    path: Vec<String>,
    /// Without those of tests.
    pub(super) items: Vec<Item>,
    pub(super) children: BTreeMap<String, Module>,
}

pub(super) enum Found<'a> {
    Module,
    Item(&'a Item),
}

impl Module {
    /// Reads the crate whose root is the file `lib`.
    pub(super) fn read(lib: &Path) -> Self {
        Self::read_file(lib, lib.parent().unwrap(), Vec::new())
    }

    /// Reads `file`, whose child modules are files in `dir`.
    fn read_file(file: &Path, dir: &Path, path: Vec<String>) -> Self {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Self::new(parsed.items, dir, path)
    }

    fn new(items: Vec<Item>, dir: &Path, path: Vec<String>) -> Self {
        let mut items: Vec<Item> = items.into_iter().filter(|item| !is_of_tests(item)).collect();
        let mut children = BTreeMap::new();
        for item in &mut items {
            let Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let child_path = [path.clone(), vec![name.clone()]].concat();
            let child_dir = dir.join(&name);
            let child = match &mut module.content {
                Some((_, items)) => Self::new(std::mem::take(items), &child_dir, child_path),
                None => Self::read_file(&child_dir.with_extension("rs"), &child_dir, child_path),
            };
            children.insert(name, child);
        }
        Self { path, items, children }
    }

    /// Calls `visitor` with each item of this module and those below it.
    pub(super) fn visit<'a>(&'a self, visitor: &mut impl FnMut(&'a Item)) {
        self.items.iter().for_each(&mut *visitor);
        for child in self.children.values() {
            child.visit(visitor);
        }
    }

    fn descend(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |module, name| module.children.get(name))
    }
}

/// Finds what `path` names in `module`. `None` if it is of another crate.
pub(super) fn resolve<'a>(root: &'a Module, module: &Module, path: &[String]) -> Option<Found<'a>> {
    let mut base = module.path.as_slice();
    let mut path = path;
    match path[0].as_str() {
        "crate" => (base, path) = (&[], &path[1..]),
        "self" => path = &path[1..],
        _ => {}
    }
    while path[0] == "super" {
        (base, path) = (&base[..base.len() - 1], &path[1..]);
    }
    let (name, modules) = path.split_last()?;
    let module = root.descend(base)?.descend(modules)?;
    if let Some(item) = module.items.iter().find(|item| name_of(item).as_ref() == Some(name)) {
        return Some(Found::Item(item));
    }
    if module.children.contains_key(name) {
        return Some(Found::Module);
    }
    let uses = module.items.iter().filter_map(|item| match item {
        Item::Use(used) => Some(leaves(&used.tree)),
        _ => None,
    });
    let (_, from) = uses.flatten().find(|(leaf, _)| leaf == name)?;
    // `use name` of a crate
    if from == path { None } else { resolve(root, module, &from) }
}

/// The names that a `use` introduces, each with its full path.
pub(super) fn leaves(tree: &UseTree) -> Vec<(String, Vec<String>)> {
    let below = |name: String, tree: &UseTree| {
        let prefixed = leaves(tree).into_iter();
        let join = |(leaf, path): (String, Vec<String>)| match path[0].as_str() {
            // `use name::{self, …}`
            "self" => (if leaf == "self" { name.clone() } else { leaf }, vec![name.clone()]),
            _ => (leaf, [vec![name.clone()], path].concat()),
        };
        prefixed.map(join).collect()
    };
    match tree {
        UseTree::Path(path) => below(path.ident.to_string(), &path.tree),
        UseTree::Name(name) => vec![(name.ident.to_string(), vec![name.ident.to_string()])],
        UseTree::Rename(name) => vec![(name.rename.to_string(), vec![name.ident.to_string()])],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        UseTree::Glob(_) => Vec::new(),
    }
}

/// The name of an item that can be public, other than a module or a `use`.
pub(super) fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Macro(item) if item.mac.path.is_ident("string_enum") => {
            item.mac.parse_body::<super::render::StringEnum>().unwrap().name.to_string()
        }
        _ => return None,
    })
}

/// True for `pub` items that are documented. All enums of words are public.
pub(super) fn is_public(item: &Item) -> bool {
    let (visibility, attributes) = match item {
        Item::Const(item) => (&item.vis, &item.attrs),
        Item::Enum(item) => (&item.vis, &item.attrs),
        Item::Fn(item) => (&item.vis, &item.attrs),
        Item::Mod(item) => (&item.vis, &item.attrs),
        Item::Static(item) => (&item.vis, &item.attrs),
        Item::Struct(item) => (&item.vis, &item.attrs),
        Item::Trait(item) => (&item.vis, &item.attrs),
        Item::Type(item) => (&item.vis, &item.attrs),
        Item::Use(item) => (&item.vis, &item.attrs),
        other => return matches!(other, Item::Macro(_)) && name_of(other).is_some(),
    };
    matches!(visibility, Visibility::Public(_)) && !has(attributes, "doc", "hidden")
}

fn is_of_tests(item: &Item) -> bool {
    let attributes = match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return false,
    };
    has(attributes, "cfg", "test") || has(attributes, "cfg", "all(test")
}

/// True if there is an attribute `name` whose arguments begin with `argument`.
fn has(attributes: &[Attribute], name: &str, argument: &str) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let arguments = list.tokens.to_string().replace(' ', "");
        let rest = arguments.strip_prefix(argument);
        list.path.is_ident(name)
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
    })
}
