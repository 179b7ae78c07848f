//! Keyboard layouts of the screen's console.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Directory of layouts in the format of `loadkmap`.
const LAYOUTS: &str = "/etc/keymaps";
const ENDING: &str = ".bmap";

/// Loads a layout, such as `de`. Without one, keys are those of a keyboard from the United States.
pub(crate) fn load(layout: &str) -> Result<(), String> {
    if layout == "us" {
        return Ok(());
    }
    let file = find(Path::new(LAYOUTS), layout)?;
    // fails on a machine without a screen, which needs no layout
    let _ = Command::new("/sbin/loadkmap").stdin(file).status();
    Ok(())
}

fn find(dir: &Path, layout: &str) -> Result<File, String> {
    let known = known(dir);
    let is_known = known.iter().any(|name| name == layout);
    let opened = is_known.then(|| File::open(dir.join(format!("{layout}{ENDING}"))).ok()).flatten();
    opened.ok_or_else(|| {
        format!("no keyboard layout is called {layout:?}: choose us, {}", known.join(", "))
    })
}

fn known(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> =
        names.filter_map(|name| Some(name.to_str()?.strip_suffix(ENDING)?.to_owned())).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_layout_is_answered_with_those_that_exist() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["fr.bmap", "de.bmap", "README"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(find(dir.path(), "de").is_ok());
        for wrong in ["xx", "../keymaps/de", ""] {
            let why = find(dir.path(), wrong).unwrap_err();
            assert!(why.ends_with("choose us, de, fr"), "{why}");
        }
    }
}
