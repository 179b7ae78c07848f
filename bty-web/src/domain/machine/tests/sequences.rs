//! Random sequences of events against the bundled plans.

use proptest::prelude::*;

use super::super::report::{record_artifact, reject_inventory};
use super::*;

/// An event in the life of a machine.
#[derive(Clone, Debug)]
enum SequenceStep {
    Contact { is_repeated: bool },
    Artifact,
    Inventory { is_own: bool },
    UnreadableInventory,
    Order { is_own: bool },
    Done { is_own: bool },
    Failed,
    Progress,
    LateDone,
    Save { changes: bool },
    Label,
}

fn step() -> impl Strategy<Value = SequenceStep> {
    prop_oneof![
        6 => any::<bool>().prop_map(|is_repeated| SequenceStep::Contact { is_repeated }),
        1 => Just(SequenceStep::Artifact),
        3 => any::<bool>().prop_map(|is_own| SequenceStep::Inventory { is_own }),
        1 => Just(SequenceStep::UnreadableInventory),
        5 => any::<bool>().prop_map(|is_own| SequenceStep::Order { is_own }),
        5 => any::<bool>().prop_map(|is_own| SequenceStep::Done { is_own }),
        1 => Just(SequenceStep::Failed),
        1 => Just(SequenceStep::Progress),
        2 => Just(SequenceStep::LateDone),
        1 => any::<bool>().prop_map(|changes| SequenceStep::Save { changes }),
        1 => Just(SequenceStep::Label),
    ]
}

/// The expected state, tracked independently of the rules.
#[derive(Default)]
struct Invariants {
    /// The token of the machine's current boot.
    token: Option<String>,
    /// Tokens of earlier boots.
    old: Vec<String>,
    /// True if this boot's cycle was completed, failed, or superseded by a save.
    is_over: bool,
    /// True if a flash or inventory was completed since the disk was last booted, or since the last
    /// save.
    is_due: bool,
    /// True if a flash was completed since the last save.
    is_flashed: bool,
    boots: u32,
    is_flipped: bool,
    /// Boots since the live environment last started, or since the machine was saved.
    silent_boots: u32,
}

