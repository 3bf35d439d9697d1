//! NCCL's topology files, as NCCL itself would take them.

use nccl_topo::compare::compare;
use nccl_topo::graph::Search;
use nccl_topo::model::{Model, gpus_of};
use nccl_topo::reader::{parse, read};
use nccl_topo::rules::Rules;

use crate::input::split;
use crate::machines;

/// Files with more GPUs are not searched for rings: NCCL takes at most 256 elements, and time.
const GPUS: usize = 8;
/// Of more findings so many are looked at.
const LINES: usize = 4096;

/// A file.
pub(crate) fn file(bytes: &[u8]) {
    let (text, _) = split(bytes);
    let reading = read(&text);
    let lines = 1 + text.matches('\n').count();
    for violation in reading.violations.iter().take(LINES) {
        let line = topology::option::one_line(&violation.to_string());
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!((1..=lines).contains(&violation.line));
    }
    let Ok(system) = parse(&text) else {
        return;
    };
    assert_eq!(reading.system.as_ref(), Some(&system));
    for rules in Rules::in_use() {
        let _ = compare(&system, &machines::two_gpus(), rules);
    }
    if gpus_of(&system).len() <= GPUS {
        let model = Model::of_all(&system);
        for from in 0..model.gpus.len() {
            for to in 0..model.gpus.len() {
                let path = model.paths.between(from, to);
                assert!(path.is_none_or(|path| !path.bandwidth_gb_s.is_nan()));
            }
        }
        let _ = Search::of(&model.graph, &model.paths);
    }
}
