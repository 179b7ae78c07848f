use proptest::prelude::*;

use super::*;

/// Blocks of a frame in these tests.
const FRAME: usize = 4;

/// Takes the steps on `disk`, a block per number, and returns what is there afterwards.
///
/// # Panics
/// If a block is read whose old content is gone, or the stash exceeds `stash_blocks`.
fn simulate(
    disk: &[u32],
    frames: &[MovedFrame<'_>],
    order: &MoveOrder,
    stash_blocks: usize,
) -> Vec<u32> {
    let mut now = disk.to_vec();
    let mut stash: HashMap<u32, u32> = HashMap::new();
    let mut peak = 0;
    for step in &order.steps {
        match step {
            MoveStep::Stash(positions) => {
                for &position in positions {
                    assert_eq!(now[position as usize], disk[position as usize], "stashed too late");
                    stash.insert(position, disk[position as usize]);
                }
                peak = peak.max(stash.len());
            }
            MoveStep::Release(positions) => {
                positions.iter().for_each(|it| assert!(stash.remove(it).is_some()));
            }
            MoveStep::Move(number) => {
                let frame = frames.iter().find(|frame| frame.number == *number).unwrap();
                let place = frame.position as usize;
                let content: Vec<u32> = frame
                    .sources
                    .iter()
                    .enumerate()
                    .map(|(at, source)| {
                        let from = match source {
                            BlockSource::Same => u32::try_from(place + at).unwrap(),
                            BlockSource::At(position) => *position,
                            _ => return 0,
                        };
                        let stashed = stash.get(&from).filter(|_| !frame.is_own(from)).copied();
                        stashed.unwrap_or(now[from as usize])
                    })
                    .collect();
                now[place..place + content.len()].copy_from_slice(&content);
            }
        }
    }
    assert!(stash.is_empty(), "{stash:?}");
    assert_eq!(peak, order.stash_peak_blocks);
    assert!(peak <= stash_blocks);
    now
}

fn frames(sources: &[Vec<BlockSource>]) -> Vec<MovedFrame<'_>> {
    let frame = |(number, sources): (usize, &'_ Vec<BlockSource>)| (number, sources.len());
    let numbers: Vec<_> = sources.iter().enumerate().map(frame).collect();
    numbers
        .iter()
        .zip(sources)
        .filter(|(_, sources)| !sources.is_empty())
        .map(|((number, _), sources)| MovedFrame {
            number: u32::try_from(*number).unwrap(),
            position: u32::try_from(number * FRAME).unwrap(),
            sources,
        })
        .collect()
}

fn at(frame: usize) -> Vec<BlockSource> {
    (0..FRAME).map(|i| BlockSource::At(u32::try_from(frame * FRAME + i).unwrap())).collect()
}

#[test]
fn files_that_have_shifted_need_no_stash() {
    let up: Vec<_> = (0..10).map(|i| if i == 0 { Vec::new() } else { at(i - 1) }).collect();
    let down: Vec<_> = (0..10).map(|i| if i == 9 { Vec::new() } else { at(i + 1) }).collect();
    for sources in [up, down] {
        let order = order(&frames(&sources), 0);
        assert_eq!((order.given_up.len(), order.stash_peak_blocks), (0, 0));
        assert_eq!(order.steps.len(), 9);
    }
}

#[test]
fn frames_that_swap_need_one_frame_of_stash() {
    let sources = [at(1), at(0)];
    let with_room = order(&frames(&sources), FRAME);
    assert_eq!((with_room.given_up.len(), with_room.stash_peak_blocks), (0, FRAME));
    let without = order(&frames(&sources), FRAME - 1);
    assert_eq!((without.given_up.len(), without.stash_peak_blocks), (1, 0));
    assert_eq!(without.steps.len(), 1);
}

#[test]
fn a_block_that_a_million_frames_need_takes_no_time() {
    let sources: Vec<_> = (0..250_000).map(|_| vec![BlockSource::At(2); FRAME]).collect();
    let order = order(&frames(&sources), 1);
    assert_eq!(order.given_up.len(), 0);
    assert_eq!(order.stash_peak_blocks, 0, "the frame that overwrites it comes last");
}

fn source(blocks: u32) -> impl Strategy<Value = BlockSource> {
    prop_oneof![
        1 => Just(BlockSource::Same),
        1 => Just(BlockSource::Zero),
        6 => (0..blocks).prop_map(BlockSource::At),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_block_is_read_before_it_is_overwritten(
        sources in (2usize..40).prop_flat_map(|count| {
            let blocks = u32::try_from(count * FRAME).unwrap();
            let frame = prop_oneof![
                1 => Just(Vec::new()),
                5 => proptest::collection::vec(source(blocks), FRAME..=FRAME),
            ];
            proptest::collection::vec(frame, count..=count)
        }),
        stash_blocks in prop_oneof![Just(0), Just(1), 2usize..8, Just(usize::MAX)],
    ) {
        let disk: Vec<u32> = (1..=u32::try_from(sources.len() * FRAME).unwrap()).collect();
        let frames = frames(&sources);
        let order = order(&frames, stash_blocks);
        let now = simulate(&disk, &frames, &order, stash_blocks);
        let mut moved = 0;
        for frame in &frames {
            let place = frame.position as usize;
            if order.given_up.contains(&frame.number) {
                prop_assert_eq!(&now[place..place + FRAME], &disk[place..place + FRAME]);
                continue;
            }
            moved += 1;
            for (i, source) in frame.sources.iter().enumerate() {
                let expected = match source {
                    BlockSource::Same => disk[place + i],
                    BlockSource::At(position) => disk[*position as usize],
                    _ => 0,
                };
                prop_assert_eq!(now[place + i], expected);
            }
        }
        prop_assert_eq!(moved + order.given_up.len(), frames.len());
        if stash_blocks == usize::MAX {
            prop_assert!(order.given_up.is_empty());
        }
    }
}
