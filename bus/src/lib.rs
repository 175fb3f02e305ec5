//! How records move between stages: the embedded log.
