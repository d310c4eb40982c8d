//! The intake against batches that overlap, leave gaps, are cut inside transactions or damaged.

use revenant_log::{Event, Key, Op, SourcePos, encode_record};

use super::*;

const LOG: LogId = LogId([1; 16]);

/// Records `first..`, one per flag; a flag says whether the record ends its transaction.
fn batch<const N: usize>(first: u64, ends: [bool; N]) -> WireBatch {
    let record = |(place, ends_transaction)| {
        let event = Event {
            op: Op::Delete,
            table: "t".into(),
            key: Key::Int(1),
            version: None,
            body: None,
            before: None,
            source: SourcePos::UNKNOWN,
            stale: false,
        };
        let seq = Seq(first + place as u64);
        let record = Record { seq, time_us: 0, ends_transaction, feed_high: 0, event };
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        Bytes::from(bytes)
    };
    let records = ends.into_iter().enumerate().map(record).collect();
    let (prev_seq, first_seq) = (Seq(first - 1), Seq(first));
    WireBatch { log_id: LOG, epoch: 1, prev_seq, first_seq, records }
}

fn seqs(received: Result<Vec<Received>, Error>) -> Vec<u64> {
    received.unwrap().iter().map(|(record, _)| record.seq.0).collect()
}

#[test]
fn transactions_pass_when_they_are_whole() {
    let mut intake = Intake::new(LOG, Seq(4));
    assert_eq!(seqs(intake.admit(&batch(5, [true, false, false]))), [5]);
    assert_eq!(seqs(intake.admit(&batch(8, [false]))), [0; 0]);
    assert_eq!(seqs(intake.admit(&batch(9, [true, true, false]))), [6, 7, 8, 9, 10]);
    assert_eq!(intake.resume_after(), Seq(10));
}

#[test]
fn records_that_came_before_are_skipped() {
    let mut intake = Intake::new(LOG, Seq(4));
    assert_eq!(seqs(intake.admit(&batch(3, [true, true, true, false]))), [5]);
    assert_eq!(seqs(intake.admit(&batch(5, [true, false, true]))), [6, 7]);
    assert_eq!(seqs(intake.admit(&batch(1, [true, true]))), [0; 0]);
    assert_eq!(intake.resume_after(), Seq(7));
}

#[test]
fn a_gap_is_an_error_and_nothing_of_the_batch_is_taken() {
    let mut intake = Intake::new(LOG, Seq(4));
    let error = intake.admit(&batch(6, [true])).unwrap_err();
    assert!(matches!(error, Error::Feed { expected: 5, .. }), "{error}");
    assert_eq!(seqs(intake.admit(&batch(5, [true, true]))), [5, 6]);
}

#[test]
fn a_stream_is_taken_up_before_an_incomplete_transaction() {
    let mut intake = Intake::new(LOG, Seq(0));
    assert_eq!(seqs(intake.admit(&batch(1, [true, false, false]))), [1]);
    assert_eq!(intake.resume_after(), Seq(1));
    assert_eq!(seqs(intake.admit(&batch(2, [false, false, true]))), [2, 3, 4]);
}

#[test]
fn another_log_ends_the_session_and_damage_only_the_stream() {
    let mut intake = Intake::new(LOG, Seq(0));
    let mut foreign = batch(1, [true]);
    foreign.log_id = LogId([2; 16]);
    assert!(matches!(intake.admit(&foreign), Err(Error::Fenced { .. })));
    let mut damaged = batch(1, [true, true]);
    damaged.records[1] = Bytes::from_static(b"\xff\xff");
    assert!(matches!(intake.admit(&damaged), Err(Error::Feed { expected: 1, .. })));
    assert_eq!(seqs(intake.admit(&batch(1, [true]))), [1]);
}
