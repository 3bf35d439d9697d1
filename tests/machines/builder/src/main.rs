//! Gives a declared machine to scripts.
//!
//! ```text
//! gpu-numa-machine --list [--qemu]            the machines, one line each; those that QEMU can be
//! gpu-numa-machine NAME --root FOLDER         its filesystem root: sys/, proc/, dev/, etc/
//! gpu-numa-machine NAME --sys FOLDER [CPUS]   only what is below sys/, with as many CPUs
//! gpu-numa-machine NAME --qemu                the identities for fakepci.so, then QEMU's arguments, a line each
//! gpu-numa-machine NAME --seed                a seed of the fuzz target `tree`
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program for scripts"
)]

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpu-numa-machine: {error}");
            ExitCode::from(2)
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "names and seeds of our own machines"
)]
fn run(words: &[&str]) -> Result<(), Box<dyn Error>> {
    match words {
        ["--list", rest @ ..] => {
            let mut out = std::io::stdout().lock();
            for name in machines::names()? {
                let machine = machines::load(&name)?;
                if rest != ["--qemu"] || machine.qemu().is_ok() {
                    writeln!(out, "{name}: {}", machine.about)?;
                }
            }
        }
        [name, "--root", folder] => machines::load(name)?.tree().write(Path::new(folder))?,
        [name, "--sys", folder, rest @ ..] => {
            let mut machine = machines::load(name)?;
            if let [count] = rest {
                let count: u32 = count.parse()?;
                let cpus: Vec<u32> = (0..count).collect();
                machine = machine.on_cpus(&cpus);
            }
            machine.tree().below("sys").write(Path::new(folder))?;
        }
        [name, "--qemu"] => {
            let machine = machines::load(name)?;
            let qemu = machine.qemu().map_err(|error| format!("{name}: {error}"))?;
            println!("{}", qemu.identities);
            for argument in qemu.arguments {
                println!("{argument}");
            }
        }
        [name, "--seed"] => std::io::stdout().write_all(&machines::load(name)?.tree().seed())?,
        _ => {
            return Err(
                "expected --list, or NAME and --root FOLDER, --sys FOLDER [CPUS], --qemu or --seed"
                    .into(),
            );
        }
    }
    Ok(())
}
