//! The scripts that iPXE runs. On any error, a script shows the error and boots the disk: a machine
//! never stays at a prompt.

use std::fmt::Write as _;

use crate::domain::mac::Mac;
use crate::domain::machine::Machine;
use crate::domain::machine::boot::Boot;

/// Media type of the scripts.
pub const MEDIA_TYPE: &str = "text/plain; charset=utf-8";

/// Kernel arguments of every live environment.
const CMDLINE: &str =
    "modprobe.blacklist=nouveau,rndis_host nouveau.modeset=0 plymouth.enable=0 systemd.gpt_auto=0";

/// Additional kernel arguments of the reference's live environment. The last console becomes
/// `/dev/console`; BMCs show `ttyS0`.
const REFERENCE_CMDLINE: &str =
    "components console=tty0 console=ttyS1,115200 console=ttyS0,115200 earlyprintk=ttyS0,115200";

/// Additional kernel arguments of bty's live environment. The kernel logs to the first serial
/// console listed; the environment uses all of them. A serial line transmits only about 11 KiB per
/// second, so the kernel logs warnings only. After a panic, the machine restarts within a minute
/// and contacts its server again.
const SMALL_CMDLINE: &str = "${bty-consoles} loglevel=5 panic=60";

/// Defaults to the first disk, unless a boot medium has set another drive.
const DRIVE: &str = "isset ${bty-drive} || set bty-drive 0x80\n";

/// The live environments that scripts can boot, which take different kernel arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// bty's own: small. A machine downloads the squashfs only for the full environment.
    Small,
    /// The live environment of the reference.
    Reference,
}

/// What the scripts of all machines share: the server and its live environment.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    /// Base URL of the server, without a trailing slash.
    pub base: &'a str,
    /// Version in the file names of the live environment.
    pub version: &'a str,
    /// Live environment of that version.
    pub environment: Environment,
    /// Additional arguments for every kernel command line.
    pub extra_args: &'a str,
}

/// `/pxe-bootstrap.ipxe`: chains to the machine's script, with a nonce that identifies this boot.
#[must_use]
pub fn bootstrap(base: &str, nonce: &str) -> String {
    // the address of the interface that has the lease, which may not be the first one
    // the firmware's fields identify a machine with several interfaces; uristring encodes them
    let firmware = "uuid=${uuid}&serial=${serial:uristring}&asset=${asset:uristring}\
                    &arch=${buildarch}";
    format!(
        "#!ipxe\nchain --replace {}/pxe/${{mac:hexhyp}}?boot={nonce}&{firmware} || exit 1\n",
        word(base)
    )
}

/// `autoexec.ipxe`, which iPXE loads from the same place as itself. The firmware may or may not
/// have left it an IP address.
#[must_use]
pub fn autoexec(base: &str) -> String {
    format!(
        "#!ipxe\n\
         ifopen ||\n\
         isset ${{ip}} || dhcp || goto none\n\
         chain --replace {base}/pxe-bootstrap.ipxe || goto none\n\
         :none\n\
         echo bty: {base} cannot be reached; returning to the firmware\n\
         sleep 5\n\
         exit 1\n",
        base = word(base),
    )
}

/// `/pxe/{mac}`: carries out the decision `boot` for `machine`, which boots from its network card
/// `card`.
#[must_use]
pub fn script(card: &Mac, machine: &Machine, boot: &Boot, site: &Site<'_>) -> String {
    let mut text = head(machine);
    match boot {
        Boot::Live { token, arguments, .. } => {
            live(&mut text, card, machine, site, token, arguments);
        }
        Boot::Disk { reason } => {
            let why = reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
            let _ = writeln!(text, "echo bty: booting the disk{}", show(&why));
            text.push_str("sleep 1\n");
            local(&mut text, machine.sanboot_drive.as_deref());
        }
        Boot::Firmware { reason } => {
            let _ = writeln!(text, "echo bty: returning to the firmware: {}", show(reason));
            text.push_str("sleep 1\nexit 1\n");
        }
        Boot::Chain { address } => {
            let _ = writeln!(text, "chain --replace {} || goto local\n:local", word(address));
            local(&mut text, machine.sanboot_drive.as_deref());
        }
        Boot::Failed { reason } => fail(&mut text, reason, machine.sanboot_drive.as_deref()),
    }
    text
}

