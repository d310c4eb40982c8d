//! `revenant schema ...`: what a database needs, installed or checked.

use anyhow::{Context as _, Result};
use revenant_surreal::{Db, Target, schema};

use crate::exit::Exit;
use crate::out::Out;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address of the database.
    #[arg(long, global = true, env = "SPKY_DB_WS", default_value = "ws://127.0.0.1:8666")]
    url: String,
    /// Root user.
    #[arg(long, global = true, env = "SPKY_DB_USER", default_value = "root")]
    user: String,
    /// Its password.
    #[arg(
        long,
        global = true,
        env = "SPKY_DB_PASS",
        hide_env_values = true,
        default_value = "root"
    )]
    pass: String,
    /// Namespace.
    #[arg(long, global = true, env = "SPKY_DB_NS", default_value = "main")]
    ns: String,
    /// Database.
    #[arg(long, global = true, env = "SPKY_DB_NAME", default_value = "main")]
    db: String,
    /// Print JSON, a line per item.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Define what is missing. Running it again changes nothing.
    Install,
    /// Say what is missing or unsafe, and the statement that mends it. Changes nothing.
    Check,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let target = Target {
        url: args.url,
        user: args.user,
        password: args.pass,
        namespace: args.ns,
        database: args.db,
    };
    let db = Db::connect(&target).await.with_context(|| format!("connect to {target:?}"))?;
    match args.command {
        Command::Install => install(&db, args.json).await,
        Command::Check => check(&db, args.json).await,
    }
}

async fn install(db: &Db, as_json: bool) -> Result<Exit> {
    let tables = schema::install(db).await.context("install the schema")?;
    let mut out = Out::new();
    for table in tables {
        if as_json {
            out.json(&serde_json::json!({ "table": table, "status": "installed" }))?;
        } else {
            out.line(format_args!("{table}: feed and versions are kept"))?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

async fn check(db: &Db, as_json: bool) -> Result<Exit> {
    let findings = schema::check(db).await.context("check the schema")?;
    let mut out = Out::new();
    for finding in &findings {
        if as_json {
            out.json(finding)?;
        } else {
            out.line(format_args!("{} {}: {}", finding.severity, finding.name, finding.detail))?;
            out.line(format_args!("  {}", finding.fix))?;
        }
    }
    out.flush()?;
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Found })
}
