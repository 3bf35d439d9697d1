//! Our declarations of NCCL's plugin tables against NVIDIA's own headers, which are in NCCL's source alone.
//!
//! `NCCL_SOURCE` names the source of one version (`make test-nccl-headers NCCL_SOURCE=DIR`).  Without it, and where
//! it lacks a header, this fails.  Compared are the headers that NCCL itself is built with, and the copies that it
//! gives to writers of plugins: each constant, the place and size of each field, the arguments of each function, and
//! that no structure of ours that NCCL fills in is longer than NCCL's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a header that cannot be read should fail the test"
)]

use std::any::type_name;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt::Write;
use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};

use ffi::nccl::sys::{self, CollApi, P2pApi};
use nccl_topo::rules::{Rules, Version, env_interfaces, profiler_interfaces};

/// A number of ours and the C expression that it must equal.
struct Number {
    expression: String,
    ours: i128,
}

/// A function of a table of ours, by its Rust type.
struct Function {
    table: String,
    field: &'static str,
    ours: &'static str,
}

/// What is to be compared.
#[derive(Default)]
struct Checks {
    numbers: Vec<Number>,
    /// Structures of ours that may be no longer than NVIDIA's.
    at_most: Vec<Number>,
    functions: Vec<Function>,
}

/// The size of a field, whose owner is known by type.
fn size_of_field<T, U>(_: fn(&T) -> &U) -> usize {
    size_of::<U>()
}

/// Adds the fields of `$rust`, which stands `$start` bytes into the C type `$c` as its member `$member`.
macro_rules! fields {
    ($checks:expr, $c:expr, $member:literal, $start:expr, $rust:ty: $($field:ident $name:literal),* $(,)?) => {
        $($checks.field(
            $c,
            &format!("{}{}", $member, $name),
            $start + offset_of!($rust, $field),
            size_of_field(|value: &$rust| &value.$field),
        );)*
    };
}

impl Checks {
    fn number(&mut self, expression: impl Into<String>, ours: impl TryInto<i128>) {
        let ours = ours.try_into().ok().expect("it fits");
        let expression = expression.into();
        self.numbers.push(Number { expression, ours });
    }

    fn field(&mut self, c: &str, member: &str, offset: usize, size: usize) {
        self.number(format!("offsetof({c}, {member})"), offset);
        self.number(format!("sizeof((({c}*)0)->{member})"), size);
    }

    fn at_most(&mut self, c: &str, size: usize) {
        self.at_most.push(Number {
            expression: format!("sizeof({c})"),
            ours: i128::try_from(size).unwrap(),
        });
    }

    fn function<F>(&mut self, c: &str, field: &'static str, _: fn(&F)) {
        self.functions.push(Function {
            table: c.to_owned(),
            field,
            ours: type_name::<F>(),
        });
    }

    fn constants(&mut self, profiler: u8) {
        self.number("ncclSuccess", sys::SUCCESS);
        self.number("NCCL_LOG_INFO", sys::LOG_INFO);
        self.number("(unsigned long)NCCL_ALL", sys::ALL_SUBSYSTEMS);
        self.number("ncclProfileGroup", sys::GROUP);
        self.number("ncclProfileColl", sys::COLL);
        self.number("ncclProfileP2p", sys::P2P);
        if profiler >= 5 {
            self.number("ncclProfileCollApi", sys::COLL_API);
            self.number("ncclProfileP2pApi", sys::P2P_API);
        }
        if profiler >= 6 {
            self.number("ncclProfileCeColl", sys::CE_COLL);
        }
    }

    fn collective(&mut self, c: &str, start: usize) {
        fields!(self, c, "coll.", start, sys::Coll: seq_number "seqNumber", func "func", send_buff "sendBuff",
            recv_buff "recvBuff", count "count", root "root", datatype "datatype", channels "nChannels",
            warps "nWarps", algo "algo", proto "proto");
    }

    fn peer(&mut self, c: &str, start: usize) {
        fields!(self, c, "p2p.", start, sys::P2p: func "func", buff "buff", datatype "datatype", count "count",
            peer "peer", channels "nChannels");
    }