/// The script for a machine whose decision failed: shows the reason and boots the disk.
#[must_use]
pub fn failed(reason: &str) -> String {
    let mut text = String::from("#!ipxe\n");
    fail(&mut text, reason, None);
    text
}

fn head(machine: &Machine) -> String {
    let unset = "none";
    format!(
        "#!ipxe\n# machine: {}\n# plan: {}\n# image: {}\n# labels: {}\n",
        machine.mac,
        show(&machine.plan),
        show(machine.image_ref.as_deref().unwrap_or(unset)),
        show(&machine.labels.join(", ")),
    )
}

fn live(
    text: &mut String,
    card: &Mac,
    machine: &Machine,
    site: &Site<'_>,
    token: &str,
    arguments: &str,
) {
    let tag = format!("mac={card}&cycle={token}");
    let mut extra = String::new();
    for words in [site.extra_args, machine.extra_args.as_str(), arguments] {
        if !words.trim().is_empty() {
            let _ = write!(extra, " {}", show(words.trim()));
        }
    }
    let _ = writeln!(text, "set bty-base {}", word(site.base));
    let (arch, args) = match site.environment {
        Environment::Small => {
            text.push_str(
                "set bty-arch x86_64\n\
                 set bty-consoles console=tty0 console=ttyS0,115200 console=ttyS1,115200\n\
                 iseq ${buildarch} arm64 && set bty-arch arm64 ||\n\
                 iseq ${buildarch} arm64 && \
                 set bty-consoles console=tty0 console=ttyAMA0,115200 ||\n",
            );
            ("${bty-arch}", SMALL_CMDLINE)
        }
        Environment::Reference => ("x86_64", REFERENCE_CMDLINE),
    };
    let name = format!("bty-netboot-pc-{arch}-v{}", word(site.version));
    // under UEFI, iPXE before 2021 passes the initramfs as a file, whose name the kernel needs
    let _ = write!(
        text,
        "kernel ${{bty-base}}/boot/{name}.vmlinuz?{tag} initrd=initrd boot=live \
         fetch=${{bty-base}}/boot/{name}.squashfs {args} {CMDLINE} \
         bty.server=${{bty-base}} bty.mac={card} bty.cycle={token}{extra} || goto local\n\
         initrd --name initrd ${{bty-base}}/boot/{name}.initrd?{tag} || goto local\n\
         boot || goto local\n\
         :local\n\
         echo bty: cannot fetch the live environment from {base}; booting the disk\n\
         sleep 5\n",
        base = word(site.base),
    );
    local(text, machine.sanboot_drive.as_deref());
}

fn fail(text: &mut String, reason: &str, drive: Option<&str>) {
    let _ = writeln!(text, "echo bty: {}", show(reason));
    text.push_str("sleep 5\n");
    local(text, drive);
}

/// Boots the disk. UEFI has no drive numbers, so there the script exits and the firmware continues
/// with its next boot device. It does so only after a failure: after success it shows its menu, and
/// the machine would wait there forever. Therefore every script replaces the previous one and exits
/// with 1.
fn local(text: &mut String, drive: Option<&str>) {
    text.push_str("iseq ${platform} efi && exit 1 ||\n");
    if drive.is_none() {
        text.push_str(DRIVE);
    }
    let drive = drive.map_or_else(|| "${bty-drive}".into(), word);
    let _ = writeln!(text, "sanboot --no-describe --drive {drive} || exit 1");
}

