//! The only file that sees SurrealDB's parser and AST.

use surrealdb_sql::{Expr, TopLevelExpr};

/// Checks that `surql` is one SELECT statement that cannot write, so that it may be run with more rights
/// than its registrant has.
///
/// # Errors
/// SurrealDB's message with the position, or why the statement is refused.
pub(crate) fn check(surql: &str) -> Result<(), String> {
    let ast = surrealdb_syn::parse(surql).map_err(|error| error.to_string())?;
    let [TopLevelExpr::Expr(Expr::Select(select))] = ast.expressions.as_slice() else {
        return Err("Invalid Query Plan: a live query is one SELECT statement".into());
    };
    // SurrealDB's own judgement, which takes for a write whatever it cannot see into.
    if !select.read_only() {
        let reason = "a live query neither writes nor calls fn::, script or module functions";
        return Err(format!("Invalid Query Plan: {reason}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

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

    #[test]
    fn an_invalid_query_gets_surrealdbs_message_and_position() {
        let message = check("SELECT * FORM t").unwrap_err();
        assert!(message.starts_with("Parse error: ") && message.contains("[1:10]"), "{message}");
    }
}
