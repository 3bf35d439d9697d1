//! Recorded machines in tarballs.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bzip2::write::BzEncoder;
use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tar::{Builder, EntryType, Header};

use crate::common::Host;

fn show(file: &Path) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_gpu-numa"));
    let words = ["show", "--json", "--from"];
    // What it unpacks is looked for here.
    let scratch = file.parent().unwrap().join("tmp");
    std::fs::create_dir_all(&scratch).unwrap();
    let output = program
        .args(words)
        .arg(file)
        .env("TMPDIR", &scratch)
        .output()
        .unwrap();
    assert_eq!(
        std::fs::read_dir(&scratch).unwrap().count(),
        0,
        "something is left of what was unpacked"
    );
    output
}

fn pack(host: &Host, inside: &str, to: impl Write) -> io::Result<impl Write> {
    let mut builder = Builder::new(to);
    builder.follow_symlinks(false);
    builder.append_dir_all(inside, host.root())?;
    builder.into_inner()
}

#[test]
fn a_tarball_is_the_machine_that_was_packed() {
    let host = Host::new();
    let folder = tempfile::tempdir().unwrap();
    let truth = host.run(&["show", "--json"]).stdout;
    let create = |name: &str| File::create(folder.path().join(name)).unwrap();
    pack(&host, ".", create("machine.tar")).unwrap();
    let gzip = GzEncoder::new(create("machine.tar.gz"), flate2::Compression::fast());
    drop(pack(&host, "node7", gzip).unwrap());
    let bzip = BzEncoder::new(create("recorded"), bzip2::Compression::fast());
    drop(pack(&host, "node7", bzip).unwrap());
    let plain = folder.path().join("machine.tar");
    // Parallel compressors leave one stream after another.
    let plain = std::fs::read(plain).unwrap();
    let (mut xz, mut zstd) = (create("machine.tar.xz"), create("machine.tar.zst"));
    for part in plain.chunks(plain.len() / 2) {
        let mut packed = XzWriter::new(&mut xz, XzOptions::with_preset(1)).unwrap();
        packed.write_all(part).unwrap();
        packed.finish().unwrap();
        zstd.write_all(&compress_to_vec(part, CompressionLevel::Fastest))
            .unwrap();
        // A frame that holds nothing.
        zstd.write_all(b"\x50\x2a\x4d\x18\x02\0\0\0hi").unwrap();
    }
    let names = [
        "machine.tar",
        "machine.tar.gz",
        "recorded",
        "machine.tar.xz",
        "machine.tar.zst",
    ];
    for name in names {
        let output = show(&folder.path().join(name));
        let own = String::from_utf8(output.stdout).unwrap();
        assert_eq!(own, String::from_utf8_lossy(&truth), "{name}");
        assert!(output.status.success(), "{name}");
    }
}

fn entry(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

/// A tarball of a machine that cannot be shown, with what `add` puts first.
fn hostile(file: &Path, add: impl FnOnce(&mut Builder<File>)) -> Output {
    let mut builder = Builder::new(File::create(file).unwrap());
    add(&mut builder);
    let mut online = entry(EntryType::Regular, 4);
    builder
        .append_data(
            &mut online,
            "sys/devices/system/cpu/online",
            b"0-1\n".as_slice(),
        )
        .unwrap();
    builder.finish().unwrap();
    show(file)
}

#[test]
fn a_tarball_writes_nothing_outside() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let file = folder.path().join("machine.tar");
    let targets = [
        outside.to_str().unwrap().to_owned(),
        format!("{}outside", "../".repeat(20)),
    ];
    for target in targets {
        hostile(&file, |builder| {
            let mut link = entry(EntryType::Symlink, 0);
            builder.append_link(&mut link, "sys/a", &target).unwrap();
            let mut written = entry(EntryType::Regular, 1);
            builder
                .append_data(&mut written, "sys/a/b", b"x".as_slice())
                .unwrap();
            let mut hard = entry(EntryType::Link, 0);
            builder
                .append_link(&mut hard, "sys/passwd", "/etc/passwd")
                .unwrap();
        });
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{target}");
    }
    // Links that stay inside one by one, and together lead out.
    hostile(&file, |builder| {
        for (at, target) in [("sys/p/q/d", "../../r"), ("sys/p/q/s", "d/../../../x")] {
            let mut link = entry(EntryType::Symlink, 0);
            builder.append_link(&mut link, at, target).unwrap();
        }
        let mut written = entry(EntryType::Regular, 1);
        builder
            .append_data(&mut written, "sys/p/q/s/b", b"x".as_slice())
            .unwrap();
    });
}

