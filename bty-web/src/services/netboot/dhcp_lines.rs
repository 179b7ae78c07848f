//! Configurations for DHCP servers, by the address at which machines reach this server.

use super::dhcp::{self, Snippet, Value};
use super::dhcp6;

/// Returns all options: those of DHCPv6 if `base` has an IPv6 address.
#[must_use]
pub fn values(base: &str) -> Vec<Value> {
    match dhcp6::address(base) {
        Some(address) => dhcp6::values(base, &address),
        None => dhcp::values(base),
    }
}

/// Returns the configurations of DHCP servers, the most widely used first.
#[must_use]
pub fn snippets(base: &str) -> Vec<Snippet> {
    match dhcp6::address(base) {
        Some(address) => dhcp6::snippets(base, &address),
        None => dhcp::snippets(base),
    }
}

/// Returns the text for the API: the lines for dnsmasq, and the options for other servers.
#[must_use]
pub fn text(base: &str) -> String {
    match dhcp6::address(base) {
        Some(address) => {
            let lines = dhcp6::dnsmasq(base, &address);
            format!("# dnsmasq, UEFI machines over IPv6\n{lines}")
        }
        None => dhcp::text(base),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_reached_by_ipv6_gets_configurations_for_dhcpv6() {
        let base = "http://[2001:db8::1]:8080";
        let all = snippets(base);
        let shown: Vec<String> =
            all.iter().map(|s| format!("## {}: {}\n{}", s.product, s.place, s.text)).collect();
        insta::assert_snapshot!(shown.join("\n"));
        let address = dhcp6::address(base).unwrap();
        for snippet in &all {
            for firmware in dhcp6::firmware() {
                let url = dhcp6::boot_url(firmware, base, &address);
                assert!(snippet.text.contains(&url), "{url}: {}", snippet.text);
            }
        }
        let kea: serde_json::Value =
            serde_json::from_str(&format!("{{{}}}", dhcp6::kea(base, &address))).unwrap();
        assert_eq!(kea["client-classes"].as_array().map(Vec::len), Some(5));
        assert!(text(base).contains("option6:bootfile-url"), "{}", text(base));
        assert!(values(base).iter().all(|value| value.option.starts_with(['5', '1'])));
    }
}
