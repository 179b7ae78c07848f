//! The module `ui`.

use bty::text;
use rhai::plugin::*;
use rhai::{Array, Dynamic, INT, Map, NativeCallContext};

use crate::api::types::{MaybeString, PickedRow, Rows, Strings};
use crate::context::{Capability, ScriptContext};
use crate::error::{CallResult, HostError, raise};
use crate::render::{self, Table};
use crate::terminal::{Choice, ChoiceList, ChoiceRow, Style, escape_for_terminal};

/// Names of the options of `ui::choose`.
pub(super) const CHOOSE_OPTIONS: [&str; 5] = ["keys", "refusals", "details", "selected", "height"];

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

/// The texts of rows for display.
fn cells_of(rows: Rows) -> CallResult<Vec<Vec<String>>> {
    let cells = |row: Dynamic| {
        let row = row
            .into_array()
            .map_err(|_| raise(HostError::usage("cannot show the rows: each must be an array")))?;
        Ok(row.iter().map(render::one_line).collect())
    };
    rows.into_iter().map(cells).collect()
}

fn array_option(name: &str, value: &Dynamic) -> CallResult<Array> {
    value.clone().into_array().map_err(|_| {
        raise(HostError::usage(format!("the option {name} of choose must be an array")))
    })
}

fn add_option(list: &mut ChoiceList, name: &str, value: &Dynamic) -> CallResult<()> {
    let index = || {
        let number = value.as_int().ok().and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| {
            raise(HostError::usage(format!("the option {name} of choose must not be negative")))
        })
    };
    match name {
        "keys" => {
            let pairs = array_option(name, value)?.into_iter().map(|pair| {
                let pair = pair.into_typed_array::<String>().unwrap_or_default();
                <[String; 2]>::try_from(pair).map(|[key, label]| (key, label)).map_err(|_| {
                    raise(HostError::usage("each key of choose must be an array of key and label"))
                })
            });
            list.keys = pairs.collect::<CallResult<_>>()?;
        }
        "refusals" => {
            for (row, refusal) in list.rows.iter_mut().zip(array_option(name, value)?) {
                row.refusal = (!refusal.is_unit()).then(|| render::one_line(&refusal));
            }
        }
        "details" => {
            for (row, details) in list.rows.iter_mut().zip(array_option(name, value)?) {
                row.details = (!details.is_unit()).then(|| render::one_line(&details));
            }
        }
        "selected" if value.is_unit() => {}
        "selected" => list.selected = Some(index()?).filter(|&index| index < list.rows.len()),
        "height" => list.height = Some(index()?.max(1)),
        _ => {
            let hint = format!("the options are {}", CHOOSE_OPTIONS.join(", "));
            let message = format!("unknown option {name} of choose");
            return Err(raise(HostError::usage(message).hint(hint)));
        }
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
        let headers = headers.iter().map(render::one_line).collect();
        show_table(&call, &Table { headers, rows: cells_of(rows)? })
    }

    /// Lets the person pick a row of a list: with arrow keys, by typing a part of it, or by its
    /// number. Returns the index of the row, counted from 0, or `()` after Ctrl-C or at the end of
    /// the input. On a serial line the rows are picked by number only. `title` says what to pick,
    /// as in `Pick an image`; each row is an array with a value per column.
    #[rhai_fn(name = "choose", volatile, return_raw)]
    pub fn choose_plainly(
        call: NativeCallContext,
        title: &str,
        headers: Strings,
        rows: Rows,
    ) -> CallResult<PickedRow> {
        choose(call, title, headers, rows, Map::new())
    }

    /// Lets the person pick, with options. `keys` are other answers, each an array of key and label
    /// as in `["r", "rescan"]`; the result is the key then, or `""` after Enter while no row was
    /// selected. The key `b` is also Esc. `refusals` has a text for each row that cannot be picked,
    /// which says why, and `()` for the others. `details` has a text for each row that is shown
    /// while the row is selected, or `()`. `selected` is the index of the row that is selected
    /// at first (default: none). `height` is the maximum number of rows shown at a time.
    #[rhai_fn(name = "choose", volatile, return_raw)]
    pub fn choose(
        call: NativeCallContext,
        title: &str,
        headers: Strings,
        rows: Rows,
        options: Map,
    ) -> CallResult<PickedRow> {
        let context = ScriptContext::require(&call, Capability::Dialogs)?;
        let mut list = ChoiceList {
            title: title.to_owned(),
            headers: headers.iter().map(render::one_line).collect(),
            rows: Vec::new(),
            ..ChoiceList::default()
        };
        list.rows = cells_of(rows)?
            .into_iter()
            .map(|cells| ChoiceRow { cells, ..ChoiceRow::default() })
            .collect();
        for (name, value) in &options {
            add_option(&mut list, name, value)?;
        }
        let cancel = context.meter.operation();
        Ok(match context.world.terminal.choose(&list, &cancel).map_err(raise)? {
            None => Dynamic::UNIT,
            Some(Choice::Key(key)) => key.into(),
            Some(Choice::Row(index)) => INT::try_from(index).unwrap_or(INT::MAX).into(),
        })
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
