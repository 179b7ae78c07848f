//! Power control: the actions, the request to the hook and its answer, and the packet of
//! Wake-on-LAN.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::mac::Mac;
use crate::domain::machine::{Machine, Stage};

/// What to do with a machine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PowerAction {
    /// Switch it on: by the hook, or by Wake-on-LAN if there is none.
    On,
    /// Switch it off at once.
    Off,
    /// Switch it off and on again.
    Cycle,
    /// Let it boot from the network at its next start.
    Netboot,
    /// Ask whether it is on.
    Status,
    /// Send Wake-on-LAN packets.
    Wake,
    /// Order the plan again, then `netboot` and `cycle`.
    Flash,
}

impl PowerAction {
    /// Returns the name in requests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Cycle => "cycle",
            Self::Netboot => "netboot",
            Self::Status => "status",
            Self::Wake => "wake",
            Self::Flash => "flash",
        }
    }

    /// Returns the action as a verb, before the machine in a sentence.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::On => "switch on",
            Self::Off => "switch off",
            Self::Cycle => "power-cycle",
            Self::Netboot => "set the next boot of",
            Self::Status => "read the power state of",
            Self::Wake => "wake",
            Self::Flash => "flash",
        }
    }

    /// True if the action ends whatever the machine is doing.
    #[must_use]
    pub fn interrupts(self) -> bool {
        matches!(self, Self::Off | Self::Cycle | Self::Flash)
    }
}

/// True if the live environment of the machine is carrying out an order, so that its disk may be
/// half written.
#[must_use]
pub fn is_at_work(machine: &Machine) -> bool {
    machine.cycle.as_ref().is_some_and(|cycle| cycle.stage == Stage::Working)
}

/// Whether a machine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PowerState {
    /// It is on.
    On,
    /// It is off.
    Off,
}

impl PowerState {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// Returns the request that the hook receives.
#[must_use]
pub fn hook_request(machine: &Machine, action: PowerAction) -> Value {
    json!({
        "action": action,
        "machine": {
            "mac": machine.mac,
            "labels": machine.labels,
            "params": machine.params,
            "plan": machine.plan,
            "bty_image_ref": machine.image_ref,
            "last_seen_ip": machine.last_seen_ip,
        },
    })
}

/// Maximum size of a hook's output that is kept, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 4 << 10;

/// What a hook has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookAnswer {
    /// Whether the machine is on, if the hook says so.
    pub state: Option<PowerState>,
    /// Text for people, at most [`OUTPUT_BYTES_MAX`].
    pub output: String,
}

impl HookAnswer {
    /// Parses the output of a hook: a JSON object with `state` and `message`, or plain text that
    /// may begin with `on` or `off`.
    #[must_use]
    pub fn parse(output: &[u8]) -> Self {
        if let Ok(Value::Object(fields)) = serde_json::from_slice(output) {
            let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
            let state = PowerState::parse(text("state"));
            return Self { state, output: readable(text("message").as_bytes()) };
        }
        let output = readable(output);
        let first = output.split_whitespace().next().unwrap_or_default();
        Self { state: PowerState::parse(first), output }
    }
}

/// Returns `bytes` as text without control characters, cut to [`OUTPUT_BYTES_MAX`].
#[must_use]
pub fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_shown = |c: &char| *c == '\n' || !c.is_control();
    let mut shown: String = text.trim().chars().filter(is_shown).collect();
    let end = shown.floor_char_boundary(OUTPUT_BYTES_MAX);
    shown.truncate(end);
    shown
}

/// Length of a Wake-on-LAN packet in bytes.
pub const MAGIC_BYTES: usize = 6 + 16 * 6;

/// Returns the packet that wakes a machine: six bytes of ones, and its address sixteen times.
#[must_use]
pub fn magic_packet(mac: &Mac) -> [u8; MAGIC_BYTES] {
    let mut packet = [0xff; MAGIC_BYTES];
    let bytes =
        mac.as_str().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap_or_default());
    let bytes: Vec<u8> = bytes.collect();
    for (place, byte) in packet[6..].iter_mut().zip(bytes.iter().cycle()) {
        *place = *byte;
    }
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_magic_packet_has_the_address_sixteen_times() {
        let packet = magic_packet(&"52:54:00:12:34:ff".parse().unwrap());
        assert_eq!(packet[..6], [0xff; 6]);
        assert_eq!(packet[6..], [0x52, 0x54, 0, 0x12, 0x34, 0xff].repeat(16)[..]);
    }

    #[test]
    fn a_hook_answers_in_json_or_in_plain_text() {
        let parse = |text: &str| {
            let HookAnswer { state, output } = HookAnswer::parse(text.as_bytes());
            (state, output)
        };
        assert_eq!(parse("on\n"), (Some(PowerState::On), "on".into()));
        assert_eq!(parse("Off (soft)"), (Some(PowerState::Off), "Off (soft)".into()));
        assert_eq!(parse("Chassis Power is on"), (None, "Chassis Power is on".into()));
        assert_eq!(
            parse(r#"{"state": "off", "message": "outlet 3"}"#),
            (Some(PowerState::Off), "outlet 3".into())
        );
        assert_eq!(parse(r#"{"state": 1}"#), (None, String::new()));
        assert_eq!(parse(""), (None, String::new()));
    }

    proptest! {
        #[test]
        fn any_output_becomes_short_readable_text(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let HookAnswer { output, .. } = HookAnswer::parse(&bytes);
            prop_assert!(output.len() <= OUTPUT_BYTES_MAX);
            prop_assert!(output.chars().all(|c| c == '\n' || !c.is_control()));
        }
    }
}
