//! Completion, hints and highlighting for the line editor.

use std::borrow::Cow;

use bty_script::engine::InteractiveSession;
use bty_script::reference::FunctionKind;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Result};

use super::complete::{self, Names};
use super::highlight;

#[derive(rustyline::Helper)]
pub(super) struct Helper {
    names: Names,
    has_color: bool,
}

impl Helper {
    pub(super) fn new(interactive: &InteractiveSession, has_color: bool) -> Self {
        Self { names: Names::collect(interactive), has_color }
    }

    /// Collects the names that the last line has defined.
    pub(super) fn refresh(&mut self, interactive: &InteractiveSession) {
        self.names = Names::collect(interactive);
    }
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let (start, found) = complete::complete(&line[..pos], &self.names);
        let pair = |text: String| Pair { display: text.clone(), replacement: text };
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

impl Hinter for Helper {
    type Hint = String;

    /// The parameters of the function, right after its opening bracket.
    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<String> {
        let call = line[..pos].strip_suffix('(').filter(|_| pos == line.len())?;
        let start = call.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let name = call.get(start..)?;
        let module = call
            .get(..start)?
            .strip_suffix("::")
            .map(|left| left.rsplit(|c: char| !c.is_alphanumeric()).next());
        let module = module.flatten().unwrap_or_default();
        let is_meant = |f: &&bty_script::reference::Function| {
            f.name == name && f.module == module && f.kind == FunctionKind::Function
        };
        let found = self.names.functions.iter().find(is_meant)?;
        let params: Vec<String> =
            found.params.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
        Some(format!("{})", params.join(", ")))
    }
}

impl Highlighter for Helper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if !self.has_color || line.starts_with(':') {
            return Cow::Borrowed(line);
        }
        Cow::Owned(highlight::paint(line, &|word| self.names.is_function(word)))
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if self.has_color {
            Cow::Owned(format!("\x1b[90m{hint}\x1b[0m"))
        } else {
            Cow::Borrowed(hint)
        }
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.has_color
    }
}

// unfinished lines get a prompt of their own instead of the editor's several lines
impl Validator for Helper {}
