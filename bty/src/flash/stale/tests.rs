use super::*;
use proptest::prelude::*;

#[test]
fn clears_the_places_where_signatures_lie() {
    let disk = 2000 * GIB;
    let half = 512 * KIB;
    let powers = [4, 8, 16, 32, 64, 128, 256, 512, 1024].map(|gib| gib * GIB..gib * GIB + half);
    let mut expected = vec![
        3 * GIB + 512..3 * GIB + 512 + MIB,
        10 * GIB..10 * GIB + 4096,
        100 * GIB..100 * GIB + 4096,
        1000 * GIB..1000 * GIB + 4096,
        disk - MIB..disk,
    ];
    expected.extend(powers);
    expected.sort_by_key(|range| range.start);
    assert_eq!(stale_ranges(3 * GIB + 1, disk, 512, &[]), expected);
}

#[test]
fn clears_both_edges_of_partitions_behind_the_image_and_nothing_inside_them() {
    // one in the image, one across its end, one after it, one that claims more than the disk has
    let partitions =
        [MIB..10 * MIB, 20 * MIB..50 * MIB, 70 * MIB..90 * MIB + 512, 95 * MIB..500 * MIB];
    let cleared = stale_ranges(40 * MIB, 99 * MIB, 512, &partitions);
    let is_cleared = |at: u64| cleared.iter().any(|range| range.contains(&at));
    for at in [49 * MIB, 50 * MIB - 1, 70 * MIB + 65600, 90 * MIB + 511, 95 * MIB + 1080] {
        assert!(is_cleared(at), "{at}: {cleared:?}");
    }
    for at in [45 * MIB, 80 * MIB, 97 * MIB] {
        assert!(!is_cleared(at), "{at}: {cleared:?}");
    }
    // where partitions usually begin, whatever the old table says
    assert!(
        stale_ranges(16 * MIB, GIB, 512, &[])
            .iter()
            .any(|range| range.contains(&(513 * MIB + 1080)))
    );
}

#[test]
fn merges_and_clips_near_the_end_of_the_disk() {
    assert_eq!(stale_ranges(8 * MIB, 8 * MIB, 512, &[]), []);
    assert_eq!(stale_ranges(8 * MIB, 8 * MIB - 512, 512, &[]), []);
    assert_eq!(stale_ranges(8 * MIB - 1, 8 * MIB, 512, &[]), []);
    assert_eq!(
        stale_ranges(8 * MIB - 512, 8 * MIB, 512, &[]),
        vec![Range { start: 8 * MIB - 512, end: 8 * MIB }]
    );
    assert_eq!(
        stale_ranges(6 * MIB + 1, 8 * MIB + 4095, 4096, &[]),
        vec![Range { start: 6 * MIB + 4096, end: 8 * MIB }]
    );
    assert_eq!(stale_ranges(0, 0, 512, &[]), []);
    assert_eq!(
        stale_ranges(GIB - MIB, 2 * GIB, 512, &[]),
        [
            GIB - MIB..GIB + 512 * KIB,
            1025 * MIB..1025 * MIB + 512 * KIB,
            1028 * MIB..1028 * MIB + 512 * KIB,
            2 * GIB - MIB..2 * GIB
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn stale_ranges_are_ascending_sectors_beyond_the_image(
        image in any::<u64>(),
        disk in any::<u64>(),
        large in any::<bool>(),
    ) {
        let sector = if large { 4096 } else { 512 };
        let mut before = image;
        for range in stale_ranges(image, disk, sector, &[]) {
            prop_assert!(range.start >= before && range.start < range.end && range.end <= disk);
            prop_assert_eq!((range.start | range.end) % u64::from(sector), 0);
            before = range.end + 1;
        }
    }
}
