//! The workloads W1 to W7: which views, which rows, which changes.

use revenant_log::value::Object;
use revenant_log::{Key, Value};

use crate::churn::{Change, Churn};
use crate::random::Random;
use crate::rig::{Put, Template, link};

/// Rows of each owner where windows are to be full and refilled.
const ROWS_EACH: u64 = 20;
/// Most owners that have rows, where each has [`ROWS_EACH`].
const FULL_MOST: u64 = 50_000;
/// Most comments.
const COMMENTS_MOST: u64 = 1_000_000;
/// Comments of each thread, as long as there are few threads.
const COMMENTS_EACH: u64 = 100;
/// Rows where each owner has some.
const ROWS: u64 = 100_000;
/// Scores are below this, and thresholds from it on, so that few views hold a row.
const SCORES: u64 = 1_000;
/// How far above [`SCORES`] a row may get.
const ABOVE: u64 = 10;

/// What the ways to use the engine have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// W1: `owner = $p`.
    Equal,
    /// W2: `owner = $p ORDER BY n DESC LIMIT 10`, a fifth of the changes deletes in it.
    Window,
    /// W3: the comments of each thread of an owner, the last five.
    Nested,
    /// W4: `n > $c`.
    Above,
    /// W5: one row that every view holds.
    Hot,
    /// W6: one query, asked by all.
    Same,
    /// W7: W1, while views come and go.
    Churn,
    /// `tags CONTAINS $p`, for flatness.
    Contains,
}

/// A workload of some size.
pub(crate) struct Workload {
    pub(crate) kind: Kind,
    pub(crate) views: u64,
    pub(crate) template: Template,
    churn: Churn,
    rows: u64,
    random: Random,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] =
        [Self::Equal, Self::Window, Self::Nested, Self::Above, Self::Hot, Self::Same, Self::Churn];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Equal => "W1 equal",
            Self::Window => "W2 window",
            Self::Nested => "W3 nested",
            Self::Above => "W4 above",
            Self::Hot => "W5 hot row",
            Self::Same => "W6 same",
            Self::Churn => "W7 churn",
            Self::Contains => "contains",
        }
    }

    fn surql(self) -> &'static str {
        match self {
            Self::Equal | Self::Churn => "SELECT * FROM thread WHERE owner = $bind",
            Self::Window => "SELECT * FROM thread WHERE owner = $bind ORDER BY n DESC LIMIT 10",
            Self::Nested => {
                "SELECT *, (SELECT * FROM comment WHERE owner = $parent.id ORDER BY n DESC LIMIT 5) \
                 AS comments FROM thread WHERE owner = $bind"
            }
            Self::Above | Self::Hot => "SELECT * FROM thread WHERE n > $bind",
            Self::Same => "SELECT * FROM thread WHERE owner = 'u0' ORDER BY n DESC LIMIT 10",
            Self::Contains => "SELECT * FROM thread WHERE tags CONTAINS $bind",
        }
    }
}

impl Workload {
    pub(crate) fn new(kind: Kind, views: u64) -> Self {
        let spread = |owners| Churn::new(7, owners, 1 << 40);
        let (churn, rows) = match kind {
            Kind::Equal | Kind::Churn | Kind::Contains => (spread(views), ROWS),
            Kind::Window => {
                let owners = views.min(FULL_MOST);
                (spread(owners).at_the_top(), owners * ROWS_EACH)
            }
            Kind::Nested => (spread(views), (views * COMMENTS_EACH).min(COMMENTS_MOST)),
            Kind::Above => (Churn::new(7, 1, SCORES + ABOVE), ROWS),
            Kind::Hot => (spread(1), 1),
            Kind::Same => (spread(1), ROWS_EACH),
        };
        let template = Template::new(kind.surql());
        Self { kind, views, template, churn, rows, random: Random(11) }
    }

    /// What tells a view from the others.
    pub(crate) fn bind(&self, view: u64) -> Value {
        match self.kind {
            Kind::Above => Value::Int(signed(SCORES + view)),
            Kind::Hot => Value::Int(-1 - signed(view)),
            _ => owner(view),
        }
    }

    /// The rows at the beginning, by table.
    pub(crate) fn rows(&mut self) -> Vec<(&'static str, Vec<(Key, Object)>)> {
        let changed = (0..self.rows).map(|_| self.churn.create()).collect::<Vec<_>>();
        let rows = changed.into_iter().filter_map(|change| {
            let (_, key, row) = self.put(change);
            Some((key, row?))
        });
        let own = (self.table(), rows.collect());
        if self.kind == Kind::Nested {
            let threads = (0..self.views).map(|number| (key(number), thread(number, number, 0)));
            return vec![("thread", threads.collect()), own];
        }
        vec![own]
    }

    /// The next transaction: one change.
    pub(crate) fn change(&mut self) -> Put {
        if self.kind == Kind::Nested && self.random.below(10) == 0 {
            // A thread goes to another owner, with its comments.
            let (number, owner) = (self.random.below(self.views), self.random.below(self.views));
            return ("thread", key(number), Some(thread(number, owner, 0)));
        }
        if self.kind == Kind::Hot {
            let n = signed(self.random.below(1 << 40));
            return ("thread", key(0), Some(thread(0, 0, n)));
        }
        let rows = usize::try_from(self.rows).expect("rows fit in memory");
        let change = self.churn.change(rows);
        self.put(change)
    }

    fn table(&self) -> &'static str {
        if self.kind == Kind::Nested { "comment" } else { "thread" }
    }

    fn put(&self, Change { key: number, row }: Change) -> Put {
        let row = row.map(|row| match self.kind {
            Kind::Nested => {
                let mut comment = thread(number, row.owner, row.n);
                comment.insert("owner".into(), link("thread", key(row.owner)));
                comment
            }
            _ => thread(number, row.owner, row.n),
        });
        (self.table(), key(number), row)
    }
}

/// A row as applications have them: what is asked for, and more.
fn thread(number: u64, owner: u64, n: i64) -> Object {
    let tags = vec![self::owner(owner), Value::String("all".into())];
    Object::from([
        ("owner".to_owned(), self::owner(owner)),
        ("n".to_owned(), Value::Int(n)),
        ("tags".to_owned(), Value::Array(tags)),
        (
            "title".to_owned(),
            Value::String(format!("the title of number {number}, of some length")),
        ),
    ])
}

fn owner(number: u64) -> Value {
    Value::String(format!("u{number}"))
}

fn key(number: u64) -> Key {
    Key::String(format!("k{number:012}"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("numbers are small")
}
