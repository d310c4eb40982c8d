//! SurrealQL to our own form: this file and `guard` are the only ones that see SurrealDB's parser and AST.
//!
//! - The text is read by SurrealDB's own parser, so it means here what it means there.
//! - What is not understood in full is not approximated: it is named, and the query is re-run instead.

use std::borrow::Cow;
use std::collections::BTreeSet;

use revenant_log::value::{Datetime, Duration, File, Object};
use revenant_log::{Key, RecordId, Value};
use surrealdb_sql::{
    BinaryOperator, Expr as Sql, Field, Fields, Function as SqlFunction, Literal, Part,
    PrefixOperator, RecordIdKeyLit, TopLevelExpr, field::Selector, literal::ObjectEntry,
    order::Ordering, statements::SelectStatement,
};
use surrealdb_types::ToSql as _;

use super::collation::Collation;
use super::function::Function;
use super::ir::{Block, Child, Comparison, Expr, OrderBy, Path, Query, Reach, Step, Subselect};
use super::rules::{Permission, Rules};
use guard::Guard;

mod guard;

/// Subqueries inside subqueries, at most.
const DEPTH_MOST: usize = 8;

/// Who asks: the database writes these into the parameters of a registration.
const SIGNED_IN: [&str; 3] = ["auth", "token", "access"];

/// Parameters that the database sets; those of [`SIGNED_IN`] are known if the registration has them.
const SESSION: [&str; 13] = [
    "auth",
    "token",
    "session",
    "access",
    "this",
    "parent",
    "value",
    "before",
    "after",
    "event",
    "input",
    "request",
    "reference",
];

/// A query that SurrealDB would run.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The query in our own form, or what of it we do not understand.
    pub query: Result<Query, String>,
    /// What to run instead: it returns to us, who may read all, what the registrant would see. Or why there is no
    /// such text.
    pub text: Result<Text, String>,
    /// The tables it reads; `None` when that cannot be told.
    pub tables: Option<BTreeSet<String>>,
    /// Its result may change without a change of any row.
    pub timed: bool,
}

/// A statement and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// One SELECT statement.
    pub surql: String,
    /// Its parameters, to be bound.
    pub params: Object,
}

/// Reads one SELECT statement that cannot write, so that it may be run with more rights than its
/// registrant has. Parameters that `params` does not give are NONE.
///
/// # Errors
/// SurrealDB's message with the position, or why the statement is refused.
pub fn parse(surql: &str, params: &Object) -> Result<Parsed, String> {
    parse_under(surql, params, None)
}

/// [`parse`], for a registrant who sees only what `rules` let who is signed in as `params` say.
///
/// # Errors
/// As there, or which table the registrant may not read.
pub fn parse_under(surql: &str, params: &Object, rules: Option<&Rules>) -> Result<Parsed, String> {
    let ast = surrealdb_syn::parse(surql).map_err(|error| error.to_string())?;
    let [TopLevelExpr::Expr(Sql::Select(select))] = ast.expressions.as_slice() else {
        return Err("Invalid Query Plan: a live query is one SELECT statement".into());
    };
    // SurrealDB's own judgement, which takes for a write whatever it cannot see into.
    if !select.read_only() {
        let reason = "a live query neither writes nor calls fn::, script or module functions";
        return Err(format!("Invalid Query Plan: {reason}"));
    }
    let lower = Lower { params, rules, reach: rules.map(Rules::reach).unwrap_or_default() };
    if let (Some(rules), Ok((table, _))) = (rules, lower.source(&select.what))
        && rules.denies(&table)
    {
        return Err(format!(
            "Permission denied: who registers the query may not select from {table}"
        ));
    }
    let guarded = Guard { params, rules }.statement(select);
    let run = match &guarded {
        Ok(Some(guarded)) => guarded,
        _ => select,
    };
    let printed = run.to_sql();
    let mut tables = BTreeSet::new();
    let known = select_tables(run, &mut tables);
    let text = guarded.as_ref().map_err(Clone::clone).map(|guarded| match guarded {
        Some(_) => Text { surql: printed.clone(), params: guard::bound(params) },
        None => Text { surql: surql.to_owned(), params: params.clone() },
    });
    Ok(Parsed {
        query: lower.block(select, None, 0).map(|root| Query { root }),
        text,
        tables: known.then_some(tables),
        timed: ["time::", "rand", "sequence::"].iter().any(|name| printed.contains(name)),
    })
}

/// Why a query is not understood.
type Unknown = String;

/// What is true while a statement is lowered.
struct Lower<'a> {
    params: &'a Object,
    /// What its rows are judged by; inside a rule, and for who may read all, nothing.
    rules: Option<&'a Rules>,
    reach: Reach,
}

/// The row around a subquery, which `$parent` means: as it is stored, whatever is computed under its fields' names.
#[derive(Clone, Copy)]
struct Outer<'t> {
    table: &'t str,
}