fn walk(plan: &str, steps: &[SequenceStep]) {
    let mut world = World::bound(plan);
    let mut is = Invariants::default();
    let flashes = plan.starts_with("bty-flash");
    for step in steps {
        let before = world.machine.clone();
        match step {
            SequenceStep::Contact { is_repeated: true } if is.boots > 0 => {
                world.boot(&is.boots.to_string());
                // a save in between made it a new order
                if !before.answers.is_empty() {
                    assert_eq!(world.machine, before, "{plan}: a repeated contact changes nothing");
                } else {
                    contacted(&mut world, &mut is, plan);
                }
            }
            SequenceStep::Contact { .. } => {
                is.boots += 1;
                world.boot(&is.boots.to_string());
                contacted(&mut world, &mut is, plan);
            }
            SequenceStep::Artifact => {
                let token = is.token.clone();
                world.with(|m, _, client| record_artifact(m, client, token.as_deref(), "kernel"));
            }
            SequenceStep::Inventory { is_own } => {
                let token = if *is_own {
                    is.token.clone()
                } else {
                    is.old.first().cloned().or(Some("foreign".into()))
                };
                world.inventory(token.as_deref());
                // an order without a token counts if no cycle is open: somebody started the
                // environment by hand
                let by_hand = token.is_none() && before.open_cycle().is_none();
                let counts = by_hand || (*is_own && is.token.is_some() && !is.is_over);
                if counts && !before.is_stalled() {
                    is.silent_boots = 0;
                }
                if plan == "bty-inventory" && counts {
                    is.is_due = true;
                }
                if !counts {
                    assert_eq!(
                        world.machine.state, before.state,
                        "{plan}: an inventory of another boot changes nothing"
                    );
                }
            }
            SequenceStep::UnreadableInventory => {
                let Some(token) = is.token.clone() else { continue };
                let counts = before.open_cycle().is_some_and(|cycle| cycle.token == token);
                world.with(|m, c, client| reject_inventory(m, c, client, Some(&token), "no JSON"));
                if plan == "bty-inventory" && counts {
                    // the machine goes on to its disk all the same
                    is.is_due = true;
                    is.is_over |= world.machine.open_cycle().is_none();
                } else {
                    assert_eq!(world.machine.state, before.state, "{plan}");
                }
            }
            SequenceStep::Order { is_own } => {
                let token = if *is_own { is.token.clone() } else { Some("foreign".into()) };
                let Some(token) = token else { continue };
                let order = world.order(Some(&token));
                // an unreadable inventory came before
                is.is_over |= before.open_cycle().is_some() && world.has_failed();
                if plan == "bty-inventory" {
                    // saved in the meantime: it is in a new cycle
                    is.silent_boots += u32::from(
                        before.open_cycle().is_none() && world.machine.open_cycle().is_some(),
                    );
                } else if *is_own && !before.is_stalled() {
                    is.silent_boots = 0;
                }
                let is_flash = order.mode == Mode::Flash;
                assert!(!is_flash || (flashes && *is_own), "{plan}: a flash that nobody ordered");
                if is_flash {
                    assert_eq!(order.value["disk"]["serial"], "S1");
                    assert!(
                        plan != "bty-flash-once" || !is.is_flashed,
                        "{plan}: flashed twice for one save"
                    );
                    // after a save, the machine is in a new cycle without knowing it: the order
                    // contains its token
                    if order.token != token {
                        is.old.push(std::mem::replace(
                            is.token.as_mut().unwrap(),
                            order.token.clone(),
                        ));
                        is.is_over = false;
                    }
                }
            }
            SequenceStep::Done { is_own } => {
                let token = if *is_own { is.token.clone() } else { Some("foreign".into()) };
                let Some(token) = token else { continue };
                let receipt = world.report(Some(&token), "done");
                let counts = *is_own && !is.is_over;
                assert_eq!(
                    world.machine.state != before.state,
                    counts && flashes && receipt == Receipt::Accepted,
                    "{plan}"
                );
                if counts {
                    // an inventory may already have ended the cycle
                    assert!(
                        !matches!(receipt, Receipt::Refused(_)),
                        "{plan}: the end of an open boot is acknowledged"
                    );
                    is.is_over = true;
                    if flashes {
                        is.is_due = true;
                        is.is_flashed = true;
                    }
                }
            }
            SequenceStep::Failed => {
                let Some(token) = is.token.clone().filter(|_| !is.is_over) else { continue };
                world.report(Some(&token), "failed");
                is.is_over = true;
                assert_eq!(world.machine.state, before.state, "{plan}");
            }
            SequenceStep::Progress => {
                let Some(token) = is.token.clone() else { continue };
                world.report(Some(&token), "progress");
                assert_eq!(world.machine.state, before.state, "{plan}");
            }
            SequenceStep::LateDone => {
                let Some(token) =
                    is.old.first().cloned().filter(|old| Some(old) != is.token.as_ref())
                else {
                    continue;
                };
                world.report(Some(&token), "done");
                assert_eq!(
                    world.machine.state, before.state,
                    "{plan}: a late report changes nothing"
                );
                assert_eq!(world.machine.flashed, before.flashed, "{plan}");
            }
            SequenceStep::Save { changes } => {
                is.is_flipped ^= *changes;
                let image = if is.is_flipped { OTHER } else { SRC };
                world.save(&Assignment {
                    bty_image_ref: Some(image_ref(image)),
                    ..relabelled(&world, plan)
                });
                (is.is_due, is.is_flashed, is.is_over, is.silent_boots) = (false, false, true, 0);
            }
            SequenceStep::Label => {
                let count = world.machine.labels.len() as u32;
                let mut assignment = Assignment::of(&world.machine);
                assignment.labels = if count == 0 { vec!["lab".into()] } else { Vec::new() };
                world.save(&assignment);
                if before.is_stalled() {
                    is.silent_boots = 0;
                }
                assert_eq!(world.machine.state, before.state, "{plan}: labels order nothing");
            }
        }
    }
}

impl World {
    fn has_failed(&self) -> bool {
        self.machine.cycle.as_ref().is_some_and(|cycle| cycle.stage == Stage::Failed)
    }
}

fn relabelled(world: &World, plan: &str) -> Assignment {
    Assignment { labels: world.machine.labels.clone(), ..assignment(plan) }
}

/// Checks a contact that was not a repetition.
fn contacted(world: &mut World, is: &mut Invariants, plan: &str) {
    let boot = world.machine.answers.last().unwrap().boot.clone();
    is.old.extend(is.token.take());
    match (&boot, plan) {
        (Boot::Disk { .. }, "bty-flash-once") => {
            assert!(is.is_flashed, "{plan}: nothing was flashed");
        }
        (Boot::Disk { .. }, "bty-flash-always" | "bty-inventory") => {
            assert!(is.is_due, "{plan}: a crashed boot was taken for done");
            is.is_due = false;
        }
        (Boot::Disk { .. }, "ipxe-exit") => {}
        (Boot::Live { .. }, "bty-flash-once") => {
            assert!(!is.is_flashed, "{plan}: flashed twice for one save");
        }
        (Boot::Live { .. }, "bty-flash-always" | "bty-inventory") => {
            assert!(!is.is_due, "{plan}: the disk is due");
        }
        (Boot::Live { .. }, "bty-tui") => {}
        (Boot::Failed { .. }, _) if world.machine.is_stalled() => {
            assert!(is.silent_boots >= 3, "{plan}: stalled after {} boots", is.silent_boots);
        }
        (other, _) => panic!("{plan}: {other:?}"),
    }
    if let Boot::Live { token, .. } = boot {
        is.silent_boots += 1;
        is.token = Some(token);
        is.is_over = false;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_breaks_the_promises_of_the_five_plans(steps in prop::collection::vec(step(), 1..60), plan in 0_usize..5) {
        let plans = ["bty-flash-once", "bty-flash-always", "bty-inventory", "bty-tui", "ipxe-exit"];
        walk(plans[plan], &steps);
    }
}
