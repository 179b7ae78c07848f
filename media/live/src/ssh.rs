//! SSH keys for the full environment. It has no password, and without a key no SSH server runs.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::kernel_args::KernelArgs;

/// Parameter that names a key: the second field of a `.pub` file. It may be repeated.
pub(crate) const PARAMETER: &str = "bty.ssh_key";

/// Relative to the root of the full environment, whose SSH services start only if this file exists.
const AUTHORIZED: &str = "root/.ssh/authorized_keys";

/// Accepted types of keys. A line of `authorized_keys` begins with the type; so does the decoded
/// key, after the length of the type.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Authorizes the keys in `args` to log in as root to the full environment below `root`. Prints how
/// many, and which ones are invalid.
pub(crate) fn authorize(
    args: &KernelArgs,
    root: &Path,
    print: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let mut lines = String::new();
    let mut count = 0;
    for key in args.all(PARAMETER) {
        match authorized_line(key) {
            Some(line) => {
                lines.push_str(&line);
                lines.push('\n');
                count += 1;
            }
            None => {
                print(&format!(
                    "{PARAMETER}={key} is ignored: it is not the second field of a .pub file"
                ));
            }
        }
    }
    if count == 0 {
        return Ok(());
    }
    let path = root.join(AUTHORIZED);
    let at = |e: std::io::Error| format!("{}: {e}", path.display());
    let dir = path.parent().unwrap_or(root);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(at)?;
    std::io::Write::write_all(&mut file, lines.as_bytes()).map_err(at)?;
    print(&format!("ssh: {count} {} may log in as root", if count == 1 { "key" } else { "keys" }));
    Ok(())
}

/// The line of `authorized_keys` for a key in base64; none if it is not a key.
fn authorized_line(key: &str) -> Option<String> {
    let bytes = decode_base64(key)?;
    let kind = KINDS.into_iter().find(|kind| {
        let head = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
        // a key has more than its type
        bytes
            .strip_prefix(&head)
            .and_then(|rest| rest.strip_prefix(kind.as_bytes()))
            .is_some_and(|rest| rest.len() > 4)
    })?;
    Some(format!("{kind} {key}"))
}

/// Decodes base64 with padding; none if it is malformed.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    if !text.len().is_multiple_of(4) || digits.is_empty() {
        return None;
    }
    let (mut bytes, mut value, mut bits) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        let at = ALPHABET.iter().position(|known| *known == digit)?;
        value = (value << 6 | u32::try_from(at).ok()?) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(value >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGn+Zr1o0TnXUu9pKcAlMOYUEqZ0qYzq6xY6t8fHk1aB";

    fn authorized(args: &str) -> (Option<String>, String) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("root")).unwrap();
        let mut said = String::new();
        authorize(&KernelArgs::parse(args), root.path(), &mut |line| said += &format!("{line}\n"))
            .unwrap();
        let path = root.path().join(AUTHORIZED);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        if path.exists() {
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
        (fs::read_to_string(&path).ok(), said)
    }

    #[test]
    fn nobody_logs_in_unless_a_key_is_named() {
        assert_eq!(authorized("bty.environment=full console=ttyS0"), (None, String::new()));
        assert_eq!(authorized("bty.environment=full bty.ssh_key=").0, None);
        let (keys, said) = authorized(&format!("bty.ssh_key={KEY}"));
        assert_eq!(keys.unwrap(), format!("ssh-ed25519 {KEY}\n"));
        assert_eq!(said, "ssh: 1 key may log in as root\n");
    }

    #[test]
    fn invalid_keys_are_ignored_with_a_message() {
        for wrong in [
            "ssh-ed25519",
            "AAAA",
            "AAAAC3NzaC1lZDI1NTE5",
            "command=\"x\"",
            "AAAA\u{e9}AAA",
            "====",
            "AAAAB3NzaC1kc3MAAACB",
        ] {
            let (keys, said) = authorized(&format!("bty.ssh_key={wrong}"));
            assert_eq!(keys, None, "{wrong}");
            assert!(
                said.contains("is ignored: it is not the second field of a .pub file"),
                "{said}"
            );
        }
        let (keys, said) =
            authorized(&format!("bty.ssh_key=what bty.ssh_key={KEY} bty.ssh_key={KEY}"));
        assert_eq!(keys.unwrap().lines().count(), 2);
        assert!(said.ends_with("ssh: 2 keys may log in as root\n"), "{said}");
    }

    #[test]
    fn base64_is_read_strictly() {
        assert_eq!(decode_base64("YQ=="), Some(b"a".to_vec()));
        assert_eq!(decode_base64("YWI="), Some(b"ab".to_vec()));
        assert_eq!(decode_base64("YWJj"), Some(b"abc".to_vec()));
        for wrong in ["", "YQ", "Y Q=", "YQ=\n", "=YQ=", "YQ==YQ=="] {
            assert_eq!(decode_base64(wrong), None, "{wrong:?}");
        }
    }

    /// Checks the sources of the full environment, because unit tests do not build it.
    #[test]
    fn the_full_environment_has_no_password_and_starts_ssh_for_keys_only() {
        let config = include_str!("../../full/root/etc/ssh/sshd_config.d/bty.conf");
        for line in [
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
        ] {
            assert!(config.lines().any(|found| found == line), "{line}");
        }
        let condition = format!("ConditionPathExists=/{AUTHORIZED}");
        for unit in [
            include_str!("../../full/root/etc/systemd/system/bty-ssh-keys.service"),
            include_str!("../../full/root/etc/systemd/system/ssh.service.d/bty.conf"),
            include_str!("../../full/root/etc/systemd/system/ssh.socket.d/bty.conf"),
        ] {
            assert!(unit.lines().any(|line| line == condition), "{unit}");
        }
        let build = include_str!("../../builder/full.py");
        assert!(build.contains("root:*:") && !build.contains("$6$"), "root has no password");
        for shown in
            [include_str!("../../full/root/etc/issue"), include_str!("../../full/root/etc/motd")]
        {
            assert!(shown.contains(PARAMETER) && !shown.contains("password"), "{shown}");
        }
    }
}
