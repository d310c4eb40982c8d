//! Breaks rules of the view engine on purpose, one at a time on a copy of the repository, and shows which test
//! notices. A rule whose text is not there any more is an error: the list follows the code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

/// The tests that are to notice.
const MODULES: [&str; 3] = ["functions::", "permissions::", "views::"];

/// A rule, and how it is broken.
struct Mutant {
    rule: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const MUTANTS: [Mutant; 33] = [
    Mutant {
        rule: "a row's old image finds the group that it leaves",
        file: "ssp/src/engine/step.rs",
        from: "for (prefix, when) in [(&before, When::Before), (&now, When::Now)] {",
        to: "for (prefix, when) in [(&now, When::Now)] {",
    },
    Mutant {
        rule: "a row that was in and is not is removed",
        file: "ssp/src/engine/step.rs",
        from: "(true, false) => Fate::Removed,",
        to: "(true, false) => continue,",
    },
    Mutant {
        rule: "a window is read again when a row before its bound moves",
        file: "ssp/src/engine/step.rs",
        from: "return Ok(before.iter().chain(now).any(within));",
        to: "return Ok(now.iter().any(within) || before.is_none() && now.is_none());",
    },
    Mutant {
        rule: "ties in a window are in the order of ids",
        file: "ssp/src/engine/source.rs",
        from: "encode_key(world.store.id(row).key, &mut bytes);",
        to: "let tie = bytes.len();\n            encode_key(world.store.id(row).key, &mut bytes);\n            \
             bytes[tie..].iter_mut().for_each(|byte| *byte = !*byte);",
    },
    Mutant {
        rule: "DESC reverses the order",
        file: "ssp/src/engine/source.rs",
        from: "if order.descending {",
        to: "if false && order.descending {",
    },
    Mutant {
        rule: "START skips rows",
        file: "ssp/src/engine/mod.rs",
        from: "if ranked { (key.start, 0) }",
        to: "if ranked { (key.start.saturating_sub(1), 0) }",
    },
    Mutant {
        rule: "a value that enters or leaves a set has rows asked again",
        file: "ssp/src/engine/step.rs",
        from: "self.enqueue_flipped(set, batch);",
        to: "let _ = set;",
    },
    Mutant {
        rule: "a set counts how many rows have a value",
        file: "ssp/src/engine/set.rs",
        from: "match if up { count + 1 } else { count.saturating_sub(1) } {",
        to: "match if up { 1 } else { count.saturating_sub(1) } {",
    },
    Mutant {
        rule: "a subquery moves when the value it asks for changes",
        file: "ssp/src/engine/step.rs",
        from: "if before == now {\n                    continue;\n                }",
        to: "if before != now {\n                    continue;\n                }",
    },
    Mutant {
        rule: "what changed below a row is found from the view",
        file: "ssp/src/engine/step.rs",
        from: "batch.dirty.entry(one.group).or_default().insert(one.row);",
        to: "batch.dirty.entry(one.group).or_default();",
    },
    Mutant {
        rule: "a row that came back in one batch gets its edge anew",
        file: "ssp/src/engine/edges.rs",
        from: "if edge.version != old || self.store.is_recreated(row) {",
        to: "if edge.version != old {",
    },
    Mutant {
        rule: "a change reaches the rows that look into it along a link",
        file: "ssp/src/engine/links.rs",
        from: "changed.extend(touched);",
        to: "drop(touched);",
    },
    Mutant {
        rule: "a link that leads nowhere yet is remembered",
        file: "ssp/src/query/expr.rs",
        from: "(self.see)(id);\n                match rows.body(id) {",
        to: "if rows.body(id).is_some() {\n                    (self.see)(id);\n                }\n                \
             match rows.body(id) {",
    },
    Mutant {
        rule: "NONE is a value that equals itself",
        file: "ssp/src/query/expr.rs",
        from: "(left, right) => Ok(left == right),",
        to: "(left, right) => Ok(left == right && *left != Value::None),",
    },
    Mutant {
        rule: "a range finds the blocks at its bound",
        file: "ssp/src/engine/router.rs",
        from: "by_value.range::<[u8], _>((Unbounded, Included(&*value)));",
        to: "by_value.range::<[u8], _>((Unbounded, std::ops::Bound::Excluded(&*value)));",
    },
    Mutant {
        rule: "a row that cannot be judged takes its group with it",
        file: "ssp/src/engine/step.rs",
        from: "lost_groups.insert(group_id, beyond.into());",
        to: "let _ = (beyond, &lost_groups);",
    },
    Mutant {
        rule: "an int divided by an int is an int",
        file: "ssp/src/query/function.rs",
        from: "Arithmetic::Divide => left.checked_div(*right),",
        to: "Arithmetic::Divide => left.checked_div(*right).map(|value| value + 1),",
    },
    Mutant {
        rule: "a value at a bound finds the views whose bound includes it",
        file: "ssp/src/engine/lift.rs",
        from: "How::MoreOrEqual => (Unbounded, Included(bound)),",
        to: "How::MoreOrEqual => (Unbounded, Excluded(bound)),",
    },
    Mutant {
        rule: "a new view finds the rows at its bound",
        file: "ssp/src/engine/mod.rs",
        from: "let below = |entry: &&Entry| *entry.place < *value || ends(entry);",
        to: "let below = |entry: &&Entry| *entry.place < *value && !ends(entry);",
    },
    Mutant {
        rule: "what contains more than elements is asked about every element",
        file: "ssp/src/engine/source.rs",
        from: "let both = rows(known).into_iter().chain(rows(unknown));",
        to: "let both = rows(known).into_iter().chain(rows(unknown).filter(|_| false));",
    },
    Mutant {
        rule: "a row is once among the rows of an element that it has twice",
        file: "ssp/src/engine/source.rs",
        from: "keys.dedup();",
        to: "",
    },
    Mutant {
        rule: "a regular expression among elements is asked, not looked up",
        file: "ssp/src/engine/lift.rs",
        from: "Value::Array(items) if items.iter().any(is_regex) => Elements::Unknown,",
        to: "",
    },
    Mutant {
        rule: "the rank of a row counts all runs before it",
        file: "ssp/src/engine/sorted.rs",
        from: "rank -= entries.len();",
        to: "rank -= entries.len().min(RUN_LEAST);",
    },
    Mutant {
        rule: "a run that is split stays in order",
        file: "ssp/src/engine/sorted.rs",
        from: "runs.insert(run + 1, tail);",
        to: "runs.insert(run, tail);",
    },
    Mutant {
        rule: "a view within its budget may outgrow it later",
        file: "ssp/src/engine/edges.rs",
        from: "writes.budget.allows(writes.shown.bytes)?;",
        to: "",
    },
    Mutant {
        rule: "a refused view leaves nothing",
        file: "ssp/src/engine/opening.rs",
        from: "if self.blocks.contains(block.0) && self.block(block).refs == 0 {",
        to: "if self.blocks.contains(block.0) && self.block(block).refs == usize::MAX {",
    },
    Mutant {
        rule: "everything goes with the last view",
        file: "ssp/src/engine/links.rs",
        from: "if followed.refs == 0 {",
        to: "if followed.refs == usize::MAX {",
    },
    Mutant {
        rule: "what a table lets others read is a condition of its rows",
        file: "ssp/src/query/parse.rs",
        from: "filter.extend(self.permitted(&table)?);",
        to: "self.permitted(&table)?;",
    },
    Mutant {
        rule: "a table that is denied is empty in a subquery",
        file: "ssp/src/query/parse.rs",
        from: "None | Some(Permission::None) => Ok(Some(Expr::Const(Value::Bool(false)))),",
        to: "None | Some(Permission::None) => Ok(None),",
    },
    Mutant {
        rule: "a hidden field decides nothing",
        file: "ssp/src/query/parse.rs",
        from: "refuse(hidden, ",
        to: "refuse(hidden && table.is_empty(), ",
    },
    Mutant {
        rule: "a link into a table that is read row by row has no answer",
        file: "ssp/src/query/expr.rs",
        from: "Some(_) if self.reach.is_judged(&id.table) => return Err(Beyond::Judged),",
        to: "",
    },
    Mutant {
        rule: "a query that is run again is run within the permissions",
        file: "ssp/src/query/parse/guard.rs",
        from: "left: Box::new(rule),",
        to: "left: Box::new(Sql::Literal(Literal::Bool(true))),",
    },
    Mutant {
        rule: "views that were taken in under other permissions are judged anew",
        file: "ssp/src/views.rs",
        from: "!Arc::ptr_eq(before, &rules)",
        to: "Arc::ptr_eq(before, &rules) && before.is_open()",
    },
];

fn main() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("find the repository")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let copy = target.join("mutants");
    if copy.exists() {
        fs::remove_dir_all(&copy).context("remove the last copy")?;
    }
    copy_tree(root, &copy)?;
    ensure!(test(&copy, &target)?.is_empty(), "the tests fail without any fault");
    let mut missed = Vec::new();
    for Mutant { rule, file, from, to } in &MUTANTS {
        let path = copy.join(file);
        let whole = fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
        let found = whole.matches(from).count();
        ensure!(found == 1, "{rule}: its text is {found} times in {file}, not once:\n{from}");
        fs::write(&path, whole.replace(from, to)).with_context(|| format!("write {file}"))?;
        let caught = test(&copy, &target).with_context(|| format!("break the rule: {rule}"))?;
        fs::write(&path, whole).with_context(|| format!("write {file}"))?;
        println!("{rule}: {}", if caught.is_empty() { "MISSED".into() } else { caught.join(", ") });
        if caught.is_empty() {
            missed.push(*rule);
        }
    }
    let pass = missed.is_empty();
    let line = serde_json::json!({
        "show": "mutants-views",
        "pass": pass,
        "mutants": MUTANTS.len(),
        "caught": MUTANTS.len() - missed.len(),
        "missed": missed,
    });
    println!("{line}");
    Ok(if pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests of the engine that fail in a copy. What is built of other packages is shared.
fn test(copy: &Path, target: &Path) -> Result<Vec<String>> {
    // Less optimised, since every mutant is built and then runs for seconds.
    let run = |arguments: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(copy).env("CARGO_TARGET_DIR", target).env_remove("REVENANT_ROUNDS");
        cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
        cargo.args(["test", "-q", "-p", "revenant-ssp", "--test", "it"]).args(arguments);
        cargo.output().context("run cargo")
    };
    let build = run(&["--no-run"])?;
    if !build.status.success() {
        bail!("it does not build:\n{}", String::from_utf8_lossy(&build.stderr));
    }
    let output = run(&[&["--"], MODULES.as_slice()].concat())?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The summary names each by its module, indented.
    let names = text.lines().filter_map(|line| line.strip_prefix("    "));
    let known = |name: &&str| MODULES.iter().any(|module| name.starts_with(module));
    let mut failed: Vec<_> = names.filter(known).map(str::to_owned).collect();
    failed.sort();
    failed.dedup();
    ensure!(output.status.success() == failed.is_empty(), "the tests ended otherwise:\n{text}");
    Ok(failed)
}

/// Copies what cargo needs: manifests and sources.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if name == "target" || name == ".git" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_tree(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name)).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}
