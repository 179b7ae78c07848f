//! The reference of all functions that scripts can call, for people and for editors. It is
//! generated from what is registered in the engine, so functions of a program are in it too.
//!
//! ```
//! use bty_script::{Engine, Limits, ScriptContext, reference};
//!
//! let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
//! let text = reference::describe(&engine, "disks::only").unwrap();
//! assert!(text.contains("filter"));
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rhai::FnNamespace;

use crate::api::{MODULES, TYPES, types};
use crate::context::ScriptContext;
use crate::engine::{Engine, Limits};

/// A function, method, field or operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Function {
    /// Module of the function; empty for global functions, methods and fields of the language.
    pub module: String,
    /// Name without the module.
    pub name: String,
    /// Name and type of each parameter. The first one of a method or field is the value that it
    /// belongs to.
    pub params: Vec<(String, String)>,
    /// Return type; empty if the function returns nothing.
    pub returns: String,
    /// Its documentation, as Markdown.
    pub doc: String,
    /// How it is used in a script.
    pub kind: FunctionKind,
    /// True for functions of the language, including those that bty replaces.
    pub is_standard: bool,
}

/// How a [`Function`] is used in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FunctionKind {
    /// Called by its name.
    Function,
    /// Called on a value of one of bty's types.
    Method,
    /// Read from a value of one of bty's types.
    Field,
    /// Written between values, or called by the engine itself.
    Operator,
}

impl Function {
    /// The signature: `disks::by_serial(serial: String) -> Disk`, `Disk.serial -> String | ()`.
    #[must_use]
    pub fn signature(&self) -> String {
        let typed = |(name, kind): &(String, String)| format!("{name}: {kind}");
        let returns =
            if self.returns.is_empty() { String::new() } else { format!(" -> {}", self.returns) };
        match (self.kind, self.params.split_first()) {
            (FunctionKind::Field, Some(((_, of), _))) => format!("{of}.{}{returns}", self.name),
            (FunctionKind::Method, Some(((_, of), rest))) => {
                format!(
                    "{of}.{}({}){returns}",
                    self.name,
                    rest.iter().map(typed).collect::<Vec<_>>().join(", ")
                )
            }
            _ => {
                let module = if self.module.is_empty() {
                    String::new()
                } else {
                    format!("{}::", self.module)
                };
                format!(
                    "{module}{}({}){returns}",
                    self.name,
                    self.params.iter().map(typed).collect::<Vec<_>>().join(", ")
                )
            }
        }
    }
}

/// All functions of `engine`, sorted by module and name.
#[must_use]
pub fn functions(engine: &Engine) -> Vec<Function> {
    let mut all = collect(engine, false);
    let own: Vec<_> =
        all.iter().map(|f| (f.module.clone(), f.name.clone(), f.params.len())).collect();
    let standard = collect(engine, true)
        .into_iter()
        .filter(|f| !own.contains(&(f.module.clone(), f.name.clone(), f.params.len())));
    all.extend(standard.map(|f| Function { is_standard: true, ..f }));
    // bty registers these as replacements of standard functions
    all.iter_mut()
        .filter(|f| f.module.is_empty() && REPLACED.contains(&f.name.as_str()))
        .for_each(|f| f.is_standard = true);
    all.sort();
    all.dedup();
    all
}

/// Functions of the language that bty replaces by stricter ones.
const REPLACED: [&str; 19] = [
    "blob",
    "pad",
    "sort",
    "sort_by",
    "sort_desc",
    "order",
    "order_by",
    "order_desc",
    "filter",
    "drain",
    "retain",
    "index_of",
    "find",
    "some",
    "all",
    "dedup",
    "contains",
    "print",
    "to_string",
];

fn collect(engine: &Engine, with_standard: bool) -> Vec<Function> {
    let describe = |info: rhai::FuncInfo<'_>| {
        let meta = info.metadata;
        let mut params: Vec<(String, String)> =
            meta.params_info.iter().map(|param| parameter(engine, param)).collect();
        // functions that the program around the engine adds have no parameter names
        params.resize(meta.num_params, ("value".to_owned(), "any".to_owned()));
        let first = params.first().map(|(_, kind)| kind.as_str()).unwrap_or_default();
        let is_bty_type = TYPES.iter().any(|(name, _)| *name == first);
        let (name, kind) = match meta.name.strip_prefix("get$") {
            Some(field) => (field.to_owned(), FunctionKind::Field),
            None if meta.name.contains('$') => return None,
            None if !meta.name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                (meta.name.to_string(), FunctionKind::Operator)
            }
            None if is_bty_type && matches!(meta.name.as_str(), "to_string" | "to_debug") => {
                (meta.name.to_string(), FunctionKind::Operator)
            }
            None if is_bty_type
                && meta.namespace == FnNamespace::Global
                && !info.namespace.is_empty() =>
            {
                (meta.name.to_string(), FunctionKind::Method)
            }
            None => (meta.name.to_string(), FunctionKind::Function),
        };
        let doc = meta.comments.iter().flat_map(|block| block.lines());
        let doc: Vec<&str> =
            doc.map(|line| line.trim_start().trim_start_matches('/').trim()).collect();
        Some(Function {
            module: info.namespace.to_string(),
            name,
            params,
            returns: type_of(engine, &meta.return_type),
            doc: doc.join("\n").trim().to_owned(),
            kind,
            is_standard: false,
        })
    };
    engine.rhai.collect_fn_metadata(None, describe, with_standard)
}

