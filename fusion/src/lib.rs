//! Signals become highlights: windows, dimensions, decisions.
