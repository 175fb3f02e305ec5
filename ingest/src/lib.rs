//! Feeds and files become stored segments and samples.
