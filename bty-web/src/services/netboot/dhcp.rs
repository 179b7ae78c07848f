//! Configurations for DHCP servers that make machines boot from this server.
//!
//! Firmware identifies itself by its architecture (option 93, RFC 4578: 0 BIOS, 7 and 9 UEFI
//! x86-64, 11 UEFI arm64; 16 and 19 the same over HTTP), iPXE by its user class (option 77).
//! Firmware gets a boot program (options 66 and 67), iPXE the URL of the script to run next.

/// Firmware that gets the same boot program.
pub(super) struct FirmwareClass {
    /// Name in configurations.
    pub(super) name: &'static str,
    /// Values of option 93.
    pub(super) architectures: &'static [u16],
    /// File name of the boot program.
    pub(super) program: &'static str,
    /// True for UEFI HTTP Boot: the boot file is a URL, and the vendor class is `HTTPClient`.
    pub(super) is_http: bool,
}

pub(super) const FIRMWARE: [FirmwareClass; 5] = {
    const fn class(
        name: &'static str,
        architectures: &'static [u16],
        program: &'static str,
        is_http: bool,
    ) -> FirmwareClass {
        FirmwareClass { name, architectures, program, is_http }
    }
    [
        class("bios", &[0x00], "undionly.kpxe", false),
        class("uefi", &[0x07, 0x09], "snponly.efi", false),
        class("arm64", &[0x0b], "ipxe-arm64.efi", false),
        class("http", &[0x10], "snponly.efi", true),
        class("http-arm64", &[0x13], "ipxe-arm64.efi", true),
    ]
};

impl FirmwareClass {
    /// Returns the value of option 67.
    pub(super) fn boot_file(&self, base: &str) -> String {
        match self.is_http {
            true => format!("{base}/boot/{}", self.program),
            false => self.program.to_owned(),
        }
    }
}

/// Configuration for one DHCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// Name of the product.
    pub product: &'static str,
    /// The file it belongs in, or how to enter it.
    pub place: &'static str,
    /// The configuration.
    pub text: String,
}

/// An option for a DHCP server that is configured in a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Number and name of the option.
    pub option: &'static str,
    /// The clients that need the option.
    pub whom: &'static str,
    /// The value.
    pub value: String,
}

