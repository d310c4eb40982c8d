//! `Registration`: what a client asks for at `/view/register`, checked field by field. The scheduler's
//! assignments have the same shape.

use revenant_log::Value;
use revenant_log::value::{Datetime, Duration, Object};
use serde_json::Value as Json;
use thiserror::Error;

use crate::edge::ANONYMOUS;

/// The table of registered queries.
const QUERY_TABLE: &str = "_00_query";

/// Longest query id.
const ID_MOST: usize = 256;

/// A checked request to keep a query's result up to date.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Registration {
    /// Key of the `_00_query` row, bare.
    pub(crate) id: String,
    /// The query's text, without its closing semicolon.
    pub(crate) surql: String,
    /// Its parameters.
    pub(crate) params: Object,
    /// The client that asks.
    pub(crate) client_id: String,
    /// How long the query lives without a sign of its client.
    pub(crate) ttl: Duration,
    /// The client's last sign of life.
    pub(crate) last_active_at: Datetime,
    /// Who asks, as [`crate::edge::QueryRow::auth_id`] has it; empty when the request does not say.
    pub(crate) auth_id: String,
    /// The ownership's epoch, where the scheduler gives one.
    pub(crate) epoch: Option<u64>,
}

/// What is wrong with a request; the text is upstream's where upstream has one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum RegistrationError {
    #[error("Missing or invalid '{0}'")]
    Field(&'static str),
    #[error("Missing or invalid 'params': {0}")]
    Params(String),
    #[error("Invalid Operator JSON: a plan is not accepted here, send the query as SurrealQL")]
    Plan,
}

impl Registration {
    /// Checks a request body.
    pub(crate) fn from_json(body: &Json) -> Result<Self, RegistrationError> {
        let id = bare_id(text(body, "id", &["id"])?).ok_or(RegistrationError::Field("id"))?;
        let surql = text(body, "surql", &["surql", "surreal_ql"])?.trim();
        if surql.starts_with('{') {
            return Err(RegistrationError::Plan);
        }
        let surql = surql.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        if surql.is_empty() {
            return Err(RegistrationError::Field("surql"));
        }
        let client_id = text(body, "clientId", &["clientId", "client_id"])?;
        let ttl = text(body, "ttl", &["ttl"])?;
        let active = text(body, "lastActiveAt", &["lastActiveAt", "last_active_at"])?;
        let format = body.get("format").or_else(|| body.get("resultFormat"));
        let known = |format: &str| matches!(format, "streaming" | "tree" | "flat");
        if format.is_some_and(|f| !f.is_null() && !f.as_str().is_some_and(known)) {
            return Err(RegistrationError::Field("format"));
        }
        let params = params(body.get("params"))?;
        let auth_id = match body.get("auth_id").and_then(Json::as_str) {
            Some(auth_id) => auth_id.to_owned(),
            None => auth_id(&params),
        };
        Ok(Self {
            id,
            surql: surql.to_owned(),
            params,
            client_id: client_id.to_owned(),
            ttl: duration(ttl).ok_or(RegistrationError::Field("ttl"))?,
            last_active_at: datetime(active).ok_or(RegistrationError::Field("lastActiveAt"))?,
            auth_id,
            epoch: body.get("epoch").and_then(Json::as_u64),
        })
    }

    /// Whether it says who is signed in, be it nobody: then permissions hold. One that does not speak of it is an
    /// administrator's.
    pub(crate) fn is_judged(&self) -> bool {
        self.params.contains_key("auth")
    }

    /// Whether both ask the same question.
    pub(crate) fn same_query(&self, other: &Self) -> bool {
        self.surql == other.surql && self.params == other.params && self.auth_id == other.auth_id
    }
}

/// The bare key of a query's id: `abc`, `_00_query:abc`, `` _00_query:`abc` `` and `_00_query:⟨abc⟩`
/// are one. A number or a composite key is no query id.
pub(crate) fn bare_id(id: &str) -> Option<String> {
    let Some(key) = id.strip_prefix(QUERY_TABLE).and_then(|rest| rest.strip_prefix(':')) else {
        return plain_id(id).then(|| id.to_owned());
    };
    let quoted = [('`', '`'), ('⟨', '⟩')]
        .into_iter()
        .find_map(|(open, close)| key.strip_prefix(open)?.strip_suffix(close));
    if let Some(key) = quoted {
        return plain_id(key).then(|| key.to_owned());
    }
    let number = key.bytes().all(|byte| byte.is_ascii_digit());
    (plain_id(key) && !number).then(|| key.to_owned())
}

/// Ids are hashes or names: no quoting can go wrong on them.
fn plain_id(id: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "_-.:".contains(c);
    !id.is_empty() && id.len() <= ID_MOST && id.chars().all(plain)
}

fn text<'a>(
    body: &'a Json,
    field: &'static str,
    names: &[&str],
) -> Result<&'a str, RegistrationError> {
    names
        .iter()
        .find_map(|name| body.get(name))
        .and_then(Json::as_str)
        .filter(|text| !text.is_empty())
        .ok_or(RegistrationError::Field(field))
}

