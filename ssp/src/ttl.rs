//! The sweep: views whose clients went away are given up. It decides nothing by this machine's clock,
//! and asks again in the same statement that deletes.

use tokio::time::{MissedTickBehavior, interval};

use crate::scheduler::Scheduler;
use crate::service::Context;
use crate::session::Session;
use crate::views::Refusal;

/// Sweeps at the configured interval, for ever.
pub(crate) async fn sweep(context: &Context, session: &Session, scheduler: &Scheduler) {
    let mut ticks = interval(context.config.ttl_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, when nothing can have expired unseen.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if let Err(refusal) = once(context, session, scheduler).await {
            tracing::warn!(%refusal, "the sweep of expired views is repeated later");
        }
    }
}

async fn once(context: &Context, session: &Session, scheduler: &Scheduler) -> Result<(), Refusal> {
    for id in context.sink.expired(&context.config.ssp_id).await? {
        if session.views.expire(&id).await? {
            tracing::info!(view = id, "expired");
            tell(scheduler, &id).await;
        }
    }
    let ids = session.views.ids();
    for id in context.sink.missing(&ids).await? {
        // A registration may be about to write the row; it holds the door until it has.
        let still = context.sink.missing(std::slice::from_ref(&id)).await?;
        if !still.is_empty() && session.views.entry(&id).is_some() {
            tracing::info!(view = id, "its client deleted it");
            session.views.unregister(&id, None).await?;
            tell(scheduler, &id).await;
        }
    }
    Ok(())
}

/// The scheduler would assign the view again; if it cannot be told now, the view expires again then.
pub(crate) async fn tell(scheduler: &Scheduler, id: &str) {
    if let Err(error) = scheduler.forget_view(id).await {
        tracing::warn!(view = id, %error, "the scheduler was not told that a view is gone");
    }
}
