//! The statements that Sp00ky's own SSPs send to `/proxy/query`, answered from a snapshot: a closed set,
//! read here without a SurrealQL parser. Nothing in it can write. Rows are JSON as SurrealDB's client
//! flattens it, with `id` and, where the version is known, `_00_rv`.
//!
//! ```text
//! INFO FOR DB
//! INFO FOR TABLE t
//! SELECT * [OMIT a, b] FROM t [WHERE id > t:key] [ORDER BY id [ASC]] [LIMIT n]
//! ```

use revenant_log::{Key, RecordId, Value};
use serde_json::{Map, Value as Json, json};

use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::tables::Row;

/// Rows read at once.
const PAGE_ROWS: usize = 1_000;
/// Bytes read at once.
const PAGE_BYTES: usize = 4 << 20;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It is none of the statements that are answered: a 400.
    #[error(
        "{reason} at byte {offset}; answered are INFO FOR DB, INFO FOR TABLE t and SELECT * [OMIT ..] FROM t [WHERE id > t:key] [ORDER BY id] [LIMIT n]"
    )]
    Unsupported {
        /// Where in the query, bytes from its start.
        offset: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The replica failed: a 500.
    #[error(transparent)]
    Replica(#[from] Error),
}

/// One of the statements.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Statement {
    InfoForDb,
    InfoForTable(String),
    Select { omit: Vec<String>, table: String, after: Option<RecordId>, limit: usize },
}

/// The answer to `query`: an object for `INFO`, an array of rows for `SELECT`. A table that does not exist
/// has no rows.
///
/// # Errors
/// [`ProxyError::Unsupported`] for any other statement, or more than one.
pub fn answer(query: &str, snapshot: &Snapshot) -> Result<Json, ProxyError> {
    match Reader::new(query)?.statement()? {
        Statement::InfoForDb => {
            let tables = snapshot.tables()?.into_iter();
            let tables: Map<_, _> =
                tables.map(|table| (table.name, Json::from("DEFINE TABLE"))).collect();
            Ok(json!({ "tables": tables }))
        }
        Statement::InfoForTable(_) => {
            Ok(json!({ "events": {}, "fields": {}, "indexes": {}, "lives": {}, "tables": {} }))
        }
        Statement::Select { omit, table, after, limit } => {
            // Ids compare by table first: one of another table is before or after all of these.
            let after = match after {
                Some(id) if id.table > table => return Ok(json!([])),
                Some(id) if id.table < table => None,
                other => other.map(|id| id.key),
            };
            Ok(Json::Array(select(snapshot, &omit, &table, after, limit)?))
        }
    }
}

fn select(
    snapshot: &Snapshot,
    omit: &[String],
    table: &str,
    mut after: Option<Key>,
    limit: usize,
) -> Result<Vec<Json>, Error> {
    let mut rows = Vec::new();
    while rows.len() < limit {
        let most = PAGE_ROWS.min(limit - rows.len());
        let page = snapshot.page(table, after.as_ref(), most, PAGE_BYTES)?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        rows.extend(page.iter().map(|row| flatten(table, row, omit)));
    }
    Ok(rows)
}

fn flatten(table: &str, row: &Row, omit: &[String]) -> Json {
    let mut fields = match row.body.to_json() {
        Json::Object(fields) => fields,
        other => Map::from_iter([("value".to_owned(), other)]),
    };
    fields.insert("id".to_owned(), RecordId::new(table, row.key.clone()).to_string().into());
    if let Some(version) = row.version {
        fields.insert("_00_rv".to_owned(), version.into());
    }
    for name in omit {
        fields.remove(name);
    }
    Json::Object(fields)
}

/// Reads a query word by word.
struct Reader<'a> {
    query: &'a str,
    /// Start and text of the words that are left, last one first.
    words: Vec<(usize, &'a str)>,
}

impl<'a> Reader<'a> {
    fn new(query: &'a str) -> Result<Self, ProxyError> {
        let mut words = words(query)?;
        while words.last().is_some_and(|(_, word)| *word == ";") {
            words.pop();
        }
        words.reverse();
        Ok(Self { query, words })
    }

    fn statement(mut self) -> Result<Statement, ProxyError> {
        let statement = if self.take("INFO") {
            self.expect("FOR")?;
            if self.take("DB") || self.take("DATABASE") {
                Statement::InfoForDb
            } else {
                self.expect("TABLE")?;
                Statement::InfoForTable(self.name()?)
            }
        } else {
            self.select()?
        };
        match self.words.last() {
            None => Ok(statement),
            Some((_, word)) => Err(self.error(format!("unexpected {word}"))),
        }
    }

