//! Which recorded topology files NCCL's reader takes.

use nccl_topo::reader::read;

use crate::topologies;

#[test]
fn recorded_files_are_read_as_nccl_reads_them() {
    let folder = topologies();
    for entry in std::fs::read_dir(folder.join("nccl-xml")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let reading = read(&std::fs::read_to_string(&path).unwrap());
        // RCCL's dumps are of version 2, which NCCL refuses; see the list of expected answers.
        let refused = name.starts_with("rccl-") || name == "ncclissue256-h200-vm-numaid-1.xml";
        assert_eq!(
            reading.system.is_none(),
            refused,
            "{name}: {:?}",
            reading.violations
        );
    }
}
