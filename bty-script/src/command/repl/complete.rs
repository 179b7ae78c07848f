//! Completion: modules, functions, fields, variables, disks, files, and names in catalogs.

use std::path::Path;

use bty::Disk;
use bty::catalog::Catalog;
use bty_script::engine::{InteractiveSession, Variable};
use bty_script::reference::{self, Function, FunctionKind};
use rhai::Map;

use super::commands::COMMANDS;
use super::input;

/// The names that can be completed; collected anew after each line.
pub(super) struct Names {
    pub(super) functions: Vec<Function>,
    pub(super) own_functions: Vec<String>,
    pub(super) variables: Vec<Variable>,
    /// Lists the disks when a completion needs them, since USB sticks come and go.
    pub(super) disks: Box<dyn Fn() -> Vec<Disk>>,
}

impl Names {
    pub(super) fn collect(interactive: &InteractiveSession) -> Self {
        let disks = interactive.engine().context().world().disks.clone();
        Self {
            functions: reference::functions(interactive.engine()),
            own_functions: interactive.functions(),
            variables: interactive.variables(),
            disks: Box::new(move || disks.list().unwrap_or_default()),
        }
    }

    pub(super) fn is_function(&self, word: &str) -> bool {
        let is_own = self.own_functions.iter().any(|f| f.split('(').next() == Some(word));
        is_own
            || self
                .functions
                .iter()
                .any(|f| f.name == word && f.kind == FunctionKind::Function && !f.is_standard)
    }
}

/// The offset in `before` (the text before the cursor) of the word to complete, and its
/// completions.
pub(super) fn complete(before: &str, names: &Names) -> (usize, Vec<String>) {
    if let Some(command) = before.strip_prefix(':') {
        return command_candidates(command, names);
    }
    let around = input::scan(before);
    if let Some(quote) = around.string {
        let (start, typed) = (quote + 1, &before[quote + 1..]);
        let call = around.open.last().map_or("", |&open| &before[..open]);
        let argument =
            around.open.last().map_or(0, |&open| before[open..quote].matches(',').count());
        return (start, matching(typed, string_candidates(call, argument, typed, names)));
    }
    let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    // the character at `at` may have several bytes
    let start =
        (start..=before.len()).find(|&at| before.is_char_boundary(at)).unwrap_or(before.len());
    let (left, typed) = before.split_at(start);
    let candidates = if let Some(left) = left.strip_suffix("::") {
        let module = last_word(left);
        let of_module = names
            .functions
            .iter()
            .filter(|f| f.module == module && f.kind == FunctionKind::Function);
        of_module.map(|f| format!("{}(", f.name)).collect()
    } else if let Some(left) = left.strip_suffix('.') {
        members(last_word(left), names)
    } else {
        globals(names)
    };
    (start, matching(typed, candidates))
}

fn matching(typed: &str, mut candidates: Vec<String>) -> Vec<String> {
    candidates.retain(|candidate| candidate.starts_with(typed) && candidate != typed);
    candidates.sort();
    candidates.dedup();
    candidates
}

fn last_word(text: &str) -> &str {
    let start = text.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    text.get(start..).unwrap_or_default()
}

fn command_candidates(command: &str, names: &Names) -> (usize, Vec<String>) {
    let Some((name, argument)) = command.split_once(' ') else {
        return (
            1,
            matching(command, COMMANDS.iter().map(|(name, _)| (*name).to_owned()).collect()),
        );
    };
    let start = 1 + name.len() + 1;
    let candidates = match name {
        "doc" => {
            let all = names
                .functions
                .iter()
                .filter(|f| !f.is_standard && f.kind == FunctionKind::Function);
            all.map(|f| {
                if f.module.is_empty() {
                    f.name.clone()
                } else {
                    format!("{}::{}", f.module, f.name)
                }
            })
            .collect()
        }
        "save" | "save!" => files(argument),
        _ => return (start, Vec::new()),
    };
    (start, matching(argument, candidates))
}

/// Modules, functions without a module, and variables.
fn globals(names: &Names) -> Vec<String> {
    let modules =
        names.functions.iter().filter(|f| !f.module.is_empty()).map(|f| format!("{}::", f.module));
    let functions =
        names.functions.iter().filter(|f| f.module.is_empty() && f.kind == FunctionKind::Function);
    let functions = functions.filter(|f| !f.name.contains('$')).map(|f| format!("{}(", f.name));
    let own =
        names.own_functions.iter().filter_map(|f| f.split_inclusive('(').next()).map(str::to_owned);
    let variables = names.variables.iter().map(|v| v.name.clone());
    modules.chain(functions).chain(own).chain(variables).collect()
}

