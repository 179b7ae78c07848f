//! REPL commands, which begin with a colon.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use bty_script::{HostError, ScriptError, reference, render};

use super::Repl;

/// Name and help text of each command.
pub(super) const COMMANDS: [(&str, &str); 7] = [
    ("help", ":help             show this help"),
    ("doc", ":doc [NAME]       show a function, module or type; without NAME, list all"),
    ("vars", ":vars             list the variables and functions of this session"),
    ("time", ":time EXPRESSION  run EXPRESSION and show how long it took"),
    ("save", ":save FILE        save the session as a script"),
    ("save!", ":save! FILE       the same, overwriting FILE"),
    ("quit", ":quit             quit (or press Ctrl-D)"),
];

impl Repl<'_> {
    /// Runs the command of a line; `command` is the text after the colon.
    pub(super) fn command(&mut self, command: &str) -> Result<ControlFlow<ExitCode>, ScriptError> {
        let (name, argument) =
            command.split_once(' ').map_or((command, ""), |(name, rest)| (name, rest.trim()));
        match name {
            "help" | "h" | "?" => self.help(),
            "doc" => self.doc(argument)?,
            "vars" => self.vars(),
            "time" => return self.timed(argument),
            "save" => self.save(argument, false)?,
            "save!" => self.save(argument, true)?,
            "quit" | "q" => return Ok(ControlFlow::Break(ExitCode::SUCCESS)),
            _ => {
                let close = reference::closest(name, COMMANDS.iter().map(|(name, _)| *name));
                let next = close.map_or_else(
                    || ":help lists all commands".into(),
                    |name| format!("did you mean :{name}?"),
                );
                return Err(usage_error(format!("there is no command :{name}"), next));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Answers a word that is no script: `help`, `quit`, or a function without its parentheses.
    /// `None` if the line is something else, or a variable has this name.
    pub(super) fn bare_word(
        &mut self,
        line: &str,
    ) -> Result<Option<ControlFlow<ExitCode>>, ScriptError> {
        let is_name = line.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':');
        if !is_name || self.interactive.variables().iter().any(|variable| variable.name == line) {
            return Ok(None);
        }
        if ["help", "quit", "exit"].contains(&line) {
            let command = if line == "exit" { "quit" } else { line };
            return self.command(command).map(Some);
        }
        let text = reference::describe(self.interactive.engine(), line);
        Ok(text.map(|text| {
            self.output.print(&text);
            ControlFlow::Continue(())
        }))
    }

    fn help(&self) {
        COMMANDS.iter().for_each(|(_, text)| self.output.print(text));
        self.output
            .print("Tab completes, Ctrl-C stops what is running. Other lines are script code:");
        self.output.print("  disks()\n  flash(\"a.img\", \"serial:…\")");
        self.output.print("A name alone, such as flash, shows what it does.");
    }

    fn doc(&self, name: &str) -> Result<(), ScriptError> {
        let engine = self.interactive.engine();
        let text = if name.is_empty() {
            Some(reference::overview(engine))
        } else {
            reference::describe(engine, name)
        };
        let text = text.ok_or_else(|| {
            let close = reference::closest_function(engine, name);
            let next = close.map_or_else(
                || ":doc lists all of them".into(),
                |close| format!("did you mean {close}?"),
            );
            usage_error(format!("no function, module or type is called {name}"), next)
        })?;
        self.output.print(&text);
        Ok(())
    }

    fn vars(&self) {
        for variable in self.interactive.variables() {
            let (name, shown) = (variable.name, render::display(&variable.value, usize::MAX));
            let first: String = shown.lines().next().unwrap_or_default().chars().take(60).collect();
            self.output.print(&format!(
                "{name} = {first}{}",
                if first.len() < shown.len() { " …" } else { "" }
            ));
        }
        self.interactive
            .functions()
            .iter()
            .for_each(|function| self.output.print(&format!("fn {function}")));
    }

    fn save(&self, path: &str, overwrite: bool) -> Result<(), ScriptError> {
        if path.is_empty() {
            return Err(usage_error("cannot save: the file name is missing", "type :save FILE"));
        }
        let text = self.interactive.script()?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).create_new(!overwrite).truncate(overwrite);
        options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(
            |e| match e.kind() {
                ErrorKind::AlreadyExists => {
                    HostError::new("refused", format!("cannot save to {path}: it already exists"))
                        .hint(format!("type :save! {path} to overwrite it"))
                }
                _ => HostError::new("host", format!("writing {path}: {e}"))
                    .hint("use another file name"),
            },
        )?;
        self.output.say(&format!("saved; try it with: bty run {path} --dry-run"));
        Ok(())
    }
}

fn usage_error(message: impl Into<String>, next: impl Into<String>) -> ScriptError {
    HostError::usage(message).hint(next).into()
}
