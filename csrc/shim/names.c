/* Calls that take a path. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME "kvm"
#define NAME_LENGTH (sizeof NAME - 1)

static int is_same_file(int at, const char *path, const char *other)
{
    struct stat one, two;
    return syscall(SYS_newfstatat, at, path, &one, 0) == 0 && syscall(SYS_newfstatat, AT_FDCWD, other, &two, 0) == 0 &&
           one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

int is_device(int at, const char *path)
{
    if (!has_server())
        return 0;
    ptrdiff_t folder_length = path_length(path) - (ptrdiff_t)NAME_LENGTH;
    if (folder_length < 0 || strcmp(path + folder_length, NAME) != 0)
        return 0;
    if (strcmp(path, DEVICE) == 0)
        return 1;
    if (folder_length > 0 && path[folder_length - 1] != '/')
        return 0;
    char folder[PATH_MAX];
    memcpy(folder, path, (size_t)folder_length);
    strcpy(folder + folder_length, ".");
    int saved = errno;
    int found = is_same_file(at, folder, "/dev");
    errno = saved;
    return found;
}

const char *seen_as(int at, const char *path)
{
    return is_device(at, path) ? LIKENESS : path;
}

static int open_device(int flags, unsigned mode)
{
    int saved = errno;
    long likeness = syscall(SYS_openat, AT_FDCWD, LIKENESS, flags, mode);
    if (likeness < 0 || flags & O_PATH)
        return (int)likeness;
    long status = syscall(SYS_fcntl, likeness, F_GETFL, 0l);
    syscall(SYS_close, likeness);
    int opened = ask_server((struct message){.operation = OPEN, .args = {(flags & O_CLOEXEC) != 0}}, 0, 0);
    if (opened >= 0) {
        syscall(SYS_fcntl, (long)opened, F_SETFL, status);
        errno = saved;
    }
    return opened;
}

/* The machine's own device, found by another name, is none for the program: it gets ours. */
static int only_ours(int opened, int flags, unsigned mode)
{
    struct stat status;
    if (opened < 0 || !has_server() || syscall(SYS_fstat, opened, &status) != 0 || !S_ISCHR(status.st_mode) ||
        status.st_rdev != makedev(DEVICE_MAJOR, DEVICE_MINOR))
        return opened;
    syscall(SYS_close, opened);
    return open_device(flags, mode);
}

typedef int open_function(const char *, int, ...);
typedef int openat_function(int, const char *, int, ...);
typedef int checked_open_function(const char *, int);
typedef int checked_openat_function(int, const char *, int);
typedef int creat_function(const char *, mode_t);
typedef FILE *fopen_function(const char *, const char *);
typedef int access_function(const char *, int);
typedef int faccessat_function(int, const char *, int, int);

static unsigned mode_of(int flags, va_list arguments)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, unsigned) : 0;
}

#define OPEN_FUNCTION(name)                                                                                            \
    EXPORT int name(const char *path, int flags, ...)                                                                  \
    {                                                                                                                  \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        unsigned mode = mode_of(flags, arguments);                                                                     \
        va_end(arguments);                                                                                             \
        if (is_device(AT_FDCWD, path))                                                                                 \
            return open_device(flags, mode);                                                                           \
        return only_ours(NEXT(open_function, #name)(path, flags, mode), flags, mode);                                  \
    }

#define OPENAT_FUNCTION(name)                                                                                          \
    EXPORT int name(int at, const char *path, int flags, ...)                                                          \
    {                                                                                                                  \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        unsigned mode = mode_of(flags, arguments);                                                                     \
        va_end(arguments);                                                                                             \
        if (is_device(at, path))                                                                                       \
            return open_device(flags, mode);                                                                           \
        return only_ours(NEXT(openat_function, #name)(at, path, flags, mode), flags, mode);                            \
    }

#define CHECKED_OPEN_FUNCTION(name)                                                                                    \
    EXPORT int name(const char *path, int flags)                                                                       \
    {                                                                                                                  \
        if (is_device(AT_FDCWD, path))                                                                                 \
            return open_device(flags, 0);                                                                              \
        return only_ours(NEXT(checked_open_function, #name)(path, flags), flags, 0);                                   \
    }

#define CHECKED_OPENAT_FUNCTION(name)                                                                                  \
    EXPORT int name(int at, const char *path, int flags)                                                               \
    {                                                                                                                  \
        if (is_device(at, path))                                                                                       \
            return open_device(flags, 0);                                                                              \
        return only_ours(NEXT(checked_openat_function, #name)(at, path, flags), flags, 0);                             \
    }

#define CREAT_FUNCTION(name)                                                                                           \
    EXPORT int name(const char *path, mode_t mode)                                                                     \
    {                                                                                                                  \
        int flags = O_CREAT | O_WRONLY | O_TRUNC;                                                                      \
        if (is_device(AT_FDCWD, path))                                                                                 \
            return open_device(flags, mode);                                                                           \
        return only_ours(NEXT(creat_function, #name)(path, mode), flags, mode);                                        \
    }

/* A stream of what the device is like, whose descriptor is then made the device's. */
#define FOPEN_FUNCTION(name)                                                                                           \
    EXPORT FILE *name(const char *restrict path, const char *restrict mode)                                            \
    {                                                                                                                  \
        FILE *stream = NEXT(fopen_function, #name)(seen_as(AT_FDCWD, path), mode);                                     \
        return stream != NULL && is_device(AT_FDCWD, path) ? make_stream_of_device(stream) : stream;                   \
    }

#define ACCESS_FUNCTION(name)                                                                                          \
    EXPORT int name(const char *path, int mode)                                                                        \
    {                                                                                                                  \
        return NEXT(access_function, #name)(seen_as(AT_FDCWD, path), mode);                                            \
    }

static FILE *make_stream_of_device(FILE *stream)
{
    int number = fileno(stream), device = open_device(O_RDWR | O_CLOEXEC, 0);
    int close_on_exec = (int)syscall(SYS_fcntl, number, F_GETFD, 0l) & FD_CLOEXEC;
    if (device >= 0 && syscall(SYS_dup3, device, number, close_on_exec ? O_CLOEXEC : 0) == number) {
        syscall(SYS_close, device);
        return stream;
    }
    int saved = errno;
    fclose(stream);
    errno = saved;
    return NULL;
}

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int at, const char *path, int flags);
int __openat64_2(int at, const char *path, int flags);

OPEN_FUNCTION(open)
OPEN_FUNCTION(open64)
OPENAT_FUNCTION(openat)
OPENAT_FUNCTION(openat64)
CHECKED_OPEN_FUNCTION(__open_2)
CHECKED_OPEN_FUNCTION(__open64_2)
CHECKED_OPENAT_FUNCTION(__openat_2)
CHECKED_OPENAT_FUNCTION(__openat64_2)
CREAT_FUNCTION(creat)
CREAT_FUNCTION(creat64)
FOPEN_FUNCTION(fopen)
FOPEN_FUNCTION(fopen64)
ACCESS_FUNCTION(access)
ACCESS_FUNCTION(euidaccess)
ACCESS_FUNCTION(eaccess)

EXPORT int faccessat(int at, const char *path, int mode, int flags)
{
    return NEXT(faccessat_function, "faccessat")(at, seen_as(at, path), mode, flags);
}
