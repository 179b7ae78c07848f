//! Decodes the bytes that a terminal sends for keys.

/// A key that lists understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A printable character.
    Char(char),
    Enter,
    Backspace,
    /// Ctrl-U or Ctrl-W: deletes everything that was typed.
    Clear,
    Escape,
    /// Ctrl-D.
    EndOfInput,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

const ESC: u8 = 0x1b;
/// Longer escape sequences are dropped.
const SEQUENCE_MAX: usize = 16;

/// Turns bytes into keys, one byte at a time. Unknown sequences are dropped.
#[derive(Default)]
pub(crate) struct KeyDecoder {
    /// The beginning of a character in UTF-8 or of an escape sequence.
    pending: Vec<u8>,
}

impl KeyDecoder {
    /// Adds a byte, and returns the key that it completes.
    pub(crate) fn feed(&mut self, byte: u8) -> Option<Key> {
        match self.pending.first() {
            None => self.begin(byte),
            Some(&ESC) => self.continue_sequence(byte),
            Some(_) => self.continue_character(byte),
        }
    }

    /// To be called when no byte follows for a moment: an escape byte alone is the key Esc, and a
    /// longer sequence is incomplete.
    pub(crate) fn pause(&mut self) -> Option<Key> {
        let is_escape = self.pending == [ESC];
        if self.pending.first() == Some(&ESC) {
            self.pending.clear();
        }
        is_escape.then_some(Key::Escape)
    }

    fn begin(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            b'\r' | b'\n' => Key::Enter,
            0x7f | 0x08 => Key::Backspace,
            0x15 | 0x17 => Key::Clear,
            0x04 => Key::EndOfInput,
            0x10 => Key::Up,
            0x0e => Key::Down,
            0x20..=0x7e => Key::Char(char::from(byte)),
            ESC | 0xc2..=0xf4 => {
                self.pending.push(byte);
                return None;
            }
            _ => return None,
        })
    }

    fn continue_character(&mut self, byte: u8) -> Option<Key> {
        self.pending.push(byte);
        match std::str::from_utf8(&self.pending) {
            Ok(text) => {
                let key = text.chars().next().filter(|c| !c.is_control()).map(Key::Char);
                self.pending.clear();
                key
            }
            Err(error) => {
                if error.error_len().is_some() {
                    self.pending.clear();
                }
                None
            }
        }
    }

    fn continue_sequence(&mut self, byte: u8) -> Option<Key> {
        if byte == ESC {
            self.pending.truncate(1);
            return None;
        }
        self.pending.push(byte);
        let is_open = match &self.pending[1..] {
            [b'[' | b'O'] | [b'[', b'['] => true,
            [b'[' | b'O', .., last] => !(0x40..=0x7e).contains(last),
            _ => false,
        };
        if is_open && self.pending.len() < SEQUENCE_MAX {
            return None;
        }
        let key = key_of(&self.pending[1..]);
        self.pending.clear();
        key
    }
}

fn key_of(sequence: &[u8]) -> Option<Key> {
    Some(match sequence {
        b"[A" | b"OA" => Key::Up,
        b"[B" | b"OB" => Key::Down,
        b"[5~" => Key::PageUp,
        b"[6~" => Key::PageDown,
        b"[H" | b"OH" | b"[1~" | b"[7~" => Key::Home,
        b"[F" | b"OF" | b"[4~" | b"[8~" => Key::End,
        b"OM" => Key::Enter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = KeyDecoder::default();
        bytes.iter().filter_map(|byte| decoder.feed(*byte)).collect()
    }

    #[test]
    fn keys_of_consoles_and_terminals_are_known() {
        for (bytes, key) in [
            (&b"\x1b[A"[..], Key::Up),
            (b"\x1bOB", Key::Down),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[6~", Key::PageDown),
            (b"\x1b[1~", Key::Home),
            (b"\x1b[F", Key::End),
            (b"\r", Key::Enter),
            (b"\x7f", Key::Backspace),
            (b"\x04", Key::EndOfInput),
            ("ü".as_bytes(), Key::Char('ü')),
        ] {
            assert_eq!(decode(bytes), [key], "{bytes:?}");
        }
        // function keys, and Alt with a letter, type nothing
        assert_eq!(decode(b"\x1b[[A\x1b[15~\x1b[1;5C\x1bx1"), [Key::Char('1')]);
    }

    #[test]
    fn an_escape_byte_alone_is_a_key_after_a_moment() {
        let mut decoder = KeyDecoder::default();
        assert_eq!(decoder.feed(ESC), None);
        assert_eq!(decoder.pause(), Some(Key::Escape));
        assert_eq!(decoder.pause(), None);
        assert_eq!(decoder.feed(b'q'), Some(Key::Char('q')));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_and_little_is_kept(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut decoder = KeyDecoder::default();
            for byte in bytes {
                let _ = decoder.feed(byte);
                prop_assert!(decoder.pending.len() <= SEQUENCE_MAX);
            }
        }

        #[test]
        fn what_is_typed_arrives(text in "\\PC{0,40}") {
            let typed: String = decode(text.as_bytes())
                .into_iter()
                .filter_map(|key| if let Key::Char(c) = key { Some(c) } else { None })
                .collect();
            prop_assert_eq!(typed, text);
        }
    }
}
