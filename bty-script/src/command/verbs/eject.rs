//! `bty eject`.

use std::path::Path;
use std::process::ExitCode;

use bty::{Error, ErrorKind, Result};
use bty_script::bundled;

use crate::output::Output;

pub(super) fn run(name: &str, dir: &Path, force: bool, output: &Output) -> Result<ExitCode> {
    let files = bundled::with_imports(name);
    if files.is_empty() {
        return Err(Error::new(ErrorKind::Usage, format!("there is no bundled script {name:?}"))
            .hint(format!("the bundled scripts are {}", bundled::names().join(", "))));
    }
    let failed = |doing: &str, path: &Path, e: std::io::Error| {
        Error::new(ErrorKind::Host, format!("{doing} {}", path.display())).because(e)
    };
    std::fs::create_dir_all(dir).map_err(|e| failed("creating", dir, e))?;
    let paths: Vec<_> =
        files.iter().map(|(name, text)| (dir.join(format!("{name}.rhai")), text)).collect();
    // copy all or nothing, so that no changed script is lost
    if let Some((path, _)) = paths.iter().find(|(path, _)| !force && path.exists()) {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("cannot copy to {}: it already exists", path.display()),
        )
        .hint("choose another directory, or use --force to overwrite it"));
    }
    for (path, text) in &paths {
        std::fs::write(path, text).map_err(|e| failed("writing", path, e))?;
        output.print(&path.display().to_string());
    }
    output.say(&format!("change them, then run: bty run {}", paths[0].0.display()));
    Ok(ExitCode::SUCCESS)
}
