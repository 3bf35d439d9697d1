//! Links the unwinder into the plugin, and what a launch runs into one piece.
//!
//! The code of a launch is a fifth of the plugin's.  The kernel maps it for a new process in pieces of 64 KiB, one page
//! fault each, so `launch.ld` has the linker put it together; `tests/abi/speed.rs` writes that list and checks it.
//!
//! Slurm's programs do not have `libgcc_s.so.1`, so loading it would be most of what loading the plugin costs each of
//! them.  std names it to the linker as `gcc_s`; here that name leads to the C compiler's static copy (`libgcc_eh.a`, in
//! every GCC).  Where the C compiler has none the shared one stays, and `cargo zigbuild` links its own unwinder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=launch.ld");
    if let Ok(folder) = env::var("CARGO_MANIFEST_DIR") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-T,{folder}/launch.ld");
    }
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|is| is == value);
    let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
    // AddressSanitizer must see a panic unwind, and sees what the shared unwinder does.
    let is_sanitized = env::var_os("CARGO_CFG_SANITIZE").is_some();
    if is_sanitized || !is_native || !is("CARGO_CFG_TARGET_ENV", "gnu") || unwinder().is_none() {
        return;
    }
    let Some(folder) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return;
    };
    // A linker script; `libgcc.a` has what the unwinder itself calls.
    let script = "INPUT ( -lgcc_eh -lgcc )\n";
    if fs::write(folder.join("libgcc_s.so"), script).is_ok() {
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
}

/// The static unwinder of the C compiler that links.
fn unwinder() -> Option<PathBuf> {
    let output = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output()
        .ok()?;
    // Only its bare name where there is none.
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_absolute()
        .then_some(path)
        .filter(|path| Path::is_file(path))
}
