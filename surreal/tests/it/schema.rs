//! Schema install and check, and re-run queries.

use revenant_log::{RecordId, Value};
use revenant_ssp::requery::{Requery, RequeryError, RequeryText};
use revenant_surreal::{Rerun, schema};

use crate::rig::{database, run};

#[tokio::test]
async fn check_names_what_is_missing_and_install_mends_it() {
    let db = database().await;
    run(&db, "DEFINE TABLE commit; DEFINE TABLE file; DEFINE PARAM $sp00ky_secret VALUE 's'").await;
    let findings = schema::check(&db).await.unwrap();
    let names: Vec<_> = findings.iter().map(|finding| finding.name.as_str()).collect();
    for name in ["_00_version", "_00_query", "_00_list_ref", "_00_ssp_cursor", "commit", "file"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for _ in 0..2 {
        assert_eq!(schema::install(&db).await.unwrap(), ["commit", "file"]);
    }
    let findings = schema::check(&db).await.unwrap();
    let left: Vec<_> = findings.iter().map(|finding| (&*finding.name, finding.severity)).collect();
    assert_eq!(left, [("$sp00ky_secret", "unsafe")]);
    run(&db, &findings[0].fix).await;
    assert!(schema::check(&db).await.unwrap().is_empty());
}

#[tokio::test]
async fn versions_count_while_the_row_lives_and_start_again_after() {
    let db = database().await;
    run(&db, "DEFINE TABLE commit").await;
    schema::install(&db).await.unwrap();
    let version = "SELECT VALUE version FROM _00_version WHERE record_id = commit:`0a-1`";
    run(&db, "CREATE commit:`0a-1` SET n = 1; UPDATE commit:`0a-1` SET n = 2").await;
    assert_eq!(run(&db, version).await[0].to_string(), "[2]");
    run(&db, "UPDATE commit:`0a-1` SET n = 2").await;
    assert_eq!(run(&db, version).await[0].to_string(), "[2]");
    run(&db, "DELETE commit:`0a-1`").await;
    assert_eq!(run(&db, version).await[0].to_string(), "[]");
    run(&db, "CREATE commit:`0a-1` SET n = 2").await;
    assert_eq!(run(&db, version).await[0].to_string(), "[1]");
}

#[tokio::test]
async fn a_query_is_run_again_with_its_parameters_and_versions() {
    let db = database().await;
    run(&db, "DEFINE TABLE commit").await;
    schema::install(&db).await.unwrap();
    run(&db, "CREATE commit:a SET n = 1; CREATE commit:b SET n = 2; UPDATE commit:b SET n = 3")
        .await;
    let rerun = Rerun::new(db);
    let text = |surql: &str| RequeryText {
        surql: surql.to_owned(),
        params: [("n".to_owned(), Value::Int(2))].into(),
    };
    let members = rerun.run(&text("SELECT * FROM commit WHERE n > $n;")).await.unwrap();
    assert_eq!((members.len(), members[0].version), (1, 2));
    assert_eq!(members[0].record, RecordId::new("commit", "b"));
    let all = rerun.run(&text("SELECT id FROM commit ORDER BY n DESC LIMIT 5")).await.unwrap();
    assert_eq!(all.len(), 2);
    let invalid = rerun.run(&text("SELECT * FROM commit WHERE n >")).await;
    assert!(
        matches!(&invalid, Err(RequeryError::Invalid(text)) if text.contains("Parse error")),
        "{invalid:?}"
    );
    let invalid = rerun.run(&text("SELECT count() FROM commit GROUP ALL")).await;
    assert!(matches!(invalid, Err(RequeryError::Invalid(_))));
}
