//! Which records: rpk's offset grammar. `N`, `N:M`, `N:`, `:N` are seqs, both ends included; `+N` and
//! `-N` the first and the last N; `start` and `end` the log's ends; `@T` and `@T1:T2` commit times.

use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use revenant_log::{ReadOnlyLog, Record, Seq};

/// Seconds and milliseconds since 1970 are told apart here: as seconds it is the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// Which records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// Seqs, both included.
    Seqs(Option<u64>, Option<u64>),
    /// The first so many.
    First(u64),
    /// The last so many.
    Last(u64),
    /// Commit times in microseconds, both included.
    Times(Option<i64>, Option<i64>),
}

impl Default for Range {
    fn default() -> Self {
        Self::Seqs(None, None)
    }
}

/// A [`Range`] in terms of one log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Seq,
    pub(crate) to: Seq,
    times: (i64, i64),
}

impl Span {
    /// Whether the record's commit time is in the span.
    pub(crate) fn takes(&self, record: &Record) -> bool {
        (self.times.0..=self.times.1).contains(&record.time_us)
    }
}

impl Range {
    /// Finds the seqs in `log`.
    pub(crate) fn within(&self, log: &ReadOnlyLog) -> Span {
        let (first, last) = (log.first_seq().0, log.last_seq().0);
        let always = (i64::MIN, i64::MAX);
        let (from, to, times) = match *self {
            Self::Seqs(from, to) => (from.unwrap_or(first), to.unwrap_or(last), always),
            Self::First(count) => (first, first.saturating_add(count).saturating_sub(1), always),
            Self::Last(count) => (last.saturating_add(1).saturating_sub(count), last, always),
            Self::Times(from, to) => {
                (first, last, (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX)))
            }
        };
        Span { from: Seq(from.max(first)), to: Seq(to.min(last)), times }
    }
}

impl FromStr for Range {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(count) = text.strip_prefix('+') {
            return Ok(Self::First(count.parse()?));
        }
        if let Some(count) = text.strip_prefix('-') {
            return Ok(Self::Last(count.parse()?));
        }
        if let Some(times) = text.strip_prefix('@') {
            return Self::times(times);
        }
        match text.split_once(':') {
            Some((from, to)) => Ok(Self::Seqs(seq(from)?, seq(to)?)),
            None if text == "start" => Ok(Self::First(1)),
            None if text == "end" => Ok(Self::Last(1)),
            None => {
                let only = seq(text)?;
                Ok(Self::Seqs(only, only))
            }
        }
    }
}

impl Range {
    /// A time may hold colons itself: every place to cut is tried.
    fn times(text: &str) -> Result<Self> {
        if let Ok(from) = time(text) {
            return Ok(Self::Times(from, None));
        }
        let cuts = text.match_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
        let mut sides = cuts.filter_map(|(from, to)| Some((time(from).ok()?, time(to).ok()?)));
        match sides.next() {
            Some((from, to)) => Ok(Self::Times(from, to)),
            None => bail!(
                "@{text} is no time: Unix seconds or milliseconds, 2026-01-31, RFC 3339, or -1h are due"
            ),
        }
    }
}

fn seq(text: &str) -> Result<Option<u64>> {
    match text {
        "" | "start" | "end" => Ok(None),
        number => Ok(Some(number.parse().map_err(|_| anyhow!("{number:?} is no seq"))?)),
    }
}

/// Microseconds since 1970; `None` for either end.
///
/// # Errors
/// It is no time.
pub(crate) fn time(text: &str) -> Result<Option<i64>> {
    if matches!(text, "" | "start" | "end") {
        return Ok(None);
    }
    if let Ok(number) = text.parse::<i64>() {
        let per = if number.abs() < MILLISECONDS_FROM { 1_000_000 } else { 1_000 };
        return Ok(Some(number.saturating_mul(per)));
    }
    if text.starts_with(['-', '+']) {
        let away: SignedDuration = text.parse()?;
        return Ok(Some((Timestamp::now() + away).as_microsecond()));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Some(time.as_microsecond()));
    }
    let day: Date = text.parse()?;
    Ok(Some(day.to_zoned(TimeZone::UTC)?.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn seqs_are_told_from_counts_and_times() {
        assert_eq!(range("5"), Range::Seqs(Some(5), Some(5)));
        assert_eq!(range("5:9"), Range::Seqs(Some(5), Some(9)));
        assert_eq!(range(":9"), Range::Seqs(None, Some(9)));
        assert_eq!(range("5:end"), Range::Seqs(Some(5), None));
        assert_eq!(range("+3"), Range::First(3));
        assert_eq!(range("-3"), Range::Last(3));
        let second = 1_600_000_000_000_000;
        assert_eq!(range("@1600000000"), Range::Times(Some(second), None));
        assert_eq!(range("@1600000000000:end"), Range::Times(Some(second), None));
        assert_eq!(
            range("@2020-09-13T12:26:40Z:2020-09-14"),
            Range::Times(Some(second), Some(1_600_041_600_000_000))
        );
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["x", "1:x", "@", "@yesterday", "+x", "-"] {
            let parsed = text.parse::<Range>();
            assert!(text == "@" || parsed.is_err(), "{text}: {parsed:?}");
        }
    }
}