    fn calls(&mut self, c: &str, start: usize) {
        fields!(self, c, "collApi.", start, CollApi: func "func", count "count", datatype "datatype", root "root",
            stream "stream", graph_captured "graphCaptured");
        fields!(self, c, "p2pApi.", start, P2pApi: func "func", count "count", datatype "datatype",
            stream "stream", graph_captured "graphCaptured");
    }

    fn descriptor_v4(&mut self) {
        let c = "ncclProfilerEventDescr_v4_t";
        fields!(self, c, "", 0, sys::DescriptorV4: kind "type", parent "parentObj", rank "rank");
        let body = offset_of!(sys::DescriptorV4, body);
        self.collective(c, body);
        self.peer(c, body);
        self.at_most(c, size_of::<sys::DescriptorV4>());
    }

    /// Descriptors from v5 on.
    fn descriptor(&mut self, version: u8) {
        let c = &format!("ncclProfilerEventDescr_v{version}_t");
        fields!(self, c, "", 0, sys::DescriptorV5: kind "type", parent "parentObj", rank "rank");
        let body = offset_of!(sys::DescriptorV5, body);
        assert_eq!(body, offset_of!(sys::DescriptorV7, body));
        self.collective(c, body);
        self.peer(c, body);
        self.calls(c, body);
        if version >= 6 {
            fields!(self, c, "ceColl.", body, sys::CeColl: seq_number "seqNumber", func "func");
        }
        if version >= 7 {
            fields!(self, c, "coll.", body, sys::CollV7: parent_group "parentGroup",
                kernel_variant "kernelVariant", is_symmetric "isSymColl");
        }
        let size = match version {
            7.. => size_of::<sys::DescriptorV7>(),
            _ => size_of::<sys::DescriptorV5>(),
        };
        self.at_most(c, size);
    }

    fn profiler(&mut self, version: u8) {
        match version {
            4 => {
                self.descriptor_v4();
                self.profiler_table::<sys::InitV4, sys::DescriptorV4>(version);
            }
            5 | 6 => {
                self.descriptor(version);
                self.profiler_table::<sys::InitV5, sys::DescriptorV5>(version);
            }
            7 => {
                self.descriptor(version);
                self.profiler_table::<sys::InitV5, sys::DescriptorV7>(version);
            }
            _ => panic!("profiler v{version} is not declared in ffi/src/nccl/sys.rs"),
        }
    }

    fn profiler_table<I, D>(&mut self, version: u8) {
        let c = &format!("ncclProfiler_v{version}_t");
        type Table<I, D> = sys::Profiler<I, D>;
        fields!(self, c, "", 0, Table<I, D>: name "name", init "init", start_event "startEvent",
            stop_event "stopEvent", record_event_state "recordEventState", finalize "finalize");
        // Ours may be longer, for NCCL reads no further than its own.
        self.number(format!("sizeof({c})"), offset_of!(Table<I, D>, reserved));
        self.function(c, "init", |_: &I| ());
        self.function(c, "startEvent", |_: &sys::StartEvent<D>| ());
        self.function(c, "stopEvent", |_: &sys::StopEvent| ());
        self.function(c, "recordEventState", |_: &sys::RecordEventState| ());
        self.function(c, "finalize", |_: &sys::Finalize| ());
    }

    fn env(&mut self, version: u8) {
        match version {
            1 => self.env_table::<sys::EnvInitV1>(version),
            2 => self.env_table::<sys::EnvInitV2>(version),
            _ => panic!("env plugin v{version} is not declared in ffi/src/nccl/sys.rs"),
        }
    }

    fn env_table<I>(&mut self, version: u8) {
        let c = &format!("ncclEnv_v{version}_t");
        fields!(self, c, "", 0, sys::Env<I>: name "name", init "init", finalize "finalize", get_env "getEnv");
        self.number(format!("sizeof({c})"), size_of::<sys::Env<I>>());
        self.function(c, "init", |_: &I| ());
        self.function(
            c,
            "finalize",
            |_: &unsafe extern "C" fn() -> sys::NcclResult| (),
        );
        type GetEnv = unsafe extern "C" fn(*const std::ffi::c_char) -> *const std::ffi::c_char;
        self.function(c, "getEnv", |_: &GetEnv| ());
    }

