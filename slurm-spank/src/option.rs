//! The option, from where it is typed to what it means for a step.

use std::ffi::{CStr, c_int};
use std::sync::Mutex;

use ffi::spank::log::{To, write_line};
use ffi::spank::sys::OptionCallback;
use ffi::spank::{Context, Spank, context};
use once_cell::sync::OnceCell;
use topology::option::{Items, Nccl, Settings, Verbosity};

use crate::config::Config;
use crate::log;

const NAME: &CStr = c"gpu-numa-bind";
const ARGINFO: &CStr = c"[item,...]";
const USAGE: &CStr = c"bind each task to its GPUs' CPUs and memory; items: \
policy none|best-effort|restricted|single-numa-node (off: not at all), \
width exclusive|node|socket|l3, mem=preferred|bind|interleave|none, \
map=auto|visible|localid, nccl=on|topo|log|off, verbose|quiet, override";

static CONFIG: OnceCell<Config> = OnceCell::new();
static GIVEN: Mutex<Option<String>> = Mutex::new(None);

/// Registers the option and keeps the site's configuration.
pub(crate) fn register(spank: &Spank<'_>, args: &[String], callback: OptionCallback) {
    log::start();
    let config = CONFIG.get_or_init(|| Config::parse(args));
    let registered = spank.register_option(NAME, ARGINFO, USAGE, callback);
    if let (Err(error), false) = (registered, context() == Context::Slurmd) {
        tracing::warn!("{error}; --gpu-numa-bind is not available");
    }
    if context() == Context::Remote {
        for problem in &config.problems {
            tracing::warn!("{problem}; left out");
        }
    }
}

/// The site's configuration.
pub(crate) fn config() -> &'static Config {
    CONFIG.get_or_init(Config::default)
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
    if let Ok(text) = std::env::var("GPU_NUMA_BIND")
        && let Err(problem) = Items::parse(&text)
    {
        write_line(
            To::Error,
            &format!("gpu-numa-bind: GPU_NUMA_BIND: {problem}; that item is left out"),
        );
    }
    for problem in &config().problems {
        write_line(To::Error, &format!("gpu-numa-bind: {problem}; left out"));
    }
}

/// What holds for a step.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Every kind decided.
    pub(crate) settings: Settings,
    /// `nccl=` as the site itself says it.
    pub(crate) site_nccl: Option<Nccl>,
    /// What was not understood or not allowed, a line each.
    pub(crate) problems: Vec<String>,
}

/// Puts option, `GPU_NUMA_BIND` and plugstack together; absent when nobody asks for binding.
pub(crate) fn resolve(environment: Option<&str>) -> Option<Asked> {
    let given = GIVEN.lock().ok().and_then(|given| given.clone());
    let config = config();
    if given.is_none() && config.always.is_none() {
        return None;
    }
    let mut problems = Vec::new();
    let mut read = |name: &str, text: Option<&str>| {
        let (items, odd) = Items::parse_leniently(text.unwrap_or(""));
        problems.extend(
            odd.iter()
                .map(|problem| format!("{name}: {problem}; left out")),
        );
        items
    };
    let option = read("--gpu-numa-bind", given.as_deref());
    let variable = read("GPU_NUMA_BIND", environment);
    let mut user = option.or(&variable);
    for kind in user.drop_kinds(&config.locked) {
        problems.push(format!(
            "this site decides the {kind} itself; yours is left out"
        ));
    }
    let site = config
        .always
        .clone()
        .unwrap_or_default()
        .or(&config.default);
    let all = user.or(&site);
    let mut settings = Settings::from(&all);
    // Only a user who asked is told that all is well.
    if given.is_none() && all.report.is_none() {
        settings.report = Verbosity::Quiet;
    }
    Some(Asked {
        settings,
        site_nccl: site.nccl,
        problems,
    })
}
