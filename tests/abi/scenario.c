/* Reads a scenario; its language stands at the head of spank_host.c. */
#include "host.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct scenario scenario = {
    .major_release = 22, .minor_release = 5, .api = 38, .context = REMOTE, .tasks = 1, .uid = 65534
};

static void unescape(char *text)
{
    char *to = text;
    for (char *from = text; *from; from++) {
        unsigned byte;
        if (*from == '\\' && from[1] == 'n') {
            *to++ = '\n';
            from++;
        } else if (*from == '\\' && from[1] == '\\') {
            *to++ = '\\';
            from++;
        } else if (*from == '\\' && from[1] == 'x' && sscanf(from + 2, "%2x", &byte) == 1) {
            *to++ = (char)byte;
            from += 3;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
}

static void enter_namespace(void)
{
    static int entered;
    if (entered++)
        return;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        say("no-namespace %s", strerror(errno));
        _exit(NO_NAMESPACE);
    }
}

static void mount_tmpfs(const char *path)
{
    enter_namespace();
    if (mount("tmpfs", path, "tmpfs", 0, "mode=755") != 0)
        fail(path);
}

static void make_dev(void)
{
    static const struct { const char *path; int major, minor; } devices[] = {
        { "/dev/null", 1, 3 }, { "/dev/zero", 1, 5 }, { "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 }
    };
    mount_tmpfs("/dev");
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (mknod(devices[i].path, S_IFCHR, makedev(devices[i].major, devices[i].minor)) != 0 || chmod(devices[i].path, 0666) != 0)
            fail(devices[i].path);
}

static void make_gpu(const char *prefix, int major, int minor)
{
    char path[64];
    snprintf(path, sizeof path, "%s%d", prefix, minor);
    if (mknod(path, S_IFCHR, makedev(major, minor)) != 0 || chown(path, 0, (gid_t)(FIRST_GROUP + minor)) != 0
        || chmod(path, 0660) != 0)
        fail(path);
    if (scenario.gpu_count < MAX_GPUS)
        scenario.gpus[scenario.gpu_count++] = minor;
}

static int is_word(char *line, const char *word, char **rest)
{
    size_t length = strlen(word);
    if (strncmp(line, word, length) || (line[length] && line[length] != ' '))
        return 0;
    *rest = line + length + (line[length] == ' ');
    return 1;
}

/* The task number at the head of a line's rest. */
static int take_task(char **rest)
{
    long number = strtol(*rest, rest, 10);
    if (**rest == ' ')
        ++*rest;
    if (number < 0 || number >= MAX_TASKS)
        fail("task number");
    return (int)number;
}

static void take_fail(const char *name)
{
    scenario.fails.get_item |= !strcmp(name, "get_item");
    scenario.fails.get |= !strcmp(name, "getenv");
    scenario.fails.set |= !strcmp(name, "setenv");
    scenario.fails.unset |= !strcmp(name, "unsetenv");
    scenario.fails.option_register |= !strcmp(name, "option_register");
    scenario.fails.strerror |= !strcmp(name, "strerror_r");
}

static int context_of(const char *name)
{
    static const char *const names[] = { "local", "remote", "allocator", "slurmd" };
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i]))
            return i + 1;
    fail(name);
    return 0;
}

static void set_item(long number, const char *text, int is_absent)
{
    if (number < 0 || number >= MAX_ITEMS)
        fail("item number");
    scenario.items[number].text = strdup(text);
    scenario.items[number].is_set = 1;
    scenario.items[number].is_absent = is_absent;
}

static void take_task_line(char *line)
{
    char *rest;
    if (is_word(line, "task-env", &rest)) {
        int k = take_task(&rest);
        if (scenario.own[k].env_count < 8)
            scenario.own[k].env[scenario.own[k].env_count++] = strdup(rest);
    } else if (is_word(line, "opens", &rest)) {
        int k = take_task(&rest);
        scenario.own[k].opens_some = 1;
        parse_list(&scenario.own[k].opens, rest);
    } else if (is_word(line, "mask", &rest)) {
        int k = take_task(&rest);
        scenario.own[k].has_mask = 1;
        parse_list(&scenario.own[k].mask, rest);
    } else if (is_word(line, "die", &rest)) {
        scenario.own[take_task(&rest)].dies = 1;
    } else if (is_word(line, "scribble", &rest)) {
        int k = take_task(&rest);
        scenario.own[k].scribbles = 1;
        scenario.own[k].scribble = atoi(rest);
    } else if (is_word(line, "delay", &rest)) {
        int k = take_task(&rest);
        scenario.own[k].delay_ms = atoi(rest);
    } else {
        errno = EINVAL;
        fail(line);
    }
}