    /// Reads the headers and compares; what differs, in words.
    fn differences(&self, headers: &Headers) -> Vec<String> {
        let mut source = headers.includes.clone();
        let all = || self.numbers.iter().chain(&self.at_most);
        for (index, number) in all().enumerate() {
            let expression = &number.expression;
            let line = format!("static const long long check_{index} = (long long)({expression});");
            writeln!(source, "{line}").unwrap();
        }
        let mut builder = bindgen::Builder::default()
            .header_contents("all.hpp", &source)
            .clang_args(["-x", "c++", "-std=c++17", "-Wno-everything"])
            .default_enum_style(bindgen::EnumVariation::Consts)
            .layout_tests(false)
            .allowlist_var("check_.*")
            .allowlist_type("nccl(Profiler|Env)_v[0-9]+_t");
        for folder in &headers.folders {
            builder = builder.clang_arg(format!("-I{}", folder.display()));
        }
        let bindings = builder
            .generate()
            .unwrap_or_else(|error| panic!("{}: {error}", headers.what));
        let text: String =
            bindings
                .to_string()
                .split_whitespace()
                .fold(String::new(), |text, word| {
                    if text.is_empty() {
                        word.to_owned()
                    } else {
                        text + " " + word
                    }
                });
        let mut found = Vec::new();
        for (index, number) in all().enumerate() {
            let Number { expression, ours } = number;
            let theirs = between(&text, &format!("pub const check_{index}: "), ";")
                .and_then(|rest| rest.split("= ").nth(1)?.trim().parse::<i64>().ok());
            let theirs = theirs.unwrap_or_else(|| panic!("{expression} has no value"));
            // An unsigned long that does not fit comes as its bits.
            let bits = i128::from(theirs.cast_unsigned());
            let theirs = i128::from(theirs);
            let same = *ours == theirs || *ours == bits;
            let fits = index >= self.numbers.len() && *ours <= theirs;
            if !same && !fits {
                found.push(format!("{expression}: ours is {ours}, theirs is {theirs}"));
            }
        }
        for Function { table, field, ours } in &self.functions {
            let body = between(&text, &format!("pub struct {table} {{"), "} ").unwrap_or_default();
            let theirs = between(body, &format!("pub {field}: "), ">, pub ");
            let theirs = theirs.or_else(|| body.split(&format!("pub {field}: ")).nth(1));
            let theirs = theirs.unwrap_or_else(|| panic!("{table} has no {field}: {body}"));
            let (ours, theirs) = (passed(ours, &text), passed(theirs, &text));
            if ours != theirs {
                found.push(format!(
                    "{table}.{field}: ours is {ours:?}, theirs is {theirs:?}"
                ));
            }
        }
        found
    }
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    text.split_once(start)?.1.split(end).next()
}

