use super::*;
use crate::device::Device;
use crate::disks::DiskKind;
use crate::size::GIB;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

struct Machine(Vec<Disk>);

impl DiskHost for Machine {
    fn list(&self) -> Result<Vec<Disk>> {
        Ok(self.0.clone())
    }
    fn probe(&self, path: &Path) -> Result<Disk> {
        let found = self.0.iter().find(|disk| disk.path == path).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::Refused, "nothing there"))
    }
    fn open(&self, _disk: &Disk) -> Result<Arc<dyn Device>> {
        Err(Error::cancelled())
    }
    fn open_read_only(&self, _disk: &Disk) -> Result<Arc<dyn Device>> {
        Err(Error::cancelled())
    }
    fn create(&self, _path: &Path, _size_bytes: u64) -> Result<()> {
        Ok(())
    }
}

fn disk(
    path: &str,
    size_bytes: u64,
    model: &str,
    serial: Option<&str>,
    wwn: Option<&str>,
    transport: &str,
) -> Disk {
    Disk {
        path: path.into(),
        kind: DiskKind::Disk,
        size_bytes,
        logical_sector_bytes: 512,
        physical_sector_bytes: 512,
        vendor: Some("ACME".into()),
        model: Some(model.into()),
        serial: serial.map(str::to_owned),
        wwn: wwn.map(str::to_owned),
        by_path: None,
        transport: Some(transport.into()),
        is_removable: transport == "usb",
        is_read_only: false,
        is_rotational: (transport == "sata").then_some(true),
        diskseq: None,
        table: None,
        content: None,
        partitions: Vec::new(),
        uses: Vec::new(),
        file_holds: None,
    }
}

fn machine() -> Machine {
    Machine(vec![
        disk(
            "/dev/nvme0n1",
            500 * GIB,
            "Samsung SSD 980",
            Some("S64A"),
            Some("eui.0025385b"),
            "nvme",
        ),
        disk(
            "/dev/nvme1n1",
            500 * GIB,
            "Samsung SSD 980",
            Some("S64B"),
            Some("eui.0025385c"),
            "nvme",
        ),
        disk("/dev/sda", 4096 * GIB, "WDC WD40", Some("WD-1"), Some("naa.50014ee2"), "sata"),
        disk("/dev/sdb", 16 * GIB, "Flash Drive", None, None, "usb"),
        disk("/dev/sdc", 8 * GIB, "Twin", Some("0000"), None, "scsi"),
        disk("/dev/sdd", 8 * GIB, "Twin", Some("0000"), None, "scsi"),
    ])
}

fn select(text: &str) -> Result<Disk> {
    text.parse::<Selector>()?.select(&machine())
}

#[test]
fn finds_the_only_matching_disk() {
    for (text, path) in [
        ("/dev/sdb", "/dev/sdb"),
        ("serial:S64A", "/dev/nvme0n1"),
        (" serial: S64B ", "/dev/nvme1n1"),
        ("wwn:EUI.0025385C", "/dev/nvme1n1"),
        ("wwn:0x50014ee2", "/dev/sda"),
        ("where:rotational=yes", "/dev/sda"),
        ("where:size>=1T", "/dev/sda"),
        ("where:size>500G", "/dev/sda"),
        ("where:model~samsung,serial=S64A", "/dev/nvme0n1"),
        ("where:transport=NVMe,wwn=eui.0025385b", "/dev/nvme0n1"),
        ("where:path=/dev/sda", "/dev/sda"),
        ("where:vendor=acme,path~SDA,removable=no", "/dev/sda"),
    ] {
        assert_eq!(select(text).unwrap().path, Path::new(path), "{text}");
    }
}

#[test]
fn refuses_no_match_and_many_and_lists_the_candidates() {
    for (text, candidates) in [
        ("serial:s64a", 6),
        ("serial:S64", 6),
        ("serial:0000", 2),
        ("where:transport=nvme", 2),
        ("where:size>=8GiB,size<=16G", 3),
        ("where:size<8G", 6),
        ("where:rotational=no", 6),
    ] {
        let error = select(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
        assert_eq!(error.next_step().unwrap().matches("\n  /dev/").count(), candidates, "{text}");
    }
    let error = select("serial:0000").unwrap_err();
    assert_eq!(format!("{error:#}"), "2 disks match serial:0000");
    assert_eq!(
        error.next_step().unwrap(),
        "name one of them, by serial number or path:\n  /dev/sdc 8.0 GiB ACME Twin serial 0000\n  \
         /dev/sdd 8.0 GiB ACME Twin serial 0000"
    );
    let none = "serial:1".parse::<Selector>().unwrap().select(&Machine(Vec::new())).unwrap_err();
    assert_eq!(none.next_step(), Some("no disks were found on this machine"));
}

#[test]
fn refuses_a_disk_without_identity_by_where() {
    let error = select("where:transport=usb").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.next_step().unwrap().contains("/dev/sdb"), "{error:?}");
}