impl Lower<'_> {
    fn block(
        &self,
        select: &SelectStatement,
        outer: Option<Outer<'_>>,
        depth: usize,
    ) -> Result<Block, Unknown> {
        if depth > DEPTH_MOST {
            return Err(format!("subqueries are nested deeper than {DEPTH_MOST}"));
        }
        refuse(select.split.is_some(), "SPLIT")?;
        refuse(select.explain.is_some(), "EXPLAIN")?;
        refuse(select.for_update, "FOR UPDATE")?;
        refuse(!matches!(select.version, Sql::Literal(Literal::None)), "VERSION")?;
        let (table, record) = self.source(&select.what)?;
        let mut filter = Vec::new();
        let one_row = record.is_some();
        if let Some(id) = record {
            let path = Expr::Field(Path::field("id"));
            let id = Expr::Const(Value::RecordId(Box::new(id)));
            filter.push(Expr::Compare(Comparison::Equal, Box::new(path), Box::new(id)));
        }
        if let Some(cond) = &select.cond {
            filter.push(self.truth(&cond.0, &table, outer)?);
        }
        for conjunct in &filter {
            self.refuse_hidden(conjunct, &table, outer)?;
        }
        filter.extend(self.permitted(&table)?);
        let filter = Expr::And(filter).conjuncts();
        let filter = if filter.is_empty() { Expr::yes() } else { Expr::And(filter) };
        let selectors = selectors(&select.fields);
        if select.group.is_some() {
            // The members of a grouped query are the rows that its groups are made of.
            refuse(selectors.iter().any(|one| subquery(&one.expr).is_some()), "GROUP BY")?;
            let (order, children) = (Vec::new(), Vec::new());
            return Ok(Block { table, filter, order, start: 0, limit: None, children });
        }
        let order = order(select.order.as_ref(), &selectors)?;
        for key in &order {
            self.refuse_field(&table, &key.path)?;
        }
        let limit = select.limit.as_ref().map(|limit| self.count(&limit.0, "LIMIT")).transpose()?;
        let start = select.start.as_ref().map(|start| self.count(&start.0, "START")).transpose()?;
        // Of several rows, ONLY makes an error.
        refuse(select.only && !one_row && limit != Some(1), "ONLY without LIMIT 1")?;
        Ok(Block {
            filter,
            order,
            start: start.unwrap_or(0),
            limit,
            children: self.children(&selectors, &table, depth)?,
            table,
        })
    }

    /// The rule by which rows of a table are seen, if there is one.
    fn permitted(&self, table: &str) -> Result<Option<Expr<Subselect>>, Unknown> {
        let Some(rules) = self.rules else { return Ok(None) };
        match rules.table(table).map(|table| &table.select) {
            Some(Permission::Full) => Ok(None),
            None | Some(Permission::None) => Ok(Some(Expr::Const(Value::Bool(false)))),
            Some(Permission::Where(condition)) => {
                let sql = guard::condition(condition)?;
                // What a rule itself reads is not judged.
                let inside = Lower { params: self.params, rules: None, reach: Reach::default() };
                let rule = inside.truth(&sql, table, None);
                rule.map(Some).map_err(|what| format!("the permissions of {table}: {what}"))
            }
        }
    }

    /// To whom a field is hidden, it is NONE; that is for SurrealDB to say.
    fn refuse_hidden(
        &self,
        expr: &Expr<Subselect>,
        table: &str,
        outer: Option<Outer<'_>>,
    ) -> Result<(), Unknown> {
        let mut found = Ok(());
        expr.visit(&mut |expr| {
            let refused = match (expr, outer) {
                (Expr::Field(path), _) => self.refuse_field(table, path),
                (Expr::Parent(path), Some(outer)) => self.refuse_field(outer.table, path),
                _ => Ok(()),
            };
            if found.is_ok() {
                found = refused;
            }
        });
        found
    }

    fn refuse_field(&self, table: &str, path: &Path) -> Result<(), Unknown> {
        let field = path.head();
        let rules = self.rules.and_then(|rules| rules.table(table));
        let hidden = rules.is_some_and(|rules| rules.hides(field));
        refuse(hidden, &format!("the permissions of the field {field} of {table}"))
    }

    /// The one table, and the one row of it if a row is named.
    fn source(&self, what: &[Sql]) -> Result<(String, Option<RecordId>), Unknown> {
        let [what] = what else { return Err("FROM names several sources".into()) };
        if let Sql::Table(table) = what {
            return Ok((table.as_str().to_owned(), None));
        }
        match self.constant(what) {
            Ok(Value::RecordId(id)) => Ok((id.table.clone(), Some(*id))),
            Ok(Value::Table(table)) => Ok((table, None)),
            _ => Err(format!("FROM {}", what.to_sql())),
        }
    }

    fn children(
        &self,
        selectors: &[&Selector],
        table: &str,
        depth: usize,
    ) -> Result<Vec<Child>, Unknown> {
        let mut children = Vec::new();
        for selector in selectors {
            let Some((select, first)) = subquery(&selector.expr) else {
                refuse(
                    selector.expr.to_sql().contains("SELECT"),
                    "a subquery inside an expression",
                )?;
                continue;
            };
            let alias = alias(selector).ok_or("a subquery without an alias")?;
            let mut block = self.block(select, Some(Outer { table }), depth + 1)?;
            if first && select.group.is_none() {
                block.limit = Some(block.limit.map_or(1, |limit| limit.min(1)));
            }
            children.push(Child { alias, block });
        }
        let distinct: BTreeSet<_> = children.iter().map(|child| &child.alias).collect();
        refuse(distinct.len() < children.len(), "two subqueries of one name")?;
        Ok(children)
    }

    /// An expression of which only its truth matters.
    fn truth(
        &self,
        sql: &Sql,
        table: &str,
        outer: Option<Outer<'_>>,
    ) -> Result<Expr<Subselect>, Unknown> {
        let truth = |sql| self.truth(sql, table, outer);
        match sql {
            Sql::Binary { left, op: BinaryOperator::And, right } => {
                Ok(Expr::And(vec![truth(left)?, truth(right)?]))
            }
            Sql::Binary { left, op: BinaryOperator::Or, right } => {
                Ok(Expr::Or(vec![truth(left)?, truth(right)?]))
            }
            Sql::Prefix { op: PrefixOperator::Not, expr } => Ok(Expr::Not(Box::new(truth(expr)?))),
            sql => match existence(sql) {
                Some((select, true)) => self.exists(select, table),
                Some((select, false)) => Ok(Expr::Not(Box::new(self.exists(select, table)?))),
                None => self.expr(sql, outer),
            },
        }
    }

    /// Whether a subquery has rows, as a condition on what ties it to the row: `f = $parent.p AND r` has some
    /// where `p` is among the `f` of the rows with `r`.
    fn exists(&self, select: &SelectStatement, table: &str) -> Result<Expr<Subselect>, Unknown> {
        refuse(select.group.is_some() || select.only, "the existence of groups")?;
        let Block { table, filter, start, limit, children, .. } =
            self.block(select, Some(Outer { table }), DEPTH_MOST)?;
        refuse(start > 0 || limit == Some(0) || !children.is_empty(), "the existence of a window")?;
        let (mut tied, filter): (Vec<_>, Vec<_>) =
            filter.conjuncts().into_iter().partition(Expr::has_parent);
        let (Some(Expr::Compare(Comparison::Equal, left, right)), true) =
            (tied.pop(), tied.is_empty())
        else {
            return Err("the existence of what is not tied by one equality".into());
        };
        let (Expr::Field(value), Expr::Parent(path)) = (match (*left, *right) {
            (parent @ Expr::Parent(_), field) => (field, parent),
            other => other,
        }) else {
            return Err("the existence of what is tied by no field".into());
        };
        let filter = if filter.is_empty() { Expr::yes() } else { Expr::And(filter) };
        let (order, children) = (Vec::new(), Vec::new());
        let block = Box::new(Block { table, filter, order, start: 0, limit: None, children });
        Ok(Expr::In(Box::new(Expr::Field(path)), Subselect { block, value }))
    }

    fn expr(&self, sql: &Sql, outer: Option<Outer<'_>>) -> Result<Expr<Subselect>, Unknown> {
        if let Ok(value) = self.constant(sql) {
            return Ok(Expr::Const(value));
        }
        match sql {
            Sql::Idiom(idiom) => self.idiom(&idiom.0, outer),
            Sql::Prefix { op: PrefixOperator::Not, expr } => {
                Ok(Expr::Not(Box::new(self.expr(expr, outer)?)))
            }
            Sql::Prefix { op: PrefixOperator::Positive, expr } => self.expr(expr, outer),
            Sql::Prefix { op: PrefixOperator::Negate, expr } => {
                self.call("neg", std::slice::from_ref(&**expr), outer)
            }
            Sql::Binary { left, op, right } => self.binary(left, op, right, outer),
            Sql::FunctionCall(call) => match &call.receiver {
                SqlFunction::Normal(name) => self.call(name, &call.arguments, outer),
                other => Err(format!("the function {}", other.to_string())),
            },
            Sql::Literal(Literal::Array(items)) => self.call("[]", items, outer),
            other => Err(format!("the expression {}", other.to_sql())),
        }
    }

    fn binary(
        &self,
        left: &Sql,
        op: &BinaryOperator,
        right: &Sql,
        outer: Option<Outer<'_>>,
    ) -> Result<Expr<Subselect>, Unknown> {
        match (op, left, right) {
            (BinaryOperator::And, ..) => {
                return Ok(Expr::And(vec![self.expr(left, outer)?, self.expr(right, outer)?]));
            }
            (BinaryOperator::Or, ..) => {
                return Ok(Expr::Or(vec![self.expr(left, outer)?, self.expr(right, outer)?]));
            }
            (BinaryOperator::Inside, field, Sql::Select(select))
            | (BinaryOperator::Contain, Sql::Select(select), field) => {
                return self.inside(field, select, outer);
            }
            (BinaryOperator::NotInside, field, Sql::Select(select))
            | (BinaryOperator::NotContain, Sql::Select(select), field) => {
                return Ok(Expr::Not(Box::new(self.inside(field, select, outer)?)));
            }
            _ => {}
        }
        let (one, other) = (self.expr(left, outer)?, self.expr(right, outer)?);
        if let Some(how) = comparison(op) {
            return Ok(Expr::Compare(how, Box::new(one), Box::new(other)));
        }
        let sign = match op {
            BinaryOperator::Add => "+",
            BinaryOperator::Subtract => "-",
            BinaryOperator::Multiply => "*",
            BinaryOperator::Divide => "/",
            BinaryOperator::Remainder => "%",
            BinaryOperator::NullCoalescing => return Ok(Expr::Coalesce(vec![one, other])),
            // `a ?: b` is `a` when that is truthy.
            BinaryOperator::TenaryCondition => return Ok(Expr::Or(vec![one, other])),
            _ => return Err(format!("the operator {}", op.to_sql())),
        };
        fold(sign, vec![one, other])
    }

    fn call(
        &self,
        name: &str,
        arguments: &[Sql],
        outer: Option<Outer<'_>>,
    ) -> Result<Expr<Subselect>, Unknown> {
        let each = |argument: &Sql| self.expr(argument, outer);
        fold(name, arguments.iter().map(each).collect::<Result<_, _>>()?)
    }

    fn inside(
        &self,
        field: &Sql,
        select: &SelectStatement,
        outer: Option<Outer<'_>>,
    ) -> Result<Expr<Subselect>, Unknown> {
        let field = self.expr(field, outer)?;
        refuse(!matches!(field, Expr::Field(_)), "IN (SELECT ...) of what is no field")?;
        refuse(select.group.is_some(), "IN (SELECT ... GROUP BY)")?;
        let Fields::Value(selector) = &select.fields else {
            return Err("IN (SELECT ...) without VALUE".into());
        };
        let Sql::Idiom(idiom) = &selector.expr else {
            return Err("IN (SELECT VALUE ...) of what is no field".into());
        };
        let value = self.path(&idiom.0)?;
        let block = self.block(select, None, DEPTH_MOST)?;
        self.refuse_field(&block.table, &value)?;
        Ok(Expr::In(Box::new(field), Subselect { block: Box::new(block), value }))
    }

    /// A field, or a field of `$parent`.
    fn idiom(&self, parts: &[Part], outer: Option<Outer<'_>>) -> Result<Expr<Subselect>, Unknown> {
        let Some(Part::Start(Sql::Param(param))) = parts.first() else {
            return Ok(Expr::Field(self.path(parts)?));
        };
        let name = param.as_str();
        refuse(name != "parent", &format!("${name}"))?;
        outer.ok_or("$parent where there is none")?;
        Ok(Expr::Parent(self.path(&parts[1..])?))
    }

    /// A path that is evaluated, and so may follow links.
    fn path(&self, parts: &[Part]) -> Result<Path, Unknown> {
        let mut path = path(parts)?;
        if !path.is_own() {
            path.1 = self.reach.clone();
        }
        Ok(path)
    }

    fn count(&self, sql: &Sql, what: &str) -> Result<usize, Unknown> {
        match self.constant(sql) {
            Ok(Value::Int(count)) if count >= 0 => {
                usize::try_from(count).map_err(|_| format!("{what} {count}"))
            }
            _ => Err(format!("{what} {}", sql.to_sql())),
        }
    }

    /// The value of an expression that depends on no row.
    fn constant(&self, sql: &Sql) -> Result<Value, Unknown> {
        match sql {
            Sql::Literal(literal) => self.literal(literal),
            Sql::Param(param) => self.param(param.as_str()),
            Sql::Prefix { op: PrefixOperator::Negate, expr } => match self.constant(expr)? {
                Value::Int(value) => value.checked_neg().map(Value::Int),
                Value::Float(value) => Some(Value::Float(-value)),
                Value::Decimal(value) => Some(Value::Decimal(-value)),
                _ => None,
            }
            .ok_or_else(|| sql.to_sql()),
            Sql::Idiom(idiom) => {
                let Some((Part::Start(start), fields)) = idiom.0.split_first() else {
                    return Err(sql.to_sql());
                };
                let (mut value, mut fields) = (self.constant(start)?, fields);
                if matches!(start, Sql::Param(param) if param.as_str() == "auth") {
                    (value, fields) = self.of_auth(value, fields).ok_or_else(|| sql.to_sql())?;
                }
                for part in fields {
                    value = match (part, value) {
                        (Part::Field(name), Value::Object(mut fields)) => {
                            fields.remove(name.as_str()).unwrap_or_default()
                        }
                        _ => return Err(sql.to_sql()),
                    };
                }
                Ok(value)
            }
            other => Err(other.to_sql()),
        }
    }

    fn param(&self, name: &str) -> Result<Value, Unknown> {
        let given = SIGNED_IN.contains(&name) && self.params.contains_key(name);
        refuse(SESSION.contains(&name) && !given, &format!("${name}"))?;
        Ok(match (name, self.params.get(name)) {
            ("auth", Some(auth)) => signed_in(auth),
            (_, value) => value.cloned().unwrap_or_default(),
        })
    }

    /// The first field of the registrant's record, `who`, and the parts that are left. Of a record, the registration
    /// gives the id, and maybe more.
    fn of_auth<'p>(&self, who: Value, parts: &'p [Part]) -> Option<(Value, &'p [Part])> {
        let Some((Part::Field(name), left)) = parts.split_first() else {
            return parts.is_empty().then_some((who, parts));
        };
        let given = match self.params.get("auth") {
            Some(Value::Object(fields)) => fields.get(name.as_str()),
            _ => None,
        };
        match (&who, name.as_str()) {
            (Value::None, _) => Some((Value::None, &[])),
            (_, "id") => Some((who, left)),
            _ => given.map(|value| (value.clone(), left)),
        }
    }

    fn literal(&self, literal: &Literal) -> Result<Value, Unknown> {
        Ok(match literal {
            Literal::None => Value::None,
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Float(value) => Value::Float(*value),
            Literal::Integer(value) => Value::Int(*value),
            Literal::Decimal(value) => Value::Decimal(*value),
            Literal::Duration(value) => {
                Value::Duration(Duration { secs: value.as_secs(), nanos: value.subsec_nanos() })
            }
            Literal::String(value) => Value::String(value.as_str().to_owned()),
            Literal::RecordId(id) => Value::RecordId(Box::new(RecordId {
                table: id.table.as_str().to_owned(),
                key: self.key(&id.key)?,
            })),
            Literal::Datetime(value) => Value::Datetime(Datetime {
                secs: value.timestamp(),
                nanos: value.timestamp_subsec_nanos(),
            }),
            Literal::Uuid(value) => Value::Uuid(*value.as_bytes()),
            Literal::Array(items) => Value::Array(self.items(items)?),
            Literal::Set(items) => Value::Set(self.items(items)?.into_iter().collect()),
            Literal::Object(entries) => Value::Object(self.fields(entries)?),
            Literal::File(file) => {
                Value::File(File { bucket: file.bucket.to_string(), key: file.key.to_string() })
            }
            Literal::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Literal::UnboundedRange | Literal::Regex(_) | Literal::Geometry(_) => {
                return Err(format!("the value {}", literal.to_sql()));
            }
        })
    }

    fn items(&self, items: &[Sql]) -> Result<Vec<Value>, Unknown> {
        items.iter().map(|item| self.constant(item)).collect()
    }

    fn fields(&self, entries: &[ObjectEntry]) -> Result<Object, Unknown> {
        let field =
            |entry: &ObjectEntry| Ok((entry.key.as_str().to_owned(), self.constant(&entry.value)?));
        entries.iter().map(field).collect()
    }

    fn key(&self, key: &RecordIdKeyLit) -> Result<Key, Unknown> {
        Ok(match key {
            RecordIdKeyLit::Number(key) => Key::Int(*key),
            RecordIdKeyLit::String(key) => Key::String(key.as_str().to_owned()),
            RecordIdKeyLit::Uuid(key) => Key::Uuid(*key.as_bytes()),
            RecordIdKeyLit::Array(items) => Key::Array(self.items(items)?),
            RecordIdKeyLit::Object(entries) => Key::Object(self.fields(entries)?),
            RecordIdKeyLit::Generate(_) | RecordIdKeyLit::Range(_) => {
                return Err(format!("the record id {}", key.to_sql()));
            }
        })
    }
}

