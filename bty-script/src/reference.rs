//! The functions that scripts can call, for people and for editors. All of it is made from the
//! engine, so it cannot be wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rhai::FnNamespace;

use crate::api::{MODULES, TYPES};
use crate::context::ScriptContext;
use crate::engine::{Engine, Limits};

/// A function, method, field or operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Function {
    /// The module it is in; empty for global ones.
    pub module: String,
    /// Its name.
    pub name: String,
    /// Names and types of its parameters; the first of a method or field is what it belongs to.
    pub params: Vec<(String, String)>,
    /// Type of its value; empty for none.
    pub returns: String,
    /// What it does.
    pub doc: String,
    /// What it is.
    pub kind: FunctionKind,
    /// True when it comes with the language, not with bty.
    pub is_standard: bool,
}

/// What a [`Function`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FunctionKind {
    /// Called by name.
    Function,
    /// Called on a value of one of the host's types.
    Method,
    /// Read from a value of one of the host's types.
    Field,
    /// Written between values, or called by the engine.
    Operator,
}

impl Function {
    /// As it is written: `disks::by_serial(serial: String) -> Disk`, `disk.serial`.
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
    // ours, but only in place of the language's own
    all.iter_mut()
        .filter(|f| f.module.is_empty() && REPLACED.contains(&f.name.as_str()))
        .for_each(|f| f.is_standard = true);
    all.sort();
    all.dedup();
    all
}

/// Functions of the language that are bty's own, since the language's take more than they should.
const REPLACED: [&str; 14] = [
    "blob", "pad", "sort", "sort_by", "order", "order_by", "filter", "drain", "retain", "index_of",
    "find", "some", "all", "dedup",
];