#[test]
fn finds_a_disk_without_identity_by_its_place_or_by_model_and_size() {
    let mut disks = vec![
        disk("/dev/sda", 8 << 30, "Bridge", None, None, "usb"),
        disk("/dev/sdb", 8 << 30, "Bridge", None, None, "usb"),
        disk("/dev/sdc", 9 << 30, "Bridge", None, None, "usb"),
    ];
    disks[1].by_path = Some("pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0".into());
    let select = |text: &str| text.parse::<Selector>().unwrap().select(&Machine(disks.clone()));
    let by_path = "by-path:pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0";
    assert_eq!(select(by_path).unwrap().path, Path::new("/dev/sdb"));
    assert_eq!(by_path.parse::<Selector>().unwrap().to_string(), by_path);
    let only = "where:model=Bridge,size=9G";
    assert_eq!(select(only).unwrap().path, Path::new("/dev/sdc"));
    for text in ["where:model=Bridge,size=8G", "where:model~bridge,size=9G", "where:size=9G"] {
        assert_eq!(select(text).unwrap_err().kind(), ErrorKind::Refused, "{text}");
    }
    let listed = |text: &str, disk: serde_json::Value| {
        text.parse::<Selector>().unwrap().matches_listed(&disk)
    };
    let stored = serde_json::json!({ "path": "/dev/sdb", "size_bytes": 9_u64 << 30,
        "model": "Bridge", "by_path": &by_path["by-path:".len()..], "serial": null });
    assert!(listed(by_path, stored.clone()) && listed(only, stored.clone()));
    assert!(!listed("serial:1", stored) && !listed(only, serde_json::json!({})));
}

#[test]
fn explains_what_it_cannot_parse() {
    for (text, needle) in [
        ("", "empty"),
        ("serial:", "nothing follows"),
        ("wwn:  ", "nothing follows"),
        ("uuid:1", "the prefix \"uuid\" is unknown"),
        ("where:", "no operator"),
        ("where:size>=1G,", "no operator"),
        ("where:size", "no operator"),
        ("where:size>=", "no value"),
        ("where:size~1G", "cannot be compared"),
        ("where:size>=big", "not a size"),
        ("where:colour=red", "the field \"colour\" is unknown"),
        ("where:removable=maybe", "yes or no"),
        ("where:removable>yes", "cannot be compared"),
        ("where:model>=a", "cannot be compared"),
    ] {
        let error = text.parse::<Selector>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
        assert!(format!("{error:#}").contains(needle), "{text}: {error}");
        assert!(error.next_step().is_some());
    }
    assert!(
        "where:colour=red"
            .parse::<Selector>()
            .unwrap_err()
            .next_step()
            .unwrap()
            .contains("rotational")
    );
}

#[test]
fn does_not_take_a_condition_for_a_path() {
    for (text, meant) in [
        ("usb", "where:transport=usb"),
        ("serial=X", "where:serial=X"),
        (" size>=8G,removable=yes ", "where:size>=8G,removable=yes"),
        ("model=", "where:model="),
    ] {
        let error = text.parse::<Selector>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
        let next = error.next_step().unwrap();
        assert!(next.contains(meant) && next.contains(&format!("./{}", text.trim())), "{next}");
    }
    for path in ["./usb", "usb.img", "serial", "name=x", "dir/serial=X", "./serial=X"] {
        assert_eq!(path.parse::<Selector>().unwrap(), Selector(Rule::Path(path.into())), "{path}");
    }
}

#[test]
fn displays_in_the_notation_that_it_parses() {
    for (text, canonical) in [
        ("sdb", "sdb"),
        ("/dev/disk/by-path/pci-0000:00:1f.2", "/dev/disk/by-path/pci-0000:00:1f.2"),
        ("wwn:EUI.00AB", "wwn:eui.00ab"),
        ("serial:AB:12/3", "serial:AB:12/3"),
        ("where: size > 1536M , removable = false", "where:size>1536M,removable=no"),
        ("where:size=0", "where:size=0"),
        ("where:size<2T", "where:size<2T"),
    ] {
        let selector: Selector = text.parse().unwrap();
        assert_eq!(selector.to_string(), canonical);
        assert_eq!(canonical.parse::<Selector>().unwrap(), selector);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn display_and_parse_round_trip(
        prefix in prop_oneof![Just(""), Just("serial:"), Just("wwn:"), Just("where:"), Just("where:size"), Just("where:model")],
        rest in prop_oneof!["[ -~]{0,24}", "[<>=~]{0,2}[ 0-9GM.]{0,6}", any::<String>()],
    ) {
        if let Ok(selector) = format!("{prefix}{rest}").parse::<Selector>() {
            let shown = selector.to_string();
            prop_assert_eq!(shown.parse::<Selector>().expect("canonical text parses"), selector, "{}", shown);
        }
    }
}
