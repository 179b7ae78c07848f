//! The file `bty.txt` on a stick, which people write with any editor: settings, one or more a line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::kernel_args::KernelArgs;

/// Names that Windows gives to a `bty.txt`: it hides the last ending.
const NAMES: [&str; 2] = ["bty.txt", "bty.txt.txt"];
/// Longest file that is read, in bytes.
const BYTES_MAX: u64 = 64 << 10;
/// What the file may set.
const KNOWN: [&str; 6] =
    ["bty.server", "bty.mac", "bty.environment", "bty.keyboard", "bty.ssh_key", "fetch"];

/// The settings in a `bty.txt`, and what to tell the person who has written it.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) args: KernelArgs,
    /// How many settings were read, and those without effect; a line each.
    pub(crate) messages: Vec<String>,
}

impl Settings {
    /// Reads the file in the first of `dirs` that has one; nothing without such a file.
    pub(crate) fn read(dirs: &[&Path]) -> Self {
        let paths = dirs.iter().flat_map(|dir| NAMES.map(|name| dir.join(name)));
        let Some(file) = paths.filter_map(|path| File::open(path).ok()).next() else {
            return Self::default();
        };
        let mut bytes = Vec::new();
        match file.take(BYTES_MAX).read_to_end(&mut bytes) {
            Ok(_) => Self::parse(&decode(&bytes)),
            Err(e) => {
                let messages = vec![format!("bty.txt: cannot be read: {e}")];
                Self { messages, ..Self::default() }
            }
        }
    }

    fn parse(text: &str) -> Self {
        let args = KernelArgs::parse(text);
        let (mut read, mut messages) = (Vec::new(), Vec::new());
        for (name, value) in args.iter() {
            match (KNOWN.contains(&name), value) {
                (true, Some(value)) if !value.is_empty() => read.push(name),
                (true, _) => {
                    messages.push(format!("bty.txt: {name} has no value: write {name}=VALUE"));
                }
                (false, _) => {
                    let hint = similar(name).map(|known| format!("; did you mean {known}?"));
                    let name: String = name.chars().flat_map(char::escape_debug).collect();
                    messages.push(format!(
                        "bty.txt: \"{name}\" is not a setting{}",
                        hint.unwrap_or_default()
                    ));
                }
            }
        }
        messages.insert(
            0,
            match read.len() {
                0 => "bty.txt: no settings".to_owned(),
                1 => format!("bty.txt: 1 setting: {}", read[0]),
                count => format!("bty.txt: {count} settings: {}", read.join(", ")),
            },
        );
        Self { args, messages }
    }
}

/// Text in UTF-8 or UTF-16, with or without a byte order mark.
fn decode(bytes: &[u8]) -> String {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // the first character of a file without a mark is ASCII
        [first, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => utf16(bytes, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// The setting that `name` may stand for: its prefix is missing, or a few letters differ.
fn similar(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let distance = |known: &str| {
        let bare = known.strip_prefix("bty.").unwrap_or(known);
        strsim::damerau_levenshtein(&name, known).min(strsim::damerau_levenshtein(&name, bare))
    };
    let closest = KNOWN.into_iter().min_by_key(|known| distance(known))?;
    (distance(closest) <= name.chars().count().div_ceil(3)).then_some(closest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TEXT: &str = "# the lab\r\nbty.server = http://10.0.0.1:8080\r\nbty.ssh_key=AAAA==\r\n";

    fn encoded(text: &str, mark: &[u8], bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        [mark, &text.encode_utf16().flat_map(bytes).collect::<Vec<_>>()].concat()
    }

    #[test]
    fn a_file_is_read_in_every_encoding_of_windows_editors() {
        for bytes in [
            TEXT.as_bytes().to_vec(),
            ["\u{feff}".as_bytes(), TEXT.as_bytes()].concat(),
            encoded(TEXT, &[0xff, 0xfe], u16::to_le_bytes),
            encoded(TEXT, &[0xfe, 0xff], u16::to_be_bytes),
            encoded(TEXT, &[], u16::to_le_bytes),
            encoded(TEXT, &[], u16::to_be_bytes),
        ] {
            for name in NAMES {
                let dir = tempfile::tempdir().unwrap();
                fs::write(dir.path().join(name), &bytes).unwrap();
                let missing = dir.path().join("missing");
                let settings = Settings::read(&[&missing, dir.path()]);
                assert_eq!(settings.args.server().as_deref(), Some("http://10.0.0.1:8080"));
                assert_eq!(settings.args.get("bty.ssh_key"), Some("AAAA=="));
                assert_eq!(settings.messages, ["bty.txt: 2 settings: bty.server, bty.ssh_key"]);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(Settings::read(&[dir.path()]).messages.is_empty());
    }

    #[test]
    fn settings_without_effect_are_named_with_the_one_that_was_meant() {
        let text =
            "bty.serevr=http://a server=b BTY.KEYBOARD=de\nbty.mac=\nconsole=ttyS0 \u{1b}[2J";
        let settings = Settings::parse(text);
        assert_eq!(
            settings.messages,
            [
                "bty.txt: no settings",
                "bty.txt: \"bty.serevr\" is not a setting; did you mean bty.server?",
                "bty.txt: \"server\" is not a setting; did you mean bty.server?",
                "bty.txt: \"BTY.KEYBOARD\" is not a setting; did you mean bty.keyboard?",
                "bty.txt: bty.mac has no value: write bty.mac=VALUE",
                "bty.txt: \"console\" is not a setting",
                "bty.txt: \"\\u{1b}[2J\" is not a setting",
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives_utf_16(text in "\\PC*") {
            let bytes = encoded(&text, &[0xff, 0xfe], u16::to_le_bytes);
            proptest::prop_assert_eq!(decode(&bytes), text);
        }

        #[test]
        fn any_bytes_give_messages_without_control_characters(bytes: Vec<u8>) {
            for message in Settings::parse(&decode(&bytes)).messages {
                proptest::prop_assert!(!message.contains(char::is_control), "{:?}", message);
            }
        }
    }
}
