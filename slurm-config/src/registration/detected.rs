//! What AutoDetect finds, joined with what is configured.

use super::Record;

/// Takes from the lines what an item of `Gres=` asks for; what they lack is a record without a file.
pub(super) fn take_lines(
    lines: &mut Vec<Record>,
    kind: Option<&str>,
    wanted: u64,
    records: &mut Vec<Record>,
) {
    let mut open = wanted;
    while open > 0 {
        // Without a type any line is taken, and loses its own.
        let fits = |line: &Record| {
            kind.is_none_or(|kind| {
                let own = line.kind.as_ref();
                own.is_some_and(|own| own.eq_ignore_ascii_case(kind))
            })
        };
        let Some(at) = lines.iter().position(fits) else {
            break;
        };
        let mut line = lines.remove(at);
        if kind.is_none() {
            line.kind = None;
        }
        if line.count > open {
            line.shorten(open);
        }
        open -= line.count;
        records.push(line);
    }
    if open > 0 {
        records.push(Record {
            kind: kind.map(str::to_owned),
            file: None,
            count: open,
            cores: None,
            links: None,
            is_of_several_files: false,
            is_misspelt: false,
        });
    }
}

impl Record {
    /// Keeps the first `count` devices.
    fn shorten(&mut self, count: u64) {
        self.count = count;
        let kept = usize::try_from(count).unwrap_or(usize::MAX);
        if let Some(files) = &self.file {
            let first: Vec<&str> = files.split(',').take(kept).collect();
            self.file = Some(first.join(","));
        }
    }

    /// One record for each device.
    fn split(self) -> Vec<Self> {
        let one = |file: Option<String>| Self {
            file,
            count: 1,
            ..self.clone()
        };
        match &self.file {
            _ if self.count <= 1 => vec![self],
            Some(files) => files
                .split(',')
                .map(|file| one(Some(file.to_owned())))
                .collect(),
            None => (0..self.count.min(MOST_DEVICES))
                .map(|_| one(None))
                .collect(),
        }
    }
}

/// The most devices that a count without files is taken for.
const MOST_DEVICES: u64 = 1024;

/// Found GPUs take the type of the first item whose type is a part of theirs, the longest first; then each configured
/// GPU takes the found one of its type and file, with its cores.
pub(super) fn merge_detected(configured: Vec<Record>, mut found: Vec<Record>) -> Vec<Record> {
    let mut single: Vec<Record> = configured.into_iter().flat_map(Record::split).collect();
    let length = |record: &Record| record.kind.as_ref().map_or(0, String::len);
    single.sort_by(|a, b| length(b).cmp(&length(a)).then_with(|| a.kind.cmp(&b.kind)));
    found.sort_by(|a, b| length(b).cmp(&length(a)).then_with(|| a.kind.cmp(&b.kind)));
    let has_types = single.iter().any(|record| record.kind.is_some());
    let mut used = vec![false; single.len()];
    for gpu in &mut found {
        let name = gpu.kind.clone().unwrap_or_default();
        let free = single.iter().zip(&used).position(|(record, used)| {
            let kind = record.kind.as_deref();
            !used && kind.is_some_and(|kind| is_part_of(kind, &name))
        });
        match free {
            Some(at) => {
                if let Some(mark) = used.get_mut(at) {
                    *mark = true;
                }
                gpu.kind = single.get(at).and_then(|record| record.kind.clone());
            }
            None if !has_types => gpu.kind = None,
            None => {}
        }
    }
    // Those with a file first.
    single.sort_by_key(|record| (record.file.is_none(), record.file.clone()));
    found.sort_by_key(|record| record.file.clone());
    let mut merged = Vec::new();
    let mut dropped: Vec<usize> = Vec::new();
    for own in single {
        let fits = |(at, gpu): (usize, &Record)| {
            let is_type = own.kind.is_none() || own.kind == gpu.kind;
            let is_file = own.file.is_none() || own.file == gpu.file;
            !dropped.contains(&at) && is_type && is_file
        };
        match found.iter().enumerate().find(|pair| fits(*pair)) {
            Some((at, gpu)) => {
                dropped.push(at);
                let differs = own.cores.is_some() && gpu.cores.is_some() && own.cores != gpu.cores;
                if !differs {
                    merged.push(gpu.clone());
                }
            }
            None if own.file.is_some() => merged.push(own),
            None => {}
        }
    }
    merged
}

/// The type of a GPU as AutoDetect makes it of the driver's name: in lower case, blanks as underscores
/// (`gpu_common_underscorify_tolower`).
pub fn type_of_name(name: &str) -> String {
    name.to_ascii_lowercase().replace(' ', "_")
}

/// Whether a configured type names a found one: it is a part of it, in any case.
pub fn is_part_of(kind: &str, found: &str) -> bool {
    found
        .to_ascii_lowercase()
        .contains(&kind.to_ascii_lowercase())
}
