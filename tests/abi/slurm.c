/* The functions that the plugin takes from Slurm, as spank.c and log.c have them (22.05.8, 26.05.3). */
#include "host.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct spank_option registered;
char *environment[MAX_ENV];
int env_count;

static void log_line(const char *level, const char *format, va_list list)
{
    static char text[1 << 20];
    if (scenario.is_timed) {
        /* On the stack: the pages of those large buffers would be counted as the plugin's. */
        char line[1024], who[24] = "host", all[sizeof line + 64];
        vsnprintf(line, sizeof line, format, list);
        if (task >= 0)
            snprintf(who, sizeof who, "task %d", task);
        snprintf(all, sizeof all, "%s log %s %s\n", who, level, line);
        put(all);
        return;
    }
    vsnprintf(text, sizeof text, format, list);
    say("log %s %s", level, text);
}

#define LOGGER(name, level) \
    void name(const char *format, ...) \
    { \
        va_list list; \
        va_start(list, format); \
        log_line(level, format, list); \
        va_end(list); \
    }

LOGGER(slurm_error, "error")
LOGGER(slurm_info, "info")
LOGGER(slurm_debug, "debug")
LOGGER(slurm_spank_log, "user")

#ifndef WITHOUT_API_VERSION
long slurm_api_version(void)
{
    return scenario.api << 16;
}
#endif

int spank_context(void)
{
    return scenario.context;
}

int spank_option_register(void *handle, struct spank_option *option)
{
    (void)handle;
    if (scenario.fails.option_register || scenario.context == SLURMD)
        return ESPANK_ERROR;
    registered = *option;
    registered.name = strdup(option->name);
    return ESPANK_SUCCESS;
}

int spank_get_item(void *handle, int item, ...)
{
    va_list list;
    (void)handle;
    if (scenario.fails.get_item)
        return ESPANK_ERROR;
    const struct item *given = item >= 0 && item < MAX_ITEMS ? &scenario.items[item] : NULL;
    if (!given || !given->is_set || given->is_absent) {
        if (item == S_TASK_ID && task >= 0 && !given->is_absent) {
            va_start(list, item);
            *va_arg(list, int *) = task;
            va_end(list);
            return ESPANK_SUCCESS;
        }
        return item == S_TASK_ID ? ESPANK_NOT_TASK : ESPANK_BAD_ARG;
    }
    if (scenario.context != REMOTE && item != S_JOB_UID)
        return ESPANK_NOT_REMOTE;
    va_start(list, item);
    if (item == S_STEP_ALLOC_CORES)
        *va_arg(list, char **) = strcmp(given->text, "null") ? given->text : NULL;
    else
        *va_arg(list, uint32_t *) = (uint32_t)strtoul(given->text, NULL, 0);
    va_end(list);
    return ESPANK_SUCCESS;
}

static int env_index(const char *name)
{
    size_t length = strlen(name);
    for (int i = 0; i < env_count; i++)
        if (!strncmp(environment[i], name, length) && environment[i][length] == '=')
            return i;
    return -1;
}

void put_env(const char *pair)
{
    char *name = strndup(pair, strcspn(pair, "="));
    int at = env_index(name);
    if (at < 0 && env_count == MAX_ENV)
        fail("too many variables");
    environment[at < 0 ? env_count++ : at] = strdup(pair);
    free(name);
}

int spank_getenv(void *handle, const char *name, char *buffer, int length)
{
    (void)handle;
    if (scenario.context != REMOTE)
        return ESPANK_NOT_REMOTE;
    if (scenario.fails.get)
        return ESPANK_ERROR;
    int at = env_index(name);
    if (at < 0)
        return ESPANK_ENV_NOEXIST;
    const char *value = strchr(environment[at], '=') + 1;
    /* snprintf semantics: what fits is written, as spank.c's strlcpy does. */
    return snprintf(buffer, (size_t)length, "%s", value) >= length ? ESPANK_NOSPACE : ESPANK_SUCCESS;
}

int spank_setenv(void *handle, const char *name, const char *value, int overwrite)
{
    (void)handle;
    if (scenario.context != REMOTE)
        return ESPANK_NOT_REMOTE;
    if (scenario.fails.set)
        return ESPANK_ERROR;
    if (env_index(name) >= 0 && !overwrite)
        return ESPANK_ENV_EXISTS;
    char *pair = NULL;
    if (asprintf(&pair, "%s=%s", name, value) < 0)
        return ESPANK_ERROR;
    put_env(pair);
    free(pair);
    return ESPANK_SUCCESS;
}

int spank_unsetenv(void *handle, const char *name)
{
    (void)handle;
    if (scenario.context != REMOTE)
        return ESPANK_NOT_REMOTE;
    if (scenario.fails.unset)
        return ESPANK_ERROR;
    int at = env_index(name);
    if (at >= 0)
        environment[at] = environment[--env_count];
    return ESPANK_SUCCESS;
}