/// `$auth`, which is a record: given itself, or as `{ id: .. }`, also as text. NONE when nobody is signed in.
fn signed_in(auth: &Value) -> Value {
    let id = match auth {
        Value::Object(fields) => fields.get("id"),
        other => Some(other),
    };
    match id {
        Some(Value::RecordId(id)) => Value::RecordId(id.clone()),
        Some(Value::String(text)) => match Value::parse(text) {
            Ok(id @ Value::RecordId(_)) => id,
            _ => Value::None,
        },
        _ => Value::None,
    }
}

fn refuse(is: bool, what: &str) -> Result<(), Unknown> {
    if is { Err(what.to_owned()) } else { Ok(()) }
}

fn comparison(op: &BinaryOperator) -> Option<Comparison> {
    Some(match op {
        BinaryOperator::Equal => Comparison::Equal,
        BinaryOperator::ExactEqual => Comparison::Exact,
        BinaryOperator::NotEqual => Comparison::NotEqual,
        BinaryOperator::AllEqual => Comparison::AllEqual,
        BinaryOperator::AnyEqual => Comparison::AnyEqual,
        BinaryOperator::LessThan => Comparison::Less,
        BinaryOperator::LessThanEqual => Comparison::LessOrEqual,
        BinaryOperator::MoreThan => Comparison::More,
        BinaryOperator::MoreThanEqual => Comparison::MoreOrEqual,
        BinaryOperator::Contain => Comparison::Contains,
        BinaryOperator::NotContain => Comparison::ContainsNot,
        BinaryOperator::ContainAll => Comparison::ContainsAll,
        BinaryOperator::ContainAny => Comparison::ContainsAny,
        BinaryOperator::ContainNone => Comparison::ContainsNone,
        BinaryOperator::Inside => Comparison::Inside,
        BinaryOperator::NotInside => Comparison::NotInside,
        BinaryOperator::AllInside => Comparison::AllInside,
        BinaryOperator::AnyInside => Comparison::AnyInside,
        BinaryOperator::NoneInside => Comparison::NoneInside,
        _ => return None,
    })
}

