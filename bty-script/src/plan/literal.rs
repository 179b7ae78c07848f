//! Writes JSON as a rhai literal that can never become code.

use serde_json::Value;

use crate::error::HostError;

/// Writes `value` as a rhai literal. Names of maps are quoted, and strings are escaped to printable
/// ASCII.
///
/// # Errors
/// Kind `usage`: `value` contains an integer that does not fit into a signed 64-bit integer.
pub fn literal(value: &Value) -> Result<String, HostError> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, text: &mut String) -> Result<(), HostError> {
    match value {
        Value::Null => text.push_str("()"),
        Value::Bool(is) => text.push_str(if *is { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&self::number(number)?),
        Value::String(string) => quote(string, text),
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                write(item, text)?;
            }
            text.push(']');
        }
        Value::Object(fields) => {
            text.push_str("#{");
            for (i, (name, value)) in fields.iter().enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                quote(name, text);
                text.push_str(": ");
                write(value, text)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

fn number(number: &serde_json::Number) -> Result<String, HostError> {
    match (number.as_i64(), number.is_f64(), number.as_f64()) {
        // rhai has no literal for the smallest integer
        (Some(i64::MIN), ..) => Ok(format!("({} - 1)", i64::MIN + 1)),
        (Some(int), ..) => Ok(int.to_string()),
        // Debug always adds a point or an exponent, so it stays a float
        (None, true, Some(float)) => Ok(format!("{float:?}")),
        _ => Err(HostError::usage(format!("{number} does not fit into an integer of scripts"))),
    }
}

fn quote(string: &str, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            ' '..='~' => text.push(c),
            _ if u32::from(c) <= 0xffff => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => text.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    text.push('"');
}
