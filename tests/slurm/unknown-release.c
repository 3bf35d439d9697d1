/* unknown-release.so: preloaded into a program of Slurm, makes it call itself API 99, a release that no table has.
 *
 * Slurm's own check of plugins does not ask this function (plugin.c, 22.05 to 26.05): it goes on comparing with its
 * true release, as a newer one would.
 */
long slurm_api_version(void)
{
    return 99L << 16;
}
