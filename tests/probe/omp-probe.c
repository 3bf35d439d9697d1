/* omp-probe: prints on one line which CPUs an OpenMP team of this task runs on, as KEY=VALUE words.
 *
 * Each thread asks the kernel where it is while all of them are busy.  With OMP_PROC_BIND=close and
 * OMP_PLACES=cores two tasks that were given the same CPUs put their threads on the same cores: that is
 * what the split of a host's CPUs over its tasks must prevent.
 */
#define _GNU_SOURCE
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    int cpus[256], threads = 0;
    const char *task = getenv("SLURM_LOCALID");
#pragma omp parallel
    {
        int me = omp_get_thread_num();
#pragma omp barrier
        if (me < 256)
            cpus[me] = sched_getcpu();
#pragma omp single
        threads = omp_get_num_threads();
    }
    char text[2048];
    int n = snprintf(text, sizeof text, "task=%s threads=%d on=", task ? task : "-", threads);
    for (int i = 0; i < threads && i < 256; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%d", i ? "," : "", cpus[i]);
    puts(text);
    return 0;
}
