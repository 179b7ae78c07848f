//! The declaration of a plan: its parameters with their types, what an assignment must name, and
//! how a machine reacts to a failure.
//!
//! ```rhai
//! fn declare() {
//!     #{
//!         on_failure: "person",
//!         needs: ["image", "disk"],
//!         parameters: #{
//!             percent: #{ type: "int", preset: 10, min: 0, max: 100, about: "of all machines" },
//!         },
//!     }
//! }
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The value of `declare()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Declared {
    /// Parameters, by their names.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// What a machine does if the plan fails at a contact: `disk` boots the disk, `person` asks a
    /// person in the live environment.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What an assignment with this plan must name: `image`, `disk`; and `architecture` if both
    /// must fit.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// True if the plan defines `run(p)`.
    #[serde(default)]
    pub runs: bool,
}

/// What an assignment must name for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// An image of the catalog.
    Image,
    /// The serial number of a disk, or another selector.
    Disk,
    /// An image for the architecture of the machine, where both are known.
    Architecture,
}

/// What a machine does if its plan fails at a contact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It boots its disk.
    #[default]
    Disk,
    /// It asks a person in the live environment.
    Person,
}

/// A parameter of a plan. The form of a machine has a field for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "a map")]
pub struct Parameter {
    /// Type of its value.
    #[serde(rename = "type")]
    pub kind: ParameterKind,
    /// Default value; a parameter without a default must be set.
    #[serde(default)]
    #[schema(value_type = Value)]
    pub preset: Option<Value>,
    /// Minimum of an integer.
    #[serde(default)]
    pub min: Option<i64>,
    /// Maximum of an integer.
    #[serde(default)]
    pub max: Option<i64>,
    /// Allowed values of a text.
    #[serde(default)]
    pub choices: Option<Vec<String>>,
    /// Characters that a text must consist of; it then needs at least one.
    #[serde(default)]
    pub characters: Option<String>,
    /// Description for people.
    #[serde(default)]
    pub about: String,
}

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// Text.
    String,
    /// An integer.
    Int,
    /// True or false.
    Bool,
    /// A number of bytes, as text such as `500G`.
    Size,
    /// An image of the catalog, by its name or its reference.
    Image,
}

const PARAMETERS_MAX: usize = 32;
const TEXT_CHARS_MAX: usize = 4096;

impl Declared {
    /// Parses the value of `declare()`.
    ///
    /// # Errors
    /// All problems, one sentence each.
    pub fn parse(value: &Value) -> Result<Self, Vec<String>> {
        let Some(fields) = value.as_object() else { return Err(vec!["must return a map".into()]) };
        let mut problems = Vec::new();
        let mut declared = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "on_failure" => match serde_json::from_value(value.clone()) {
                    Ok(on_failure) => declared.on_failure = on_failure,
                    Err(_) => problems.push("on_failure must be \"disk\" or \"person\"".into()),
                },
                "needs" => match serde_json::from_value(value.clone()) {
                    Ok(needs) => declared.needs = needs,
                    Err(_) => {
                        problems.push(
                            "needs must be an array of \"image\", \"disk\" and \"architecture\""
                                .into(),
                        );
                    }
                },
                "parameters" => declared.read_parameters(value, &mut problems),
                _ => {
                    problems.push(format!(
                        "unknown key {name:?}; use parameters, needs and on_failure"
                    ));
                }
            }
        }
        if problems.is_empty() { Ok(declared) } else { Err(problems) }
    }

    fn read_parameters(&mut self, value: &Value, problems: &mut Vec<String>) {
        let Some(parameters) = value.as_object() else {
            return problems.push("parameters must be a map".into());
        };
        if parameters.len() > PARAMETERS_MAX {
            problems.push(format!("there must be at most {PARAMETERS_MAX} parameters"));
        }
        for (name, value) in parameters {
            let parameter: Parameter = match serde_json::from_value(value.clone()) {
                Ok(parameter) => parameter,
                Err(e) => {
                    problems.push(format!("parameter {name}: {e}"));
                    continue;
                }
            };
            if let Some(preset) = &parameter.preset
                && let Err(why) = parameter.check(preset)
            {
                problems.push(format!("parameter {name}: preset {why}"));
            }
            self.parameters.insert(name.clone(), parameter);
        }
    }

    /// Returns the default values of all parameters that have one.
    #[must_use]
    pub fn presets(&self) -> Map<String, Value> {
        let with_preset =
            self.parameters.iter().filter_map(|(name, p)| Some((name.clone(), p.preset.clone()?)));
        with_preset.collect()
    }

    /// Returns all problems of `params`, one sentence each: unknown, invalid and missing
    /// parameters.
    #[must_use]
    pub fn problems(&self, params: &Map<String, Value>) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in params {
            match self.parameters.get(name) {
                None => {
                    problems.push(format!("unknown parameter {name:?}; {}", self.names()));
                }
                Some(parameter) => {
                    problems
                        .extend(parameter.check(value).err().map(|why| format!("{name} {why}")));
                }
            }
        }
        let missing = self
            .parameters
            .iter()
            .filter(|(name, p)| p.preset.is_none() && !params.contains_key(*name));
        problems.extend(
            missing.map(|(name, parameter)| format!("{name} is required: {}", parameter.about)),
        );
        problems
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.parameters.keys().map(String::as_str).collect();
        if names.is_empty() {
            "the plan has none".into()
        } else {
            format!("the plan has {}", names.join(", "))
        }
    }

    /// True if a machine asks a person after a failure at a contact.
    #[must_use]
    pub fn asks_person_on_failure(&self) -> bool {
        self.on_failure == OnFailure::Person
    }
}

impl Parameter {
    fn check(&self, value: &Value) -> Result<(), String> {
        match (self.kind, value) {
            (ParameterKind::Bool, Value::Bool(_)) => Ok(()),
            (ParameterKind::Int, Value::Number(number)) => {
                let number = number.as_i64().ok_or("must be a whole number")?;
                let (min, max) = (self.min.unwrap_or(i64::MIN), self.max.unwrap_or(i64::MAX));
                if (min..=max).contains(&number) {
                    return Ok(());
                }
                Err(match (self.min, self.max) {
                    (Some(min), Some(max)) => format!("must be between {min} and {max}"),
                    (Some(min), None) => format!("must be at least {min}"),
                    _ => format!("must be at most {max}"),
                })
            }
            (ParameterKind::Size, Value::String(text)) => match bty::size::parse(text) {
                Ok(_) => Ok(()),
                Err(e) => Err(format!("must be a size: {e}")),
            },
            (ParameterKind::String | ParameterKind::Image, Value::String(text)) => {
                if text.chars().count() > TEXT_CHARS_MAX {
                    return Err(format!("must be at most {TEXT_CHARS_MAX} characters"));
                }
                match (&self.choices, &self.characters) {
                    (Some(choices), _) if !choices.contains(text) => {
                        Err(format!("must be one of {}", choices.join(", ")))
                    }
                    (_, Some(allowed))
                        if text.is_empty() || text.chars().any(|c| !allowed.contains(c)) =>
                    {
                        Err(format!("must consist of one or more of the characters {allowed}"))
                    }
                    _ => Ok(()),
                }
            }
            (kind, _) => Err(match kind {
                ParameterKind::String => "must be text",
                ParameterKind::Int => "must be a whole number",
                ParameterKind::Bool => "must be true or false",
                ParameterKind::Size => "must be a size as text, such as \"500G\"",
                ParameterKind::Image => "must be the name or the reference of an image",
            }
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared() -> Declared {
        Declared::parse(&json!({
            "parameters": {
                "percent": { "type": "int", "preset": 10, "min": 0, "max": 100 },
                "image": { "type": "image", "about": "what to write" },
                "ring": { "type": "string", "preset": "a", "choices": ["a", "b"] },
                "days": { "type": "string", "preset": "12", "characters": "1234567" },
                "disk": { "type": "size", "preset": "1G" },
                "dry": { "type": "bool", "preset": false },
            },
        }))
        .unwrap()
    }

    #[test]
    fn all_problems_are_reported_together() {
        let params =
            json!({ "percent": 101, "ring": "c", "disk": "much", "dry": "yes", "other": 1 });
        insta::assert_snapshot!(declared().problems(params.as_object().unwrap()).join("\n"));
        let good = json!({ "image": "debian", "percent": 5 });
        assert_eq!(declared().problems(good.as_object().unwrap()), Vec::<String>::new());
    }

    #[test]
    fn a_text_of_given_characters_is_not_empty() {
        for (days, is_valid) in [("1", true), ("712", true), ("", false), ("18", false)] {
            let params = json!({ "image": "debian", "days": days });
            let problems = declared().problems(params.as_object().unwrap());
            assert_eq!(problems.is_empty(), is_valid, "{days:?}: {problems:?}");
        }
    }

    #[test]
    fn a_declaration_is_checked_too() {
        let wrong = json!({
            "on_failure": "panic", "title": "x",
            "parameters": {
                "a": { "type": "int", "preset": "x" }, "b": { "type": "colour" }, "c": 1,
            },
        });
        insta::assert_snapshot!(Declared::parse(&wrong).unwrap_err().join("\n"));
    }
}