/// How a function's arguments and result are passed: each as `pointer` or by its size and sign.
///
/// `text` holds the types that have other names.
fn passed(signature: &str, text: &str) -> Vec<&'static str> {
    let start = signature.find("fn(").expect("a function") + "fn(".len();
    let mut depth = 0;
    let mut parts = vec![String::new()];
    let mut rest = "";
    for (at, c) in signature[start..].char_indices() {
        match c {
            '(' | '<' => depth += 1,
            ')' if depth == 0 => {
                rest = &signature[start + at + 1..];
                break;
            }
            '>' if parts.last().unwrap().ends_with('-') => {}
            ')' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    parts.retain(|part| !part.trim().is_empty());
    let result = rest.trim_start().strip_prefix("->").unwrap_or_default();
    let end = result.find([',', '>', ' ']).filter(|end| *end > 1);
    let result = result.trim_start();
    let result = if result.starts_with('*') {
        result
    } else {
        &result[..end.map_or(result.len(), |end| end - 1)]
    };
    parts.push(result.to_owned());
    parts.iter().map(|part| way(part, text)).collect()
}

/// How a value of one type is passed.
fn way(part: &str, text: &str) -> &'static str {
    let part = part.trim();
    // bindgen names arguments; a path has two colons.
    let named = part
        .split_once(": ")
        .filter(|(name, _)| !name.contains([':', ' ', '*', '<']));
    let kind = named.map_or(part, |(_, kind)| kind).trim();
    if kind.starts_with('*') || kind.contains("fn(") || kind.contains("Option<") {
        return "pointer";
    }
    let word = kind
        .rsplit("::")
        .next()
        .unwrap_or(kind)
        .trim_end_matches([',', '>', ' ']);
    match word {
        "i32" | "c_int" | "u32" | "c_uint" => "4 bytes",
        "u64" | "c_ulong" | "usize" => "8 bytes",
        "u8" | "c_uchar" => "1 byte",
        "()" | "" => "nothing",
        other => {
            let kind = between(text, &format!("pub type {other} = "), ";").or_else(|| {
                text.split(&format!(" as {other};"))
                    .next()?
                    .rsplit("self::")
                    .next()
            });
            let kind = kind.filter(|kind| *kind != other);
            way(
                kind.unwrap_or_else(|| panic!("a type of NCCL's is not known here: {other}")),
                text,
            )
        }
    }
}

/// Headers to compare with.
struct Headers {
    what: &'static str,
    folders: Vec<PathBuf>,
    includes: String,
}

/// NCCL's source.
struct Source {
    folder: PathBuf,
    version: Version,
    /// Stand-ins for what the plugin headers include and do not need.
    stand_ins: tempfile::TempDir,
}

impl Source {
    /// That of `NCCL_SOURCE`.
    fn given() -> Self {
        let folder = std::env::var_os("NCCL_SOURCE").filter(|folder| !folder.is_empty()).map(PathBuf::from).expect(
            "NCCL_SOURCE is not set: make test-nccl-headers NCCL_SOURCE=DIR, where DIR holds NVIDIA's source of NCCL \
             (git clone https://github.com/NVIDIA/nccl)",
        );
        let version = version_of(&read(&folder.join("makefiles/version.mk")));
        let stand_ins = tempfile::tempdir().unwrap();
        let header = read(&folder.join("src/nccl.h.in"));
        let results =
            between(&header, "typedef enum { ncclSuccess", "ncclResult_t;").expect("ncclResult_t");
        let results = format!(
            "#pragma once\ntypedef enum {{ ncclSuccess{results}ncclResult_t;\n#include \"nccl_common.h\"\n"
        );
        fs::write(stand_ins.path().join("nccl.h"), results).unwrap();
        let pid = "#pragma once\n#include <sys/types.h>\ntypedef pid_t ncclPid_t;\n";
        fs::write(stand_ins.path().join("os.h"), pid).unwrap();
        Self {
            folder,
            version,
            stand_ins,
        }
    }

    /// What NCCL itself is built with.
    fn own(&self, env: bool) -> Headers {
        let mut includes = "#include <stddef.h>\n#include <stdint.h>\n#include <sys/types.h>\n#include \"nccl.h\"\n\
                            #include \"nccl_profiler.h\"\n"
            .to_owned();
        if env {
            includes.push_str("#include \"nccl_env.h\"\n");
        }
        let at = |path: &str| self.folder.join(path);
        Headers {
            what: "src/include/plugin",
            folders: vec![
                self.stand_ins.path().to_owned(),
                at("src/include/plugin"),
                at("src/include"),
            ],
            includes,
        }
    }

    /// What NCCL gives to writers of profiler plugins.
    fn for_profilers(&self) -> Headers {
        let moved = ["plugins/profiler/example/nccl", "ext-profiler/example/nccl"];
        let folder = moved
            .map(|path| self.folder.join(path))
            .into_iter()
            .find(|path| path.is_dir());
        let folder =
            folder.unwrap_or_else(|| panic!("{} has none of {moved:?}", self.folder.display()));
        Headers {
            what: "the profiler example",
            folders: vec![folder],
            includes: "#include <stddef.h>\n#include <stdint.h>\n#include <sys/types.h>\n#include \"err.h\"\n\
                       #include \"common.h\"\n#include \"profiler.h\"\n"
                .to_owned(),
        }
    }

