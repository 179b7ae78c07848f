//! The module `ui`.

use bty::text;
use rhai::plugin::*;
use rhai::{Array, Dynamic, INT, NativeCallContext};

use crate::api::types::{MaybeString, Rows, Strings};
use crate::context::{Capability, ScriptContext};
use crate::error::{CallResult, HostError, raise};
use crate::render::{self, Table};
use crate::terminal::{Style, escape_for_terminal};

fn show(call: &NativeCallContext<'_>, text: &str) -> CallResult<()> {
    // keeps the styles that `paint` adds, and escapes other control characters
    ScriptContext::require(call, Capability::Dialogs)?
        .world
        .terminal
        .say(&escape_for_terminal(text, true));
    Ok(())
}

fn paint(call: &NativeCallContext<'_>, style: &str, text: &str) -> CallResult<String> {
    let context = ScriptContext::require(call, Capability::Dialogs)?;
    let known = Style::by_name(style).ok_or_else(|| {
        let message = format!("unknown style {style:?}");
        raise(HostError::usage(message).hint("use strong, good, warning, bad or quiet"))
    })?;
    Ok(context.world.terminal.paint(known, &escape_for_terminal(text, true)))
}

fn show_table(call: &NativeCallContext<'_>, table: &Table) -> CallResult<()> {
    let context = ScriptContext::require(call, Capability::Dialogs)?;
    let terminal = &context.world.terminal;
    for (number, line) in table.lines(terminal.size().columns).iter().enumerate() {
        terminal.say(&if number == 0 { terminal.paint(Style::Strong, line) } else { line.clone() });
    }
    Ok(())
}

#[export_module]
pub(super) mod functions {
    /// Shows a line of text to the person, on stderr.
    #[rhai_fn(volatile, return_raw)]
    pub fn say(call: NativeCallContext, text: &str) -> CallResult<()> {
        show(&call, text)
    }

    /// Shows a line in a style: `strong`, `good`, `warning`, `bad` or `quiet`. A terminal without
    /// colors shows it plain.
    #[rhai_fn(name = "say", volatile, return_raw)]
    pub fn say_in_style(call: NativeCallContext, style: &str, text: &str) -> CallResult<()> {
        let painted = paint(&call, style, text)?;
        show(&call, &painted)
    }

    /// Returns `text` in a style, to be used as part of a line.
    #[rhai_fn(name = "paint", return_raw)]
    pub fn paint_text(call: NativeCallContext, style: &str, text: &str) -> CallResult<String> {
        paint(&call, style, text)
    }

    /// Returns `text` with control characters escaped (`\u{1b}`), so that it fits in a line. Use it
    /// for text that scripts do not control, such as disk models or names in a catalog.
    pub fn clean(text: &str) -> String {
        text::escape(text).into_owned()
    }

    /// Shows lines in a frame with a title.
    #[rhai_fn(volatile, return_raw)]
    pub fn panel(call: NativeCallContext, title: &str, lines: Strings) -> CallResult<()> {
        let context = ScriptContext::require(&call, Capability::Dialogs)?;
        let terminal = &context.world.terminal;
        let width = terminal.size().columns.clamp(20, 100);
        let title = text::escape(title);
        let left = width.saturating_sub(title.chars().count()) / 2;
        let right = width.saturating_sub(title.chars().count() + left);
        let top = format!("{}{title}{}", "=".repeat(left), "=".repeat(right));
        terminal.say(&terminal.paint(Style::Strong, &top));
        for line in &lines {
            terminal.say(&escape_for_terminal(&render::one_line(line), true));
        }
        terminal.say(&terminal.paint(Style::Strong, &"=".repeat(width)));
        Ok(())
    }

    /// Shows a table with column names and rows; each row is an array with a value per column.
    #[rhai_fn(volatile, return_raw)]
    pub fn table(call: NativeCallContext, headers: Strings, rows: Rows) -> CallResult<()> {
        let texts = |row: &Array| row.iter().map(render::one_line).collect::<Vec<_>>();
        let mut table = Table { headers: texts(&headers), rows: Vec::new() };
        for row in rows {
            let row = row.into_array().map_err(|_| {
                raise(HostError::usage("cannot show the table: each row must be an array"))
            })?;
            table.rows.push(texts(&row));
        }
        show_table(&call, &table)
    }

    /// Shows a table of disks, image files, catalog entries, or maps.
    #[rhai_fn(name = "table", volatile, return_raw)]
    pub fn table_of(call: NativeCallContext, items: Array) -> CallResult<()> {
        show_table(&call, &render::table_of(items.into_iter()))
    }

    /// Asks the person for a line, and returns it without leading and trailing spaces; `()` after
    /// Ctrl-C or at the end of the input.
    #[rhai_fn(volatile, return_raw)]
    pub fn ask(call: NativeCallContext, prompt: &str) -> CallResult<MaybeString> {
        let context = ScriptContext::require(&call, Capability::Dialogs)?;
        let line =
            context.world.terminal.read_line(prompt, &context.meter.operation()).map_err(raise)?;
        Ok(line.map_or(Dynamic::UNIT, |line| line.trim().to_owned().into()))
    }

    /// Asks the person; true only if they type the word `yes`.
    #[rhai_fn(volatile, return_raw)]
    pub fn confirm(call: NativeCallContext, prompt: &str) -> CallResult<bool> {
        Ok(ask(call, prompt)?.into_string().is_ok_and(|answer| answer == "yes"))
    }

    /// Width of the terminal in characters.
    #[rhai_fn(return_raw)]
    pub fn columns(call: NativeCallContext) -> CallResult<INT> {
        Ok(INT::try_from(
            ScriptContext::require(&call, Capability::Dialogs)?.world.terminal.size().columns,
        )
        .unwrap_or(80))
    }

    /// Height of the terminal in lines.
    #[rhai_fn(return_raw)]
    pub fn rows(call: NativeCallContext) -> CallResult<INT> {
        Ok(INT::try_from(
            ScriptContext::require(&call, Capability::Dialogs)?.world.terminal.size().rows,
        )
        .unwrap_or(25))
    }
}