fn parameter(engine: &Engine, text: &str) -> (String, String) {
    let (name, kind) = text.split_once(':').unwrap_or((text, "?"));
    (name.trim().to_owned(), type_of(engine, kind))
}

/// Types whose names in Rust and in scripts differ.
const OTHER_NAMES: [(&str, &str); 6] = [
    ("HostError", "Error"),
    ("FlashReport", "Report"),
    ("VerifyReport", "Comparison"),
    ("PlannedFlash", "Plan"),
    ("PlanMachine", "Machine"),
    ("TestRun", "Outcome"),
];

/// What scripts know the Rust type `name` as, if the names differ.
fn shown(name: &str) -> Option<&'static str> {
    let known = || OTHER_NAMES.iter().chain(types::SHOWN);
    known().find(|(rust, _)| *rust == name).map(|(_, shown)| *shown)
}

/// The name that scripts use for a Rust type.
fn type_of(engine: &Engine, text: &str) -> String {
    let mut kind = text.trim().trim_start_matches("&mut ").trim_start_matches('&').trim();
    for wrapper in ["CallResult<", "RhaiResultOf<", "Result<"] {
        if let Some(inner) = kind.strip_prefix(wrapper) {
            kind = inner.trim_end_matches('>').split(',').next().unwrap_or_default().trim();
        }
    }
    let bare = kind.rsplit("::").next().unwrap_or(kind);
    match bare {
        "()" | "" => String::new(),
        "INT" | "i64" => "int".into(),
        "FLOAT" | "f64" => "float".into(),
        "str" | "String" | "ImmutableString" => "String".into(),
        "Dynamic" => "any".into(),
        "FnPtr" => "fn".into(),
        _ => match shown(bare) {
            Some(name) => name.to_owned(),
            None => engine.rhai.map_type_name(bare).to_owned(),
        },
    }
}