#[test]
fn the_name_of_an_entry_changes_nothing_of_the_host() {
    // A folder of a root's that everybody may write to.
    let host = tempfile::tempdir_in("/dev/shm").unwrap();
    let kept = host.path().join("kept");
    std::fs::write(&kept, "x").unwrap();
    std::fs::set_permissions(&kept, Permissions::from_mode(0o644)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let up = format!("sys/{}{}", "../".repeat(20), kept.display());
    for name in [kept.to_str().unwrap(), &up] {
        hostile(&folder.path().join("machine.tar"), |builder| {
            let mut header = entry(EntryType::Regular, 1);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, b"y".as_slice()).unwrap();
        });
        let mode = std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o644, "{name}");
        assert_eq!(std::fs::read(&kept).unwrap(), b"x", "{name}");
    }
}

#[test]
fn a_tarball_that_is_none_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine");
    let cases: [(&[u8], &str); 4] = [
        (b"\xfd7zXZ\0nothing", "cannot unpack it"),
        (b"\x28\xb5\x2f\xfdnothing", "cannot unpack it"),
        (b"\x1f\x8bnothing", "cannot unpack it"),
        (b"BZh9nothing", "cannot unpack it"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&file, bytes).unwrap();
        let output = show(&file);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_tarball_that_holds_too_much_is_not_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine.tar.gz");
    let gzip = GzEncoder::new(File::create(&file).unwrap(), flate2::Compression::fast());
    let mut builder = Builder::new(gzip);
    let size = 300 << 20;
    let mut huge = entry(EntryType::Regular, size);
    let zeros = io::Read::take(io::repeat(0), size);
    builder.append_data(&mut huge, "sys/huge", zeros).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    let output = show(&file);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("more than 200000 files or 256 MiB"), "{text}");
}

#[test]
fn what_takes_too_much_memory_to_unpack_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine.tar.xz");
    let mut packed = XzWriter::new(Vec::new(), XzOptions::with_preset(0)).unwrap();
    packed.write_all(b"machine").unwrap();
    let mut packed = packed.finish().unwrap();
    // The first block's header: its size, flags, the filter LZMA2 and the size of its dictionary, then a CRC-32.
    assert_eq!(packed[14..16], [0x21, 0x01]);
    packed[16] = 40; // 4 GiB - 1
    let mut crc = flate2::Crc::new();
    crc.update(&packed[12..20]);
    packed[20..24].copy_from_slice(&crc.sum().to_le_bytes());
    std::fs::write(&file, packed).unwrap();
    let output = show(&file);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), text.lines().count()),
        (Some(2), 1),
        "{text}"
    );
    assert!(
        text.contains("cannot unpack it: needed memory too big"),
        "{text}"
    );
}

