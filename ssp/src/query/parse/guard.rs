//! What is run on SurrealDB for a registrant, by us, who may read everything: the statement with the permissions of
//! every table it reads among its conditions, and who is signed in under names that may be bound. What might read
//! past them is refused.

use std::collections::BTreeSet;

use revenant_log::value::Object;
use revenant_log::{RecordId, Value};
use surrealdb_sql::{
    BinaryOperator, Cond, Expr as Sql, Field, Fields, Function, Literal, Param, Part,
    order::Ordering, statements::SelectStatement,
};
use surrealdb_types::ToSql as _;

use super::{SESSION, SIGNED_IN, Unknown, refuse, select_tables, signed_in};
use crate::query::rules::{Permission, Rules};

/// Parameters with these names cannot be bound; ours begin with this.
const PREFIX: &str = "_00_";

/// Families of functions that look at nothing but their arguments.
const PURE: [&str; 10] =
    ["array", "count", "duration", "math", "not", "object", "set", "string", "time", "type"];

/// What a statement is guarded by.
pub(super) struct Guard<'a> {
    pub(super) params: &'a Object,
    pub(super) rules: Option<&'a Rules>,
}

/// A part of a statement on the way.
struct Walk<'a> {
    guard: &'a Guard<'a>,
    /// Permissions that are to be held, unless what is walked is one itself.
    rules: Option<&'a Rules>,
    /// Fields that are hidden in a table that the statement reads.
    hidden: BTreeSet<&'a str>,
}

/// A permission's condition, read as the schema's.
pub(super) fn condition(text: &str) -> Result<Sql, Unknown> {
    surrealdb_syn::expr_for_definition(text).map_err(|error| error.to_string())
}

/// The parameters under the names that a guarded statement has for them.
pub(super) fn bound(params: &Object) -> Object {
    let rename = |(name, value): (&String, &Value)| match name.as_str() {
        "auth" => (format!("{PREFIX}auth"), signed_in(value)),
        name if SIGNED_IN.contains(&name) => (format!("{PREFIX}{name}"), value.clone()),
        name => (name.to_owned(), value.clone()),
    };
    params.iter().map(rename).collect()
}

fn is_needed(params: &Object, rules: Option<&Rules>) -> bool {
    rules.is_some_and(|rules| !rules.is_open())
        || SIGNED_IN.iter().any(|name| params.contains_key(*name))
}

impl Guard<'_> {
    /// The guarded statement; `None` if it may be run as it stands.
    pub(super) fn statement(
        &self,
        select: &SelectStatement,
    ) -> Result<Option<SelectStatement>, Unknown> {
        if !is_needed(self.params, self.rules) {
            return Ok(None);
        }
        let rules = self.rules.filter(|rules| !rules.is_open());
        let mut hidden = BTreeSet::new();
        if let Some(rules) = rules {
            let mut tables = BTreeSet::new();
            // Tables that cannot be told are behind links and the like, which are refused below.
            select_tables(select, &mut tables);
            let of = tables.iter().filter_map(|table| rules.table(table));
            hidden = of.flat_map(|table| &table.hidden).map(String::as_str).collect();
        }
        let mut guarded = select.clone();
        Walk { guard: self, rules, hidden }.select(&mut guarded)?;
        Ok(Some(guarded))
    }
}

