//! Lines that begin with a colon.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use bty::Result;
use bty_script::{reference, render};

use super::{Next, Repl};

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
    pub(super) fn command(&mut self, command: &str) -> Result<Next> {
        let (name, argument) = command.split_once(' ').map_or((command, ""), |(name, rest)| (name, rest.trim()));
        match name {
            "help" | "h" | "?" => {
                COMMANDS.iter().for_each(|(_, text)| self.output.print(text));
                self.output.print("Tab completes, Ctrl-C stops what runs. Everything else is a script:\n  disks()\n  flash(\"a.img\", \"serial:…\")");
            }
            "doc" => self.doc(argument),
            "vars" => self.vars(),
            "time" => return self.timed(argument),
            "save" => self.save(argument, false),
            "save!" => self.save(argument, true),
            "quit" | "q" => return Ok(Next::End(ExitCode::SUCCESS)),
            _ => self.complain(&format!("there is no command :{name}"), ":help lists them"),
        }
        Ok(Next::Line)
    }

    fn complain(&self, message: &str, next: &str) {
        self.output.say(&format!("{}: {message}", self.output.paint("1;31", "error")));
        self.output.say(&format!(" {}: {next}", self.output.paint("1", "next")));
    }

    fn doc(&self, name: &str) {
        let engine = self.interactive.engine();
        if name.is_empty() {
            return self.output.print(&reference::overview(engine));
        }
        match (reference::about(engine, name), reference::similar(engine, name)) {
            (Some(text), _) => self.output.print(&text),
            (None, Some(close)) => {
                self.complain(&format!("nothing is called {name}"), &format!("did you mean {close}?"));
            }
            (None, None) => self.complain(&format!("nothing is called {name}"), ":doc lists all"),
        }
    }

    fn vars(&self) {
        for (name, value) in self.interactive.variables() {
            let shown = render::show(&value, usize::MAX);
            let first: String = shown.lines().next().unwrap_or_default().chars().take(60).collect();
            self.output.print(&format!("{name} = {first}{}", if first.len() < shown.len() { " …" } else { "" }));
        }
        self.interactive.functions().iter().for_each(|function| self.output.print(&format!("fn {function}")));
    }

    fn save(&self, path: &str, over: bool) {
        if path.is_empty() {
            return self.complain("no file is named", ":save FILE");
        }
        let text = match self.interactive.script() {
            Ok(text) => text,
            Err(error) => return self.output.script_error(&error),
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).create_new(!over).truncate(over);
        match options.open(path).and_then(|mut file| file.write_all(text.as_bytes())) {
            Ok(()) => self.output.say(&format!("written; try it: bty run {path} --dry-run")),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                self.complain(&format!("{path} is there already"), &format!(":save! {path} replaces it"));
            }
            Err(e) => self.complain(&format!("writing {path}: {e}"), "name another file"),
        }
    }
}
