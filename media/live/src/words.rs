//! What the environment is told: the words of the kernel command line, and of `bty.txt` on a stick.

use std::fs;

/// What it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Words(Vec<(String, Option<String>)>);

impl Words {
    /// Those of the kernel command line.
    pub(crate) fn of_kernel() -> Self {
        Self::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Words separated by blanks and lines; the rest of a line after `#` is a remark.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text
            .trim_start_matches('\u{feff}')
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default());
        let word = |word: &str| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.trim_matches('"').to_owned())),
            None => (word.to_owned(), None),
        };
        Self(lines.flat_map(str::split_whitespace).map(word).collect())
    }

    /// Adds what `others` say about things that these words do not name.
    pub(crate) fn complete(&mut self, others: Self) {
        let is_new =
            |(name, _): &(String, Option<String>)| !self.0.iter().any(|(known, _)| known == name);
        let new: Vec<_> = others.0.into_iter().filter(is_new).collect();
        self.0.extend(new);
    }

    /// The last value of `name`, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let values = self.0.iter().rev().filter(|(known, _)| known == name);
        values.filter_map(|(_, value)| value.as_deref()).find(|value| !value.is_empty())
    }

    /// All values of `name`, in their order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .filter_map(|(_, value)| value.as_deref())
    }

    /// The server is named by DHCP.
    pub(crate) fn asks_dhcp(&self) -> bool {
        self.get("bty.server") == Some("dhcp")
    }

    /// The server is named by a person.
    pub(crate) fn asks_person(&self) -> bool {
        self.get("bty.server") == Some("ask")
    }

    /// From now on the server is the one at this address; without one there is none.
    pub(crate) fn set_server(&mut self, address: &str) {
        self.0.retain(|(name, _)| name != "bty.server");
        if !address.is_empty() {
            self.0.push(("bty.server".into(), Some(address.into())));
        }
    }

    /// A server leads, whoever names it.
    pub(crate) fn is_led(&self) -> bool {
        self.get("bty.server").is_some()
    }

    /// Base address of the server, when it is known.
    pub(crate) fn server(&self) -> Option<String> {
        let url = self
            .get("bty.server")
            .filter(|_| !self.asks_dhcp() && !self.asks_person())?
            .trim_end_matches('/');
        Some(if url.contains("://") { url.to_owned() } else { format!("http://{url}") })
    }

    /// The network card that has booted: `bty.mac=`, or what PXELINUX and GRUB leave in
    /// `BOOTIF=01-…`.
    pub(crate) fn mac(&self) -> Option<String> {
        let boot_interface = self.get("BOOTIF").and_then(|value| value.strip_prefix("01-"));
        self.get("bty.mac").or(boot_interface).and_then(mac)
    }

    /// The full environment is wanted, and not the small one.
    pub(crate) fn wants_full(&self) -> bool {
        self.get("bty.environment") == Some("full")
    }
}

/// A MAC address in any of its spellings, as `52:54:00:12:34:56`.
pub(crate) fn mac(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    let is_mac = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let pairs =
        || (0..12).step_by(2).map(|at| digits[at..at + 2].to_ascii_lowercase()).collect::<Vec<_>>();
    is_mac.then(|| pairs().join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_says_who_the_server_is_and_which_card_has_booted() {
        let words = Words::parse(
            "boot=live console=tty0 console=ttyS0,115200 bty.server=10.0.0.1:8080/ BOOTIF=01-52-54-00-AB-CD-EF quiet",
        );
        assert_eq!(words.server().as_deref(), Some("http://10.0.0.1:8080"));
        assert_eq!(words.mac().as_deref(), Some("52:54:00:ab:cd:ef"));
        assert_eq!(words.all("console").collect::<Vec<_>>(), ["tty0", "ttyS0,115200"]);
        assert!(!words.wants_full() && words.get("quiet").is_none());
        assert_eq!(
            Words::parse("bty.mac=5254.00ab.cdef").mac().as_deref(),
            Some("52:54:00:ab:cd:ef")
        );
        assert_eq!(Words::parse("bty.mac=52:54").mac(), None);
    }

    #[test]
    fn somebody_else_may_name_the_server() {
        assert!(Words::parse("bty.server=dhcp").asks_dhcp());
        let mut words = Words::parse("bty.server=ask");
        assert!(words.asks_person() && words.server().is_none());
        words.set_server("10.0.0.1:8080");
        assert_eq!(words.server().as_deref(), Some("http://10.0.0.1:8080"));
        assert!(words.is_led() && !words.asks_person());
        words.set_server("");
        assert!(!words.is_led());
    }

    #[test]
    fn the_command_line_goes_before_a_file() {
        let mut words = Words::parse("bty.server=https://first bty.mac=");
        words.complete(Words::parse(
            "\u{feff}# the lab\r\nbty.server=second\r\nbty.environment=full # tools\r\n",
        ));
        assert_eq!(words.server().as_deref(), Some("https://first"));
        assert!(words.wants_full());
    }
}
