//! GStreamer at work: demux, segment, decode, mux.