fn order(order: Option<&Ordering>, selectors: &[&Selector]) -> Result<Vec<OrderBy>, Unknown> {
    let Some(order) = order else { return Ok(Vec::new()) };
    let Ordering::Order(keys) = order else { return Err("ORDER BY RAND()".into()) };
    let mut all = Vec::new();
    for key in keys.iter() {
        let path = path(&key.value.0)?;
        let computed = selectors.iter().any(|one| alias(one).as_deref() == Some(path.head()));
        refuse(computed, &format!("ORDER BY {path}, which the query computes"))?;
        let plain = path.0.iter().all(|step| matches!(step, Step::Field(_)));
        refuse(!plain, &format!("ORDER BY {path}"))?;
        let collation = Collation::of(key.collate, key.numeric);
        all.push(OrderBy { path, collation, descending: !key.direction });
    }
    Ok(all)
}

fn path(parts: &[Part]) -> Result<Path, Unknown> {
    let step = |part: &Part| match part {
        Part::Field(name) => Ok(Step::Field(name.as_str().to_owned())),
        Part::Value(Sql::Literal(Literal::Integer(index))) if *index >= 0 => {
            usize::try_from(*index).map(Step::Index).map_err(|_| part.to_sql())
        }
        Part::Last => Ok(Step::Last),
        other => Err(format!("the path part {}", other.to_sql())),
    };
    let steps: Vec<_> = parts.iter().map(step).collect::<Result<_, _>>()?;
    match steps.first() {
        Some(Step::Field(_)) => Ok(Path(steps, Reach::default())),
        _ => Err("a path that begins with no field".into()),
    }
}

