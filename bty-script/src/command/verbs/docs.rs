//! `bty docs`.

use std::path::Path;
use std::process::ExitCode;

use bty::{Error, ErrorKind, Result};
use bty_script::{Engine, Limits, ScriptContext, reference};

use crate::output::Output;

pub(super) fn run(
    name: Option<&str>,
    markdown: bool,
    definitions: Option<&Path>,
    output: &Output,
) -> Result<ExitCode> {
    if let Some(dir) = definitions {
        return write_definitions(dir, output);
    }
    if markdown {
        output.print(reference::markdown().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
    let text = match name {
        None => reference::overview(&engine),
        Some(name) => reference::describe(&engine, name).ok_or_else(|| {
            let error = Error::new(
                ErrorKind::Usage,
                format!("no function, module or type is called {name}"),
            );
            match reference::closest_function(&engine, name) {
                Some(close) => error.hint(format!("did you mean {close}?")),
                None => error.hint("bty docs lists all of them"),
            }
        })?,
    };
    output.print(&text);
    Ok(ExitCode::SUCCESS)
}

fn write_definitions(dir: &Path, output: &Output) -> Result<ExitCode> {
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::Host, format!("writing to {}", dir.display())).because(e)
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    for (name, text) in reference::definitions() {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(failed)?;
        output.print(&path.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}