/// Parameters come as a JSON object, or as text that holds a SurrealQL or JSON object.
fn params(json: Option<&Json>) -> Result<Object, RegistrationError> {
    let value = match json {
        None | Some(Json::Null) => return Ok(Object::new()),
        Some(Json::String(text)) if text.trim().is_empty() => return Ok(Object::new()),
        Some(Json::String(text)) => Value::parse(text.trim().trim_end_matches(';'))
            .map_err(|error| RegistrationError::Params(error.to_string()))?,
        Some(json) => Value::from_json(json.clone()),
    };
    match value {
        Value::Object(params) => Ok(params),
        Value::None | Value::Null => Ok(Object::new()),
        _ => Err(RegistrationError::Params("an object is due".into())),
    }
}

/// `$auth.id` as text; [`ANONYMOUS`] when the parameters say that nobody is signed in, empty when
/// they do not speak of it.
fn auth_id(params: &Object) -> String {
    let Some(auth) = params.get("auth") else { return String::new() };
    match auth.field("id") {
        Some(Value::RecordId(id)) => id.to_string(),
        Some(Value::String(id)) => id.clone(),
        _ => ANONYMOUS.to_owned(),
    }
}

fn duration(text: &str) -> Option<Duration> {
    match Value::parse(text).ok()? {
        Value::Duration(duration) => Some(duration),
        _ => None,
    }
}

fn datetime(text: &str) -> Option<Datetime> {
    let text = text.strip_prefix("d'").and_then(|rest| rest.strip_suffix('\'')).unwrap_or(text);
    if text.contains(['\'', '\\']) {
        return None;
    }
    match Value::parse(&format!("d'{text}'")).ok()? {
        Value::Datetime(datetime) => Some(datetime),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> Json {
        json!({
            "id": "_00_query:9f00",
            "surql": "SELECT * FROM thread WHERE author = $author;",
            "params": "{ author: user:u1, auth: { id: user:u1 } }",
            "clientId": "c1",
            "ttl": "10m",
            "lastActiveAt": "2026-05-01T10:00:00.123456789Z",
            "format": "flat",
        })
    }

    #[test]
    fn a_request_as_the_database_function_sends_it_is_accepted() {
        let registration = Registration::from_json(&body()).unwrap();
        assert_eq!(registration.id, "9f00");
        assert_eq!(registration.surql, "SELECT * FROM thread WHERE author = $author");
        assert_eq!(registration.auth_id, "user:u1");
        assert_eq!(registration.ttl, Duration { secs: 600, nanos: 0 });
        assert_eq!(registration.last_active_at.nanos, 123_456_789);
        assert!(matches!(registration.params["author"], Value::RecordId(_)));
        assert_eq!(registration.epoch, None);
    }

    #[test]
    fn every_missing_or_mistyped_field_is_named() {
        for field in ["id", "surql", "clientId", "ttl", "lastActiveAt"] {
            for wrong in [Json::Null, json!(7), json!("")] {
                let mut body = body();
                body[field] = wrong;
                let error = Registration::from_json(&body).unwrap_err();
                assert_eq!(error.to_string(), format!("Missing or invalid '{field}'"));
            }
        }
        let mut wrong = body();
        wrong["ttl"] = json!("soon");
        assert_eq!(Registration::from_json(&wrong), Err(RegistrationError::Field("ttl")));
        wrong = body();
        wrong["lastActiveAt"] = json!("yesterday' + '");
        assert_eq!(Registration::from_json(&wrong), Err(RegistrationError::Field("lastActiveAt")));
        wrong = body();
        wrong["params"] = json!("{ author: ");
        let error = Registration::from_json(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("Missing or invalid 'params': "), "{error}");
        assert_eq!(Registration::from_json(&json!([])), Err(RegistrationError::Field("id")));
    }

    #[test]
    fn a_plan_is_refused_by_name() {
        let mut plan = body();
        plan["surql"] = json!("{\"op\":\"scan\"}");
        assert_eq!(Registration::from_json(&plan), Err(RegistrationError::Plan));
    }

    #[test]
    fn snake_case_names_and_json_params_are_accepted_too() {
        let body = json!({
            "id": "abc", "surreal_ql": "SELECT * FROM t", "client_id": "c", "ttl": "1h",
            "last_active_at": "2026-05-01T10:00:00Z", "params": { "n": 3, "auth": {} },
        });
        let registration = Registration::from_json(&body).unwrap();
        assert!(matches!(registration.params["n"], Value::Int(3)));
        assert_eq!(registration.auth_id, ANONYMOUS);
    }

    #[test]
    fn the_spellings_of_an_id_are_one() {
        for id in ["a-b", "_00_query:`a-b`", "_00_query:⟨a-b⟩", "_00_query:a-b"] {
            assert_eq!(bare_id(id).as_deref(), Some("a-b"));
        }
        for id in ["", "_00_query:", "_00_query:12", "_00_query:[1]", "a b", "x'y"] {
            assert_eq!(bare_id(id), None, "{id}");
        }
        assert_eq!(bare_id("_00_query:`12`").as_deref(), Some("12"));
    }
}