static void take_namespace_line(char *line)
{
    char *rest;
    if (is_word(line, "tmpfs", &rest)) {
        mount_tmpfs(rest);
    } else if (is_word(line, "dir", &rest)) {
        if (mkdir(rest, 0755) != 0)
            fail(rest);
    } else if (is_word(line, "bind", &rest)) {
        char *to = strchr(rest, ' ');
        *to++ = 0;
        enter_namespace();
        if (mount(rest, to, NULL, MS_BIND | MS_REC, NULL) != 0)
            fail(to);
    } else if (is_word(line, "dev", &rest)) {
        make_dev();
    } else if (is_word(line, "gpu", &rest)) {
        make_gpu("/dev/nvidia", NVIDIA_MAJOR, atoi(rest));
    } else if (is_word(line, "render", &rest)) {
        if (mkdir("/dev/dri", 0755) != 0 && errno != EEXIST)
            fail("/dev/dri");
        make_gpu("/dev/dri/renderD", DRM_MAJOR, atoi(rest));
    } else {
        take_task_line(line);
    }
}

static void take_line(char *line)
{
    char *rest;
    unescape(line);
    if (is_word(line, "plugin", &rest))
        scenario.plugin = strdup(rest);
    else if (is_word(line, "release", &rest))
        sscanf(rest, "%u %u", &scenario.major_release, &scenario.minor_release);
    else if (is_word(line, "api", &rest))
        scenario.api = atol(rest);
    else if (is_word(line, "context", &rest))
        scenario.context = context_of(rest);
    else if (is_word(line, "arg", &rest) && scenario.arg_count < MAX_ARGS)
        scenario.args[scenario.arg_count++] = strdup(rest);
    else if (is_word(line, "env", &rest))
        put_env(rest);
    else if (is_word(line, "no-item", &rest))
        set_item(strtol(rest, NULL, 10), "", 1);
    else if (is_word(line, "item", &rest)) {
        long number = strtol(rest, &rest, 10);
        set_item(number, rest + (*rest == ' '), 0);
    } else if (is_word(line, "fail", &rest))
        take_fail(rest);
    else if (is_word(line, "option", &rest) && scenario.option_count < MAX_ARGS)
        scenario.options[scenario.option_count++] = *rest == '=' ? strdup(rest + 1) : NULL;
    else if (is_word(line, "tasks", &rest))
        scenario.tasks = atoi(rest);
    else if (is_word(line, "watch", &rest))
        scenario.watches = 1;
    else if (is_word(line, "timed", &rest))
        scenario.is_timed = 1;
    else if (is_word(line, "slow-clock", &rest))
        scenario.slowness = atoi(rest);
    else if (is_word(line, "uid", &rest))
        scenario.uid = atoi(rest);
    else if (is_word(line, "kernel", &rest))
        make_kernel(rest);
    else if (is_word(line, "mounts", &rest))
        mounts = strdup(rest);
    else if (is_word(line, "deny", &rest))
        add_denied(rest);
    else
        take_namespace_line(line);
}

void read_scenario(void)
{
    char *line = NULL;
    size_t size = 0;
    char number[16];
    static const struct { int item; const char *value; } usual[] = {
        { 2, "12" }, { 3, "0" }, { 4, "1" }, { 5, "0" }, { 24, "1" }
    };
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        set_item(usual[i].item, usual[i].value, 0);
    while (getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (*line)
            take_line(line);
    }
    free(line);
    if (scenario.tasks < 1 || scenario.tasks > MAX_TASKS || !scenario.plugin)
        fail("scenario");
    if (!scenario.items[S_JOB_LOCAL_TASK_COUNT].is_set) {
        snprintf(number, sizeof number, "%d", scenario.tasks);
        set_item(S_JOB_LOCAL_TASK_COUNT, number, 0);
    }
    if (scenario.context != REMOTE)
        for (int i = 0; i < env_count; i++)
            putenv(environment[i]);
    kernel.on = kernel.status != NULL;
}
