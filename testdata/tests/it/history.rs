use std::io::Write as _;
use std::path::Path;

use revenant_testdata::history::{HistoryError, Op, Reader, Transaction};

fn read(text: &[u8]) -> Result<Vec<Transaction>, HistoryError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text).unwrap();
    Reader::open(file.path()).unwrap().collect()
}

fn line(commit: &str) -> String {
    format!(
        "{{\"commit\":\"{commit}\",\"time\":1,\"author\":\"a\",\"words\":2,\
         \"changes\":[{{\"op\":\"create\",\"path\":\"x y\"}}]}}\n"
    )
}

#[test]
fn the_small_history_is_the_beginning_of_the_large_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etcd-history.jsonl.zst");
    let large: Vec<_> = Reader::open(&path).unwrap().collect::<Result<_, _>>().unwrap();
    let small: Vec<_> = Reader::small().collect::<Result<_, _>>().unwrap();
    assert_eq!(small.len(), 600);
    assert_eq!(small[..], large[..600]);
    assert_eq!(large.len(), 15_797);
    assert_eq!(large.iter().map(|transaction| transaction.changes.len()).sum::<usize>(), 77_452);
}

#[test]
fn plain_and_compressed_lines_read_the_same() {
    let text = format!("{}\n{}", line("a"), line("b"));
    let plain = read(text.as_bytes()).unwrap();
    assert_eq!(plain.len(), 2);
    assert_eq!(plain[0].changes[0].op, Op::Create);
    assert_eq!(plain, read(&zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap());
}

#[test]
fn a_bad_line_is_named_by_its_number() {
    for (bad, reason) in [
        ("{\"commit\":1}", "invalid type"),
        ("nonsense", "expected"),
        (&line("a"), "was there before"),
        (&line(""), "an empty name"),
        (&line("b").replace("create", "rename"), "unknown variant"),
        (&line("b").replace("x y", ""), "an empty path"),
    ] {
        let error = read(format!("{}{bad}", line("a")).as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line 2: ") && error.contains(reason), "{error}");
    }
}

#[test]
fn a_damaged_file_is_an_error_and_not_an_end() {
    let mut bytes = zstd::encode_all(line("a").repeat(3).as_bytes(), 3).unwrap();
    bytes.truncate(bytes.len() - 4);
    assert!(read(&bytes).is_err());
}