/// The reference as Markdown.
#[must_use]
pub fn markdown() -> String {
    let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
    let own: Vec<Function> = functions(&engine)
        .into_iter()
        .filter(|f| !f.is_standard && f.kind != FunctionKind::Operator)
        .collect();
    let mut text = String::from(
        "# Script functions\n\n\
         All functions that bty adds to the language. `bty docs --markdown` prints this page, and\n\
         `bty docs NAME` shows one function in the terminal. The functions of the \
         language itself,\n\
         for arrays, maps and strings, are on [a page of their own](language.md).\n\n\
         In types, `A | B` is one or the other, `()` is nothing, `[Disk]` is an array \
         of disks, and\n\
         `any` is any value. A function without a result after `->` returns nothing.\n",
    );
    let mut section = |title: &str, about: &str, belongs: &dyn Fn(&Function) -> bool| {
        let _ = write!(text, "\n## {title}\n\n{about}\n");
        for (signature, doc) in grouped(own.iter().filter(|f| belongs(f))) {
            let _ = write!(text, "\n`{signature}`  \n{doc}\n", doc = doc.replace('\n', " "));
        }
    };
    section("Without a module", "The functions that scripts use most.", &|f| {
        f.module.is_empty() && f.kind == FunctionKind::Function
    });
    for (module, about) in MODULES {
        let about = format!("{}.", capital(about));
        section(&format!("`{module}`"), &about, &|f| {
            f.module == module && f.kind == FunctionKind::Function
        });
    }
    for (name, about) in TYPES {
        let about = format!("{}.", capital(about));
        let is_member = |f: &Function| {
            let owner = f.params.first().map(|(_, kind)| kind.as_str());
            matches!(f.kind, FunctionKind::Field | FunctionKind::Method) && owner == Some(name)
        };
        section(&format!("Type `{name}`"), &about, &is_member);
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Signature and documentation of each function; equal signatures are listed once.
fn grouped<'a>(functions: impl Iterator<Item = &'a Function>) -> Vec<(String, String)> {
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let new = functions.filter(|f| seen.insert(f.signature(), ()).is_none());
    new.map(|f| (f.signature(), f.doc.clone())).collect()
}

/// Describes everything called `name`, with or without its module, as `bty docs NAME` shows it. For
/// a module or a type, describes all that it contains. `None` if there is nothing of that name.
#[must_use]
pub fn describe(engine: &Engine, name: &str) -> Option<String> {
    let all = functions(engine);
    let bare = name.rsplit("::").next().unwrap_or(name);
    let module = name.rsplit_once("::").map(|(module, _)| module);
    let has_name = |f: &&Function| f.name == bare && module.is_none_or(|module| f.module == module);
    let mut found: Vec<(String, String)> = grouped(all.iter().filter(has_name));
    let belongs = |f: &&Function| {
        f.module == name
            || f.params.first().is_some_and(|(_, k)| k == name && f.kind != FunctionKind::Function)
    };
    if found.is_empty() {
        found = grouped(all.iter().filter(belongs).filter(|f| f.kind != FunctionKind::Operator));
    }
    let texts = found.iter().map(|(signature, doc)| {
        let doc: Vec<String> =
            doc.lines().map(|line| format!("    {line}").trim_end().to_owned()).collect();
        format!("{signature}\n{}", doc.join("\n")).trim_end().to_owned()
    });
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// Definition files for editors: file name and text of each.
#[must_use]
pub fn definitions() -> Vec<(String, String)> {
    let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
    let definitions = engine.rhai.definitions();
    let files = definitions.iter_files();
    files
        .map(|(name, text)| (name, text.lines().map(with_script_types).collect::<String>()))
        .collect()
}

/// Replaces Rust type names in a line of a definition file by those of scripts. The generator of
/// rhai also leaves parts of the result type behind, which are removed.
fn with_script_types(line: &str) -> String {
    if line.starts_with("///") {
        return format!("{}\n", line.trim_end());
    }
    let line = line.replace("CallResult<", "").replace(" >;", ";");
    let words = line.split_inclusive(|c: char| !c.is_alphanumeric()).map(|piece| {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        let name = match word {
            "Array" => "array",
            "Never" => "()",
            _ => shown(word).unwrap_or(word),
        };
        format!("{}{}", name.replace("String", "string"), &piece[word.len()..])
    });
    words.collect::<String>() + "\n"
}

/// The one of `names` that is most similar to `name`, if any is similar enough to suggest.
pub fn closest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let scored = names
        .filter(|known| *known != name)
        .map(|known| (strsim::damerau_levenshtein(name, known), known));
    let allowed = name.chars().count().div_ceil(3);
    scored.min().filter(|(distance, _)| *distance <= allowed).map(|(_, name)| name.to_owned())
}

/// The hint for an error message about an unknown module, function or field.
pub(crate) fn hint_for(engine: &Engine, message: &str) -> Option<String> {
    if let Some(module) = message.strip_prefix("undefined module: ") {
        return closest(module, MODULES.iter().map(|(name, _)| *name))
            .map(|name| format!("did you mean {name}?"));
    }
    let all = functions(engine);
    if let Some(signature) = message.strip_prefix("there is no function ") {
        let name = signature.split([' ', '(']).next().unwrap_or_default();
        let bare = name.rsplit("::").next().unwrap_or(name);
        let names = all
            .iter()
            .filter(|f| matches!(f.kind, FunctionKind::Function | FunctionKind::Method))
            .map(|f| f.name.as_str());
        if all.iter().any(|f| f.name == bare && f.kind != FunctionKind::Field) {
            return Some(format!("the arguments do not fit: see bty docs {name}"));
        }
        let similar = closest(bare, names).map(|name| format!("did you mean {name}?"));
        return similar.or_else(|| {
            Some(
                "bty docs lists all functions; bty check finds such calls without \
                              running the script"
                    .into(),
            )
        });
    }
    if let Some((kind, field)) = message.split_once(" has no field ") {
        let fields = all.iter().filter(|f| {
            f.kind == FunctionKind::Field && f.params.first().is_some_and(|(_, k)| k == kind)
        });
        return closest(field, fields.map(|f| f.name.as_str()))
            .map(|name| format!("did you mean {name}?"));
    }
    None
}

/// All signatures by module, each with its first sentence, as `bty docs` shows them.
#[must_use]
pub fn overview(engine: &Engine) -> String {
    let own: Vec<Function> = functions(engine)
        .into_iter()
        .filter(|f| !f.is_standard && f.kind == FunctionKind::Function)
        .collect();
    let mut text = String::new();
    let globals = std::iter::once(("", "without a module"));
    for (module, about) in globals.chain(MODULES) {
        let title = if module.is_empty() { about.to_owned() } else { format!("{module}: {about}") };
        let _ = writeln!(text, "{}{title}", if text.is_empty() { "" } else { "\n" });
        for (signature, doc) in grouped(own.iter().filter(|f| f.module == module)) {
            let doc = doc.replace('\n', " ");
            let first = doc.split_inclusive(". ").next().unwrap_or_default().trim();
            let _ = writeln!(text, "  {signature}\n      {first}");
        }
    }
    let types: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    let _ = write!(
        text,
        "\nTypes: {}\n\nbty docs NAME describes a function, a module or a type.",
        types.join(", ")
    );
    text
}

/// The function, module or type whose name is most similar to `name`, to suggest it.
#[must_use]
pub fn closest_function(engine: &Engine, name: &str) -> Option<String> {
    let all = functions(engine);
    let bare = name.rsplit("::").next().unwrap_or(name);
    let modules = MODULES.iter().chain(&TYPES).map(|(name, _)| *name);
    closest(
        bare,
        all.iter()
            .filter(|f| f.kind != FunctionKind::Operator)
            .map(|f| f.name.as_str())
            .chain(modules),
    )
}

#[cfg(test)]
mod tests;