/// Text for `echo`: one line, without characters that iPXE would expand or treat as operators.
fn show(text: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_control() => ' ',
        '$' | '`' | '\\' | '|' | '&' | '#' | '<' | '>' => '_',
        c if c.is_ascii() => c,
        _ => '?',
    };
    text.chars().take(SHOWN_CHARS_MAX).map(plain).collect()
}

/// Maximum length of a text shown by a script, in characters.
const SHOWN_CHARS_MAX: usize = 1024;

/// Text as one word of a script, without characters that iPXE would interpret.
fn word(text: &str) -> String {
    let is_plain = |c: &char| {
        c.is_ascii_graphic() && !matches!(c, '$' | '`' | '\\' | '|' | '"' | '\'' | '<' | '>' | '#')
    };
    text.chars().filter(is_plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Time;

    const SITE: Site<'_> = Site {
        base: "http://10.0.0.1:8080",
        version: "0.1.0",
        environment: Environment::Small,
        extra_args: "pci=realloc",
    };

    fn machine() -> Machine {
        let mut machine = Machine::new("525400123456".parse().unwrap(), "bty-flash-once", Time(0));
        machine.labels = vec!["lab".into(), "rack 3".into()];
        machine.image_ref = Some("ab".repeat(32));
        machine
    }

    #[test]
    fn every_answer_is_a_script() {
        let mut all = format!("{}-----\n{}", bootstrap(SITE.base, "0123"), autoexec(SITE.base));
        let boots = [
            Boot::Live { token: "feed".into(), arguments: "quiet".into(), fallback: None },
            Boot::Disk { reason: None },
            Boot::Disk { reason: Some("not in this wave".into()) },
            Boot::Firmware { reason: "no_target_disk".into() },
            Boot::Chain { address: "https://h/other.ipxe".into() },
            Boot::Failed { reason: "the plan failed".into() },
        ];
        for boot in &boots {
            all.push_str("-----\n");
            all.push_str(&script(&machine().mac, &machine(), boot, &SITE));
        }
        let reference = Site { environment: Environment::Reference, ..SITE };
        all.push_str("-----\n");
        all.push_str(&script(&machine().mac, &machine(), &boots[0], &reference));
        all.push_str("-----\n");
        all.push_str(&failed("invalid MAC address x"));
        insta::assert_snapshot!(all);
    }

    #[test]
    fn no_value_can_inject_commands_into_a_script() {
        let hostile = "x\nsanboot --drive 0x81\r\n${net0/mac} && shell || `id` # \u{1b}[2J";
        let mut machine = machine();
        machine.plan = hostile.into();
        machine.image_ref = Some(hostile.into());
        machine.labels = vec![hostile.into()];
        machine.sanboot_drive = Some(hostile.into());
        machine.extra_args = hostile.into();
        let site = Site { base: hostile, version: hostile, extra_args: hostile, ..SITE };
        let boots = [
            Boot::Live { token: "feed".into(), arguments: hostile.into(), fallback: None },
            Boot::Disk { reason: Some(hostile.into()) },
            Boot::Firmware { reason: hostile.into() },
            Boot::Chain { address: hostile.into() },
            Boot::Failed { reason: hostile.into() },
        ];
        let lines = |machine: &Machine, site: &Site<'_>, boot: &Boot| -> Vec<String> {
            script(&machine.mac, machine, boot, site)
                .lines()
                .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
                .collect()
        };
        let with_drive =
            || Machine { sanboot_drive: Some("0x81".into()), ..super::tests::machine() };
        for boot in &boots {
            let text = script(&machine.mac, &machine, boot, &site);
            assert!(!text.contains("net0") || !text.contains("${net0"), "{text}");
            assert!(
                !text.contains('`') && !text.contains('\u{1b}') && !text.contains('\r'),
                "{text}"
            );
            // the same commands in the same order as with harmless values
            let harmless = script(&machine.mac, &with_drive(), boot, &SITE);
            assert_eq!(text.lines().count(), harmless.lines().count(), "{text}");
            assert_eq!(lines(&machine, &site, boot), lines(&with_drive(), &SITE, boot));
        }
    }
}
