//! Says in one line what to install where hwloc is missing; the crates that bind it say it at length, and not what
//! package has it.

#![allow(clippy::print_stdout, reason = "how a build script talks to cargo")]

use std::env;
use std::ffi::OsString;
use std::process::Command;

const PACKAGES: &str = "libhwloc-dev and pkg-config (Debian, Ubuntu), hwloc-devel and pkgconf-pkg-config (EL, Fedora), \
                        hwloc-devel and pkg-config (SUSE)";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // For another machine pkg-config is asked in a way that only the crates below know.
    if env::var_os("HOST") != env::var_os("TARGET") {
        return;
    }
    let tool = env::var_os("PKG_CONFIG").unwrap_or_else(|| OsString::from("pkg-config"));
    let found = Command::new(tool)
        .args(["--exists", "hwloc >= 2.0"])
        .status();
    if !found.is_ok_and(|status| status.success()) {
        println!("cargo::error=hwloc 2 is not found (pkg-config hwloc); install {PACKAGES}");
    }
}