fn collect(engine: &Engine, with_standard: bool) -> Vec<Function> {
    let describe = |info: rhai::FuncInfo<'_>| {
        let meta = info.metadata;
        let mut params: Vec<(String, String)> =
            meta.params_info.iter().map(|param| parameter(engine, param)).collect();
        // functions of the program around the engine have no names for theirs
        params.resize(meta.num_params, ("value".to_owned(), "any".to_owned()));
        let first = params.first().map(|(_, kind)| kind.as_str()).unwrap_or_default();
        let is_ours = TYPES.iter().any(|(name, _)| *name == first);
        let (name, kind) = match meta.name.strip_prefix("get$") {
            Some(field) => (field.to_owned(), FunctionKind::Field),
            None if meta.name.contains('$') => return None,
            None if !meta.name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                (meta.name.to_string(), FunctionKind::Operator)
            }
            None if is_ours && matches!(meta.name.as_str(), "to_string" | "to_debug") => {
                (meta.name.to_string(), FunctionKind::Operator)
            }
            None if is_ours
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

/// Types whose names in Rust are others.
const OTHER_NAMES: [(&str, &str); 3] =
    [("HostError", "Error"), ("FlashReport", "Report"), ("VerifyReport", "Comparison")];

/// A Rust type as scripts name it.
fn type_of(engine: &Engine, text: &str) -> String {
    let mut kind = text.trim().trim_start_matches("&mut ").trim_start_matches('&').trim();
    for wrapper in ["Outcome<", "RhaiResultOf<", "Result<"] {
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
        _ => match OTHER_NAMES.iter().find(|(rust, _)| *rust == bare) {
            Some((_, name)) => (*name).to_owned(),
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
        "# Functions of scripts\n\nMade by `bty docs --markdown`; `bty docs NAME` shows one of them in the terminal.\n\
         What comes with the language (strings, arrays, maps, mathematics) is described in the Rhai book.\n",
    );
    let mut section = |title: &str, about: &str, of: &dyn Fn(&Function) -> bool| {
        let _ = write!(text, "\n## {title}\n\n{about}\n");
        for (signature, doc) in grouped(own.iter().filter(|f| of(f))) {
            let _ = write!(text, "\n`{signature}`  \n{doc}\n", doc = doc.replace('\n', " "));
        }
    };
    section("Without a module", "What scripts say most often.", &|f| {
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
        let is_of = |f: &Function| {
            let of = f.params.first().map(|(_, kind)| kind.as_str());
            matches!(f.kind, FunctionKind::Field | FunctionKind::Method) && of == Some(name)
        };
        section(&format!("Type `{name}`"), &about, &is_of);
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Signature and documentation of each, without repetitions.
fn grouped<'a>(functions: impl Iterator<Item = &'a Function>) -> Vec<(String, String)> {
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let new = functions.filter(|f| seen.insert(f.signature(), ()).is_none());
    new.map(|f| (f.signature(), f.doc.clone())).collect()
}

/// What `bty docs NAME` and `:doc NAME` show: everything called `name`, with or without its module.
/// `None` when there is nothing.
#[must_use]
pub fn describe(engine: &Engine, name: &str) -> Option<String> {
    let all = functions(engine);
    let bare = name.rsplit("::").next().unwrap_or(name);
    let module = name.rsplit_once("::").map(|(module, _)| module);
    let is_meant = |f: &&Function| f.name == bare && module.is_none_or(|module| f.module == module);
    let mut found: Vec<(String, String)> = grouped(all.iter().filter(is_meant));
    let whole = |f: &&Function| {
        f.module == name
            || f.params.first().is_some_and(|(_, k)| k == name && f.kind != FunctionKind::Function)
    };
    if found.is_empty() {
        found = grouped(all.iter().filter(whole).filter(|f| f.kind != FunctionKind::Operator));
    }
    let texts = found.iter().map(|(signature, doc)| {
        let doc: Vec<String> =
            doc.lines().map(|line| format!("    {line}").trim_end().to_owned()).collect();
        format!("{signature}\n{}", doc.join("\n")).trim_end().to_owned()
    });
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// Definition files for editors: names and texts.
#[must_use]
pub fn definitions() -> Vec<(String, String)> {
    let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
    let definitions = engine.rhai.definitions();
    let files = definitions.iter_files();
    files.map(|(name, text)| (name, text.lines().map(tidy).collect::<String>())).collect()
}

/// A line of a definition file with the names that scripts know: the generator writes Rust's, and
/// leaves a piece of the error type behind.
fn tidy(line: &str) -> String {
    if line.starts_with("///") {
        return format!("{}\n", line.trim_end());
    }
    const PIECES: [(&str, &str); 4] =
        [("Outcome<", ""), (" >;", ";"), ("-> String", "-> string"), ("-> Array", "-> array")];
    PIECES
        .iter()
        .chain(&OTHER_NAMES)
        .fold(format!("{line}\n"), |line, (from, to)| line.replace(from, to))
}

/// The one of `names` that is closest to `wanted`, if any is close.
pub fn closest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let scored = names
        .filter(|name| *name != wanted)
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name));
    let allowed = wanted.chars().count().div_ceil(3);
    scored.min().filter(|(distance, _)| *distance <= allowed).map(|(_, name)| name.to_owned())
}

/// "did you mean" for the text of an error of the engine.
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
            return Some(format!("it is called with other values: see bty docs {name}"));
        }
        let meant = closest(bare, names).map(|name| format!("did you mean {name}?"));
        return meant
            .or_else(|| Some("bty check finds such calls, bty docs lists the functions".into()));
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

/// All signatures with the first sentence of each, by module: what `bty docs` shows.
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
            let first =
                doc.split_inclusive(". ").next().unwrap_or_default().trim().replace('\n', " ");
            let _ = writeln!(text, "  {signature}\n      {first}");
        }
    }
    let types: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    let _ = write!(
        text,
        "\nTypes: {}. bty docs NAME tells more about a function, a module or a type.",
        types.join(", ")
    );
    text
}

/// A name that is close to `name`.
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