    /// The newest interface that has a header.
    fn newest(&self, folder: &str, prefix: &str) -> Option<u8> {
        newest_in(&self.folder.join(folder), prefix)
    }
}

/// The newest interface that has a header in `folder`; none where there is no such folder.
fn newest_in(folder: &Path, prefix: &str) -> Option<u8> {
    let entries = fs::read_dir(folder).ok()?;
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_prefix(prefix)?.strip_suffix(".h")?.parse().ok())
        .max()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn version_of(makefile: &str) -> Version {
    let values: BTreeMap<_, _> = makefile
        .lines()
        .filter_map(|line| line.split_once(":="))
        .collect();
    let values: BTreeMap<_, _> = values
        .iter()
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let part = |key: &str| {
        values
            .get(key)
            .unwrap_or_else(|| panic!("no {key} in makefiles/version.mk"))
            .parse()
            .unwrap()
    };
    Version {
        major: part("NCCL_MAJOR"),
        minor: part("NCCL_MINOR"),
        patch: part("NCCL_PATCH"),
    }
}

#[test]
fn the_tables_are_those_of_nvidias_headers() {
    let source = Source::given();
    let rules = Rules::of(source.version);
    // The table of rules says what there is; the files say so too.
    let profiler = source.newest("src/include/plugin/profiler", "profiler_v");
    let env = source.newest("src/include/plugin/env", "env_v");
    let version = source.version;
    assert_eq!(
        profiler,
        Some(rules.profiler),
        "NCCL {version}: the newest profiler interface"
    );
    assert_eq!(
        env, rules.env,
        "NCCL {version}: the newest env plugin interface"
    );

    // A copy for writers of plugins may lag behind (2.29.2 has no v6 there).
    let copies = source.for_profilers();
    let copied = newest_in(&copies.folders[0], "profiler_v");
    let mut found = Vec::new();
    for (headers, profiler, env) in [
        (source.own(rules.env.is_some()), rules.profiler, rules.env),
        (copies, copied.expect("profiler_v*.h"), None),
    ] {
        let mut checks = Checks::default();
        checks.constants(profiler);
        let profilers = profiler_interfaces();
        profilers
            .range(..=profiler)
            .for_each(|version| checks.profiler(*version));
        let envs = env_interfaces();
        let envs = envs.iter().filter(|version| Some(**version) <= env);
        envs.for_each(|version| checks.env(*version));
        let different = checks.differences(&headers);
        println!(
            "\nNCCL {version}, {}: profiler to v{profiler}, env {}: {} numbers, {} sizes, {} functions, {} different",
            headers.what,
            env.map_or("none".to_owned(), |env| format!("to v{env}")),
            checks.numbers.len(),
            checks.at_most.len(),
            checks.functions.len(),
            different.len()
        );
        found.extend(
            different
                .iter()
                .map(|line| format!("{}: {line}", headers.what)),
        );
    }
    assert!(found.is_empty(), "NCCL {version}:\n{}", found.join("\n"));
}

#[test]
fn a_difference_is_found() {
    // NCCL's header against declarations of ours that are wrong.
    let source = Source::given();
    let mut checks = Checks::default();
    checks.field("ncclProfilerEventDescr_v4_t", "rank", 15, 4);
    checks.number("ncclProfileColl", 4);
    checks.at_most("ncclProfilerEventDescr_v4_t", 1 << 10);
    type Longer = unsafe extern "C" fn(*mut c_void, i32) -> sys::NcclResult;
    checks.function("ncclProfiler_v4_t", "stopEvent", |_: &Longer| ());
    checks.function(
        "ncclProfiler_v4_t",
        "finalize",
        |_: &unsafe extern "C" fn(u64) -> sys::NcclResult| (),
    );
    let found = checks.differences(&source.for_profilers());
    assert_eq!(found.len(), 5, "{found:#?}");
}
