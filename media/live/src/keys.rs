//! The keys that the live environment keeps for itself while `bty` runs.

/// What arrives from a console.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    /// Opens a shell beside the running `bty`.
    Shell,
    /// Saves a log.
    Log,
    /// Anything else.
    Other(Vec<u8>),
}

/// Ctrl-\ and F12, because on some keyboards the first one needs three keys; F10.
const OWN: [(&[u8], Key); 3] =
    [(b"\x1c", Key::Shell), (b"\x1b[24~", Key::Shell), (b"\x1b[21~", Key::Log)];

/// Finds those keys in what is typed. A serial line may deliver a sequence in parts.
#[derive(Default)]
pub(crate) struct KeyFilter {
    /// The beginning of what may become an own key.
    held: Vec<u8>,
}

impl KeyFilter {
    /// The keys in `bytes`, in order.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.held.extend(bytes);
        let all = std::mem::take(&mut self.held);
        let (mut keys, mut other, mut at) = (Vec::new(), Vec::new(), 0);
        while let Some(rest) = all.get(at..).filter(|rest| !rest.is_empty()) {
            if let Some((sequence, key)) = OWN.iter().find(|(own, _)| rest.starts_with(own)) {
                push_other(&mut keys, &mut other);
                keys.push(key.clone());
                at += sequence.len();
            } else if OWN.iter().any(|(own, _)| own.starts_with(rest)) {
                self.held = rest.to_vec();
                break;
            } else {
                other.push(rest[0]);
                at += 1;
            }
        }
        push_other(&mut keys, &mut other);
        keys
    }

    /// What was held back, when no more follows: the key Esc, for example.
    pub(crate) fn release(&mut self) -> Option<Key> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then_some(Key::Other(held))
    }
}

fn push_other(keys: &mut Vec<Key>, other: &mut Vec<u8>) {
    if !other.is_empty() {
        keys.push(Key::Other(std::mem::take(other)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_are_found_among_others_and_in_parts() {
        let other = |text: &str| Key::Other(text.as_bytes().to_vec());
        let mut filter = KeyFilter::default();
        assert_eq!(filter.feed(b"1\r\x1b[24~x"), [other("1\r"), Key::Shell, other("x")]);
        assert_eq!(filter.feed(b"\x1b"), []);
        assert_eq!(filter.feed(b"[2"), []);
        assert_eq!(filter.feed(b"1~\x1c"), [Key::Log, Key::Shell]);
        // an arrow key
        assert_eq!(filter.feed(b"\x1b["), []);
        assert_eq!(filter.feed(b"A"), [other("\x1b[A")]);
        assert_eq!(filter.feed(b"\x1b"), []);
        assert_eq!(filter.release(), Some(other("\x1b")));
        assert_eq!(filter.release(), None);
    }

    proptest::proptest! {
        #[test]
        fn no_key_is_lost_or_reordered(parts in proptest::collection::vec("[\x1b\x1c\\[124~a]{0,6}", 0..8)) {
            let mut filter = KeyFilter::default();
            let mut keys: Vec<Key> = parts.iter().flat_map(|part| filter.feed(part.as_bytes())).collect();
            keys.extend(filter.release());
            let bytes: Vec<u8> = keys.iter().flat_map(|key| match key {
                Key::Other(bytes) => bytes.clone(),
                Key::Shell => b"S".to_vec(),
                Key::Log => b"L".to_vec(),
            }).collect();
            let typed = parts.concat();
            let expected = typed.replace('\x1c', "S").replace("\x1b[24~", "S").replace("\x1b[21~", "L");
            proptest::prop_assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }
}
