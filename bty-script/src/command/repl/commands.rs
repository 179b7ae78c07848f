//! Lines that begin with a colon.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use bty_script::{HostError, ScriptError, reference, render};

use super::Repl;

/// Name and explanation of each.
pub(super) const COMMANDS: [(&str, &str); 7] = [
    ("help", ":help             this"),
    ("doc", ":doc NAME         what a function, module or type does; no name: all"),
    ("vars", ":vars             variables and functions of this session"),
    ("time", ":time EXPRESSION  run it, and tell how long it took"),
    ("save", ":save FILE        write the session as a script that runs"),
    ("save!", ":save! FILE       the same, over a file that is there"),
    ("quit", ":quit             the end (or Ctrl-D)"),
];

impl Repl<'_> {
    /// Does what a line after its colon says.
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
                    || ":help lists them".into(),
                    |name| format!("did you mean :{name}?"),
                );
                return Err(wrong(format!("there is no command :{name}"), next));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn help(&self) {
        COMMANDS.iter().for_each(|(_, text)| self.output.print(text));
        self.output.print("Tab completes, Ctrl-C stops what runs. Everything else is a script:");
        self.output.print("  disks()\n  flash(\"a.img\", \"serial:…\")");
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
            let next = close
                .map_or_else(|| ":doc lists all".into(), |close| format!("did you mean {close}?"));
            wrong(format!("nothing is called {name}"), next)
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

    fn save(&self, path: &str, over: bool) -> Result<(), ScriptError> {
        if path.is_empty() {
            return Err(wrong("no file is named", ":save FILE"));
        }
        let text = self.interactive.script()?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).create_new(!over).truncate(over);
        options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(
            |e| match e.kind() {
                ErrorKind::AlreadyExists => {
                    HostError::new("refused", format!("{path} is there already"))
                        .hint(format!(":save! {path} replaces it"))
                }
                _ => {
                    HostError::new("host", format!("writing {path}: {e}")).hint("name another file")
                }
            },
        )?;
        self.output.say(&format!("written; try it: bty run {path} --dry-run"));
        Ok(())
    }
}

fn wrong(message: impl Into<String>, next: impl Into<String>) -> ScriptError {
    HostError::usage(message).hint(next).into()
}
