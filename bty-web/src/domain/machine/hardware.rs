//! Facts about a machine's hardware that plans can read, from the output of `lshw -json`.

use serde_json::{Value, json};

/// Maximum depth of the tree; deeper nodes are ignored.
const DEPTH_MAX: usize = 16;

/// Returns an object with `vendor`, `product`, `version`, `serial`, `arch`, `cpu`, `cpus` and
/// `memory_bytes`. Facts missing from the tree are null.
#[must_use]
pub fn facts(lshw: &Value) -> Value {
    let root = match lshw {
        Value::Array(nodes) => nodes.first().unwrap_or(&Value::Null),
        node => node,
    };
    let mut cpus = Vec::new();
    let (mut arch, mut memory) = (None, None);
    walk(root, 0, &mut |node| match (node["class"].as_str(), node["id"].as_str()) {
        (Some("processor"), _) if node["disabled"] != true => {
            arch = arch.or_else(|| architecture(node));
            cpus.push(node["product"].clone());
        }
        (Some("memory"), Some("memory")) => memory = memory.or_else(|| node["size"].as_u64()),
        _ => {}
    });
    json!({
        "vendor": text(&root["vendor"]), "product": text(&root["product"]),
        "version": text(&root["version"]), "serial": text(&root["serial"]),
        "arch": arch,
        "cpu": cpus.first().map(text), "cpus": cpus.len(), "memory_bytes": memory,
    })
}

/// The architecture of a processor, which `lshw` shows only by its capabilities.
fn architecture(processor: &Value) -> Option<&'static str> {
    let can = |what: &str| processor["capabilities"].get(what).is_some();
    match (can("x86-64"), can("asimd")) {
        (true, _) => Some("x86_64"),
        (false, true) => Some("arm64"),
        (false, false) => None,
    }
}

/// Returns a text, truncated to a length that is useful to a plan.
fn text(value: &Value) -> Value {
    value.as_str().map_or(Value::Null, |text| text.chars().take(256).collect::<String>().into())
}

fn walk(node: &Value, depth: usize, see: &mut impl FnMut(&Value)) {
    see(node);
    if depth < DEPTH_MAX {
        for child in node["children"].as_array().into_iter().flatten() {
            walk(child, depth + 1, see);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn facts_that_plans_use_are_found() {
        let tree = json!({
            "id": "m", "class": "system", "vendor": "ACME", "product": "Rack 1", "serial": "42",
            "children": [{ "id": "core", "class": "bus", "children": [
                { "id": "memory", "class": "memory", "size": 17179869184_u64 },
                { "id": "cpu:0", "class": "processor", "product": "Fast 9",
                  "capabilities": { "fpu": true, "x86-64": "64bits extensions (x86-64)" } },
                { "id": "cpu:1", "class": "processor", "product": "Fast 9" },
            ]}],
        });
        let found = facts(&Value::Array(vec![tree]));
        assert_eq!(found["product"], "Rack 1");
        assert_eq!((&found["cpus"], &found["cpu"]), (&json!(2), &json!("Fast 9")));
        assert_eq!(found["arch"], "x86_64");
        let arm = json!({ "class": "processor", "capabilities": { "fp": true, "asimd": true } });
        assert_eq!(facts(&arm)["arch"], "arm64");
        assert_eq!(found["memory_bytes"], 17179869184_u64);
        assert_eq!(found["version"], Value::Null);
    }

    /// JSON of any shape.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z:]{0,9}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("children".to_owned()),
            Just("class".to_owned()),
            Just("size".to_owned()),
            "[a-z]{1,4}"
        ];
        leaf.prop_recursive(6, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..6)
                    .prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_tree_has_facts_of_the_right_kind(tree in any_json()) {
            let found = facts(&tree);
            prop_assert!(found["cpus"].is_u64());
            prop_assert!(["vendor", "product", "serial"].iter().all(|name| found[*name].is_null() || found[*name].is_string()));
            // the value of declare() is untrusted too
            let _ = crate::domain::plan::Declared::parse(&tree);
        }
    }

    #[test]
    fn anything_else_has_no_facts() {
        for tree in [json!(null), json!([]), json!("x"), json!({ "children": 7 })] {
            assert_eq!(facts(&tree)["product"], Value::Null);
        }
    }
}
