//! The option, from where it is typed to what it means for a step.

use std::ffi::{CStr, c_int};
use std::sync::Mutex;

use ffi::spank::log::{To, write_line};
use ffi::spank::sys::OptionCallback;
use ffi::spank::{Context, Spank, context};
use launch::site::{Asked, SiteConfig, VARIABLE};
use once_cell::sync::OnceCell;
use topology::option::{Items, USAGE};
use topology::words;

use crate::log;

const NAME: &CStr = c"gpu-numa-bind";
const ARGINFO: &CStr = c"[item,...]";
static CONFIG: OnceCell<SiteConfig> = OnceCell::new();
static GIVEN: Mutex<Option<String>> = Mutex::new(None);

/// Registers the option and keeps the site's configuration.
pub(crate) fn register(spank: &Spank<'_>, args: &[String], callback: OptionCallback) {
    log::start();
    let config = CONFIG.get_or_init(|| SiteConfig::parse(args));
    let registered = spank.register_option(NAME, ARGINFO, USAGE, callback);
    if let (Err(error), false) = (registered, context() == Context::Slurmd) {
        tracing::warn!("{}", words::no_option_line(&error));
    }
    if context() == Context::Remote {
        for problem in &config.problems {
            tracing::warn!("{}", words::argument_left_out(problem));
        }
    }
}

/// The site's configuration.
pub(crate) fn config() -> &'static SiteConfig {
    CONFIG.get_or_init(SiteConfig::default)
}

/// Takes the option's value; where it is typed, a bad one is refused with what is accepted.
///
/// May be called more than once: the last value counts.  An option without a value comes as nothing, as
/// the empty text, and, through the environment of sbatch and salloc, as what printf makes of a null
/// pointer (seen on 22.05).
pub(crate) fn take(text: &str, remote: bool) -> c_int {
    let text = if text == "(null)" { "" } else { text };
    if !remote && let Err(problem) = Items::parse(text) {
        write_line(To::Error, &format!("gpu-numa-bind: {problem}"));
        return -1;
    }
    if let Ok(mut given) = GIVEN.lock() {
        *given = Some(text.to_owned());
    }
    0
}

/// In srun, sbatch and salloc: a bad `GPU_NUMA_BIND` and a bad plugstack line are said where someone
/// reads it, when binding is asked for.
pub(crate) fn check_where_typed() {
    if !matches!(context(), Context::Local | Context::Allocator) {
        return;
    }
    if GIVEN.lock().map_or(true, |given| given.is_none()) {
        return;
    }
    if let Ok(text) = std::env::var(VARIABLE)
        && let Err(problem) = Items::parse(&text)
    {
        let line = words::variable_left_out(&problem);
        write_line(To::Error, &format!("gpu-numa-bind: {line}"));
    }
    for problem in &config().problems {
        let line = words::argument_left_out(problem);
        write_line(To::Error, &format!("gpu-numa-bind: {line}"));
    }
}

/// What holds for a step whose environment has `variable`; none where binding is asked for by neither user nor site.
pub(crate) fn resolve(variable: Option<&str>) -> Option<Asked> {
    let given = GIVEN.lock().ok().and_then(|given| given.clone());
    config().resolve(given.as_deref(), variable)
}