impl Walk<'_> {
    fn select(&self, select: &mut SelectStatement) -> Result<(), Unknown> {
        match &mut select.fields {
            Fields::Value(selector) => self.expr(&mut selector.expr)?,
            Fields::Select(fields) => {
                for field in fields {
                    if let Field::Single(selector) = field {
                        self.expr(&mut selector.expr)?;
                    }
                }
            }
        }
        if let Some(cond) = &mut select.cond {
            self.expr(&mut cond.0)?;
        }
        if let Some(Ordering::Order(keys)) = &mut select.order {
            for key in &mut keys.0 {
                // Sorting follows no links.
                let [Part::Field(head), ..] = key.value.0.as_slice() else {
                    return Err(format!("under permissions, ORDER BY {}", key.value.to_sql()));
                };
                self.refuse_hidden(head.as_str())?;
            }
        }
        for count in [
            select.limit.as_mut().map(|limit| &mut limit.0),
            select.start.as_mut().map(|start| &mut start.0),
        ] {
            count.map_or(Ok(()), |count| self.expr(count))?;
        }
        if self.rules.is_some() {
            // Which records are fetched into a row changes no membership.
            select.fetch = None;
        }
        let mut rule = None;
        let several = select.what.len() > 1;
        for what in &mut select.what {
            let of = self.source(what)?;
            refuse(of.is_some() && several, "under permissions, FROM several sources")?;
            rule = of;
        }
        if let Some(rule) = rule {
            let cond = match select.cond.take() {
                None => rule,
                Some(Cond(cond)) => Sql::Binary {
                    left: Box::new(rule),
                    op: BinaryOperator::And,
                    right: Box::new(cond),
                },
            };
            select.cond = Some(Cond(cond));
        }
        Ok(())
    }

    /// The rule of a source, if its rows are judged here.
    fn source(&self, what: &mut Sql) -> Result<Option<Sql>, Unknown> {
        let table = match what {
            Sql::Select(select) => return self.select(select).map(|()| None),
            Sql::Table(table) => table.as_str().to_owned(),
            Sql::Literal(Literal::RecordId(id)) => id.table.as_str().to_owned(),
            Sql::Param(param) => match self.guard.params.get(param.as_str()) {
                Some(Value::RecordId(id)) => {
                    let RecordId { table, .. } = &**id;
                    table.clone()
                }
                Some(Value::Table(table)) => table.clone(),
                _ => return self.elsewhere(what).map(|()| None),
            },
            _ => return self.elsewhere(what).map(|()| None),
        };
        let Some(rules) = self.rules else { return Ok(None) };
        let condition = match rules.table(&table).map(|table| &table.select) {
            Some(Permission::Full) => return Ok(None),
            Some(Permission::Where(condition)) => condition.as_str(),
            None | Some(Permission::None) => "false",
        };
        let own = Walk { guard: self.guard, rules: None, hidden: BTreeSet::new() };
        let rule = self::condition(condition).and_then(|mut rule| {
            own.expr(&mut rule)?;
            Ok(rule)
        });
        rule.map(Some).map_err(|what| format!("the permissions of {table}: {what}"))
    }

    fn expr(&self, sql: &mut Sql) -> Result<(), Unknown> {
        match sql {
            Sql::Literal(Literal::Array(items) | Literal::Set(items)) => {
                items.iter_mut().try_for_each(|item| self.expr(item))
            }
            Sql::Literal(Literal::Object(entries)) => {
                entries.iter_mut().try_for_each(|entry| self.expr(&mut entry.value))
            }
            Sql::Literal(Literal::RecordId(_)) => self.elsewhere_unless_plain(sql),
            Sql::Literal(_) | Sql::Constant(_) | Sql::Table(_) => Ok(()),
            Sql::Param(param) => {
                *param = self.renamed(param)?;
                Ok(())
            }
            Sql::Idiom(idiom) => self.parts(&mut idiom.0),
            Sql::Prefix { expr, .. } => self.expr(expr),
            Sql::Binary { left, right, .. } => {
                self.expr(left)?;
                self.expr(right)
            }
            Sql::FunctionCall(call) => {
                let pure = matches!(&call.receiver, Function::Normal(name)
                    if PURE.contains(&name.split("::").next().unwrap_or_default()));
                refuse(
                    self.rules.is_some() && !pure,
                    &format!("under permissions, {}", call.receiver.to_string()),
                )?;
                call.arguments.iter_mut().try_for_each(|argument| self.expr(argument))
            }
            Sql::Select(select) => self.select(select),
            other => self.elsewhere(other),
        }
    }

    fn parts(&self, parts: &mut [Part]) -> Result<(), Unknown> {
        let shown = parts.iter().map(|part| part.to_sql()).collect::<String>();
        for part in parts.iter_mut() {
            match part {
                Part::Start(sql) | Part::Value(sql) | Part::Where(sql) => self.expr(sql)?,
                Part::Field(_)
                | Part::All
                | Part::First
                | Part::Last
                | Part::Flatten
                | Part::Optional => {}
                other => self.check(&other.to_sql())?,
            }
        }
        if self.rules.is_none() {
            return Ok(());
        }
        match &*parts {
            [Part::Field(name)] => self.refuse_hidden(name.as_str()),
            [Part::Start(Sql::Param(param)), Part::Field(name)] if param.as_str() == "parent" => {
                self.refuse_hidden(name.as_str())
            }
            [Part::Start(Sql::Param(param)), Part::Field(name)]
                if param.as_str() == format!("{PREFIX}auth") && name.as_str() == "id" =>
            {
                Ok(())
            }
            [Part::Start(Sql::Select(_)), Part::First | Part::Last | Part::Value(_)] => Ok(()),
            _ => Err(format!("under permissions, {shown}, which may lead through a link")),
        }
    }

    /// The name under which a parameter is bound.
    fn renamed(&self, param: &Param) -> Result<Param, Unknown> {
        let name = param.as_str();
        if SIGNED_IN.contains(&name) && self.guard.params.contains_key(name) {
            return Ok(Param::new(format!("{PREFIX}{name}")));
        }
        // The row's own are bound by SurrealDB; the session's would be ours.
        let of_row = matches!(name, "this" | "parent");
        refuse(SESSION.contains(&name) && !of_row, &format!("${name}"))?;
        Ok(param.clone())
    }

    fn refuse_hidden(&self, field: &str) -> Result<(), Unknown> {
        refuse(self.hidden.contains(field), &format!("the permissions of the field {field}"))
    }

    /// What is not looked into may stand, unless it could read past what is held.
    fn elsewhere(&self, sql: &Sql) -> Result<(), Unknown> {
        self.check(&sql.to_sql())
    }

    /// A record id is a value, unless its key is computed.
    fn elsewhere_unless_plain(&self, sql: &Sql) -> Result<(), Unknown> {
        let text = sql.to_sql();
        if text.contains(['$', '(']) { self.check(&text) } else { Ok(()) }
    }

    fn check(&self, text: &str) -> Result<(), Unknown> {
        refuse(self.rules.is_some(), &format!("under permissions, {text}"))?;
        let names = SESSION.iter().filter(|name| !matches!(**name, "this" | "parent"));
        let named = names.into_iter().find(|name| text.contains(&format!("${name}")));
        refuse(named.is_some(), &format!("{text} of who is signed in"))
    }
}
