//! Configurations for DHCPv6 servers, for machines that reach this server by IPv6.
//!
//! DHCPv6 has one option for the boot file, a URL (59, RFC 5970). Firmware says its architecture in
//! option 61 and `PXEClient` or `HTTPClient` in its vendor class (16), with the enterprise number
//! of Intel (343). Firmware that boots over HTTP expects `HTTPClient` back. iPXE says `iPXE` in its
//! user class (15). BIOS machines do not boot over IPv6.

use super::dhcp::{FIRMWARE, FirmwareClass, Snippet, Value};

/// Option 16 with the enterprise 343 and the class `HTTPClient`, as hexadecimal bytes.
const HTTP_CLIENT: &str = "00:00:01:57:00:0a:48:54:54:50:43:6c:69:65:6e:74";

const PLACE_NOTE: &str = "the router must announce managed addresses (flag M)";

/// Returns the address of a base URL whose host is an IPv6 address, in brackets; `None` for others.
pub(super) fn address(base: &str) -> Option<String> {
    let url: url::Url = base.parse().ok()?;
    matches!(url.host()?, url::Host::Ipv6(_)).then(|| url.host_str().map(str::to_owned))?
}

/// The classes of firmware that boot over IPv6.
pub(super) fn firmware() -> impl Iterator<Item = &'static FirmwareClass> {
    FIRMWARE.iter().filter(|firmware| firmware.name != "bios")
}

pub(super) fn boot_url(firmware: &FirmwareClass, base: &str, address: &str) -> String {
    match firmware.is_http {
        true => firmware.boot_file(base),
        false => format!("tftp://{address}/{}", firmware.program),
    }
}

pub(super) fn values(base: &str, address: &str) -> Vec<Value> {
    let value = |whom, value: String| Value { option: "59 boot file URL", whom, value };
    let mut values = vec![
        value("UEFI", format!("tftp://{address}/snponly.efi")),
        value("UEFI arm64", format!("tftp://{address}/ipxe-arm64.efi")),
        value("user class (option 15) iPXE", format!("{base}/pxe-bootstrap.ipxe")),
        value("UEFI HTTP Boot", format!("{base}/boot/snponly.efi")),
    ];
    values.push(Value {
        option: "16 vendor class",
        whom: "UEFI HTTP Boot",
        value: "343 HTTPClient".into(),
    });
    values
}

pub(super) fn snippets(base: &str, address: &str) -> Vec<Snippet> {
    let snippet = |product, place, text: String| Snippet {
        product,
        place,
        text: format!("# DHCPv6: {PLACE_NOTE}\n{text}"),
    };
    vec![
        snippet("dnsmasq", "/etc/dnsmasq.d/bty.conf", dnsmasq(base, address)),
        snippet("Kea", "in \"Dhcp6\", beside \"subnet6\"", kea(base, address)),
        snippet(
            "ISC dhcpd",
            "in the subnet6 or the group of /etc/dhcp/dhcpd6.conf",
            isc(base, address),
        ),
    ]
}

pub(super) fn dnsmasq(base: &str, address: &str) -> String {
    let mut text = String::from("dhcp-userclass=set:ipxe,iPXE\n");
    for firmware in firmware() {
        let class = if firmware.is_http { "HTTPClient" } else { "PXEClient" };
        for arch in firmware.architectures {
            text += &format!(
                "dhcp-vendorclass=set:{},enterprise:343,{class}:Arch:{arch:05}\n",
                firmware.name
            );
        }
    }
    text += &format!("dhcp-option=tag:ipxe,option6:bootfile-url,{base}/pxe-bootstrap.ipxe\n");
    for firmware in firmware() {
        let (name, url) = (firmware.name, boot_url(firmware, base, address));
        text += &format!("dhcp-option=tag:!ipxe,tag:{name},option6:bootfile-url,{url}\n");
        if firmware.is_http {
            text += &format!("dhcp-option-force=tag:{name},option6:16,{HTTP_CLIENT}\n");
        }
    }
    text
}

pub(super) fn kea(base: &str, address: &str) -> String {
    let vendor = HTTP_CLIENT.replace(':', "").to_uppercase();
    let class = |name: &str, test: &str, url: &str, is_http: bool| {
        let vendor = match is_http {
            true => format!(
                ",\n      {{ \"code\": 16, \"csv-format\": false, \"data\": \"{vendor}\" }}"
            ),
            false => String::new(),
        };
        format!(
            "  {{ \"name\": \"bty-{name}\", \"test\": \"{test}\",\n    \"option-data\": [\n      {{ \
             \"name\": \"bootfile-url\", \"data\": \"{url}\" }}{vendor} ] }}"
        )
    };
    // each user class has two bytes of length before it
    let ipxe = "option[15].exists and substring(option[15].hex, 2, 4) == 'iPXE'";
    let mut classes = vec![class("ipxe", ipxe, &format!("{base}/pxe-bootstrap.ipxe"), false)];
    classes.extend(firmware().map(|firmware| {
        let is_arch = |arch: &u16| format!("option[61].hex == {arch:#06x}");
        let arch = firmware.architectures.iter().map(is_arch).collect::<Vec<_>>().join(" or ");
        let test = format!("not ({ipxe}) and option[61].exists and ({arch})");
        class(firmware.name, &test, &boot_url(firmware, base, address), firmware.is_http)
    }));
    format!("\"client-classes\": [\n{}\n]\n", classes.join(",\n"))
}

fn isc(base: &str, address: &str) -> String {
    let mut text = format!(
        "option dhcp6.user-class code 15 = string;\n\
         option dhcp6.vendor-class code 16 = {{ integer 32, integer 16, string }};\n\
         option dhcp6.client-arch-type code 61 = array of unsigned integer 16;\n\
         option dhcp6.bootfile-url code 59 = string;\n\
         if exists dhcp6.user-class and substring(option dhcp6.user-class, 2, 4) = \"iPXE\" {{\n\
         \x20 option dhcp6.bootfile-url \"{base}/pxe-bootstrap.ipxe\";\n"
    );
    for firmware in firmware() {
        let is_arch = |arch: &u16| format!("option dhcp6.client-arch-type = 00:{:02x}", *arch);
        let arch = firmware.architectures.iter().map(is_arch).collect::<Vec<_>>().join(" or ");
        text += &format!("}} elsif {arch} {{\n");
        if firmware.is_http {
            text += "  option dhcp6.vendor-class 343 10 \"HTTPClient\";\n";
        }
        let url = boot_url(firmware, base, address);
        text += &format!("  option dhcp6.bootfile-url \"{url}\";\n");
    }
    text + "}\n"
}
