//! A tree in the format of `lshw -json`, kept small enough to post.

use serde_json::{Map, Value};

/// Maximum number of nodes: far more than the largest servers have.
const NODES_MAX: usize = 4096;
/// Maximum size of the JSON in bytes: a quarter of what a server accepts, because text takes up to
/// three times the space when it is escaped to ASCII.
const BYTES_MAX: usize = 1 << 20;
/// Maximum length of a text.
const TEXT_CHARS_MAX: usize = 256;

/// A piece of hardware.
#[derive(Clone, Debug, Default)]
pub(super) struct HardwareNode {
    id: String,
    fields: Map<String, Value>,
    configuration: Map<String, Value>,
    capabilities: Map<String, Value>,
    children: Vec<HardwareNode>,
}

impl HardwareNode {
    pub(super) fn new(id: impl Into<String>, class: &str) -> Self {
        Self { id: id.into(), ..Self::default() }.with("class", Some(class))
    }

    /// Sets a field if there is a value.
    pub(super) fn with(mut self, key: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.fields.insert(key.to_owned(), value.into());
        }
        self
    }

    pub(super) fn described(self, description: &str) -> Self {
        self.with("description", Some(description))
    }

    /// Marks it as handled by a driver or the firmware.
    pub(super) fn claimed(self) -> Self {
        self.with("claimed", Some(true))
    }

    /// Sets a size with its unit if there is one.
    pub(super) fn sized(self, size: Option<u64>, units: &str) -> Self {
        let units = size.map(|_| units);
        self.with("size", size).with("units", units)
    }

    /// Sets an entry of the configuration if there is a value. All entries are text.
    pub(super) fn configured(mut self, key: &str, value: Option<impl Into<String>>) -> Self {
        if let Some(value) = value {
            self.configuration.insert(key.to_owned(), Value::String(value.into()));
        }
        self
    }

    /// Sets a capability: text that describes it, or `true`.
    pub(super) fn capable(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.capabilities.insert(key.to_owned(), value.into());
        self
    }

    pub(super) fn children(mut self, children: impl IntoIterator<Item = HardwareNode>) -> Self {
        self.children.extend(children);
        self
    }

    /// Merges `other`, another view of the same hardware. Its fields win, except for those that say
    /// where the hardware is.
    pub(super) fn merged(mut self, other: Self) -> Self {
        let place = ["businfo", "physid"].map(|key| (key, self.fields.get(key).cloned()));
        self.fields.extend(other.fields);
        for (key, value) in place {
            self = self.with(key, value);
        }
        self.configuration.extend(other.configuration);
        self.capabilities.extend(other.capabilities);
        self.children(other.children)
    }

    /// The tree below this node as JSON. If it is too large, the last nodes are left out.
    pub(super) fn render(&self) -> Value {
        self.render_within(NODES_MAX, BYTES_MAX)
    }

    fn render_within(&self, nodes_max: usize, bytes_max: usize) -> Value {
        let mut nodes = nodes_max.max(1);
        loop {
            let tree = self.value(self.id.clone(), &mut nodes.clone());
            if nodes == 1 || tree.to_string().len() <= bytes_max {
                return tree;
            }
            nodes /= 2;
        }
    }

    /// This node as JSON with the given `id`, and as many of the nodes below it as `left` allows.
    fn value(&self, id: String, left: &mut usize) -> Value {
        *left = left.saturating_sub(1);
        let mut object = Map::from_iter([("id".to_owned(), Value::String(id))]);
        object.extend(self.fields.clone());
        for (key, map) in
            [("configuration", &self.configuration), ("capabilities", &self.capabilities)]
        {
            if !map.is_empty() {
                object.insert(key.to_owned(), Value::Object(map.clone()));
            }
        }
        object.values_mut().for_each(shorten);
        let mut children = Vec::new();
        for (child, id) in self.children.iter().zip(numbered(&self.children)) {
            if *left == 0 {
                break;
            }
            children.push(child.value(id, left));
        }
        if !children.is_empty() {
            object.insert("children".to_owned(), Value::Array(children));
        }
        Value::Object(object)
    }
}

/// The ids of siblings. Those with the same id get a number: `network:0`.
fn numbered(siblings: &[HardwareNode]) -> Vec<String> {
    let mut seen = std::collections::HashMap::<&str, (usize, usize)>::new();
    for node in siblings {
        seen.entry(&node.id).or_default().0 += 1;
    }
    let mut name = |node: &HardwareNode| match seen.get_mut(node.id.as_str()) {
        Some((total, next)) if *total > 1 => {
            *next += 1;
            format!("{}:{}", node.id, *next - 1)
        }
        _ => node.id.clone(),
    };
    siblings.iter().map(&mut name).collect()
}

/// The first `chars_max` characters of `text`.
pub(super) fn truncated(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_CHARS_MAX => {
            *text = truncated(text, TEXT_CHARS_MAX);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(map) => map.values_mut().for_each(shorten),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_only_siblings_of_the_same_name() {
        let node = |id: &str| HardwareNode::new(id, "generic");
        let tree = node("core").children([node("cpu"), node("network"), node("network")]).render();
        let ids: Vec<&Value> =
            tree["children"].as_array().unwrap().iter().map(|child| &child["id"]).collect();
        assert_eq!(ids, ["cpu", "network:0", "network:1"]);
    }

    #[test]
    fn absent_values_are_not_rendered() {
        let node = HardwareNode::new("a", "b")
            .with("serial", None::<String>)
            .configured("driver", None::<String>);
        assert_eq!(node.sized(None, "bytes").render(), json!({"id": "a", "class": "b"}));
    }

    #[test]
    fn merging_keeps_the_location_of_the_first_view() {
        let pci = HardwareNode::new("network", "network")
            .described("Ethernet controller")
            .with("businfo", Some("pci@1"));
        let interface = HardwareNode::new("x", "network")
            .described("Ethernet interface")
            .with("businfo", Some("virtio@1"));
        let both = pci.merged(interface.with("serial", Some("02:00:00:00:00:01"))).render();
        assert_eq!(both["id"], "network");
        assert_eq!(both["description"], "Ethernet interface");
        assert_eq!(both["businfo"], "pci@1");
        assert_eq!(both["serial"], "02:00:00:00:00:01");
    }

    #[test]
    fn a_tree_that_is_too_large_is_cut_off_at_the_end() {
        let long = HardwareNode::new("disk", "disk").with("serial", Some("é".repeat(5000)));
        let many = HardwareNode::new("core", "bus").children(vec![long; 10_000]);
        let tree = many.render();
        let children = tree["children"].as_array().unwrap();
        assert!(children.len() < NODES_MAX && !children.is_empty());
        assert_eq!(children[0]["serial"].as_str().unwrap().chars().count(), TEXT_CHARS_MAX);
        assert!(tree.to_string().len() <= BYTES_MAX);
        assert_eq!(many.render_within(3, BYTES_MAX)["children"].as_array().unwrap().len(), 2);
        assert_eq!(many.render_within(100, 1), json!({"id": "core", "class": "bus"}));
    }
}
