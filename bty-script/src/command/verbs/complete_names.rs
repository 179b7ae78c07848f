//! `bty complete-names`: what a person may mean at the end of a command line: a disk of this
//! machine, or an image of the catalog that the line names. Shells ask it through the scripts of
//! `bty completions`.

use std::process::ExitCode;

use bty::catalog::Catalog;
use bty::{Disk, DiskHost, Result, SystemHost, text};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output::Output;

/// Maximum size in bytes of a catalog that is read for completion.
const CATALOG_BYTES_MAX: u64 = 4 << 20;

pub(super) fn run(line: &str, output: &Output) -> Result<ExitCode> {
    let (before, last) = line.rsplit_once(char::is_whitespace).unwrap_or(("", line));
    let names = match kind_of_next(before) {
        Some(Candidates::Disks) => SystemHost::new().list()?.iter().flat_map(disk_names).collect(),
        Some(Candidates::Images { catalog }) => image_names(&catalog),
        None => Vec::new(),
    };
    names.iter().filter(|name| name.starts_with(last)).for_each(|name| output.print(name));
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, PartialEq, Eq)]
enum Candidates {
    Disks,
    /// Images of the catalog in this file.
    Images {
        catalog: String,
    },
}

/// What the word after `line` may be. `None` if it is not for this command to say.
fn kind_of_next(line: &str) -> Option<Candidates> {
    let mut words = line.split_whitespace().skip(1).peekable();
    let mut command = &Cli::full_command();
    while let Some(verb) = words.peek().and_then(|word| command.find_subcommand(word)) {
        command = verb;
        words.next();
    }
    let (mut count, mut catalog) = (0, None);
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix('-') else {
            count += 1;
            continue;
        };
        let name = option.trim_start_matches('-');
        let takes_value = |argument: &&clap::Arg| {
            let is_named = argument.get_long() == Some(name)
                || argument.get_short().is_some_and(|short| name == short.to_string());
            is_named && argument.get_num_args().is_some_and(|values| values.min_values() > 0)
        };
        if command.get_arguments().any(|argument| takes_value(&argument)) {
            let value = words.next()?;
            catalog = (name == "catalog").then(|| value.to_owned()).or(catalog);
        }
    }
    let positional = command.get_positionals().nth(count).or(command.get_positionals().last())?;
    match (positional.get_id().as_str(), catalog) {
        ("target" | "disk" | "old", _) => Some(Candidates::Disks),
        ("src" | "new", Some(catalog)) => Some(Candidates::Images { catalog }),
        _ => None,
    }
}

/// The selectors that name a disk.
fn disk_names(disk: &Disk) -> Vec<String> {
    let serial = disk.serial.as_ref().map(|serial| format!("serial:{serial}"));
    std::iter::once(text::path_reference(&disk.path)).chain(serial).collect()
}

/// The names in a catalog file. Empty if it cannot be read: a catalog on a server is not asked for
/// at each press of a key.
fn image_names(catalog: &str) -> Vec<String> {
    let is_small =
        std::fs::metadata(catalog).is_ok_and(|m| m.is_file() && m.len() <= CATALOG_BYTES_MAX);
    let bytes = is_small.then(|| std::fs::read(catalog).ok()).flatten().unwrap_or_default();
    let entries = Catalog::parse(&bytes).map(|catalog| catalog.entries().to_vec());
    entries.unwrap_or_default().into_iter().map(|entry| entry.name).collect()
}

/// The lines that make a shell ask [`run`] too; empty for other shells.
pub(super) fn shell_function(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => {
            r#"
# disks and images, which only the machine knows
_bty_names() {
    _bty "$@"
    local line="${COMP_LINE:0:COMP_POINT}" name before=""
    local word="${line##* }"
    # bash completes only what follows the last colon
    [[ "$COMP_WORDBREAKS" == *:* && "$word" == *:* ]] && before="${word%"${word##*:}"}"
    while IFS= read -r name; do
        printf -v name '%q' "${name#"$before"}"
        COMPREPLY+=("$name")
    done < <("${COMP_WORDS[0]}" complete-names "$line" 2>/dev/null)
}
complete -F _bty_names -o bashdefault -o default bty"#
        }
        Shell::Zsh => {
            r#"
# disks and images, which only the machine knows
_bty_names() {
    local -a names
    names=(${(f)"$(bty complete-names "$LBUFFER" 2>/dev/null)"})
    compadd -a -- names
    _bty "$@"
}
compdef _bty_names bty"#
        }
        Shell::Fish => {
            r#"
# disks and images, which only the machine knows
complete -c bty -a "(bty complete-names (commandline -cp) 2>/dev/null)""#
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_the_line_tells_disks_from_images() {
        let images = || Some(Candidates::Images { catalog: "c.toml".into() });
        for (line, kind) in [
            ("bty flash a.img", Some(Candidates::Disks)),
            ("bty flash a.img /dev/sda", Some(Candidates::Disks)),
            ("bty flash --stash 64M -y a.img", Some(Candidates::Disks)),
            ("bty verify a.img", Some(Candidates::Disks)),
            ("bty erase", Some(Candidates::Disks)),
            ("bty image create", Some(Candidates::Disks)),
            ("bty flash --catalog c.toml", images()),
            ("bty image pull --catalog c.toml", images()),
            ("bty flash --catalog c.toml debian", Some(Candidates::Disks)),
            ("bty flash --catalog", None),
            ("bty flash", None),
            ("bty images", None),
            ("bty", None),
            ("", None),
        ] {
            assert_eq!(kind_of_next(line), kind, "{line:?}");
        }
    }
}
