//! Records whose rows are left as bytes say what decoded ones say, and snapshot pages made of such bytes are
//! those made of rows.

use std::sync::Arc;

use proptest::prelude::*;
use revenant_log::{
    Event, Op, RawRecord, Record, RowsItem, Seq, SnapshotItem, SnapshotRow, SourcePos, Value,
    decode_record, encode_key, encode_record,
};

use crate::golden::every_value;
use crate::text::{key, value};

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_record(record, &mut bytes);
    bytes
}

fn record() -> impl Strategy<Value = Record> {
    let ops = vec![Op::Create, Op::Update, Op::Delete, Op::Load, Op::Reconcile];
    let row = (key(), any::<Option<u64>>(), prop::option::of(value()), prop::option::of(value()));
    let place = (any::<i64>(), any::<bool>(), any::<u64>(), any::<u64>(), any::<u32>());
    (prop::sample::select(ops), "[a-z_]{1,9}", row, place, any::<bool>()).prop_map(
        |(op, table, (key, version, body, before), place, stale)| {
            let (time_us, ends_transaction, feed_high, versionstamp, ordinal) = place;
            let source = SourcePos { versionstamp, ordinal };
            let table = Arc::from(table);
            let event = Event { op, table, key, version, body, before, source, stale };
            Record { seq: Seq(9), time_us, ends_transaction, feed_high, event }
        },
    )
}

/// The row that a record leaves.
fn row(record: &Record) -> Option<SnapshotRow> {
    let Event { op, key, version, body, .. } = record.event.clone();
    let body = body.filter(|_| op != Op::Delete)?;
    Some(SnapshotRow { key, version, body })
}

fn assert_same(raw: &RawRecord<'_>, record: &Record) {
    let event = &record.event;
    assert_eq!(
        (raw.seq, raw.time_us, raw.feed_high),
        (record.seq, record.time_us, record.feed_high)
    );
    assert_eq!((raw.ends_transaction, raw.op), (record.ends_transaction, event.op));
    assert_eq!((raw.table, raw.change.key()), (event.table.as_ref(), event.key.clone()));
    assert_eq!(raw.change.table(), raw.table);
    let (mut pushed, mut due) = (Vec::new(), Vec::new());
    raw.change.push_key(&mut pushed);
    encode_key(&event.key, &mut due);
    assert_eq!(pushed, due);
    assert_eq!((raw.source, raw.stale), (event.source, event.stale));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_raw_record_is_the_record_and_its_row_the_encoded_row(record in record()) {
        let bytes = encoded(&record);
        let raw = RawRecord::read(Seq(9), &bytes).unwrap();
        assert_same(&raw, &record);
        let pushed = raw.change.row().map(|row| {
            let mut pushed = vec![7];
            row.push(&mut pushed);
            pushed.split_off(1)
        });
        let expected = row(&record).map(|row| postcard::to_stdvec(&row).unwrap());
        prop_assert_eq!(pushed, expected);
    }

    #[test]
    fn bytes_are_refused_as_records_or_as_raw_records_alike(
        record in record(),
        flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..3),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = encoded(&record);
        let mut flipped = whole.clone();
        for (at, mask) in &flips {
            flipped[at.index(whole.len())] ^= mask;
        }
        for bytes in [&flipped[..], &whole[..cut.index(whole.len())], &[&whole[..], &[0]].concat()] {
            match (RawRecord::read(Seq(9), bytes), decode_record(Seq(9), bytes)) {
                (Ok(raw), Ok(record)) => assert_same(&raw, &record),
                (Err(_), Err(_)) => {}
                (raw, record) => prop_assert!(false, "{raw:?} {record:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_page_of_encoded_rows_is_the_page_of_the_rows(
        records in prop::collection::vec(record(), 0..160),
        table in "[a-z]{1,200}",
    ) {
        let mut item = RowsItem::new(&table, 100);
        let mut bytes = 0;
        for record in &records {
            let mut row = Vec::new();
            if let Some(raw) = RawRecord::read(record.seq, &encoded(record)).unwrap().change.row() {
                raw.push(&mut row);
                item.push(&row);
                bytes += row.len();
            }
        }
        let rows: Vec<_> = records.iter().filter_map(row).collect();
        prop_assert_eq!((item.count(), item.len(), item.is_empty()), (rows.len(), bytes, rows.is_empty()));
        prop_assert_eq!(item.encode(), SnapshotItem::Rows { table, rows }.encode());
    }
}

#[test]
fn every_kind_of_value_is_walked_over() {
    for value in every_value() {
        let text = value.to_string();
        let nested = (0..3).fold(value, |value, _| Value::Array(vec![value]));
        for before in [None, Some(nested.clone())] {
            let event = Event {
                op: Op::Update,
                table: "t".into(),
                key: 1.into(),
                version: Some(300),
                body: Some(nested.clone()),
                before,
                source: SourcePos { versionstamp: 1 << 40, ordinal: 3 },
                stale: true,
            };
            let record =
                Record { seq: Seq(9), time_us: 1, ends_transaction: true, feed_high: 2, event };
            let bytes = encoded(&record);
            let raw =
                RawRecord::read(Seq(9), &bytes).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_same(&raw, &record);
            let mut pushed = Vec::new();
            raw.change.row().unwrap().push(&mut pushed);
            assert_eq!(pushed, postcard::to_stdvec(&row(&record).unwrap()).unwrap(), "{text}");
        }
    }
}