/// What is made of tarballs is what they were changed to at random, in each of the compressors' formats and in none, before and after
/// compression: whatever comes out, the program ends by itself within its limits, and leaves and changes nothing.
/// `GPU_NUMA_FUZZ_SECONDS` and `GPU_NUMA_FUZZ_SEED` as for the other inputs (docs/fuzzing.md).
#[test]
fn tarballs_that_were_changed_at_random_end_within_limits() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(variable("GPU_NUMA_FUZZ_SECONDS").unwrap_or(3));
    let mut state = variable("GPU_NUMA_FUZZ_SEED").unwrap_or(1_u64) | 1;
    let mut roll = |sides: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % sides
    };
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    std::fs::write(&kept, "x").unwrap();
    let file = folder.path().join("machine");
    let clean = small_tarball(&kept);
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < time || count < 20 {
        let mut tarball = clean.clone();
        change(&mut tarball, &mut roll);
        let mut packed = match roll(5) {
            0 => tarball,
            1 => {
                let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(&tarball).unwrap();
                gzip.finish().unwrap()
            }
            2 => {
                let mut bzip = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                bzip.write_all(&tarball).unwrap();
                bzip.finish().unwrap()
            }
            3 => {
                let mut xz = XzWriter::new(Vec::new(), XzOptions::with_preset(0)).unwrap();
                xz.write_all(&tarball).unwrap();
                xz.finish().unwrap()
            }
            _ => compress_to_vec(tarball.as_slice(), CompressionLevel::Fastest),
        };
        if roll(2) == 0 {
            change(&mut packed, &mut roll);
        }
        std::fs::write(&file, &packed).unwrap();
        let output = show(&file);
        let said = String::from_utf8_lossy(&output.stderr);
        let is_well = matches!(output.status.code(), Some(0..=2)) && !said.contains("panicked");
        if !is_well {
            let broken = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-tarball");
            std::fs::write(&broken, &packed).unwrap();
            panic!("{}: {}\n{said}", broken.display(), output.status);
        }
        assert_eq!(std::fs::read(&kept).unwrap(), b"x");
        let mode = std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o644);
        count += 1;
    }
    println!("{count} tarballs in {:.1} s", begin.elapsed().as_secs_f64());
}

/// A machine of a few files, links that lead to `kept`, and entries of each kind.
fn small_tarball(kept: &Path) -> Vec<u8> {
    std::fs::set_permissions(kept, Permissions::from_mode(0o644)).unwrap();
    let mut builder = Builder::new(Vec::new());
    for (name, text) in [
        ("sys/devices/system/cpu/online", "0-1\n"),
        ("sys/devices/system/node/online", "0\n"),
        ("sys/devices/system/node/node0/cpulist", "0-1\n"),
    ] {
        let mut header = entry(EntryType::Regular, text.len() as u64);
        builder
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    for (kind, at, to) in [
        (EntryType::Symlink, "sys/a", "devices/system"),
        (EntryType::Symlink, "sys/kept", kept.to_str().unwrap()),
        (EntryType::Link, "sys/hard", "sys/devices/system/cpu/online"),
        (EntryType::Char, "dev/null", ""),
        (EntryType::Fifo, "sys/fifo", ""),
        (EntryType::Directory, "proc", ""),
    ] {
        let mut header = entry(kind, 0);
        if to.is_empty() {
            builder.append_data(&mut header, at, io::empty()).unwrap();
        } else {
            builder.append_link(&mut header, at, to).unwrap();
        }
    }
    let mut long = entry(EntryType::Regular, 1);
    builder
        .append_data(
            &mut long,
            format!("sys/{}", "long/".repeat(60)) + "x",
            &b"1"[..],
        )
        .unwrap();
    builder.into_inner().unwrap()
}

/// Changes a few bytes, or takes or doubles a part; half of the time a tarball's sums of its headers are made right again.
fn change(bytes: &mut Vec<u8>, roll: &mut impl FnMut(usize) -> usize) {
    for _ in 0..1 + roll(4) {
        if bytes.is_empty() {
            return;
        }
        let at = roll(bytes.len());
        match roll(6) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + roll(1024)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            2 => {
                // In a header: name, mode, size, kind, link.
                let fields = [0, 100, 124, 156, 157, 345];
                let at = at / 512 * 512 + fields[roll(fields.len())];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = b"/.07125gxLKS\xff"[roll(13)];
                }
            }
            _ => bytes[at] = u8::try_from(roll(256)).unwrap(),
        }
    }
    if roll(2) == 0 {
        for header in bytes.chunks_exact_mut(512) {
            if &header[257..262] == b"ustar" {
                let mut own = Header::new_old();
                own.as_mut_bytes().copy_from_slice(header);
                own.set_cksum();
                header.copy_from_slice(own.as_bytes());
            }
        }
    }
}
