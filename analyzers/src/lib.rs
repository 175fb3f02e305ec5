//! Samples become signals.
