use super::*;
use proptest::prelude::*;

/// Encodes a structure of `len` bytes with `fields` at their offsets, and its strings.
pub(in crate::hardware) fn structure(
    kind: u8,
    handle: u16,
    len: u8,
    fields: &[(usize, &[u8])],
    strings: &[&str],
) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(len)];
    bytes[..2].copy_from_slice(&[kind, len]);
    bytes[2..4].copy_from_slice(&handle.to_le_bytes());
    for (at, value) in fields {
        bytes[*at..at + value.len()].copy_from_slice(value);
    }
    for string in strings {
        bytes.extend_from_slice(string.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(if strings.is_empty() { &[0, 0] } else { &[0] });
    bytes
}

/// Encodes a memory module in the array 0x1000; `size` is the raw value of the field.
pub(in crate::hardware) fn module(handle: u16, size: u16, slot: &str, serial: &str) -> Vec<u8> {
    let fields: &[(usize, &[u8])] = &[
        (4, &0x1000u16.to_le_bytes()),
        (8, &72u16.to_le_bytes()),
        (10, &64u16.to_le_bytes()),
        (12, &size.to_le_bytes()),
        (14, &[9]),
        (16, &[1]),
        (18, &[0x1a]),
        (19, &(1u16 << 7 | 1 << 13).to_le_bytes()),
        (21, &3200u16.to_le_bytes()),
        (23, &[2]),
        (24, &[3]),
        (26, &[4]),
        (28, &65536u32.to_le_bytes()),
        (32, &2933u16.to_le_bytes()),
    ];
    structure(MEMORY_DEVICE, handle, 40, fields, &[slot, "Samsung", serial, "M393A8G40AB2-CWE  "])
}

/// Encodes a central processor in `socket`.
pub(in crate::hardware) fn processor(handle: u16, socket: &str, status: u8) -> Vec<u8> {
    let fields: &[(usize, &[u8])] = &[
        (4, &[1]),
        (5, &[3]),
        (7, &[2]),
        (16, &[3]),
        (18, &100u16.to_le_bytes()),
        (20, &4000u16.to_le_bytes()),
        (22, &2300u16.to_le_bytes()),
        (24, &[status]),
        (35, &[20, 18, 36]),
    ];
    structure(
        PROCESSOR,
        handle,
        48,
        fields,
        &[socket, "Intel(R) Corporation", "Intel(R) Xeon(R) Gold 5218"],
    )
}

#[test]
fn reads_fields_and_strings() {
    let mut bytes =
        structure(FIRMWARE, 0, 26, &[(9, &[0xff]), (24, &32u16.to_le_bytes())], &["Dell Inc."]);
    bytes.extend(structure(SYSTEM, 0x100, 27, &[], &[]));
    bytes.extend(structure(BOARD, 0x200, 15, &[], &["x"]));
    bytes.extend(processor(0x400, "CPU1", 0x41));
    bytes.extend(processor(0x401, "CPU2", 0x00));
    bytes.extend(structure(MEMORY_ARRAY, 0x1000, 23, &[(4, &[3, 3])], &[]));
    bytes.extend(structure(MEMORY_ARRAY, 0x1001, 23, &[(4, &[3, 4])], &[]));
    bytes.extend(module(0x1100, 0x7fff, "A1", "11223344"));
    bytes.extend(module(0x1101, 0x8200, "A2", "00000000"));
    bytes.extend(module(0x1102, 0, "A3", "None"));
    bytes.extend(structure(END, 0xfeff, 4, &[], &[]));
    bytes.extend(module(0x1103, 16, "after the end", "1"));
    let table = SmbiosTable::parse(&bytes);
    assert_eq!(table.firmware, Some(Firmware { handle: 0, rom_bytes: Some(32 << 20) }));
    assert_eq!((table.system, table.board), (Some(0x100), Some(0x200)));
    assert_eq!(
        table.arrays,
        [
            MemoryArray { handle: 0x1000, is_system: true, is_on_board: true },
            MemoryArray { handle: 0x1001, is_system: false, is_on_board: true }
        ]
    );
    let [cpu] = &table.processors[..] else { panic!("{:?}", table.processors) };
    assert_eq!(
        (cpu.socket.as_deref(), cpu.vendor.as_deref()),
        (Some("CPU1"), Some("Intel(R) Corporation"))
    );
    assert_eq!(
        (cpu.external_mhz, cpu.max_mhz, cpu.current_mhz),
        (Some(100), Some(4000), Some(2300))
    );
    assert_eq!((cpu.cores, cpu.cores_enabled, cpu.threads), (Some(20), Some(18), Some(36)));
    let sizes: Vec<_> = table.devices.iter().map(|d| (d.size_bytes, d.is_empty)).collect();
    assert_eq!(sizes, [(Some(64 << 30), false), (Some(512 << 10), false), (None, true)]);
    let device = &table.devices[0];
    assert_eq!((device.slot.as_deref(), device.serial.as_deref()), (Some("A1"), Some("11223344")));
    assert_eq!((device.part.as_deref(), device.speed), (Some("M393A8G40AB2-CWE"), Some(2933)));
    assert_eq!((&table.devices[1].serial, &table.devices[2].serial), (&None, &None));
}

#[test]
fn reads_large_counts_and_speeds_from_the_wide_fields() {
    let wide = |at: usize, value: u16| {
        structure(
            PROCESSOR,
            1,
            48,
            &[(5, &[3]), (24, &[64]), (35, &[255, 0, 7]), (at, &value.to_le_bytes())],
            &[],
        )
    };
    let cores = |bytes: &[u8]| SmbiosTable::parse(bytes).processors[0].cores;
    assert_eq!(cores(&wide(42, 384)), Some(384));
    assert_eq!(cores(&wide(42, 0)), Some(255));
    assert_eq!(SmbiosTable::parse(&wide(42, 384)).processors[0].cores_enabled, None);
    let fast: &[(usize, &[u8])] = &[(21, &[0xff, 0xff]), (84, &70_000u32.to_le_bytes())];
    assert_eq!(
        SmbiosTable::parse(&structure(MEMORY_DEVICE, 1, 92, fast, &[])).devices[0].speed,
        Some(70_000)
    );
    // in an old version of the table the structure ends before the wide fields
    let old = SmbiosTable::parse(&structure(MEMORY_DEVICE, 1, 8, &[], &[])).devices;
    assert_eq!((old[0].size_bytes, old[0].is_empty, old[0].speed), (None, false, None));
}

#[test]
fn a_truncated_table_gives_the_structures_before_the_cut() {
    let bytes = [processor(1, "CPU1", 0x41), processor(2, "CPU2", 0x41)].concat();
    let first = processor(1, "CPU1", 0x41).len();
    for end in 0..bytes.len() {
        let table = SmbiosTable::parse(&bytes[..end]);
        let whole = usize::from(end >= first) + usize::from(end >= first + 48);
        assert!(table.processors.len() >= whole, "{end}");
        assert!(table.processors.len() <= 2);
    }
    // lengths beyond the table
    for len in 0..4 {
        assert_eq!(SmbiosTable::parse(&[PROCESSOR, len, 0, 0, 0, 0]), SmbiosTable::default());
    }
    assert_eq!(SmbiosTable::parse(&[MEMORY_DEVICE, 255, 0, 0, 0, 0]), SmbiosTable::default());
    assert_eq!(
        SmbiosTable::parse(&[MEMORY_DEVICE, 4, 0, 0, 0, 0].repeat(40_000)).devices.len(),
        STRUCTURES_MAX
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let table = SmbiosTable::parse(&bytes);
        prop_assert!(table.devices.len() <= bytes.len() / HEADER_BYTES);
    }

    #[test]
    fn survives_any_fields(
        parts in proptest::collection::vec(
            (
                prop_oneof![
                    Just(FIRMWARE), Just(PROCESSOR), Just(MEMORY_ARRAY), Just(MEMORY_DEVICE),
                    any::<u8>(),
                ],
                proptest::collection::vec(any::<u8>(), 0..120),
                proptest::collection::vec("[^\0]{1,20}", 0..6),
            ),
            0..20,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        for (kind, fields, strings) in &parts {
            let len = u8::try_from(HEADER_BYTES + fields.len()).unwrap();
            let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
            bytes.extend(structure(*kind, 7, len, &[(HEADER_BYTES, fields)], &strings));
        }
        let all = SmbiosTable::parse(&bytes);
        let some = SmbiosTable::parse(&bytes[..cut.index(bytes.len() + 1)]);
        prop_assert!(some.devices.len() <= all.devices.len());
        prop_assert!(some.processors.len() <= all.processors.len());
    }
}
