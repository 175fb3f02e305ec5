//! Commits what fusion decided until it is done.

use crest_core::WallTime;
use crest_core::crash::{Stage, around};
use crest_core::store::{Committed, FusionCommit};

use super::super::insist;
use crate::serve::Parts;

/// Commits until it is done or somebody else has the partition; `None` when it is time to stop. A decision
/// that the store refuses for good must not hold up those of every other stream: then each is committed
/// alone, and what is refused is told in the log.
pub(super) async fn keep(parts: &Parts, commit: FusionCommit, now: WallTime) -> crest_core::Result<Option<Committed>> {
    let shutdown = &parts.shutdown;
    let whole = || around(Stage::Fuse, parts.store.commit_fusion(&commit, now));
    match insist("committing decisions", shutdown, whole).await {
        Err(error) if !commit.decisions.is_empty() => {
            tracing::error!(%error, "decisions are committed one by one");
        }
        done => return done,
    }
    let FusionCommit { claim, decisions, snapshots, finished, offset } = commit;
    for decided in decisions {
        let told = decided.decision.highlight();
        let (id, stream, session) = (told.id.clone(), told.stream_id.clone(), told.session.number());
        let alone = FusionCommit { decisions: vec![decided], ..FusionCommit::new(claim) };
        match insist("committing a decision", shutdown, || parts.store.commit_fusion(&alone, now)).await {
            Ok(Some(Committed::Kept)) => {}
            Ok(other) => return Ok(other),
            Err(error) => {
                metrics::counter!("crest_decisions_refused_total").increment(1);
                tracing::error!(stream_id = %stream, session, highlight_id = %id, %error, "a decision was refused; please report this");
            }
        }
    }
    let rest = FusionCommit { snapshots, finished, offset, ..FusionCommit::new(claim) };
    insist("committing fusion's state", shutdown, || parts.store.commit_fusion(&rest, now)).await
}
