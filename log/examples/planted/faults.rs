//! The faults: each changes one place of the copy, behind its switch, and names the test that must fail.

/// A deliberate fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Under `log/src`.
    pub(crate) file: &'static str,
    /// What stands there, once.
    pub(crate) old: &'static str,
    pub(crate) new: &'static str,
    /// A test of `log/tests/it`.
    pub(crate) test: &'static str,
}

const CRASH: &str = "crash::nothing_acknowledged_is_lost_at_any_crash_point";
const FAILED: &str = "crash::a_failed_call_poisons_and_loses_nothing";
const SEALED: &str = "damage::every_flipped_bit_of_a_sealed_segment_is_found_and_named";
const TRIM: &str = "crash::a_trim_of_many_segments_cut_short_leaves_no_gap";

macro_rules! fault {
    ($name:literal, $file:literal, $old:expr, $new:expr, $test:expr) => {
        Fault { name: $name, file: $file, old: $old, new: $new, test: $test }
    };
}

pub(crate) const FAULTS: &[Fault] = &[
    fault!(
        "ack-before-sync",
        "writer.rs",
        "if done.is_ok() {",
        "if done.is_ok() && !crate::planted(\"ack-before-sync\") {",
        CRASH
    ),
    fault!(
        "sync-of-another-file",
        "writer.rs",
        "done = file.sync().map_err",
        "done = if crate::planted(\"sync-of-another-file\") { self.shared.segments()[0].file.sync() } \
         else { file.sync() }.map_err",
        CRASH
    ),
    fault!(
        "new-segment-without-directory-sync",
        "writer.rs",
        "storage.sync_dir(&folder).map_err(Error::io(\"sync\", &folder))?;\n    Ok(Spare",
        "if !crate::planted(\"new-segment-without-directory-sync\") { \
         storage.sync_dir(&folder).map_err(Error::io(\"sync\", &folder))?; }\n    Ok(Spare",
        CRASH
    ),
    fault!(
        "new-segment-without-its-own-sync",
        "writer.rs",
        "file.sync_all().map_err(full)?;",
        "if !crate::planted(\"new-segment-without-its-own-sync\") { file.sync_all().map_err(full)?; }",
        CRASH
    ),
    fault!(
        "mark-vouches-for-unsynced",
        "writer.rs",
        "            self.unmarked = false;\n        }",
        "            self.unmarked = false;\n            if \
         crate::planted(\"mark-vouches-for-unsynced\") { self.write_offset = self.marks_end; \
         self.synced_pos = self.active.pos(self.marks_end); }\n        }",
        CRASH
    ),
    fault!(
        "witness-before-sync",
        "writer.rs",
        "synced_pos: self.synced_pos,\n            time_us: frame.time_us,",
        "synced_pos: if crate::planted(\"witness-before-sync\") { \
         self.active.pos(self.write_offset + group.bytes.len() as u64) } else { self.synced_pos },\n            \
         time_us: frame.time_us,",
        CRASH
    ),
    fault!(
        "write-again-after-a-failed-sync",
        "writer.rs",
        "if let Err(error) = &result {",
        "if let Err(error) = &result && !crate::planted(\"write-again-after-a-failed-sync\") {",
        "crash::nothing_is_acknowledged_after_a_failed_write_or_sync"
    ),
    fault!(
        "failed-write-ignored",
        "writer.rs",
        "let mut done = file.write_at(&bytes, start)",
        "let mut done = file.write_at(&bytes, start).or_else(|error| \
         if crate::planted(\"failed-write-ignored\") { Ok(()) } else { Err(error) })",
        FAILED
    ),
    fault!(
        "number-taken-by-a-failed-spare",
        "writer.rs",
        "        let number = slot.used + 1;\n        let spare = match",
        "        let number = slot.used + 1;\n        if \
         crate::planted(\"number-taken-by-a-failed-spare\") { slot.used = number; }\n        let spare = match",
        FAILED
    ),
    fault!(
        "mark-in-the-last-groups-sector",
        "writer.rs",
        "if mark >= apart {",
        "if mark >= apart || crate::planted(\"mark-in-the-last-groups-sector\") {",
        "damage::zeroed_sectors_of_a_closed_log_are_harmless_or_refused"
    ),
    fault!(
        "marks-left-behind-a-group",
        "writer.rs",
        "let covered = usize::try_from(self.marks_end.max(end) - start)",
        "let covered = usize::try_from(if crate::planted(\"marks-left-behind-a-group\") { end } else { \
         self.marks_end.max(end) } - start)",
        "life::a_group_over_idle_marks_leaves_none_of_them"
    ),
    fault!(
        "trim-note-not-synced",
        "writer.rs",
        "self.control(&Control::Trim { first_seq }, &mut group);\n        self.write(group)",
        "self.control(&Control::Trim { first_seq }, &mut group);\n        if \
         crate::planted(\"trim-note-not-synced\") { \
         let written = self.active.file.write_at(&group.bytes, self.write_offset); \
         self.write_offset += group.bytes.len() as u64; self.marks_end = self.write_offset; \
         return written.map_err(Error::io(\"write\", &self.active.path)); }\n        self.write(group)",
        TRIM
    ),
    fault!(
        "trim-takes-too-much",
        "segment/handle.rs",
        "self.sealed && self.next_seq <= before",
        "self.sealed && (self.next_seq <= before || crate::planted(\"trim-takes-too-much\"))",
        "property::a_log_holds_what_a_list_would"
    ),
    fault!(
        "sealed-while-written",
        "step.rs",
        ".filter(|segment| segment.header.number < active)",
        ".filter(|segment| segment.header.number < active || crate::planted(\"sealed-while-written\"))",
        CRASH
    ),
    fault!(
        "unlink-without-directory-sync",
        "recovery/apply.rs",
        "storage.remove(path).map_err(Error::io(\"remove\", path))?;\n        storage",
        "storage.remove(path).map_err(Error::io(\"remove\", path))?;\n        if \
         crate::planted(\"unlink-without-directory-sync\") { return Ok(()); }\n        storage",
        TRIM
    ),
    fault!(
        "newest-unlinked-first",
        "recovery/apply.rs",
        "    trimmed.iter().try_for_each(|path| {",
        "    let mut trimmed = trimmed.to_vec();\n    if crate::planted(\"newest-unlinked-first\") { \
         trimmed.reverse(); }\n    trimmed.iter().try_for_each(|path| {",
        TRIM
    ),
    fault!(
        "torn-group-left-behind",
        "recovery/apply.rs",
        "file.write_at(&vec![0; debris.len()], from)",
        "file.write_at(&vec![0; if crate::planted(\"torn-group-left-behind\") { 0 } else { \
         debris.len() }], from)",
        "golden::the_golden_killed_log_is_recovered_and_goes_on"
    ),
    fault!(
        "torn-group-not-kept",
        "recovery/apply.rs",
        "let kept = file.write_at(bytes, 0)",
        "let kept = file.write_at(if crate::planted(\"torn-group-not-kept\") { b\"\" } else { bytes }, 0)",
        "golden::the_golden_killed_log_is_recovered_and_goes_on"
    ),
    fault!(
        "torn-roll-outlives-the-open-frame",
        "recovery/apply.rs",
        "    discard(storage, &config.dir, &unused, &mut report)?;\n    \
         storage.sync_dir(&folder).map_err(Error::io(\"sync\", &folder))?;\n    \
         if end.scan.whole_end + CONTROL_BYTES / 2 <= last.header.capacity {\n        \
         segments.push(Arc::new(begin(ended, open)?));\n",
        "    let here = end.scan.whole_end + CONTROL_BYTES / 2 <= last.header.capacity;\n    \
         let later = here && crate::planted(\"torn-roll-outlives-the-open-frame\");\n    \
         if !later { discard(storage, &config.dir, &unused, &mut report)?; \
         storage.sync_dir(&folder).map_err(Error::io(\"sync\", &folder))?; }\n    \
         if here { segments.push(Arc::new(begin(ended, open)?));\n    \
         if later { discard(storage, &config.dir, &unused, &mut report)?; \
         storage.sync_dir(&folder).map_err(Error::io(\"sync\", &folder))?; }\n",
        "crash::a_recovery_from_a_torn_roll_cut_short_anywhere_is_done_again"
    ),
    fault!(
        "unsynced-end-trusted-at-opening",
        "recovery/apply.rs",
        "if unvouched < from {",
        "if unvouched < from && !crate::planted(\"unsynced-end-trusted-at-opening\") {",
        FAILED
    ),
    fault!(
        "chain-starts-anew-at-opening",
        "recovery/apply.rs",
        "        first_seq,\n        chain: end.scan.chain,",
        "        first_seq,\n        chain: if crate::planted(\"chain-starts-anew-at-opening\") { \
         ChainHash::START } else { end.scan.chain },",
        "chain::logs_of_the_same_records_have_the_same_hashes_however_they_came_to_be"
    ),
    fault!(
        "cut-below-the-floor",
        "recovery.rs",
        "if pos(scan.whole_end) < floor {",
        "if pos(scan.whole_end) < floor && !crate::planted(\"cut-below-the-floor\") {",
        "damage::flips_in_a_log_of_one_segment_lose_nothing_silently"
    ),
    fault!(
        "frames-behind-damage-are-no-witness",
        "recovery.rs",
        ".max(scan.synced_pos).max(debris.synced_pos);",
        ".max(scan.synced_pos).max(if crate::planted(\"frames-behind-damage-are-no-witness\") { 0 } \
         else { debris.synced_pos });",
        "damage::flips_in_a_log_of_one_segment_lose_nothing_silently"
    ),
    fault!(
        "witness-ignored",
        "recovery.rs",
        "if witness.seq > last {",
        "if witness.seq > last && !crate::planted(\"witness-ignored\") {",
        "damage::a_log_that_lost_what_a_witness_knows_is_refused"
    ),
    fault!(
        "another-logs-segment-accepted",
        "recovery.rs",
        "if a.header.log_id != b.header.log_id || b.open.log_id != b.header.log_id {",
        "if (a.header.log_id != b.header.log_id || b.open.log_id != b.header.log_id) && \
         !crate::planted(\"another-logs-segment-accepted\") {",
        "damage::swapped_and_foreign_segments_are_refused"
    ),
    fault!(
        "missing-first-segment-accepted",
        "recovery.rs",
        "if kept_from > first_seq {",
        "if kept_from > first_seq && !crate::planted(\"missing-first-segment-accepted\") {",
        "damage::a_missing_segment_is_refused_by_number"
    ),
    fault!(
        "missing-last-segment-accepted",
        "recovery.rs",
        "if last.footer.is_some() {",
        "if last.footer.is_some() && !crate::planted(\"missing-last-segment-accepted\") {",
        "damage::a_sealed_segment_whose_successor_is_gone_is_refused"
    ),
    fault!(
        "refused-open-claims-the-lock",
        "recovery.rs",
        "    let decision = decide(storage, config, witnesses)?;\n",
        "    if crate::planted(\"refused-open-claims-the-lock\") { lock.claim().ok(); }\n    \
         let decision = decide(storage, config, witnesses)?;\n",
        "refuse::a_refused_open_of_a_damaged_log_changes_nothing"
    ),
    fault!(
        "lock-file-without-lock",
        "storage/fs.rs",
        "match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {",
        "match if crate::planted(\"lock-file-without-lock\") { Ok(()) } else { \
         rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) } {",
        "life::a_second_writer_is_refused_with_the_owners_pid"
    ),
    fault!(
        "newer-minor-accepted",
        "segment/header.rs",
        "minor == its_minor",
        "(minor == its_minor || crate::planted(\"newer-minor-accepted\"))",
        "golden::a_newer_version_or_an_unknown_feature_is_refused_without_touching_a_byte"
    ),
    fault!(
        "unknown-feature-accepted",
        "segment/header.rs",
        "features == its_features",
        "(features == its_features || crate::planted(\"unknown-feature-accepted\"))",
        "golden::a_newer_version_or_an_unknown_feature_is_refused_without_touching_a_byte"
    ),
    fault!(
        "unused-header-bytes-ignored",
        "segment/header.rs",
        "page[USED_BYTES..4096].iter().position(|&byte| byte != 0)",
        "page[USED_BYTES..4096].iter().position(|&byte| byte != 0 && \
         !crate::planted(\"unused-header-bytes-ignored\"))",
        SEALED
    ),
    fault!(
        "payload-checksum-not-checked",
        "frame.rs",
        "if crc32fast::hash(payload) != header.payload_crc {",
        "if crc32fast::hash(payload) != header.payload_crc && \
         !crate::planted(\"payload-checksum-not-checked\") {",
        SEALED
    ),
    fault!(
        "header-checksum-not-checked",
        "frame.rs",
        "if stored != header_crc(&bytes[8..], salt, offset) {",
        "if stored != header_crc(&bytes[8..], salt, offset) && \
         !crate::planted(\"header-checksum-not-checked\") {",
        SEALED
    ),
    fault!(
        "padding-ignored",
        "frame.rs",
        "if bytes[payload_end..len].iter().any(|&byte| byte != 0) {",
        "if bytes[payload_end..len].iter().any(|&byte| byte != 0) && !crate::planted(\"padding-ignored\") {",
        SEALED
    ),
    fault!(
        "frame-of-another-place-accepted",
        "frame.rs",
        "    let low = u32::try_from(offset & 0xffff_ffff)",
        "    let offset = if crate::planted(\"frame-of-another-place-accepted\") { 0 } else { offset };\n    \
         let low = u32::try_from(offset & 0xffff_ffff)",
        "frame::a_frame_at_another_place_or_of_another_segment_is_none"
    ),
    fault!(
        "frame-of-another-segment-accepted",
        "frame.rs",
        "Hasher::new_with_initial(salt ^ low",
        "Hasher::new_with_initial(if crate::planted(\"frame-of-another-segment-accepted\") { 0 } else { \
         salt } ^ low",
        "frame::a_frame_at_another_place_or_of_another_segment_is_none"
    ),
    fault!(
        "half-a-transaction-kept",
        "segment/scan.rs",
        "if header.is_control() || header.ends_transaction() {",
        "if header.is_control() || header.ends_transaction() || \
         crate::planted(\"half-a-transaction-kept\") {",
        CRASH
    ),
    fault!(
        "seq-gap-accepted",
        "segment/scan.rs",
        "if Some(header.base_seq) != *reached {",
        "if Some(header.base_seq) != *reached && !crate::planted(\"seq-gap-accepted\") {",
        "frame::frames_that_skip_a_seq_are_damage"
    ),
    fault!(
        "index-checksum-not-checked",
        "segment/footer.rs",
        "crc32fast::hash(&body) != index_crc",
        "(crc32fast::hash(&body) != index_crc && !crate::planted(\"index-checksum-not-checked\"))",
        "frame::an_index_whose_checksum_does_not_hold_is_damage"
    ),
    fault!(
        "reading-starts-behind-the-index",
        "segment/handle.rs",
        "let start = after.checked_sub(back).map_or(HEADER_BYTES, |at| index[at].offset);",
        "let start = after.checked_sub(back).map_or(HEADER_BYTES, |at| index[if \
         crate::planted(\"reading-starts-behind-the-index\") { (at + 1).min(index.len() - 1) } else { at }]\
         .offset);",
        "property::a_log_holds_what_a_list_would"
    ),
    fault!(
        "ring-skips-a-frame",
        "tail.rs",
        "frame.header.next_seq() <= from)",
        "frame.header.next_seq() <= if crate::planted(\"ring-skips-a-frame\") { from.next() } else { from })",
        "property::a_log_holds_what_a_list_would"
    ),
    fault!(
        "chain-skips-a-record",
        "writer.rs",
        "self.chain = self.chain.then(hash);",
        "if index == 0 || !crate::planted(\"chain-skips-a-record\") { \
         self.chain = self.chain.then(hash); }",
        "chain::a_log_meets_its_own_anchors_and_no_others"
    ),
    fault!(
        "chain-not-computed-by-verify",
        "verify.rs",
        "if frame.header.chain.is_some_and(|noted| noted != chain) {",
        "if frame.header.chain.is_some_and(|noted| noted != chain) && \
         !crate::planted(\"chain-not-computed-by-verify\") {",
        "chain::a_record_changed_in_place_with_its_checksums_mended_is_found"
    ),
    fault!(
        "anchors-ignored",
        "verify.rs",
        "if anchor.hash == chain {",
        "if anchor.hash == chain || crate::planted(\"anchors-ignored\") {",
        "chain::a_log_written_anew_with_one_record_changed_is_whole_but_meets_no_later_anchor"
    ),
    fault!(
        "expected-seq-ignored",
        "log.rs",
        "&& expected != next",
        "&& expected != next && !crate::planted(\"expected-seq-ignored\")",
        "life::an_append_at_the_wrong_seq_changes_nothing"
    ),
    fault!(
        "receipt-not-compared",
        "recovery.rs",
        "if hash != *noted {",
        "if hash != *noted && !crate::planted(\"receipt-not-compared\") {",
        "chain::a_log_opens_with_every_receipt_it_ever_gave_and_with_no_other"
    ),
    fault!(
        "full-for-good",
        "writer.rs",
        "        *self.lacks.lock().unwrap_or_else(PoisonError::into_inner) = lacks;",
        "        if lacks.is_some() || !crate::planted(\"full-for-good\") { \
         *self.lacks.lock().unwrap_or_else(PoisonError::into_inner) = lacks; }",
        "full::a_log_on_a_full_disk_resumes_when_space_returns"
    ),
    fault!(
        "half-a-spare-keeps-its-space",
        "writer.rs",
        "        if let Error::Full { .. } = error {\n            // Give",
        "        if matches!(error, Error::Full { .. }) && \
         !crate::planted(\"half-a-spare-keeps-its-space\") {\n            // Give",
        "full::a_segment_that_there_is_no_space_for_leaves_no_file"
    ),
    fault!(
        "trimmed-before-it-is-archived",
        "log.rs",
        "let (last, archived) = self.archive(before).await?;",
        "let (last, archived) = if crate::planted(\"trimmed-before-it-is-archived\") { \
         (u64::MAX, Ok(())) } else { self.archive(before).await? };",
        "archive::a_segment_that_the_archive_refuses_stays_with_all_behind_it_and_is_offered_again"
    ),
    fault!(
        "archived-unverified",
        "archive.rs",
        "        verify(&part, segment)?;",
        "        if !crate::planted(\"archived-unverified\") { verify(&part, segment)?; }",
        "archive::a_damaged_segment_is_not_archived_and_not_removed"
    ),
    fault!(
        "scrub-finds-nothing",
        "scrub.rs",
        "self.tell(&segment, Some(flaw))",
        "self.tell(&segment, (!crate::planted(\"scrub-finds-nothing\")).then_some(flaw))",
        "scrub::a_bit_that_flips_under_a_running_log_is_found_named_and_stops_nothing"
    ),
    fault!(
        "compressed-segment-takes-the-name-unsynced",
        "compress.rs",
        "    file.sync_all().map_err(Error::io(\"sync\", part))?;",
        "    if !crate::planted(\"compressed-segment-takes-the-name-unsynced\") { \
         file.sync_all().map_err(Error::io(\"sync\", part))?; }",
        "compressed::a_crash_at_any_call_of_a_compression_leaves_one_whole_segment"
    ),
    fault!(
        "compressed-segment-not-read-back",
        "compress.rs",
        "    if !prove(",
        "    if !crate::planted(\"compressed-segment-not-read-back\") && !prove(",
        "compressed::what_does_not_read_back_never_takes_the_segments_place"
    ),
    fault!(
        "trimmed-segment-comes-back-compressed",
        "compress.rs",
        "if !shared.has(segment) {",
        "if !shared.has(segment) && !crate::planted(\"trimmed-segment-comes-back-compressed\") {",
        "compressed::a_segment_that_is_trimmed_while_it_is_compressed_does_not_come_back"
    ),
    fault!(
        "half-a-compression-stays",
        "recovery/apply.rs",
        "    for part in &parts {",
        "    for part in parts.iter().filter(|_| !crate::planted(\"half-a-compression-stays\")) {",
        "compressed::a_crash_at_any_call_of_a_compression_leaves_one_whole_segment"
    ),
    fault!(
        "old-file-mapped-by-its-name",
        "segment/handle.rs",
        "self.file.map().map_err",
        "(if crate::planted(\"old-file-mapped-by-its-name\") { \
         std::fs::read(&self.path).map(Bytes::from) } else { self.file.map() }).map_err",
        "compressed::a_reader_goes_on_in_the_file_that_a_compression_replaced"
    ),
    fault!(
        "piece-of-another-segment-taken",
        "segment/compressed.rs",
        "self.held != Some((image.id, number)) {\n                self.held = None;",
        "self.held.map(|held| held.1) != Some(number) || (self.held != Some((image.id, number)) \
         && !crate::planted(\"piece-of-another-segment-taken\")) {\n                self.held = None;",
        "compressed::a_compressed_log_gives_the_same_records_hashes_and_positions_before_and_after_a_restart"
    ),
];
