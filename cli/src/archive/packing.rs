//! What compresses a tarball, undone by a child process that can do nothing else.
//!
//! The bytes are whoever's made the file, so the child is nobody, opens no file, starts nothing, reaches no network, and is
//! bounded in time and memory ([`ffi::linux::confine`]): it reads the file that it was given and writes what that unpacks to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::panic::catch_unwind;
use std::process::{Child, ChildStdout, Command, Stdio};

use bzip2::read::MultiBzDecoder;
use ffi::linux::confine::confine;
use ffi::linux::process::exit_now;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use topology::option::one_line;

use super::{ArchiveError, MOST_BYTES};

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "__unpack";
/// How long unpacking may take, in seconds; 256 MiB take a few.
const SECONDS: u32 = 60;
/// The most memory for what a compressor looks back to, in KiB: `xz -9` and `zstd --ultra -22` take 64 and 128 MiB.
const MOST_MEMORY_KIB: u32 = 160 << 10;
/// The most that the child's complaint is read of, in bytes.
const COMPLAINT_BYTES: u64 = 200;

/// How a file is packed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// A plain tar.
    None,
    /// As `gzip`, `bzip2`, `xz` or `zstd` do.
    By(Compressor),
}

/// A compressor whose files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compressor {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

const ALL: [Compressor; 4] = [
    Compressor::Gzip,
    Compressor::Bzip2,
    Compressor::Xz,
    Compressor::Zstd,
];

impl Packing {
    /// How the file with this `head` is packed; none where it is no tarball.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        if head.get(257..262) == Some(b"ustar") {
            return Some(Self::None);
        }
        let of = |own: &Compressor| head.starts_with(own.mark());
        ALL.into_iter().find(of).map(Self::By)
    }
}

impl Compressor {
    fn word(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// How its files begin.
    fn mark(self) -> &'static [u8] {
        match self {
            Self::Gzip => b"\x1f\x8b",
            Self::Bzip2 => b"BZh",
            Self::Xz => b"\xfd7zXZ\0",
            Self::Zstd => b"\x28\xb5\x2f\xfd",
        }
    }

    /// Writes what `packed` unpacks to, one byte more than is taken at most.
    fn unpack(self, packed: impl Read, to: &mut impl Write) -> io::Result<()> {
        let most = MOST_BYTES + 1;
        match self {
            Self::Gzip => io::copy(&mut MultiGzDecoder::new(packed).take(most), to),
            Self::Bzip2 => io::copy(&mut MultiBzDecoder::new(packed).take(most), to),
            Self::Xz => {
                let unpacked = XzReader::new_mem_limit(packed, true, MOST_MEMORY_KIB);
                io::copy(&mut unpacked.take(most), to)
            }
            Self::Zstd => unpack_zstd(packed, to, most),
        }
        .map(|_| ())
    }
}

/// A file of `zstd`'s is one frame after another, some of which hold nothing for the reader (RFC 8878, 3.1).
fn unpack_zstd(packed: impl Read, to: &mut impl Write, most: u64) -> io::Result<u64> {
    let mut packed = BufReader::new(packed);
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(u64::from(MOST_MEMORY_KIB) << 10);
    let mut written = 0;
    while written < most && !io::BufRead::fill_buf(&mut packed)?.is_empty() {
        match StreamingDecoder::new_with_decoder(&mut packed, &mut decoder) {
            Ok(frame) => written += io::copy(&mut frame.take(most - written), to)?,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                io::copy(&mut (&mut packed).take(length.into()), &mut io::sink())?;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(written)
}

/// A child that unpacks.
#[derive(Debug)]
pub(super) struct Unpacking {
    child: Child,
    output: ChildStdout,
}

impl Unpacking {
    /// Starts it on `file`, which is read from where it stands.
    pub(super) fn start(compressor: Compressor, file: File) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(SUBCOMMAND)
            .arg(compressor.word())
            .env_clear()
            .stdin(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, output })
    }

    /// What it unpacks.
    pub(super) fn output(&mut self) -> &mut impl Read {
        &mut self.output
    }

    /// Why it gave less than there is; none where it gave all, or all that was read.
    pub(super) fn complaint(mut self) -> Option<ArchiveError> {
        drop(self.output);
        let mut said = Vec::new();
        if let Some(output) = self.child.stderr.take() {
            // It may have ended silently.
            let _ = output.take(COMPLAINT_BYTES).read_to_end(&mut said);
        }
        let status = self.child.wait().ok()?;
        if status.code() == Some(0) {
            return None;
        }
        let said = one_line(&String::from_utf8_lossy(&said));
        Some(ArchiveError::Unpacking(if said.is_empty() {
            "it takes too much time or memory".to_owned()
        } else {
            said
        }))
    }
}

/// Unpacks standard input and ends the process, when the arguments (without the program's name) hold the hidden
/// subcommand; does nothing when they do not.
#[allow(
    clippy::disallowed_methods,
    reason = "bytes and a complaint for the parent, which makes that safe"
)]
pub(crate) fn answer(mut arguments: impl Iterator<Item = OsString>) {
    if arguments.next().as_deref() != Some(OsStr::new(SUBCOMMAND)) {
        return;
    }
    let word = arguments.next().unwrap_or_default();
    std::panic::set_hook(Box::new(|_| {}));
    confine(&[], SECONDS);
    let unpack = || {
        let own = ALL.into_iter().find(|own| *own.word() == *word);
        let own = own.ok_or(io::ErrorKind::InvalidInput)?;
        let mut output = io::stdout().lock();
        own.unpack(io::stdin().lock(), &mut output)?;
        output.flush()
    };
    let ended =
        catch_unwind(unpack).unwrap_or_else(|_| Err(io::Error::other("its data make no sense")));
    let fault = ended
        .err()
        // Who reads no more has what it wants.
        .filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
    if let Some(error) = &fault {
        // Where nobody listens, the exit status says it.
        let _ = write!(io::stderr(), "{error}");
    }
    exit_now(if fault.is_none() { 0 } else { 2 });
}
