//! The sockets and cores that slurmd registers.

use crate::cores::Counts;
use crate::node::Shape;
use crate::rules::Series;

/// What slurmd of `series` registers, by which slurmctld judges cores (`_read_config`, slurmd/slurmd.c), of a node whose
/// line is of the shape `declared` and whose machine slurmd counts as `counts`; `selects_cores` is whether jobs are given cores
/// (select/cons_tres, or preemption by GANG).
pub fn registered_shape(
    declared: Shape,
    counts: Counts,
    series: &Series,
    selects_cores: bool,
) -> Shape {
    let (sockets, cores_per_socket) = (counts.sockets as u64, counts.cores_per_socket as u64);
    let is_cpus_alone = declared.is_cpus_alone(counts.cpus as u64);
    let is_divided_otherwise = declared.sockets != sockets
        && declared.cores_per_socket != cores_per_socket
        && declared.cores() == sockets.saturating_mul(cores_per_socket);
    let has_less = (counts.cpus as u64) < declared.cpus;
    let recounts = is_divided_otherwise && selects_cores && series.divides_as_the_machine;
    if is_cpus_alone || !(has_less || recounts) {
        return declared;
    }
    Shape {
        sockets,
        cores_per_socket,
        threads_per_core: if has_less {
            counts.threads_per_core as u64
        } else {
            declared.threads_per_core
        },
        ..declared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;
    use crate::node::find;
    use crate::release::Release;

    /// As real ones answered (`make test-gres`, rows `cpus-alone`, `one-socket`, `fewer-cores-of-each-socket`).
    #[test]
    fn slurmd_registers_the_line_unless_the_machine_has_less_or_is_divided_otherwise() {
        let machine = Counts {
            cpus: 16,
            boards: Some(1),
            sockets: 2,
            cores_per_socket: 4,
            threads_per_core: 2,
        };
        let no_threads = Counts {
            cpus: 8,
            threads_per_core: 1,
            ..machine
        };
        let one_thread = "Sockets=1 CoresPerSocket=8 ThreadsPerCore=2";
        for (words, counts, release, selects_cores, expected) in [
            ("CPUs=8", no_threads, "24.11", true, (8, 1)),
            ("CPUs=16", machine, "24.11", true, (16, 1)),
            ("CPUs=8", machine, "24.11", true, (2, 4)),
            ("CPUs=8", machine, "25.11", true, (8, 1)),
            ("Sockets=2 CoresPerSocket=2", machine, "24.11", true, (2, 2)),
            (one_thread, machine, "25.05", true, (2, 4)),
            (one_thread, machine, "25.05", false, (1, 8)),
            (one_thread, machine, "25.11", true, (1, 8)),
            ("Sockets=4 CoresPerSocket=8", machine, "25.11", true, (2, 4)),
        ] {
            let text = format!("NodeName=n1 {words}");
            let shape = find(&of_text(&text, "slurm.conf"), None)
                .unwrap()
                .geometry()
                .shape();
            let series = Series::of(Release::find(release).unwrap());
            let own = registered_shape(shape, counts, series, selects_cores);
            let got = (own.sockets, own.cores_per_socket);
            assert_eq!(got, expected, "{words} {release}");
        }
    }
}
