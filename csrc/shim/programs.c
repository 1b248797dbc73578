/* Calls that start a program: it has the shim and its server, also where its environment was made without them. */
#include "shim.h"

#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static const char *const names[] = {"KVMSVE_SOCKET=", "LD_PRELOAD=", "QEMU_SET_ENV="};

#define COUNT (sizeof names / sizeof *names)
#define LONGEST_NAME 16u      /* and more */
#define MOST_VARIABLES 8192u /* of an environment that is looked through */

static const char *present[COUNT]; /* as they were when this program was started */
static int is_emulated;            /* what such a program starts is not, and could not load this shim */

__attribute__((constructor)) static void remember(void)
{
    for (char **each = environ; each != NULL && *each != NULL; each++)
        for (size_t n = 0; n < COUNT; n++)
            if (strncmp(*each, names[n], strlen(names[n])) == 0)
                present[n] = strdup(*each);
    is_emulated = getenv("KVMSVE_EMULATED") != NULL;
}

/* How many variables there are; -1 where they cannot be read, or the server's is among them: nothing is to be added. */
static long count_without_server(char *const *variables)
{
    for (size_t n = 0; n < MOST_VARIABLES; n++) {
        if (readable_bytes((uintptr_t)&variables[n], sizeof *variables) < sizeof *variables)
            return -1;
        if (variables[n] == NULL)
            return (long)n;
        size_t readable = readable_bytes((uintptr_t)variables[n], LONGEST_NAME);
        if (readable < LONGEST_NAME && memchr(variables[n], '\0', readable) == NULL)
            return -1;
        if (strncmp(variables[n], names[0], strlen(names[0])) == 0)
            return -1;
    }
    return -1;
}

static int is_remembered(const char *variable)
{
    for (size_t n = 0; n < COUNT; n++)
        if (present[n] != NULL && strncmp(variable, names[n], strlen(names[n])) == 0)
            return 1;
    return 0;
}

/* Calls `call` with `seen`, the variables or a copy with ours in it. A program of its own that it preloads gives way. */
#define WITH_SERVER(variables, call)                                                                                   \
    do {                                                                                                               \
        static char *const none[] = {NULL};                                                                            \
        char *const *given = (variables) != NULL ? (variables) : none;                                                 \
        long count = has_server() && !is_emulated ? count_without_server(given) : -1;                                \
        char *added[count < 0 ? 1 : (size_t)count + COUNT + 1], *const *seen = added;                                  \
        if (count < 0)                                                                                                 \
            seen = (variables);                                                                                        \
        else                                                                                                           \
            add(added, given);                                                                                         \
        return call;                                                                                                   \
    } while (0)

static void add(char **added, char *const *given)
{
    for (; *given != NULL; given++)
        if (!is_remembered(*given))
            *added++ = *given;
    for (size_t n = 0; n < COUNT; n++)
        if (present[n] != NULL)
            *added++ = (char *)(uintptr_t)present[n];
    *added = NULL;
}

typedef int execve_function(const char *, char *const *, char *const *);
typedef int fexecve_function(int, char *const *, char *const *);
typedef int spawn_function(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                           char *const *, char *const *);

#define EXECUTE_FUNCTION(name)                                                                                         \
    EXPORT int name(const char *file, char *const *arguments, char *const *variables)                                  \
    {                                                                                                                  \
        WITH_SERVER(variables, NEXT(execve_function, #name)(file, arguments, seen));                                   \
    }

#define SPAWN_FUNCTION(name)                                                                                           \
    EXPORT int name(pid_t *restrict process, const char *restrict file, const posix_spawn_file_actions_t *actions,     \
                    const posix_spawnattr_t *restrict attributes, char *const *restrict arguments,                     \
                    char *const *restrict variables)                                                                   \
    {                                                                                                                  \
        WITH_SERVER(variables,                                                                                         \
                    NEXT(spawn_function, #name)(process, file, actions, attributes, arguments, seen));                 \
    }

EXECUTE_FUNCTION(execve)
EXECUTE_FUNCTION(execvpe)
SPAWN_FUNCTION(posix_spawn)
SPAWN_FUNCTION(posix_spawnp)

EXPORT int fexecve(int file, char *const *arguments, char *const *variables)
{
    WITH_SERVER(variables, NEXT(fexecve_function, "fexecve")(file, arguments, seen));
}

EXPORT int execv(const char *file, char *const *arguments)
{
    return execve(file, arguments, environ);
}

EXPORT int execvp(const char *file, char *const *arguments)
{
    return execvpe(file, arguments, environ);
}
