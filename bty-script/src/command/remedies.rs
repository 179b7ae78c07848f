//! What the command calls the remedies that the library advises: options and subcommands.

use bty::flash::{FlashPlan, Refusal};
use bty::{Error, Remedy};

/// The next step after `error`, in the words of the command.
pub(crate) fn hint(error: &Error) -> Option<String> {
    let hint = error.next_step()?;
    Some(match error.remedy().and_then(name) {
        Some(name) => with_name(hint, name),
        None => hint.to_owned(),
    })
}

/// Adds `name` to `hint`: before the list of disks that may end it.
fn with_name(hint: &str, name: &str) -> String {
    let split = hint.split_once('\n').and_then(|(first, list)| {
        let (advice, heading) = first.rsplit_once("; ")?;
        Some(format!("{advice}; {name}; {heading}\n{list}"))
    });
    split.unwrap_or_else(|| format!("{hint}; {name}"))
}

/// The options that help against what a plan warns about; `None` without such options.
pub(crate) fn tip(plan: &FlashPlan) -> Option<String> {
    let names: Vec<&str> = plan.remedies().into_iter().filter_map(name).collect();
    (!names.is_empty()).then(|| names.join("; "))
}

/// The text of a refusal, in the words of the command.
pub(crate) fn refusal(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    match (refusal.remedy.and_then(name), text.strip_suffix(')')) {
        (Some(name), Some(open)) => format!("{open}; {name})"),
        (Some(name), None) => format!("{text} ({name})"),
        (None, _) => text,
    }
}

fn name(remedy: Remedy) -> Option<&'static str> {
    Some(match remedy {
        Remedy::Sha256 => "--sha256 gives the digest",
        Remedy::ImageSha256 => "--image-sha256 gives it",
        Remedy::IgnoreTrailing => "--ignore-trailing does so",
        Remedy::Credentials => {
            "they come from --login HOST=FILE, a netrc file, or the file of podman login"
        }
        Remedy::CaFiles => "--ca FILE does so",
        Remedy::FixGpt => "--fix-gpt moves the backup GPT",
        Remedy::NoFixGpt => "leave out --fix-gpt",
        Remedy::Fit => "--fit does so",
        Remedy::Raw => "--raw does so",
        Remedy::Overwrite => "--overwrite does so",
        Remedy::AllowPartition => "--allow-partition does so",
        Remedy::NoShrink => "leave out --shrink",
        Remedy::CreateFile => "--create=SIZE creates a file",
        Remedy::NoCreateFile => "leaving out --create does so",
        Remedy::ListDisks => "bty disks lists the disks",
        Remedy::ListImages => "bty images DIR lists a directory",
        Remedy::PipeImage => "as in: curl … | bty flash - DISK",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use bty::ErrorKind;

    use super::*;

    #[test]
    fn the_command_adds_its_option_to_the_hint_of_the_library() {
        let error = |hint: &str| Error::new(ErrorKind::Source, "x").hint(hint);
        assert_eq!(hint(&error("start again")).as_deref(), Some("start again"));
        let digest = error("give the digest of the file").with_remedy(Remedy::Sha256);
        assert_eq!(
            hint(&digest).as_deref(),
            Some("give the digest of the file; --sha256 gives the digest")
        );
        let disks = error("name a disk; this machine has:\n  /dev/sda; 8 GiB");
        assert_eq!(
            hint(&disks.with_remedy(Remedy::CreateFile)).as_deref(),
            Some("name a disk; --create=SIZE creates a file; this machine has:\n  /dev/sda; 8 GiB")
        );
    }
}
