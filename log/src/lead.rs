//! `Company`: whether a caller has the log to itself, and so gains by writing and syncing on its own thread. It only
//! counts; it takes no locks and no time.
//!
//! Handing a group to the writer's thread and the answer back costs two wake-ups, and on a runtime with several
//! workers a third, of a worker that looks for more to do: a quarter of the time that a fast disk takes. A lone caller
//! in a closed loop need not pay them. A caller that does not wait for one append before it asks for the next looks
//! alone to itself while it leads, since it asks for nothing meanwhile; a group handed over now and then finds it out.

/// Groups of one append in a row, with nobody waiting behind, before a caller leads: few enough to be found at once,
/// many enough that callers who take turns are not taken for one.
const ALONE: u32 = 8;
/// One group of so many is handed to the writer's thread all the same.
const PROBE: u32 = 32;

/// How many groups in a row were one append with nobody behind it.
#[derive(Debug, Default)]
pub(crate) struct Company {
    alone: u32,
}

impl Company {
    /// A group is durable; `alone`: it was one append, and nothing came meanwhile.
    pub(crate) fn note(&mut self, alone: bool) {
        self.alone = if alone { self.alone.saturating_add(1) } else { 0 };
        if self.alone == ALONE + PROBE {
            self.alone = ALONE;
        }
    }

    /// Whether the next caller is to write itself, if the log is idle.
    pub(crate) fn leads(&self) -> bool {
        self.alone > ALONE
    }
}

#[cfg(test)]
mod tests {
    use super::{ALONE, Company, PROBE};

    #[test]
    fn a_lone_caller_leads_but_for_a_probe_now_and_then() {
        let mut company = Company::default();
        let mut turn = || {
            let leads = company.leads();
            company.note(true);
            leads
        };
        assert!((0..=ALONE).all(|_| !turn()));
        let led = (0..PROBE * 100).filter(|_| turn()).count();
        assert_eq!(led, (PROBE as usize - 1) * 100);
        company.note(false);
        assert!((0..=ALONE).all(|_| {
            let leads = company.leads();
            company.note(true);
            !leads
        }));
    }
}
