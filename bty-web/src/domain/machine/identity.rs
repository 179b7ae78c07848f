//! Identity: a machine with several network cards, and a network card that moves between machines.

use serde_json::json;

use super::firmware::{FirmwareId, MachineIdentity, PreviousIdentity, best_match};
use super::{ClientContext, Machine};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::mac::Mac;

/// Records what the firmware of `machine` says. Returns true if that is news, so that other machines
/// must be compared with it; with the event if the network card was in another machine before.
pub fn record(
    machine: &mut Machine,
    id: &FirmwareId,
    client: &ClientContext,
) -> (bool, Option<NewEvent>) {
    if !id.is_usable() {
        return (false, None);
    }
    let Some(known) = &mut machine.identity else {
        machine.identity = Some(MachineIdentity {
            current: id.clone(),
            since: client.now,
            previous: None,
            same_as: None,
        });
        return (true, None);
    };
    if !id.is_another(&known.current) {
        let before = known.current.clone();
        known.current.update(id);
        return (before != known.current, None);
    }
    let before = std::mem::replace(&mut known.current, id.clone());
    let summary = format!(
        "{}: this network card was in another machine ({}) until now, and is in one with {}",
        machine.mac,
        before.shown(),
        id.shown()
    );
    let details = json!({
        "before": before, "after": id, "since": known.since, "last_seen_at": machine.last_seen_at,
        "target_disk_serial": machine.target_serial,
    });
    known.previous = Some(PreviousIdentity { firmware: before, until: client.now });
    known.since = client.now;
    known.same_as = None;
    let event = NewEvent::new("machine.identity.changed", machine.mac.as_str(), summary);
    (true, Some(event.by(Actor::PxeClient, client.ip.as_deref()).with(details)))
}

/// Records which of the machines `candidates` this one seems to be, and returns the event.
pub fn suggest(
    machine: &mut Machine,
    candidates: &[(Mac, FirmwareId)],
    client: &ClientContext,
) -> Option<NewEvent> {
    let known = machine.identity.as_mut()?;
    let (same_as, equal) =
        best_match(&known.current, candidates).map(|(mac, equal)| (mac.clone(), equal)).unzip();
    if known.same_as == same_as {
        return None;
    }
    known.same_as.clone_from(&same_as);
    let (other, equal) = (same_as?, equal?);
    let summary = format!(
        "{}: seems to be another network card of {other}: the same {}",
        machine.mac,
        equal.join(" and ")
    );
    let event = NewEvent::new("machine.identity.suggested", machine.mac.as_str(), summary);
    let details = json!({ "same_as": other, "equal": equal, "firmware": known.current });
    Some(event.by(Actor::PxeClient, client.ip.as_deref()).with(details))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Time;

    const UUID: &str = "4C4C4544-0042-4B10-8051-C7C04F4D3232";

    fn mac(n: u8) -> Mac {
        format!("02:00:00:00:00:{n:02x}").parse().unwrap()
    }

    fn id(uuid: &str, serial: &str, asset: &str) -> FirmwareId {
        FirmwareId::new(uuid, serial, asset, "")
    }

    fn machine() -> Machine {
        Machine::new(mac(1), "ipxe-exit", Time(0))
    }

    #[test]
    fn a_card_that_moves_to_another_machine_is_said() {
        let (mut machine, client) = (machine(), ClientContext::default());
        assert_eq!(record(&mut machine, &id("", "", "A-17"), &client), (false, None));
        assert_eq!(machine.identity, None);
        assert_eq!(record(&mut machine, &id(UUID, "", ""), &client), (true, None));
        assert_eq!(record(&mut machine, &id(UUID, "", ""), &client), (false, None));
        // the inventory knows more than iPXE
        assert_eq!(record(&mut machine, &id(UUID, "7XYZ123", ""), &client), (true, None));
        // firmware that has lost its UUID is the same machine
        assert_eq!(record(&mut machine, &id("", "7XYZ123", ""), &client), (false, None));
        let other = id("4c4c4544-0042-4b10-8051-c7c04f4d3233", "8ABC456", "");
        let (is_news, event) = record(&mut machine, &other, &client);
        let event = event.unwrap();
        assert!(is_news && event.kind == "machine.identity.changed");
        assert!(event.summary.contains("7XYZ123") && event.summary.contains("8ABC456"));
        let known = machine.identity.unwrap();
        assert_eq!(known.previous.unwrap().firmware.serial.as_deref(), Some("7XYZ123"));
        assert_eq!(known.current, other);
    }

    #[test]
    fn a_suggestion_is_made_once_and_ends_with_its_reason() {
        let (mut machine, client) = (machine(), ClientContext::default());
        assert_eq!(suggest(&mut machine, &[], &client), None);
        record(&mut machine, &id(UUID, "", ""), &client);
        let others = [(mac(2), id(UUID, "", ""))];
        let event = suggest(&mut machine, &others, &client).unwrap();
        assert!(event.summary.contains("02:00:00:00:00:02") && event.summary.contains("uuid"));
        assert_eq!(suggest(&mut machine, &others, &client), None);
        assert_eq!(machine.identity.as_ref().unwrap().same_as, Some(mac(2)));
        assert_eq!(suggest(&mut machine, &[], &client), None);
        assert_eq!(machine.identity.unwrap().same_as, None);
    }
}
