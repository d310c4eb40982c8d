//! The image before a change, from the image after it and the reverse patch that the feed carries.

use revenant_log::Value;

/// Undoes `patch`, a list of JSON Patch operations, on `after`. `None` if an operation is not understood:
/// a before-image is told whole or not at all.
pub(crate) fn undo(after: &Value, patch: &[Value]) -> Option<Value> {
    let mut image = after.clone();
    for operation in patch {
        let Value::String(op) = operation.field("op")? else { return None };
        let Value::String(path) = operation.field("path")? else { return None };
        let path: Vec<String> = path
            .split('/')
            .skip(1)
            .map(|step| step.replace("~1", "/").replace("~0", "~"))
            .collect();
        let (last, parents) = path.split_last()?;
        let parent = parents.iter().try_fold(&mut image, |at, step| child(at, step))?;
        match op.as_str() {
            "add" => insert(parent, last, operation.field("value")?.clone())?,
            "replace" => *child(parent, last)? = operation.field("value")?.clone(),
            "remove" => remove(parent, last)?,
            "change" => {
                let Value::String(diff) = operation.field("value")? else { return None };
                let text = child(parent, last)?;
                *text = Value::String(undo_text(text, diff)?);
            }
            _ => return None,
        }
    }
    Some(image)
}

/// Applies a text diff in the form of Google's diff-match-patch, all of it or nothing.
fn undo_text(text: &Value, diff: &str) -> Option<String> {
    let Value::String(text) = text else { return None };
    let dmp = dmp::new();
    let patches = dmp.patch_from_text(diff.to_owned()).ok()?;
    let (chars, applied) = dmp.patch_apply(&patches, text).ok()?;
    applied.iter().all(|applied| *applied).then(|| chars.into_iter().collect())
}

fn child<'a>(value: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(fields) => fields.get_mut(step),
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    }
}

fn insert(parent: &mut Value, step: &str, value: Value) -> Option<()> {
    match parent {
        Value::Object(fields) => {
            fields.insert(step.to_owned(), value);
        }
        Value::Array(items) if step == "-" => items.push(value),
        Value::Array(items) => {
            let at = step.parse::<usize>().ok().filter(|at| *at <= items.len())?;
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(parent: &mut Value, step: &str) -> Option<()> {
    match parent {
        Value::Object(fields) => fields.remove(step).map(|_| ()),
        Value::Array(items) => {
            let at = step.parse::<usize>().ok().filter(|at| *at < items.len())?;
            items.remove(at);
            Some(())
        }
        _ => None,
    }
}
