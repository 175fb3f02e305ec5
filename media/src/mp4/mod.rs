//! MP4 as crest stores and hands it out: fragmented segments, and progressive clips cut from them.

pub(crate) mod entry;
pub(crate) mod fragment;
pub(crate) mod init;
pub(crate) mod progressive;
pub(crate) mod read;
pub(crate) mod track;
