//! What the consoles show before and after `bty` itself: plain lines, for serial lines that scroll.

use std::time::{Duration, Instant};

use crate::network::State;
use crate::words::Words;

/// How often a line is shown again that has not changed.
const AGAIN: Duration = Duration::from_secs(10);

/// Lines that say what is waited for: once when it changes, and now and then with the time.
pub(crate) struct Waiting {
    text: String,
    since: Instant,
    shown: Instant,
}

impl Waiting {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { text: String::new(), since: now, shown: now }
    }

    /// The line to show now, if any.
    pub(crate) fn line(&mut self, text: &str) -> Option<String> {
        let now = Instant::now();
        if text != self.text {
            (self.text, self.since, self.shown) = (text.to_owned(), now, now);
            return Some(format!("  {text}\n"));
        }
        (now - self.shown >= AGAIN).then(|| {
            self.shown = now;
            format!("  {text} ({} s)\n", (now - self.since).as_secs())
        })
    }
}

/// The first lines: version, how it was started, and by whom it is led.
pub(crate) fn banner(words: &Words) -> String {
    let who = match words.server() {
        Some(server) => format!("network, plans of {server}"),
        None if words.asks_dhcp() => "network, plans of the server that DHCP names".into(),
        None if words.asks_person() => "network, server to be typed in".into(),
        None => "local, no server named".into(),
    };
    let card = words.mac().map(|mac| format!(", card {mac}")).unwrap_or_default();
    format!(
        "\nbty {} live environment | {who}{card}\n  Enter: do not wait   Ctrl-\\: shell   {}\n",
        env!("CARGO_PKG_VERSION"),
        rustix::system::uname().release().to_string_lossy()
    )
}

/// What is waited for.
pub(crate) fn network(state: &State) -> String {
    match state {
        State::NoCard => "network: no card with a driver yet".into(),
        State::Waiting(cards) => {
            let cards: Vec<String> =
                cards.iter().map(|(card, missing)| format!("{card}: {missing}")).collect();
            format!("network: {}", cards.join("; "))
        }
        State::Up(lease) => format!("network: {} has {} ({})", lease.card, lease.ip, lease.mac),
    }
}

/// What a person is asked.
pub(crate) const WHICH_SERVER: &str =
    "\nAddress of the server, such as http://192.0.2.1:8080 (Enter: none): ";

/// `bty` has ended, and nobody has said what is next.
pub(crate) fn ended(code: u32) -> String {
    let how = if code == 0 {
        "bty has ended".into()
    } else {
        format!("bty has ended with exit code {code}")
    };
    format!(
        "\n{how}\n  Enter: start it again   s: shell   f: full environment   r: reboot   p: power off\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Lease;

    #[test]
    fn a_line_is_shown_when_it_changes() {
        let mut waiting = Waiting::new();
        assert_eq!(waiting.line("network: a").as_deref(), Some("  network: a\n"));
        assert_eq!(waiting.line("network: a"), None);
        assert_eq!(waiting.line("network: b").as_deref(), Some("  network: b\n"));
        waiting.shown -= AGAIN;
        waiting.since -= AGAIN;
        assert_eq!(waiting.line("network: b").as_deref(), Some("  network: b (10 s)\n"));
    }

    #[test]
    fn lines_say_what_is_missing() {
        let lease = Lease {
            card: "eth0".into(),
            mac: "52:54:00:00:00:01".into(),
            ip: "10.0.0.5".into(),
            server: None,
        };
        let states = [
            State::NoCard,
            State::Waiting(vec![
                ("eth0".into(), "asking for an address"),
                ("eth1".into(), "not the card that has booted"),
            ]),
            State::Up(lease),
        ];
        let lines: Vec<String> = states.iter().map(network).collect();
        insta::assert_snapshot!(lines.join("\n") + &ended(0) + &ended(5));
    }
}
