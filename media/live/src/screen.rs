//! Text on the consoles before and after `bty` runs: plain lines, because serial consoles scroll.

use std::time::{Duration, Instant};

use crate::kernel_args::KernelArgs;
use crate::network::State;

/// Interval after which an unchanged status line is printed again.
const REPEAT: Duration = Duration::from_secs(10);

/// Says what the environment waits for: printed when it changes, and every [`REPEAT`] with the time
/// that it has been waiting.
pub(crate) struct StatusLine {
    text: String,
    since: Instant,
    printed: Instant,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { text: String::new(), since: now, printed: now }
    }

    /// Sets the text. Returns the line to print now, if any.
    pub(crate) fn update(&mut self, text: &str) -> Option<String> {
        let now = Instant::now();
        if text != self.text {
            (self.text, self.since, self.printed) = (text.to_owned(), now, now);
            return Some(format!("  {text}\n"));
        }
        (now - self.printed >= REPEAT).then(|| {
            self.printed = now;
            format!("  {text} ({} s)\n", (now - self.since).as_secs())
        })
    }
}

/// The first lines: version, server, card that booted, keys, and kernel.
pub(crate) fn banner(args: &KernelArgs) -> String {
    let server = match args.server() {
        Some(server) => format!("server {server}"),
        None if args.is_server_from_dhcp() => "server from DHCP".into(),
        None if args.is_server_typed_in() => "server typed in".into(),
        None => "local, no server".into(),
    };
    let card = args.mac().map(|mac| format!(", card {mac}")).unwrap_or_default();
    format!(
        "\nbty {} live environment | {server}{card}\n  Enter: do not wait   Ctrl-\\: shell   {}\n",
        env!("CARGO_PKG_VERSION"),
        rustix::system::uname().release().to_string_lossy()
    )
}

/// The status line for the network.
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

pub(crate) const SERVER_PROMPT: &str =
    "\nAddress of the server, such as http://192.0.2.1:8080 (Enter: none): ";

/// The menu that follows the exit of `bty`.
pub(crate) fn ended(code: u32) -> String {
    let how = if code == 0 {
        "bty has ended".into()
    } else {
        format!("bty has ended with exit code {code}")
    };
    format!(
        "\n{how}\n  \
         Enter: restart bty   s: shell   f: full environment   r: reboot   p: power off\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Lease;

    #[test]
    fn a_status_line_is_printed_when_it_changes_and_after_a_while() {
        let mut status = StatusLine::new();
        assert_eq!(status.update("network: a").as_deref(), Some("  network: a\n"));
        assert_eq!(status.update("network: a"), None);
        assert_eq!(status.update("network: b").as_deref(), Some("  network: b\n"));
        status.printed -= REPEAT;
        status.since -= REPEAT;
        assert_eq!(status.update("network: b").as_deref(), Some("  network: b (10 s)\n"));
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
                ("eth0".into(), "requesting an address"),
                ("eth1".into(), "not the card that booted"),
            ]),
            State::Up(lease),
        ];
        let lines: Vec<String> = states.iter().map(network).collect();
        insta::assert_snapshot!(lines.join("\n") + &ended(0) + &ended(5));
    }
}
