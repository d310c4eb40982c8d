//! A database of its own for each test.

use revenant_log::Value;
use revenant_surreal::{Db, Target};

pub(crate) async fn database() -> Db {
    database_at("mem://").await
}

pub(crate) async fn database_at(url: &str) -> Db {
    let target = Target {
        url: url.into(),
        user: String::new(),
        password: String::new(),
        namespace: "test-ns".into(),
        database: "test".into(),
    };
    Db::connect(&target).await.unwrap()
}

pub(crate) async fn run(db: &Db, statements: &str) -> Vec<Value> {
    db.run(statements, []).await.unwrap_or_else(|error| panic!("{statements}: {error}"))
}