/// Fields and methods of the variable `name`; of all types if there is no such variable.
fn members(name: &str, names: &Names) -> Vec<String> {
    let variable = names.variables.iter().find(|variable| variable.name == name);
    if let Some(map) = variable.and_then(|variable| variable.value.read_lock::<Map>()) {
        return map.keys().map(ToString::to_string).collect();
    }
    let is_meant = |f: &&Function| {
        let of = f.params.first().map(|(_, kind)| kind.as_str());
        matches!(f.kind, FunctionKind::Field | FunctionKind::Method)
            && variable.is_none_or(|variable| of == Some(variable.kind.as_str()))
    };
    let own = names.functions.iter().filter(is_meant);
    own.map(
        |f| if f.kind == FunctionKind::Method { format!("{}(", f.name) } else { f.name.clone() },
    )
    .collect()
}

/// Completions of a string that is argument number `argument` (from 0) of `call`.
fn string_candidates(call: &str, argument: usize, typed: &str, names: &Names) -> Vec<String> {
    let call = call.trim_end();
    let is = |name: &str| call.ends_with(name);
    let disks = || (names.disks)();
    if is("by_serial") {
        return disks().into_iter().filter_map(|disk| disk.serial).collect();
    }
    if is("by_wwn") {
        return disks().into_iter().filter_map(|disk| disk.wwn).collect();
    }
    let names_disk = is("disks::select") || is("disks::wait") || is("disks::probe");
    let takes_disk_second = is("flash") || is("verify") || is("flash::plan");
    if names_disk || (takes_disk_second && argument == 1) {
        return disks().iter().flat_map(selectors).chain(files(typed)).collect();
    }
    if is(".find") {
        let catalogs =
            names.variables.iter().filter_map(|variable| variable.value.read_lock::<Catalog>());
        return catalogs
            .flat_map(|c| c.entries().iter().map(|e| e.name.clone()).collect::<Vec<_>>())
            .collect();
    }
    let takes_file =
        ["images::open", "images::list", "catalog::load", "import"].iter().any(|name| is(name));
    if takes_file || takes_disk_second || typed.contains('/') { files(typed) } else { Vec::new() }
}

fn selectors(disk: &Disk) -> Vec<String> {
    let mut all = vec![disk.path.display().to_string()];
    all.extend(disk.serial.as_ref().map(|serial| format!("serial:{serial}")));
    all.extend(disk.wwn.as_ref().map(|wwn| format!("wwn:{wwn}")));
    all
}

/// Files and directories in the directory of `typed`.
fn files(typed: &str) -> Vec<String> {
    let (dir, _) =
        typed.rsplit_once('/').map_or(("", typed), |(dir, name)| (&typed[..=dir.len()], name));
    let entries = std::fs::read_dir(if dir.is_empty() { Path::new(".") } else { Path::new(dir) });
    let named = entries.into_iter().flatten().flatten().map(|entry| {
        let slash = if entry.path().is_dir() { "/" } else { "" };
        format!("{dir}{}{slash}", entry.file_name().to_string_lossy())
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use bty_script::world::SimulatedWorld;
    use bty_script::{Capabilities, Engine, Limits, ScriptContext};
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        let world = "[[disks]]\npath = \"/dev/sda\"\nsize = \"8G\"\nserial = \"S1\"\nwwn = \
                     \"naa.1\"\n\
            [[catalogs]]\nsrc = \"c.toml\"\nimages = [{ name = \"debian 13\", src = \
            \"http://h/a.img\" }]\n";
        let (world, ..) = SimulatedWorld::parse(world).unwrap();
        let engine =
            Engine::new(ScriptContext::new(Capabilities::all(), world), Limits::operator());
        let mut session = InteractiveSession::new(engine);
        let lines = "let d = disks()[0]; let m = #{ alpha: 1, beta: 2 }; let c = \
                     catalog::load(\"c.toml\"); fn mine(x) { x }";
        session.eval(lines, &Default::default()).unwrap();
        Names::collect(&session)
    }

    #[test]
    fn the_word_at_the_cursor_is_completed() {
        let names = names();
        for (before, wanted) in [
            ("dis", &["disks("][..]),
            ("let x = disks::by_", &["by_serial(", "by_wwn("]),
            ("d.ser", &["serial"]),
            ("m.", &["alpha", "beta"]),
            ("c.fi", &["find("]),
            ("mi", &["mine(", "min("]),
            ("disks::by_serial(\"", &["S1"]),
            ("disks::select(\"s", &["serial:S1"]),
            ("flash(\"a.img\", \"/dev", &["/dev/sda"]),
            ("flash(\"a.img\", [\"w", &[]),
            ("c.find(\"de", &["debian 13"]),
            (":he", &["help"]),
            (":doc disks::on", &["disks::only"]),
            ("images::open(\"/etc/hostna", &["/etc/hostname"]),
            ("print(\"/etc/hostna", &["/etc/hostname"]),
            ("print(\"x", &[]),
        ] {
            let (start, found) = complete(before, &names);
            assert!(start <= before.len());
            assert!(
                wanted.iter().all(|w| found.contains(&(*w).to_owned())),
                "{before:?}: {found:?}"
            );
            assert!(!wanted.is_empty() || found.is_empty(), "{before:?}: {found:?}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in any::<String>()) {
            let names = names();
            let (start, _) = complete(&line, &names);
            prop_assert!(line.is_char_boundary(start));
        }
    }
}
