//! How the plugin is linked.

fn main() {
    // NCCL unloads its plugins with the last communicator (plugin/profiler.cc, 2.30), while threads may
    // still hold this library's thread-local state.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