    fn select(&mut self) -> Result<Statement, ProxyError> {
        self.expect("SELECT")?;
        self.expect("*")?;
        let mut omit = Vec::new();
        if self.take("OMIT") {
            omit.push(self.name()?);
            while self.take(",") {
                omit.push(self.name()?);
            }
        }
        self.expect("FROM")?;
        let table = self.name()?;
        let mut after = None;
        if self.take("WHERE") {
            self.expect("id")?;
            self.expect(">")?;
            after = Some(self.record_id()?);
        }
        if self.take("ORDER") {
            self.take("BY");
            self.expect("id")?;
            self.take("ASC");
        }
        let limit = if self.take("LIMIT") { self.count()? } else { usize::MAX };
        Ok(Statement::Select { omit, table, after, limit })
    }

    /// Takes the next word if it is `keyword`, in whatever case.
    fn take(&mut self, keyword: &str) -> bool {
        self.words.pop_if(|(_, word)| word.eq_ignore_ascii_case(keyword)).is_some()
    }

    fn expect(&mut self, keyword: &str) -> Result<(), ProxyError> {
        if self.take(keyword) { Ok(()) } else { Err(self.error(format!("expected {keyword}"))) }
    }

    /// The name of a table or a field, quoted or not.
    fn name(&mut self) -> Result<String, ProxyError> {
        let name = self.words.last().map(|(_, word)| RecordId::parse(&format!("{word}:0")));
        let Some(Ok(RecordId { table, key: Key::Int(0) })) = name else {
            return Err(self.error("expected a name"));
        };
        self.words.pop();
        Ok(table)
    }

    /// A record id, which ends before the next keyword; plain, or as the string `r'..'`.
    fn record_id(&mut self) -> Result<RecordId, ProxyError> {
        let start = self.offset();
        let mut end = start;
        let ends = |word: &str| {
            ["ORDER", "LIMIT", ";"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
        };
        while let Some((at, word)) = self.words.pop_if(|(_, word)| !ends(word)) {
            end = at + word.len();
        }
        let text = &self.query[start..end];
        let parsed = if text.starts_with("r'") || text.starts_with("r\"") {
            Value::parse(text).map(|value| match value {
                Value::RecordId(id) => Some(*id),
                _ => None,
            })
        } else {
            RecordId::parse(text).map(Some)
        };
        let unsupported = |offset, reason| ProxyError::Unsupported { offset, reason };
        let id = parsed.map_err(|error| {
            unsupported(start + error.offset, format!("no record id: {}", error.reason))
        })?;
        id.ok_or_else(|| unsupported(start, "no record id".to_owned()))
    }

    fn count(&mut self) -> Result<usize, ProxyError> {
        let count = self.words.last().and_then(|(_, word)| word.parse().ok());
        let count = count.ok_or_else(|| self.error("expected a number of rows"))?;
        self.words.pop();
        Ok(count)
    }

    /// Where the next word starts.
    fn offset(&self) -> usize {
        self.words.last().map_or(self.query.len(), |(start, _)| *start)
    }

    fn error(&self, reason: impl Into<String>) -> ProxyError {
        ProxyError::Unsupported { offset: self.offset(), reason: reason.into() }
    }
}

/// Splits at white space and around `,`, `;`, `>` and `*`, but not inside quotes and brackets.
fn words(query: &str) -> Result<Vec<(usize, &str)>, ProxyError> {
    let mut words = Vec::new();
    let mut start = None;
    let mut closing: Vec<char> = Vec::new();
    let mut escaped = false;
    for (at, char) in query.char_indices() {
        let quoted = matches!(closing.last(), Some('\'' | '"' | '`' | '⟩'));
        if escaped {
            escaped = false;
        } else if quoted && char == '\\' {
            escaped = true;
        } else if closing.last() == Some(&char) {
            closing.pop();
        } else if !quoted {
            match char {
                '\'' | '"' | '`' => closing.push(char),
                '⟨' => closing.push('⟩'),
                '[' => closing.push(']'),
                '{' => closing.push('}'),
                '(' => closing.push(')'),
                _ if !closing.is_empty() => {}
                ',' | ';' | '>' | '*' => {
                    words.extend(start.take().map(|start| (start, &query[start..at])));
                    words.push((at, &query[at..=at]));
                    continue;
                }
                _ if char.is_whitespace() => {
                    words.extend(start.take().map(|start| (start, &query[start..at])));
                    continue;
                }
                _ => {}
            }
        }
        start.get_or_insert(at);
    }
    if let Some(char) = closing.last() {
        let reason = format!("expected {char}");
        return Err(ProxyError::Unsupported { offset: query.len(), reason });
    }
    words.extend(start.map(|start| (start, &query[start..])));
    Ok(words)
}
