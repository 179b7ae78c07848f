//! The bundled plans.

use std::sync::LazyLock;

use super::{Plan, examine};

/// Name of the plan that boots the disk.
pub const IPXE_EXIT: &str = "ipxe-exit";
/// Name of the plan that takes the inventory; the default for unknown machines.
pub const INVENTORY: &str = "bty-inventory";

/// Name and source of every bundled plan, the least invasive first.
const ALL: [(&str, &str); 9] = [
    (IPXE_EXIT, include_str!("../plans/ipxe-exit.rhai")),
    (INVENTORY, include_str!("../plans/bty-inventory.rhai")),
    ("bty-tui", include_str!("../plans/bty-tui.rhai")),
    ("bty-flash-once", include_str!("../plans/bty-flash-once.rhai")),
    ("bty-flash-always", include_str!("../plans/bty-flash-always.rhai")),
    ("bty-flash-changed", include_str!("../plans/bty-flash-changed.rhai")),
    ("bty-flash-by-hardware", include_str!("../plans/bty-flash-by-hardware.rhai")),
    ("bty-rollout", include_str!("../plans/bty-rollout.rhai")),
    ("bty-window", include_str!("../plans/bty-window.rhai")),
];

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let plan = |(name, source): &(&str, &str)| Plan {
        name: (*name).to_owned(),
        revision: 0,
        source: (*source).to_owned(),
        declared: examine(name, source).declared,
        is_bundled: true,
        saved_at: None,
        note: String::new(),
    };
    ALL.iter().map(plan).collect()
});

/// All bundled plans, the least invasive first.
#[must_use]
pub fn all() -> &'static [Plan] {
    &PLANS
}

/// The bundled plan `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Plan> {
    PLANS.iter().find(|plan| plan.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_bundled_plans_never_write() {
        let harmless = all().iter().filter(|plan| !plan.may_write()).map(|plan| &*plan.name);
        assert_eq!(harmless.collect::<Vec<_>>(), [IPXE_EXIT, INVENTORY, "bty-tui"]);
    }

    #[test]
    fn bundled_plans_pass_the_checks_for_plans() {
        for (name, source) in ALL {
            let examined = examine(name, source);
            assert_eq!(examined.findings, [], "{name}");
            assert!(super::super::check_name(name).is_ok(), "{name}");
            assert!(!find(name).unwrap().title().is_empty(), "{name}");
        }
    }
}
