//! Which views a demo registers: templates of every kind, filled with names and figures that the history
//! has, so that each view has rows and few have very many. Pure.

use std::collections::HashMap;

use revenant_log::RecordId;
use revenant_testdata::history::Transaction;
use serde::{Deserialize, Serialize};

/// Kinds of which the engine leaves views to be run again.
pub(crate) const RUN_AGAIN: [&str; 1] = ["run again"];

/// A view to be registered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct View {
    /// Key of its `_00_query` row.
    pub(crate) id: String,
    /// What of the query language it is an example of.
    pub(crate) kind: String,
    /// The query.
    pub(crate) surql: String,
    /// Its parameters as SurrealQL.
    pub(crate) params: String,
    /// Its subqueries.
    pub(crate) children: Vec<Child>,
}

/// A subquery of a view.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Child {
    /// The field that holds its rows.
    pub(crate) alias: String,
    /// Subqueries of these rows.
    pub(crate) children: Vec<Child>,
}

/// What templates are filled with.
struct Facts {
    /// Authors, busiest first.
    authors: Vec<(String, usize)>,
    /// Endings of paths, commonest first.
    endings: Vec<String>,
    /// Commit times, ascending.
    times: Vec<i64>,
    /// Changes of the path that is changed most.
    most_touched: usize,
}

impl Facts {
    fn of(history: &[Transaction]) -> Self {
        let mut authors: HashMap<&str, usize> = HashMap::new();
        let mut endings: HashMap<String, usize> = HashMap::new();
        let mut paths: HashMap<&str, usize> = HashMap::new();
        for transaction in history {
            *authors.entry(&transaction.author).or_default() += 1;
            for change in &transaction.changes {
                *endings.entry(ending(&change.path)).or_default() += 1;
                *paths.entry(&change.path).or_default() += 1;
            }
        }
        let mut times: Vec<_> = history.iter().map(|transaction| transaction.time).collect();
        times.sort_unstable();
        let authors = authors.into_iter().map(|(name, count)| (name.to_owned(), count));
        Self {
            authors: by_count(authors),
            endings: by_count(endings.into_iter()).into_iter().map(|(name, _)| name).collect(),
            times,
            most_touched: paths.into_values().max().unwrap_or(0),
        }
    }

    /// The author at a place in the order of business, from 0 (busiest) to 1.
    fn author(&self, place: f64, variant: usize) -> RecordId {
        let index = pick(self.authors.len(), place) + variant;
        let author = self.authors.get(index % self.authors.len().max(1));
        RecordId::new("author", author.map_or("nobody", |(name, _)| name.as_str()))
    }

    /// Commits of the author at a place, from 0 (busiest) to 1.
    fn commits(&self, place: f64) -> usize {
        self.authors.get(pick(self.authors.len(), place)).map_or(1, |(_, count)| *count)
    }

    /// An ending: 0 is the commonest.
    fn ending(&self, rank: usize) -> &str {
        let rank = rank % self.endings.len().max(1);
        self.endings.get(rank).map_or("none", String::as_str)
    }

    fn time(&self, place: f64) -> i64 {
        self.times.get(pick(self.times.len(), place)).copied().unwrap_or(0)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a list need not be exact"
)]
fn pick(count: usize, place: f64) -> usize {
    ((count as f64 * place) as usize).min(count.saturating_sub(1))
}

fn by_count(items: impl Iterator<Item = (String, usize)>) -> Vec<(String, usize)> {
    let mut items: Vec<_> = items.collect();
    items.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    items
}

/// What follows the last dot of a path's last part; empty without one.
pub(crate) fn ending(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_owned())
}

