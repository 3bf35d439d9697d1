//! Hands `tracing` events to Slurm's logger.
//!
//! Used before the fork only.  It holds no lock and no buffer; `tracing`'s own registry is this library's
//! copy, which no other thread of slurmstepd touches.

use std::fmt::{Debug, Write as _};

use ffi::spank::log::{To, write_line};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

struct ToSlurm;

impl Subscriber for ToSlurm {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line("gpu-numa-bind:".to_owned());
        event.record(&mut line);
        let to = match *event.metadata().level() {
            Level::ERROR | Level::WARN => To::Error,
            Level::INFO => To::Info,
            _ => To::Debug,
        };
        write_line(to, &line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Makes Slurm's logger the receiver of all events of this library.
pub(crate) fn start() {
    let _ = tracing::subscriber::set_global_default(ToSlurm);
}
