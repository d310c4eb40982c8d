//! `Set`: the values that an `IN (SELECT VALUE ...)` looks into, counted, so that it is known when one
//! enters or leaves.

use hashbrown::HashMap;
use revenant_log::Value;

use super::block::BlockId;
use super::group::GroupId;
use super::store::When;
use crate::query::expr::Beyond;
use crate::query::ir::Path;

/// A set's place among the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SetId(pub(crate) u32);

/// Values with the number of rows that have them.
#[derive(Debug)]
pub(crate) struct Set {
    /// The rows.
    pub(crate) group: GroupId,
    /// Which of their values count.
    pub(crate) value: Path,
    /// One more than the level of the rows' block: whoever looks in comes after it.
    pub(crate) level: usize,
    /// Blocks that look in.
    pub(crate) users: Vec<BlockId>,
    counts: HashMap<Value, u32>,
    /// Counts before the batch, of values whose count it changed.
    before: HashMap<Value, u32>,
}

impl Set {
    pub(crate) fn new(group: GroupId, value: Path, level: usize) -> Self {
        Self {
            group,
            value,
            level,
            users: Vec::new(),
            counts: HashMap::new(),
            before: HashMap::new(),
        }
    }

    /// Counts a row more or less.
    pub(crate) fn count(&mut self, value: Value, up: bool) -> Result<(), Beyond> {
        if matches!(value, Value::Regex(_)) {
            return Err(Beyond::Regex);
        }
        let count = self.counts.get(&value).copied().unwrap_or(0);
        self.before.entry(value.clone()).or_insert(count);
        match if up { count + 1 } else { count.saturating_sub(1) } {
            0 => self.counts.remove(&value),
            count => self.counts.insert(value, count),
        };
        Ok(())
    }

    /// Whether a value is in.
    pub(crate) fn holds(&self, value: &Value, when: When) -> Result<bool, Beyond> {
        if matches!(value, Value::Regex(_)) {
            return Err(Beyond::Regex);
        }
        if when == When::Before
            && let Some(count) = self.before.get(value)
        {
            return Ok(*count > 0);
        }
        Ok(self.counts.contains_key(value))
    }

    /// The values that entered or left in this batch.
    pub(crate) fn flipped(&self) -> Vec<&Value> {
        let flipped =
            |(value, count): &(&Value, &u32)| (**count > 0) != self.counts.contains_key(*value);
        self.before.iter().filter(flipped).map(|(value, _)| value).collect()
    }

    /// Ends the batch.
    pub(crate) fn settle(&mut self) {
        self.before.clear();
    }
}