type Template = fn(&Facts, usize) -> (&'static str, String, String, Vec<Child>);

/// One example each; the second argument is the variant.
const TEMPLATES: [Template; 27] = [
    |f, v| plain("eq", format!("SELECT * FROM file WHERE ext = '{}'", f.ending(3 + v))),
    |f, v| {
        bound("eq", "SELECT * FROM file WHERE ext = $ext", format!("ext: '{}'", f.ending(5 + v)))
    },
    |f, v| plain("link", format!("SELECT * FROM file WHERE last_author = {}", f.author(0.1, v))),
    |f, v| {
        let author = f.author(0.2, v);
        bound("link", "SELECT * FROM `commit` WHERE author = $author", format!("author: {author}"))
    },
    |f, v| {
        let from = f.most_touched / (2 + v);
        plain(
            "range",
            format!("SELECT * FROM file WHERE touched >= {from} AND touched < {}", from * 2),
        )
    },
    |f, v| {
        let from = 0.15 * (v % 5) as f64 + 0.1;
        let (from, to) = (f.time(from), f.time(from + 0.03));
        plain("range", format!("SELECT * FROM `commit` WHERE time > {from} AND time <= {to}"))
    },
    |_, v| plain("range", format!("SELECT * FROM `commit` WHERE words > {}", 13 + v)),
    |f, v| {
        let (one, two) = (f.ending(2 + v), f.ending(4 + v));
        plain(
            "bool",
            format!("SELECT * FROM file WHERE (ext = '{one}' OR ext = '{two}') AND !(depth > 2)"),
        )
    },
    |f, v| {
        let author = f.author(0.0, v);
        plain(
            "bool",
            format!(
                "SELECT * FROM `commit` WHERE (words < 2 OR words > 16) AND author != {author}"
            ),
        )
    },
    |f, v| {
        let (one, two) = (f.ending(6 + v), f.ending(7 + v));
        plain("in list", format!("SELECT * FROM file WHERE ext IN ['{one}', '{two}']"))
    },
    |f, v| {
        let (one, two) = (f.author(0.3, v), f.author(0.5, v));
        bound(
            "in list",
            "SELECT * FROM file WHERE last_author IN $authors",
            format!("authors: [{one}, {two}]"),
        )
    },
    |_, v| {
        plain("order", format!("SELECT * FROM file ORDER BY touched DESC, id ASC LIMIT {}", 10 + v))
    },
    |_, v| {
        plain(
            "order",
            format!("SELECT * FROM `commit` ORDER BY time DESC, id ASC LIMIT {}", 20 + v),
        )
    },
    |_, v| {
        plain(
            "order, start",
            format!("SELECT * FROM author ORDER BY commits DESC, id ASC LIMIT 5 START {}", 3 + v),
        )
    },
    |f, v| {
        plain(
            "order, start",
            format!(
                "SELECT * FROM file WHERE ext = '{}' ORDER BY touched DESC, id ASC LIMIT 10 START 5",
                f.ending(v)
            ),
        )
    },
    |f, v| {
        nested(
            "one",
            format!(
                "SELECT *, (SELECT * FROM author WHERE id = $parent.last_author LIMIT 1)[0] AS who \
                 FROM file WHERE ext = '{}'",
                f.ending(4 + v)
            ),
            vec![child("who", vec![])],
        )
    },
    |_, v| {
        nested(
            "one",
            format!(
                "SELECT *, (SELECT * FROM author WHERE id = $parent.author LIMIT 1)[0] AS who \
                 FROM `commit` WHERE words > {}",
                15 + v
            ),
            vec![child("who", vec![])],
        )
    },
    |_, v| {
        nested(
            "many",
            format!(
                "SELECT *, (SELECT * FROM file WHERE last_commit = $parent.id) AS files \
                 FROM `commit` WHERE words = {}",
                12 + v
            ),
            vec![child("files", vec![])],
        )
    },
    |f, v| {
        nested(
            "many",
            format!(
                "SELECT *, (SELECT * FROM `commit` WHERE author = $parent.id AND words > 6 \
                 ORDER BY time DESC, id ASC LIMIT {}) AS recent FROM author WHERE commits >= {}",
                3 + v,
                f.commits(0.05).max(2)
            ),
            vec![child("recent", vec![])],
        )
    },
    |f, v| {
        nested(
            "nested",
            format!(
                "SELECT *, (SELECT *, (SELECT * FROM author WHERE id = $parent.author LIMIT 1)[0] \
                 AS who FROM `commit` WHERE id = $parent.last_commit LIMIT 1)[0] AS last \
                 FROM file WHERE ext = '{}'",
                f.ending(5 + v)
            ),
            vec![child("last", vec![child("who", vec![])])],
        )
    },
    |f, v| {
        nested(
            "nested",
            format!(
                "SELECT *, (SELECT *, (SELECT * FROM file WHERE last_commit = $parent.id) AS files \
                 FROM `commit` WHERE author = $parent.id ORDER BY time DESC, id ASC LIMIT 2) AS recent \
                 FROM author WHERE commits >= {} AND first_seen > {}",
                f.commits(0.08).max(2),
                f.time(0.1 * (v % 4) as f64)
            ),
            vec![child("recent", vec![child("files", vec![])])],
        )
    },
    |_, v| {
        plain(
            "in select",
            format!(
                "SELECT * FROM file WHERE last_commit IN (SELECT VALUE id FROM `commit` WHERE words > {})",
                14 + v
            ),
        )
    },
    |f, v| {
        plain(
            "in select",
            format!(
                "SELECT * FROM `commit` WHERE author IN \
                 (SELECT VALUE id FROM author WHERE commits > {} AND commits < {})",
                4 + v,
                f.commits(0.1).max(8 + v)
            ),
        )
    },
    |_, v| plain("not", format!("SELECT * FROM file WHERE !(depth < {} OR touched > 3)", 5 + v)),
    |_, v| plain("function", format!("SELECT * FROM file WHERE string::len(ext) > {}", 6 + v)),
    |_, v| plain("arithmetic", format!("SELECT * FROM author WHERE commits % {} = 0", 11 + v)),
    |f, v| {
        plain(
            "run again",
            format!("SELECT * FROM file WHERE string::slug(ext) = '{}'", f.ending(4 + v)),
        )
    },
];

fn plain(kind: &'static str, surql: String) -> (&'static str, String, String, Vec<Child>) {
    (kind, surql, "{}".into(), Vec::new())
}

fn bound(
    kind: &'static str,
    surql: &str,
    params: String,
) -> (&'static str, String, String, Vec<Child>) {
    (kind, surql.into(), format!("{{ {params} }}"), Vec::new())
}

fn nested(
    kind: &'static str,
    surql: String,
    children: Vec<Child>,
) -> (&'static str, String, String, Vec<Child>) {
    (kind, surql, "{}".into(), children)
}

fn child(alias: &str, children: Vec<Child>) -> Child {
    Child { alias: alias.into(), children }
}

/// The first `count` views for a history.
pub(crate) fn views(history: &[Transaction], count: usize) -> Vec<View> {
    let facts = Facts::of(history);
    (0..count)
        .map(|index| {
            let template = TEMPLATES[index % TEMPLATES.len()];
            let (kind, surql, params, children) = template(&facts, index / TEMPLATES.len());
            let id = format!("demo{index:03}");
            View { id, kind: kind.into(), surql, params, children }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_many_and_of_many_kinds() {
        let history: Vec<_> =
            revenant_testdata::history::Reader::small().collect::<Result<_, _>>().unwrap();
        let views = views(&history, 48);
        let kinds: std::collections::BTreeSet<_> = views.iter().map(|view| &view.kind).collect();
        assert_eq!(views.len(), 48);
        assert!(kinds.len() >= 8, "{kinds:?}");
    }

    #[test]
    fn an_ending_is_of_the_last_part() {
        assert_eq!(ending("a.b/c"), "");
        assert_eq!(ending("a/b.tar.gz"), "gz");
        assert_eq!(ending(".gitignore"), "gitignore");
    }
}
