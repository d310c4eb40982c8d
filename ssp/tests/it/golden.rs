//! What each query means to us, as it is kept: a change of the parser or of its version shows here.

use std::fmt::Write as _;
use std::fs;

use revenant_log::value::Object;
use revenant_ssp::query::parse::parse;

#[test]
fn queries_mean_what_they_meant() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/queries.txt");
    let kept = fs::read_to_string(file).unwrap();
    let mut found = String::new();
    for surql in kept.lines().filter(|line| line.starts_with("SELECT")) {
        let parsed =
            parse(surql, &Object::new()).unwrap_or_else(|error| panic!("{surql}: {error}"));
        match parsed.query {
            Ok(query) => writeln!(found, "{surql}\n    {:?}\n", query.root).unwrap(),
            Err(what) => writeln!(found, "{surql}\n    re-run: {what}\n").unwrap(),
        }
    }
    // REVENANT_GOLDEN=write keeps what is found, to be read as a diff.
    if std::env::var("REVENANT_GOLDEN").is_ok_and(|mode| mode == "write") {
        fs::write(file, &found).unwrap();
    }
    assert_eq!(found, kept, "see {file}");
}