/// A call, or what it is worth where that depends on no row.
fn fold(name: &str, operands: Vec<Expr<Subselect>>) -> Result<Expr<Subselect>, Unknown> {
    let function = Function::named(name, operands.len())
        .ok_or_else(|| format!("{name} of {} values", operands.len()))?;
    let constants: Option<Vec<_>> = operands
        .iter()
        .map(|operand| match operand {
            Expr::Const(value) => Some(Cow::Borrowed(value)),
            _ => None,
        })
        .collect();
    match constants.map(|constants| function.apply(&constants)) {
        Some(Ok(value)) => Ok(Expr::Const(value)),
        Some(Err(beyond)) => Err(beyond.to_string()),
        None => Ok(Expr::Call(function, operands)),
    }
}

fn selectors(fields: &Fields) -> Vec<&Selector> {
    match fields {
        Fields::Value(selector) => vec![selector],
        Fields::Select(fields) => fields
            .iter()
            .filter_map(|field| match field {
                Field::All => None,
                Field::Single(selector) => Some(selector),
            })
            .collect(),
    }
}

/// The name under which a field is computed.
fn alias(selector: &Selector) -> Option<String> {
    match selector.alias.as_ref()?.0.as_slice() {
        [Part::Field(name)] => Some(name.as_str().to_owned()),
        _ => None,
    }
}