/// Returns the host of a base URL such as `http://10.0.0.1:8080`.
fn host(base: &str) -> String {
    base.parse::<url::Url>()
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Returns all options.
#[must_use]
pub(super) fn values(base: &str) -> Vec<Value> {
    let value = |option, whom, value: String| Value { option, whom, value };
    vec![
        value("60 vendor class", "PXE, if required", "PXEClient".into()),
        value("66 next server", "PXE", host(base)),
        value("67 boot file", "UEFI", "snponly.efi".into()),
        value("67 boot file", "UEFI, if snponly.efi does not work", "ipxe.efi".into()),
        value("67 boot file", "BIOS", "undionly.kpxe".into()),
        value("67 boot file", "UEFI arm64", "ipxe-arm64.efi".into()),
        value("67 boot file", "user class (option 77) iPXE", format!("{base}/pxe-bootstrap.ipxe")),
        value("60 vendor class", "UEFI HTTP Boot", "HTTPClient".into()),
        value("67 boot file", "UEFI HTTP Boot", format!("{base}/boot/snponly.efi")),
    ]
}

/// Returns the configurations of DHCP servers, the most widely used first.
#[must_use]
pub(super) fn snippets(base: &str) -> Vec<Snippet> {
    let snippet = |product, place, text| Snippet { product, place, text };
    vec![
        snippet("dnsmasq", "/etc/dnsmasq.d/bty.conf", dnsmasq(base)),
        snippet("Kea", "in \"Dhcp4\", beside \"subnet4\"", kea(base)),
        snippet("ISC dhcpd", "in the subnet or the group of /etc/dhcp/dhcpd.conf", isc(base)),
        snippet(
            "MikroTik RouterOS 7",
            "in a terminal; dhcp1 is the name of the DHCP server",
            mikrotik(base),
        ),
        snippet(
            "OPNsense and pfSense",
            "Services, DHCPv4, the interface, Network booting",
            sense(base),
        ),
    ]
}

/// Returns the text for the API: the lines for dnsmasq, and the options for other servers.
#[must_use]
pub(super) fn text(base: &str) -> String {
    let host = host(base);
    format!(
        "{}\n\
         # Other servers: next server (option 66) {host}; boot file (option 67) snponly.efi for\n\
         # UEFI, undionly.kpxe for BIOS, {base}/pxe-bootstrap.ipxe for the user class\n\
         # (option 77) iPXE\n",
        dnsmasq(base)
    )
}

fn dnsmasq(base: &str) -> String {
    let host = host(base);
    format!(
        "# dnsmasq, UEFI machines: one line. iPXE finds the rest by itself.\n\
         dhcp-boot=snponly.efi,,{host}\n\
         \n\
         # dnsmasq, BIOS, UEFI and arm64 machines. iPXE identifies itself in its own request.\n\
         dhcp-userclass=set:ipxe,iPXE\n\
         dhcp-match=set:bios,option:client-arch,0\n\
         dhcp-match=set:uefi,option:client-arch,7\n\
         dhcp-match=set:uefi,option:client-arch,9\n\
         dhcp-match=set:arm64,option:client-arch,11\n\
         dhcp-boot=tag:ipxe,{base}/pxe-bootstrap.ipxe\n\
         dhcp-boot=tag:!ipxe,tag:bios,undionly.kpxe,,{host}\n\
         dhcp-boot=tag:!ipxe,tag:uefi,snponly.efi,,{host}\n\
         dhcp-boot=tag:!ipxe,tag:arm64,ipxe-arm64.efi,,{host}\n\
         \n\
         # dnsmasq, UEFI HTTP Boot: without TFTP.\n\
         dhcp-match=set:http,option:client-arch,16\n\
         dhcp-match=set:http-arm64,option:client-arch,19\n\
         dhcp-option-force=tag:http,60,HTTPClient\n\
         dhcp-option-force=tag:http-arm64,60,HTTPClient\n\
         dhcp-boot=tag:http,{base}/boot/snponly.efi\n\
         dhcp-boot=tag:http-arm64,{base}/boot/ipxe-arm64.efi\n"
    )
}

fn kea(base: &str) -> String {
    const VENDOR: &str = "\"option-data\": \
        [{ \"name\": \"vendor-class-identifier\", \"data\": \"HTTPClient\" }],\n    ";
    let host = host(base);
    let class = |name: &str, test: &str, file: &str, is_http: bool| {
        let vendor = if is_http { VENDOR } else { "" };
        format!(
            "  {{ \"name\": \"bty-{name}\", \"test\": \"{test}\",\n    {vendor}\"next-server\": \
             \"{host}\", \"boot-file-name\": \"{file}\" }}"
        )
    };
    let ipxe = "option[77].exists and option[77].hex == 'iPXE'";
    let mut classes = vec![class("ipxe", ipxe, &format!("{base}/pxe-bootstrap.ipxe"), false)];
    classes.extend(FIRMWARE.iter().map(|firmware| {
        let is_arch = |arch: &u16| format!("option[93].hex == {arch:#06x}");
        let arch = firmware.architectures.iter().map(is_arch).collect::<Vec<_>>().join(" or ");
        let arch = if arch.contains(" or ") { format!("({arch})") } else { arch };
        let test = format!("not ({ipxe}) and option[93].exists and {arch}");
        class(firmware.name, &test, &firmware.boot_file(base), firmware.is_http)
    }));
    format!("\"client-classes\": [\n{}\n]\n", classes.join(",\n"))
}

fn isc(base: &str) -> String {
    let host = host(base);
    format!(
        "option arch code 93 = unsigned integer 16;\n\
         next-server {host};\n\
         if exists user-class and option user-class = \"iPXE\" {{\n\
         \x20 filename \"{base}/pxe-bootstrap.ipxe\";\n\
         }} elsif option arch = 00:10 {{\n\
         \x20 option vendor-class-identifier \"HTTPClient\";\n\
         \x20 filename \"{base}/boot/snponly.efi\";\n\
         }} elsif option arch = 00:13 {{\n\
         \x20 option vendor-class-identifier \"HTTPClient\";\n\
         \x20 filename \"{base}/boot/ipxe-arm64.efi\";\n\
         }} elsif option arch = 00:0b {{\n\
         \x20 filename \"ipxe-arm64.efi\";\n\
         }} elsif option arch = 00:07 or option arch = 00:09 {{\n\
         \x20 filename \"snponly.efi\";\n\
         }} else {{\n\
         \x20 filename \"undionly.kpxe\";\n\
         }}\n"
    )
}

fn mikrotik(base: &str) -> String {
    let mut text = format!(
        "/ip dhcp-server option\n\
         add name=bty-server code=66 value=\"s'{}'\"\n\
         add name=bty-http-client code=60 value=\"s'HTTPClient'\"\n\
         add name=bty-ipxe code=67 value=\"s'{base}/pxe-bootstrap.ipxe'\"\n",
        host(base)
    );
    let mut sets = "/ip dhcp-server option sets\nadd name=bty-ipxe options=bty-ipxe\n".to_owned();
    // iPXE first: it also sends an architecture
    let mut matchers = "/ip dhcp-server matcher\n\
                        add name=bty-ipxe server=dhcp1 code=77 value=\"s'iPXE'\" \
                        matching-type=exact option-set=bty-ipxe\n"
        .to_owned();
    for firmware in &FIRMWARE {
        let name = firmware.name;
        let with = if firmware.is_http { "bty-http-client" } else { "bty-server" };
        text += &format!("add name=bty-{name} code=67 value=\"s'{}'\"\n", firmware.boot_file(base));
        sets += &format!("add name=bty-{name} options={with},bty-{name}\n");
        for arch in firmware.architectures {
            matchers += &format!(
                "add name=bty-{name}-{arch} server=dhcp1 code=93 value={arch:#06x} \
                 matching-type=exact option-set=bty-{name}\n"
            );
        }
    }
    text += &sets;
    text += &matchers;
    text
}

fn sense(base: &str) -> String {
    let host = host(base);
    format!(
        "Enable network booting: yes\n\
         Next server: {host}\n\
         Default BIOS file name: undionly.kpxe\n\
         UEFI 32 bit file name: (empty)\n\
         UEFI 64 bit file name: snponly.efi\n\
         ARM 64 bit file name: ipxe-arm64.efi\n\
         iPXE boot file name: {base}/pxe-bootstrap.ipxe\n\
         UEFI HTTPBoot URL (pfSense): {base}/boot/snponly.efi\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_gets_its_boot_program_from_servers_that_know_architectures() {
        let base = "http://192.0.2.1:8080";
        let lines_with = |text: &str, needle: &str| {
            text.lines().filter(|line| line.contains(needle)).map(str::to_owned).collect::<Vec<_>>()
        };
        let (dnsmasq, isc, mikrotik) = (dnsmasq(base), isc(base), mikrotik(base));
        let kea = kea(base);
        for firmware in &FIRMWARE {
            let file = firmware.boot_file(base);
            for arch in firmware.architectures {
                let tagged = lines_with(&dnsmasq, &format!("client-arch,{arch}")).concat();
                let tag = tagged.split(['=', ':', ',']).nth(2).unwrap();
                let boot = lines_with(&dnsmasq, &format!("tag:{tag},{file}"));
                assert_eq!(boot.len(), 1, "dnsmasq, {arch}: {dnsmasq}");
                let shown = format!("value={arch:#06x} matching-type=exact option-set=bty-");
                let set = lines_with(&mikrotik, &shown).concat();
                let set = set.rsplit('=').next().unwrap().to_owned();
                let option = format!("add name={set} code=67 value=\"s'{file}'\"");
                assert_eq!(lines_with(&mikrotik, &option).len(), 1, "MikroTik, {arch}: {mikrotik}");
                assert!(kea.contains(&format!("option[93].hex == {arch:#06x}")), "{kea}");
                let is_named = isc.contains(&format!("option arch = 00:{arch:02x}"));
                assert!(is_named || *arch == 0, "dhcpd, {arch}: {isc}");
            }
            assert!(isc.contains(&format!("filename \"{file}\"")), "{isc}");
            assert!(kea.contains(&format!("\"boot-file-name\": \"{file}\"")), "{kea}");
            let set = lines_with(&mikrotik, &format!("add name=bty-{} options=", firmware.name));
            assert_eq!(set.concat().contains("bty-http-client"), firmware.is_http, "{mikrotik}");
        }
    }

    #[test]
    fn every_snippet_names_the_server_and_the_script_of_ipxe() {
        let base = "http://192.0.2.1:8080";
        let all = snippets(base);
        for snippet in &all {
            assert!(snippet.text.contains("192.0.2.1"), "{snippet:?}");
            assert!(
                snippet.text.contains("http://192.0.2.1:8080/pxe-bootstrap.ipxe"),
                "{snippet:?}"
            );
        }
        let shown: Vec<String> =
            all.iter().map(|s| format!("## {}: {}\n{}", s.product, s.place, s.text)).collect();
        insta::assert_snapshot!(shown.join("\n"));
        // the content of the braces is JSON
        let kea = format!("{{{}}}", kea(base));
        let parsed: serde_json::Value = serde_json::from_str(&kea).unwrap();
        assert_eq!(parsed["client-classes"].as_array().map(Vec::len), Some(6));
    }
}
