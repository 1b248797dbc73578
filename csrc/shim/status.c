/* What a file is. Each of our descriptors is a file of memory, whose mode tells what it stands for; programs see what
 * they would of KVM's: a device, and files that have no name. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MARK (S_IFREG | S_ISGID | S_ISVTX) /* beside the kind: no program gives such a mode to a file without a name */
#define NAMELESS_MODE 0600u                /* of no type */

static enum kind kind_of(mode_t mode, nlink_t links)
{
    mode_t kind = mode ^ MARK;
    return has_server() && links == 0 && kind <= CONTROLLER ? (enum kind)kind : NOT_OURS;
}

enum kind kind_of_descriptor(int descriptor, struct message *request)
{
    int saved = errno;
    struct stat status;
    enum kind kind = NOT_OURS;
    if (syscall(SYS_fstat, descriptor, &status) == 0)
        kind = kind_of(status.st_mode, status.st_nlink);
    errno = saved;
    if (kind != NOT_OURS && request != NULL) {
        request->args[2] = status.st_dev;
        request->args[3] = status.st_ino;
    }
    return kind;
}

typedef int stat_function(const char *, void *);
typedef int statat_function(int, const char *, void *, int);
typedef int descriptor_stat_function(int, void *);
typedef int old_stat_function(int, const char *, void *);
typedef int old_statat_function(int, int, const char *, void *, int);
typedef int old_descriptor_stat_function(int, int, void *);
typedef int statx_function(int, const char *, int, unsigned, struct statx *);

/* The status that was got, as the program sees it; `found` where it was asked of LIKENESS for the device. */
#define DISGUISE(found, status)                                                                                        \
    do {                                                                                                               \
        enum kind kind = kind_of(status->st_mode, status->st_nlink);                                                   \
        if (kind == KVM)                                                                                               \
            syscall(SYS_newfstatat, AT_FDCWD, LIKENESS, status, 0);                                                    \
        if (kind == KVM || found)                                                                                      \
            status->st_rdev = makedev(DEVICE_MAJOR, DEVICE_MINOR);                                                     \
        else if (kind != NOT_OURS) {                                                                                   \
            status->st_mode = NAMELESS_MODE;                                                                           \
            status->st_nlink = 1;                                                                                      \
            status->st_size = status->st_blocks = 0;                                                                   \
        }                                                                                                              \
    } while (0)

#define STATUS_FUNCTION(parameters, call, at, path, type)                                                              \
    EXPORT int parameters                                                                                              \
    {                                                                                                                  \
        const char *seen = seen_as(at, path);                                                                          \
        int result = call;                                                                                             \
        if (result == 0)                                                                                               \
            DISGUISE(seen != path, status);                                                                            \
        return result;                                                                                                 \
    }

#define STAT_FUNCTION(name, type)                                                                                      \
    STATUS_FUNCTION(name(const char *restrict path, type *restrict status), NEXT(stat_function, #name)(seen, status),  \
                    AT_FDCWD, path, type)

#define STATAT_FUNCTION(name, type)                                                                                    \
    STATUS_FUNCTION(name(int at, const char *restrict path, type *restrict status, int flags),                         \
                    NEXT(statat_function, #name)(at, seen, status, flags), at, path, type)

#define OLD_STAT_FUNCTION(name, type)                                                                                  \
    STATUS_FUNCTION(name(int version, const char *path, type *status),                                                 \
                    NEXT(old_stat_function, #name)(version, seen, status), AT_FDCWD, path, type)

#define OLD_STATAT_FUNCTION(name, type)                                                                                \
    STATUS_FUNCTION(name(int version, int at, const char *path, type *status, int flags),                              \
                    NEXT(old_statat_function, #name)(version, at, seen, status, flags), at, path, type)

#define DESCRIPTOR_STAT_FUNCTION(name, type)                                                                           \
    EXPORT int name(int descriptor, type *status)                                                                      \
    {                                                                                                                  \
        int result = NEXT(descriptor_stat_function, #name)(descriptor, status);                                        \
        if (result == 0)                                                                                               \
            DISGUISE(0, status);                                                                                       \
        return result;                                                                                                 \
    }

#define OLD_DESCRIPTOR_STAT_FUNCTION(name, type)                                                                       \
    EXPORT int name(int version, int descriptor, type *status)                                                         \
    {                                                                                                                  \
        int result = NEXT(old_descriptor_stat_function, #name)(version, descriptor, status);                           \
        if (result == 0)                                                                                               \
            DISGUISE(0, status);                                                                                       \
        return result;                                                                                                 \
    }

int __xstat(int version, const char *path, struct stat *status);
int __xstat64(int version, const char *path, struct stat64 *status);
int __lxstat(int version, const char *path, struct stat *status);
int __lxstat64(int version, const char *path, struct stat64 *status);
int __fxstat(int version, int descriptor, struct stat *status);
int __fxstat64(int version, int descriptor, struct stat64 *status);
int __fxstatat(int version, int at, const char *path, struct stat *status, int flags);
int __fxstatat64(int version, int at, const char *path, struct stat64 *status, int flags);

STAT_FUNCTION(stat, struct stat)
STAT_FUNCTION(stat64, struct stat64)
STAT_FUNCTION(lstat, struct stat)
STAT_FUNCTION(lstat64, struct stat64)
STATAT_FUNCTION(fstatat, struct stat)
STATAT_FUNCTION(fstatat64, struct stat64)
DESCRIPTOR_STAT_FUNCTION(fstat, struct stat)
DESCRIPTOR_STAT_FUNCTION(fstat64, struct stat64)
OLD_STAT_FUNCTION(__xstat, struct stat)
OLD_STAT_FUNCTION(__xstat64, struct stat64)
OLD_STAT_FUNCTION(__lxstat, struct stat)
OLD_STAT_FUNCTION(__lxstat64, struct stat64)
OLD_STATAT_FUNCTION(__fxstatat, struct stat)
OLD_STATAT_FUNCTION(__fxstatat64, struct stat64)
OLD_DESCRIPTOR_STAT_FUNCTION(__fxstat, struct stat)
OLD_DESCRIPTOR_STAT_FUNCTION(__fxstat64, struct stat64)

EXPORT int statx(int at, const char *restrict path, int flags, unsigned mask, struct statx *restrict status)
{
    const char *seen = seen_as(at, path);
    int result = NEXT(statx_function, "statx")(at, seen, flags, mask, status);
    if (result != 0)
        return result;
    enum kind kind = kind_of(status->stx_mode, status->stx_nlink);
    if (kind == KVM)
        syscall(SYS_statx, AT_FDCWD, LIKENESS, 0, mask, status);
    if (kind == KVM || seen != path) {
        status->stx_rdev_major = DEVICE_MAJOR;
        status->stx_rdev_minor = DEVICE_MINOR;
    } else if (kind != NOT_OURS) {
        status->stx_mode = NAMELESS_MODE;
        status->stx_nlink = 1;
        status->stx_size = status->stx_blocks = 0;
    }
    return 0;
}