/// `(SELECT ...)`, or `(SELECT ...)[0]`, which is its first row.
fn subquery(sql: &Sql) -> Option<(&SelectStatement, bool)> {
    match sql {
        Sql::Select(select) => Some((select, false)),
        Sql::Idiom(idiom) => match idiom.0.as_slice() {
            [Part::Start(Sql::Select(select)), Part::First] => Some((select, true)),
            [Part::Start(Sql::Select(select)), Part::Value(Sql::Literal(Literal::Integer(0)))] => {
                Some((select, true))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A subquery of which it is asked whether it has rows, and whether that is what is wanted.
fn existence(sql: &Sql) -> Option<(&SelectStatement, bool)> {
    match sql {
        Sql::Select(select) => Some((select, true)),
        Sql::FunctionCall(call) => {
            match (call.receiver.to_string().as_str(), call.arguments.as_slice()) {
                ("array::is_empty", [Sql::Select(select)]) => Some((select, false)),
                _ => counted(sql).map(|select| (select, true)),
            }
        }
        Sql::Binary { left, op, right } => {
            let Sql::Literal(Literal::Integer(count)) = &**right else { return None };
            let select = counted(left)?;
            match (op, count) {
                (BinaryOperator::MoreThan | BinaryOperator::NotEqual, 0)
                | (BinaryOperator::MoreThanEqual, 1) => Some((select, true)),
                (BinaryOperator::Equal | BinaryOperator::ExactEqual, 0)
                | (BinaryOperator::LessThan, 1) => Some((select, false)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A subquery whose rows are counted.
fn counted(sql: &Sql) -> Option<&SelectStatement> {
    let Sql::FunctionCall(call) = sql else { return None };
    match (call.receiver.to_string().as_str(), call.arguments.as_slice()) {
        ("array::len", [Sql::Select(select)]) => Some(select),
        // Of values, only those that are truthy are counted.
        ("count", [Sql::Select(select)]) if rows_are_true(select) => Some(select),
        _ => None,
    }
}

fn rows_are_true(select: &SelectStatement) -> bool {
    match &select.fields {
        Fields::Select(fields) => fields.iter().any(|field| matches!(field, Field::All)),
        Fields::Value(selector) => matches!(&selector.expr, Sql::Idiom(idiom)
            if matches!(idiom.0.as_slice(), [Part::Field(name)] if name.as_str() == "id")),
    }
}

/// Adds the tables that a statement reads; says whether these are all.
fn select_tables(select: &SelectStatement, to: &mut BTreeSet<String>) -> bool {
    let sources = select.what.iter().all(|what| match what {
        Sql::Table(table) => {
            to.insert(table.as_str().to_owned());
            true
        }
        Sql::Literal(Literal::RecordId(id)) => {
            to.insert(id.table.as_str().to_owned());
            true
        }
        Sql::Select(select) => select_tables(select, to),
        _ => false,
    });
    sources
        && select.fetch.is_none()
        && selectors(&select.fields).iter().all(|one| expr_tables(&one.expr, to))
        && select.cond.iter().all(|cond| expr_tables(&cond.0, to))
        && select.order.iter().all(|order| match order {
            Ordering::Random => true,
            Ordering::Order(keys) => keys.iter().all(|key| parts_tables(&key.value.0, to)),
        })
}

fn expr_tables(sql: &Sql, to: &mut BTreeSet<String>) -> bool {
    match sql {
        Sql::Literal(Literal::Array(items) | Literal::Set(items)) => {
            items.iter().all(|item| expr_tables(item, to))
        }
        Sql::Literal(Literal::Object(entries)) => {
            entries.iter().all(|entry| expr_tables(&entry.value, to))
        }
        Sql::Literal(_) | Sql::Param(_) | Sql::Constant(_) => true,
        Sql::Idiom(idiom) => parts_tables(&idiom.0, to),
        Sql::Prefix { expr, .. } => expr_tables(expr, to),
        Sql::Binary { left, right, .. } => expr_tables(left, to) && expr_tables(right, to),
        Sql::FunctionCall(call) => {
            let pure = ["string", "math", "array", "count", "type", "time", "duration", "not"];
            let name = call.receiver.to_string();
            pure.contains(&name.split("::").next().unwrap_or_default())
                && call.arguments.iter().all(|argument| expr_tables(argument, to))
        }
        Sql::Select(select) => select_tables(select, to),
        _ => false,
    }
}

/// A path of several parts may lead through a link into any table.
fn parts_tables(parts: &[Part], to: &mut BTreeSet<String>) -> bool {
    match parts {
        [Part::Field(_)] => true,
        [Part::Start(start), Part::First | Part::Last] => expr_tables(start, to),
        [Part::Start(start), Part::Value(Sql::Literal(_))] => expr_tables(start, to),
        [Part::Start(Sql::Param(param)), Part::Field(_)] => param.as_str() == "parent",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(surql: &str) -> Result<(), String> {
        parse(surql, &Object::new()).map(drop)
    }

    #[test]
    fn a_select_is_accepted() {
        for surql in [
            "SELECT * FROM t",
            "SELECT *, (SELECT * FROM user WHERE id = $parent.author LIMIT 1)[0] AS author \
             FROM thread WHERE k = $k ORDER BY created_at DESC LIMIT 10 START 5",
            "SELECT count() FROM t GROUP ALL",
        ] {
            assert_eq!(check(surql), Ok(()), "{surql}");
        }
    }

    #[test]
    fn whatever_is_more_than_one_reading_select_is_refused() {
        for surql in [
            "DELETE t",
            "SELECT * FROM t; DELETE t",
            "SELECT * FROM t); DELETE t; (SELECT 1",
            "SELECT (DELETE t) FROM t",
            "SELECT * FROM (UPDATE t SET n = 1)",
            "SELECT fn::anything() FROM t",
            "SELECT * FROM t WHERE { CREATE t; true }",
            "RETURN 1",
            "",
        ] {
            assert!(check(surql).is_err(), "{surql}");
        }
    }

    fn understood(surql: &str, params: &Object) -> Result<Query, String> {
        parse(surql, params).unwrap().query
    }

    #[test]
    fn parameters_are_bound_and_those_of_the_session_are_not() {
        let params = [("k".to_owned(), Value::Int(3))].into();
        let bound = understood("SELECT * FROM t WHERE n = $k LIMIT $k", &params);
        assert_eq!(bound, understood("SELECT * FROM t WHERE n = 3 LIMIT 3", &Object::new()));
        let missing = understood("SELECT * FROM t WHERE n = $other", &params);
        assert_eq!(missing, understood("SELECT * FROM t WHERE n = NONE", &params));
        let owned = "SELECT * FROM t WHERE owner = $auth.id";
        assert!(understood(owned, &params).is_err_and(|what| what.contains("$auth")));
        let signed_in = Value::parse("{ id: user:u1 }").unwrap();
        let params = [("auth".to_owned(), signed_in)].into();
        let bound = understood("SELECT * FROM t WHERE owner = user:u1", &Object::new());
        assert_eq!(understood(owned, &params), bound);
    }

    #[test]
    fn a_record_in_from_is_a_condition_on_the_id() {
        let none = Object::new();
        let named = understood("SELECT * FROM t:a", &none);
        assert_eq!(named, understood("SELECT * FROM t WHERE id = t:a", &none));
    }

    #[test]
    fn what_is_not_understood_in_full_is_named() {
        for (surql, what) in [
            ("SELECT * FROM t WHERE string::slug(s) = 'x'", "string::slug"),
            ("SELECT * FROM t WHERE string::len(s, 1) = 2", "string::len of 2"),
            ("SELECT * FROM t WHERE string::len(3) = 2", "string::len"),
            ("SELECT * FROM t WHERE n ** 2 = 2", "**"),
            ("SELECT * FROM t WHERE at < time::now()", "time::now"),
            ("SELECT * FROM t SPLIT tags", "SPLIT"),
            ("SELECT * FROM t WHERE (SELECT * FROM u WHERE n > $parent.n)", "one equality"),
            ("SELECT * FROM t WHERE n IN (SELECT VALUE n FROM u GROUP BY n)", "GROUP BY"),
            ("SELECT ->likes->b AS x FROM t WHERE ->likes->b", "->likes"),
            ("SELECT * FROM t, u", "FROM"),
            ("SELECT * FROM t:1..5", "FROM"),
            ("SELECT * FROM ONLY t", "ONLY"),
            ("SELECT * FROM t ORDER BY tags[0]", "ORDER BY tags[0]"),
            ("SELECT *, n AS m FROM t ORDER BY m", "ORDER BY m"),
            ("SELECT *, array::len((SELECT * FROM u)) AS x FROM t", "subquery"),
            ("SELECT * FROM t WHERE n IN (SELECT id FROM u)", "VALUE"),
            ("SELECT * FROM t WHERE tags[WHERE n > 1] = 1", "WHERE"),
        ] {
            let unknown = understood(surql, &Object::new()).expect_err(surql);
            assert!(unknown.contains(what), "{surql}: {unknown}");
        }
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        let none = Object::new();
        for (one, other) in [
            ("SELECT count() FROM t WHERE n = 1 GROUP ALL", "SELECT * FROM t WHERE n = 1"),
            ("SELECT * FROM t WHERE n = 1 + 2 * 3", "SELECT * FROM t WHERE n = 7"),
            ("SELECT * FROM t WHERE s = string::lowercase('X')", "SELECT * FROM t WHERE s = 'x'"),
            ("SELECT VALUE n FROM t WHERE n = 1", "SELECT * FROM t WHERE n = 1"),
            ("SELECT * FROM ONLY t:1", "SELECT * FROM t:1"),
            (
                "SELECT * FROM t WHERE count((SELECT * FROM u WHERE l = $parent.id AND n = 1)) > 0",
                "SELECT * FROM t WHERE id IN (SELECT VALUE l FROM u WHERE n = 1)",
            ),
            (
                "SELECT * FROM t WHERE array::is_empty((SELECT id FROM u WHERE $parent.n = n))",
                "SELECT * FROM t WHERE n NOT IN (SELECT VALUE n FROM u)",
            ),
        ] {
            let one_of = understood(one, &none).unwrap_or_else(|what| panic!("{one}: {what}"));
            assert_eq!(Ok(one_of), understood(other, &none), "{one}");
        }
    }

    #[test]
    fn the_tables_of_a_query_are_told_where_they_can_be() {
        let tables = |surql| parse(surql, &Object::new()).unwrap().tables;
        let told = tables(
            "SELECT *, (SELECT * FROM b WHERE l = $parent.id) AS x FROM a \
             WHERE n IN (SELECT VALUE n FROM c) AND string::len(s) > 3",
        );
        assert_eq!(told, Some(["a", "b", "c"].map(String::from).into()));
        assert_eq!(tables("SELECT * FROM a WHERE owner.name = 'x'"), None, "it may be a link");
        assert_eq!(tables("SELECT ->likes->b FROM a"), None);
    }

    #[test]
    fn an_invalid_query_gets_surrealdbs_message_and_position() {
        let message = check("SELECT * FORM t").unwrap_err();
        assert!(message.starts_with("Parse error: ") && message.contains("[1:10]"), "{message}");
    }
}
