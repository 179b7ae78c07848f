//! Parameters of the live environment: from the kernel command line, and from `bty.txt` on a stick.

use std::fs;

/// Parameters as `name` or `name=value`, in order; a name may occur more than once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KernelArgs(Vec<(String, Option<String>)>);

impl KernelArgs {
    /// Reads `/proc/cmdline`; empty if that cannot be read.
    pub(crate) fn from_kernel() -> Self {
        Self::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Parses parameters separated by white space. `#` starts a comment that ends with its line.
    /// A byte order mark and quotes around values are removed.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text
            .trim_start_matches('\u{feff}')
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default());
        let parse_one = |arg: &str| match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.trim_matches('"').to_owned())),
            None => (arg.to_owned(), None),
        };
        Self(lines.flat_map(str::split_whitespace).map(parse_one).collect())
    }

    /// Adds the parameters of `others` whose names are not present yet.
    pub(crate) fn add_missing(&mut self, others: Self) {
        let is_new =
            |(name, _): &(String, Option<String>)| !self.0.iter().any(|(known, _)| known == name);
        let new: Vec<_> = others.0.into_iter().filter(is_new).collect();
        self.0.extend(new);
    }

    /// The last value of `name` that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let values = self.0.iter().rev().filter(|(known, _)| known == name);
        values.filter_map(|(_, value)| value.as_deref()).find(|value| !value.is_empty())
    }

    /// All values of `name`, in order, empty ones included.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .filter_map(|(_, value)| value.as_deref())
    }

    /// True for `bty.server=dhcp`: the DHCP lease names the server.
    pub(crate) fn is_server_from_dhcp(&self) -> bool {
        self.get("bty.server") == Some("dhcp")
    }

    /// True for `bty.server=ask`: a person types the server's address.
    pub(crate) fn is_server_typed_in(&self) -> bool {
        self.get("bty.server") == Some("ask")
    }

    /// Replaces the server by the one at `address`; an empty address means no server.
    pub(crate) fn set_server(&mut self, address: &str) {
        self.0.retain(|(name, _)| name != "bty.server");
        if !address.is_empty() {
            self.0.push(("bty.server".into(), Some(address.into())));
        }
    }

    /// True if a server controls this boot, whether or not its address is known yet.
    pub(crate) fn has_server(&self) -> bool {
        self.get("bty.server").is_some()
    }

    /// Base URL of the server, without a trailing slash, if the parameters name it. `http://` is
    /// the default scheme.
    pub(crate) fn server(&self) -> Option<String> {
        let url = self
            .get("bty.server")
            .filter(|_| !self.is_server_from_dhcp() && !self.is_server_typed_in())?
            .trim_end_matches('/');
        Some(if url.contains("://") { url.to_owned() } else { format!("http://{url}") })
    }

    /// MAC address of the network card that booted: from `bty.mac=`, or from `BOOTIF=01-…`, which
    /// PXELINUX and GRUB set.
    pub(crate) fn mac(&self) -> Option<String> {
        let boot_interface = self.get("BOOTIF").and_then(|value| value.strip_prefix("01-"));
        self.get("bty.mac").or(boot_interface).and_then(mac)
    }

    /// True for `bty.environment=full`: switch to the full environment without asking.
    pub(crate) fn wants_full(&self) -> bool {
        self.get("bty.environment") == Some("full")
    }
}

/// Normalizes a MAC address with `:`, `-`, `.` or no separators to `52:54:00:12:34:56`.
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
    fn a_command_line_names_the_server_and_the_card_that_booted() {
        let args = KernelArgs::parse(
            "boot=live console=tty0 console=ttyS0,115200 bty.server=10.0.0.1:8080/ \
             BOOTIF=01-52-54-00-AB-CD-EF quiet",
        );
        assert_eq!(args.server().as_deref(), Some("http://10.0.0.1:8080"));
        assert_eq!(args.mac().as_deref(), Some("52:54:00:ab:cd:ef"));
        assert_eq!(args.all("console").collect::<Vec<_>>(), ["tty0", "ttyS0,115200"]);
        assert!(!args.wants_full() && args.get("quiet").is_none());
        assert_eq!(
            KernelArgs::parse("bty.mac=5254.00ab.cdef").mac().as_deref(),
            Some("52:54:00:ab:cd:ef")
        );
        assert_eq!(KernelArgs::parse("bty.mac=52:54").mac(), None);
    }

    #[test]
    fn the_server_may_come_from_dhcp_or_from_a_person() {
        assert!(KernelArgs::parse("bty.server=dhcp").is_server_from_dhcp());
        let mut args = KernelArgs::parse("bty.server=ask");
        assert!(args.is_server_typed_in() && args.server().is_none());
        args.set_server("10.0.0.1:8080");
        assert_eq!(args.server().as_deref(), Some("http://10.0.0.1:8080"));
        assert!(args.has_server() && !args.is_server_typed_in());
        args.set_server("");
        assert!(!args.has_server());
    }

    #[test]
    fn the_command_line_overrides_a_file() {
        let mut args = KernelArgs::parse("bty.server=https://first bty.mac=");
        args.add_missing(KernelArgs::parse(
            "\u{feff}# the lab\r\nbty.server=second\r\nbty.environment=full # tools\r\n",
        ));
        assert_eq!(args.server().as_deref(), Some("https://first"));
        assert!(args.wants_full());
    }
}
