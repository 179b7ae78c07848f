//! `ui`.

use bty::text;
use rhai::plugin::*;
use rhai::{Array, Dynamic, INT, NativeCallContext};

use crate::context::{Capability, ScriptContext};
use crate::error::{HostError, Outcome, raise};
use crate::render::{self, Table};
use crate::terminal::{Style, shown};

fn show(context: &NativeCallContext<'_>, text: &str) -> Outcome<()> {
    // the terminal takes styles as `paint` makes them, and escapes the rest
    ScriptContext::of(context, Capability::Dialogs)?.world.terminal.say(&shown(text, true));
    Ok(())
}

fn paint(context: &NativeCallContext<'_>, style: &str, text: &str) -> Outcome<String> {
    let host = ScriptContext::of(context, Capability::Dialogs)?;
    let known = Style::by_name(style).ok_or_else(|| {
        let message = format!("there is no style {style:?}");
        raise(HostError::usage(message).hint("use strong, good, warning, bad or quiet"))
    })?;
    Ok(host.world.terminal.paint(known, &shown(text, true)))
}

fn show_table(context: &NativeCallContext<'_>, table: &Table) -> Outcome<()> {
    let host = ScriptContext::of(context, Capability::Dialogs)?;
    let terminal = &host.world.terminal;
    for (number, line) in table.lines(terminal.size().columns).iter().enumerate() {
        terminal.say(&if number == 0 { terminal.paint(Style::Strong, line) } else { line.clone() });
    }
    Ok(())
}

#[export_module]
pub(super) mod functions {
    /// A line of text for the person.
    #[rhai_fn(volatile, return_raw)]
    pub fn say(context: NativeCallContext, text: &str) -> Outcome<()> {
        show(&context, text)
    }

    /// The same in a style: `strong`, `good`, `warning`, `bad` or `quiet`. Without colour it is
    /// plain.
    #[rhai_fn(name = "say", volatile, return_raw)]
    pub fn say_in_style(context: NativeCallContext, style: &str, text: &str) -> Outcome<()> {
        let painted = paint(&context, style, text)?;
        show(&context, &painted)
    }

    /// `text` in a style, for a part of a line.
    #[rhai_fn(name = "paint", return_raw)]
    pub fn paint_text(context: NativeCallContext, style: &str, text: &str) -> Outcome<String> {
        paint(&context, style, text)
    }

    /// Text from elsewhere (a model, a name in a catalog) with its control characters written out
    /// (`\u{1b}`), so that it can be shown in a line.
    pub fn clean(text: &str) -> String {
        text::escape(text).into_owned()
    }

    /// A frame with a title around lines.
    #[rhai_fn(volatile, return_raw)]
    pub fn panel(context: NativeCallContext, title: &str, lines: Array) -> Outcome<()> {
        let host = ScriptContext::of(&context, Capability::Dialogs)?;
        let terminal = &host.world.terminal;
        let width = terminal.size().columns.clamp(20, 100);
        let title = text::escape(title);
        let left = width.saturating_sub(title.chars().count()) / 2;
        let right = width.saturating_sub(title.chars().count() + left);
        let top = format!("{}{title}{}", "=".repeat(left), "=".repeat(right));
        terminal.say(&terminal.paint(Style::Strong, &top));
        for line in &lines {
            terminal.say(&shown(&render::plain(line), true));
        }
        terminal.say(&terminal.paint(Style::Strong, &"=".repeat(width)));
        Ok(())
    }

    /// A table: names of the columns, and rows of one text each.
    #[rhai_fn(volatile, return_raw)]
    pub fn table(context: NativeCallContext, headers: Array, rows: Array) -> Outcome<()> {
        let texts = |row: &Array| row.iter().map(render::plain).collect::<Vec<_>>();
        let mut table = Table { headers: texts(&headers), rows: Vec::new() };
        for row in rows {
            let row = row
                .into_array()
                .map_err(|_| raise(HostError::usage("a row of a table is an array")))?;
            table.rows.push(texts(&row));
        }
        show_table(&context, &table)
    }

    /// A table of disks, images, entries of a catalog, or maps.
    #[rhai_fn(name = "table", volatile, return_raw)]
    pub fn table_of(context: NativeCallContext, items: Array) -> Outcome<()> {
        show_table(&context, &render::table_of(items.into_iter()))
    }

    /// Asks for a line: what was typed, without blanks around it; `()` at the end of the input and
    /// for Ctrl-C.
    #[rhai_fn(volatile, return_raw)]
    pub fn ask(context: NativeCallContext, prompt: &str) -> Outcome<Dynamic> {
        let host = ScriptContext::of(&context, Capability::Dialogs)?;
        let line = host.world.terminal.read_line(prompt, &host.meter.operation()).map_err(raise)?;
        Ok(line.map_or(Dynamic::UNIT, |line| line.trim().to_owned().into()))
    }

    /// True when the person types exactly the word `yes`.
    #[rhai_fn(volatile, return_raw)]
    pub fn confirm(context: NativeCallContext, prompt: &str) -> Outcome<bool> {
        Ok(ask(context, prompt)?.into_string().is_ok_and(|answer| answer == "yes"))
    }

    /// Width of the terminal in characters.
    #[rhai_fn(return_raw)]
    pub fn columns(context: NativeCallContext) -> Outcome<INT> {
        Ok(INT::try_from(
            ScriptContext::of(&context, Capability::Dialogs)?.world.terminal.size().columns,
        )
        .unwrap_or(80))
    }

    /// Height of the terminal in lines.
    #[rhai_fn(return_raw)]
    pub fn rows(context: NativeCallContext) -> Outcome<INT> {
        Ok(INT::try_from(
            ScriptContext::of(&context, Capability::Dialogs)?.world.terminal.size().rows,
        )
        .unwrap_or(25))
    }
}
