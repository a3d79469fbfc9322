//! JSON patches (RFC 6902), as far as we send any: `test`, `add` and `remove` of fields.

use serde_json::Value;

use super::server::Refusal;

/// Carries the operations out, or says which cannot be.
pub(super) fn apply(target: &mut Value, operations: &Value) -> Result<(), Refusal> {
    for operation in operations.as_array().into_iter().flatten() {
        let path = operation["path"].as_str().unwrap_or_default();
        let unknown = || Refusal::Invalid(format!("there is no {path}"));
        let (above, field) = path.rsplit_once('/').ok_or_else(unknown)?;
        let fields = target.pointer_mut(above).and_then(Value::as_object_mut);
        let fields = fields.ok_or_else(unknown)?;
        match operation["op"].as_str() {
            Some("test") if fields.get(field) == Some(&operation["value"]) => {}
            Some("test") => return Err(Refusal::Conflict),
            Some("add") => {
                fields.insert(field.to_owned(), operation["value"].clone());
            }
            Some("remove") => {
                fields.remove(field).ok_or_else(unknown)?;
            }
            _ => return Err(Refusal::Invalid(format!("no such operation: {operation}"))),
        }
    }
    Ok(())
}
