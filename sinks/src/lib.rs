//! Highlights become clips and webhooks.
