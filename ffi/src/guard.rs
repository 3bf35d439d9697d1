//! What becomes of a panic in a plugin: nothing that its host would notice.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::sync::OnceLock;

/// Where a line about a panic goes.
pub type Sink = fn(&str);

static SINK: OnceLock<Sink> = OnceLock::new();

/// Runs `body`; none where it panicked.
///
/// Place and text of a panic go to the sink of the first call: the default hook writes on the user's
/// stderr.  The hook is this library's own, for std is linked into it.
pub fn run<T>(sink: Sink, body: impl FnOnce() -> T) -> Option<T> {
    SINK.get_or_init(|| {
        set_hook(Box::new(quiet));
        sink
    });
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // Dropping a payload may panic again.
            std::mem::forget(payload);
            None
        }
    }
}

fn quiet(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let fixed = payload.downcast_ref::<&str>().copied();
    let what = fixed
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("");
    if let Some(sink) = SINK.get() {
        sink(&format!("{place}: {what}"));
    }
}
