//! Nothing by itself: this crate is its tests.  `tests/abi` runs the real plugin in small C hosts.
