//! The demo's own tables. What the services need beyond them is installed by `revenant schema install`'s
//! code.

use anyhow::{Context as _, Result};
use revenant_surreal::Db;

/// Where everything is.
const PLACE: &str =
    "DEFINE NAMESPACE IF NOT EXISTS main; USE NS main; DEFINE DATABASE IF NOT EXISTS app;";

/// Links between three tables; indexes so that links are found from the other side, and for what SurrealDB
/// looks up once for every row of a query.
const TABLES: &str = "
DEFINE TABLE author SCHEMALESS CHANGEFEED 3d INCLUDE ORIGINAL;
DEFINE INDEX by_commits ON author FIELDS commits;
DEFINE TABLE `commit` SCHEMALESS CHANGEFEED 3d INCLUDE ORIGINAL;
DEFINE FIELD author ON `commit` TYPE record<author>;
DEFINE INDEX by_author ON `commit` FIELDS author;
DEFINE INDEX by_words ON `commit` FIELDS words;
DEFINE TABLE file SCHEMALESS CHANGEFEED 3d INCLUDE ORIGINAL;
DEFINE FIELD last_commit ON file TYPE record<`commit`>;
DEFINE FIELD last_author ON file TYPE record<author>;
DEFINE INDEX by_commit ON file FIELDS last_commit;
";

/// Namespace, database and tables.
pub(crate) async fn define(db: &Db) -> Result<()> {
    db.run(PLACE, []).await.context("define namespace and database")?;
    db.run(TABLES, []).await.map(|_| ()).context("define the demo's tables")
}
