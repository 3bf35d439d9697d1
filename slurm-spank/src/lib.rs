//! spank
