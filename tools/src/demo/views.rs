//! Registers views at the scheduler, as a client's database function does: some before the load, the rest
//! while writers are active.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::plan::View;
use super::site::{Client, Site};

/// How long a registration is tried: services may be down, or busy starting.
const TRY_MOST: Duration = Duration::from_secs(120);

/// Registers `view`; on return its edges are stored.
pub(crate) async fn register(site: &Site, client: &Client, view: &View) -> Result<()> {
    let url = format!("{}/view/register", site.scheduler_url());
    let body = json!({
        "id": format!("_00_query:{}", view.id),
        "surql": view.surql,
        "params": view.params,
        "clientId": "demo",
        "ttl": "1d",
        "lastActiveAt": jiff::Timestamp::now().to_string(),
    });
    let begun = Instant::now();
    loop {
        let answer = client.post(&url, &body).await;
        match &answer {
            Ok((200, _)) => return Ok(()),
            Ok((status @ 400..500, text)) => {
                bail!("view {} is refused with {status}: {text} ({})", view.id, view.surql)
            }
            _ if begun.elapsed() > TRY_MOST => {
                bail!("view {} cannot be registered: {answer:?} ({})", view.id, view.surql)
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
