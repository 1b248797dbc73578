/* Puts kvmsve's /dev/kvm in front of a program (LD_PRELOAD): opens and KVM ioctls go to a server, the rest to libc.
 *
 * Each call has a connection of its own, so threads, fork and exec need no care here, and nothing is kept between calls.
 * The first message carries two descriptors: a scratch file through which memory is copied, and for an ioctl the one it
 * is made on. The server may then ask for memory to be read or written and for descriptors to be taken, and ends with
 * RETURN. All copies of the program's memory are made by the operating system, which checks the addresses.
 */
#undef _FORTIFY_SOURCE /* the functions below are the ones that it would wrap or rename */
#undef _FILE_OFFSET_BITS
#undef _TIME_BITS
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define DEVICE "/dev/kvm"
#define DEVICE_MAJOR 10u
#define DEVICE_MINOR 232u
#define KVMIO 0xAEu
#define FIRST_OF_ANOTHER_DRIVER 0x20u /* Nitro Enclaves have a part of KVM's numbers */
#define LAST_OF_ANOTHER_DRIVER 0x3Fu
#define PAGE_BYTES 4096u /* the smallest page: access to memory can begin or end at no finer grain */

enum operation { OPEN = 1, IOCTL, READ, WRITE, INSTALL, RETURN };

struct message {
    uint64_t operation;
    uint64_t args[2]; /* OPEN: close-on-exec; IOCTL: request, argument; READ, WRITE: address, size;
                         INSTALL: close-on-exec; RETURN: result, errno; an answer: result */
};

/* An emulator sets LD_PRELOAD for what it emulates. What that starts runs on the real machine: it could not load this
 * shim, and would say so. */
__attribute__((constructor)) static void stay_in_the_emulator(void)
{
    const char *set_by_emulator = getenv("QEMU_SET_ENV"), *preload = getenv("LD_PRELOAD");
    if (set_by_emulator != NULL && preload != NULL && strstr(set_by_emulator, preload) != NULL)
        unsetenv("LD_PRELOAD");
}

/* A connection, or -1 and errno: ENODEV where no server answers. */
static int connect_to_server(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *name = getenv("KVMSVE_SOCKET");
    if (name == NULL || strlen(name) >= sizeof address.sun_path - 1) {
        errno = ENODEV;
        return -1;
    }
    strcpy(address.sun_path + 1, name); /* behind a zero: an abstract name, of which no file can be left */
    int server = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (server < 0)
        return -1;
    while (connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == EINTR)
            continue;
        close(server);
        errno = ENODEV;
        return -1;
    }
    return server;
}

static int send_message(int server, const struct message *message, const int *descriptors, size_t count)
{
    struct iovec data = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof *message};
    struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    if (count > 0) {
        memset(&control, 0, sizeof control);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(rights), descriptors, count * sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(server, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof *message ? 0 : -1;
}

/* Returns 0 and a message; *descriptor is the one that came with it, or -1. */
static int receive_message(int server, struct message *message, int *descriptor)
{
    struct iovec data = {.iov_base = message, .iov_len = sizeof *message};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr header;
    ssize_t received;
    do {
        memset(&control, 0, sizeof control);
        header = (struct msghdr){.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes};
        header.msg_controllen = sizeof control.bytes;
        received = recvmsg(server, &header, MSG_CMSG_CLOEXEC);
    } while (received < 0 && errno == EINTR);
    *descriptor = -1;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    if (received > 0 && rights != NULL && rights->cmsg_type == SCM_RIGHTS)
        memcpy(descriptor, CMSG_DATA(rights), sizeof *descriptor);
    return received == (ssize_t)sizeof *message ? 0 : -1;
}

/* Copies as much as can be between memory and the start of the scratch file; returns how many bytes. */
static uint64_t copy(uint64_t operation, int scratch, uint64_t address, uint64_t size)
{
    uint64_t done = 0;
    while (done < size) {
        uint64_t here = address + done;
        size_t chunk = PAGE_BYTES - here % PAGE_BYTES;
        if (chunk > size - done)
            chunk = (size_t)(size - done);
        void *memory = (void *)(uintptr_t)here;
        ssize_t copied = operation == READ ? pwrite(scratch, memory, chunk, (off_t)done)
                                           : pread(scratch, memory, chunk, (off_t)done);
        if (copied <= 0)
            break;
        done += (uint64_t)copied;
    }
    return done;
}

/* The number of the descriptor that the server sent; the negated errno where there was no room for it. */
static int64_t install(int descriptor, int close_on_exec)
{
    if (descriptor < 0)
        return -EMFILE;
    if (!close_on_exec)
        fcntl(descriptor, F_SETFD, 0);
    return descriptor;
}

/* Does what the server asks until it returns. Returns the call's result; *error is its errno. */
static int64_t serve(int server, int scratch, int *error)
{
    for (;;) {
        struct message asked, answer = {.operation = RETURN};
        int descriptor;
        if (receive_message(server, &asked, &descriptor) != 0)
            break;
        switch (asked.operation) {
        case READ:
        case WRITE:
            answer.args[0] = copy(asked.operation, scratch, asked.args[0], asked.args[1]);
            break;
        case INSTALL:
            answer.args[0] = (uint64_t)install(descriptor, asked.args[0] != 0);
            break;
        default:
            *error = (int)asked.args[1];
            return (int64_t)asked.args[0];
        }
        if (send_message(server, &answer, NULL, 0) != 0)
            break;
    }
    *error = ENODEV;
    return -1;
}

/* The outcome of an operation at the server, as of a system call: EMFILE where there is no room for the descriptors that
 * it takes, ENODEV where no server answers. errno stays as it was where the operation succeeds. */
static int forward(struct message message, int on)
{
    int saved = errno;
    int64_t result = -1;
    int server = connect_to_server();
    int scratch = server < 0 ? -1 : memfd_create("kvmsve scratch", MFD_CLOEXEC);
    int error = scratch < 0 ? errno : ENODEV;
    int descriptors[] = {scratch, on};
    if (scratch >= 0 && send_message(server, &message, descriptors, on < 0 ? 1 : 2) == 0)
        result = serve(server, scratch, &error);
    if (server >= 0)
        close(server);
    if (scratch >= 0)
        close(scratch);
    errno = result < 0 ? error : saved;
    return (int)result;
}

static int is_device(const char *path)
{
    return path != NULL && getenv("KVMSVE_SOCKET") != NULL && strcmp(path, DEVICE) == 0;
}

static int open_device(int flags)
{
    return forward((struct message){.operation = OPEN, .args = {(flags & O_CLOEXEC) != 0}}, -1);
}

/* The function that the program would have called without the shim. */
static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

#define NEXT(type, name) (((union { void *object; type *function; }){.object = next(name)}).function)

typedef int open_function(const char *, int, ...);
typedef int openat_function(int, const char *, int, ...);
typedef int checked_open_function(const char *, int);
typedef int checked_openat_function(int, const char *, int);
typedef int access_function(const char *, int);
typedef int faccessat_function(int, const char *, int, int);
typedef int stat_function(const char *, void *);
typedef int statat_function(int, const char *, void *, int);
typedef int old_stat_function(int, const char *, void *);
typedef int statx_function(int, const char *, int, unsigned, struct statx *);
typedef int ioctl_function(int, unsigned long, ...);

static unsigned mode_of(int flags, va_list arguments)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, unsigned) : 0;
}

#define OPEN_FUNCTION(name)                                                                                        \
    int name(const char *path, int flags, ...)                                                                     \
    {                                                                                                              \
        va_list arguments;                                                                                         \
        va_start(arguments, flags);                                                                                \
        unsigned mode = mode_of(flags, arguments);                                                                 \
        va_end(arguments);                                                                                         \
        return is_device(path) ? open_device(flags) : NEXT(open_function, #name)(path, flags, mode);               \
    }

#define OPENAT_FUNCTION(name)                                                                                      \
    int name(int at, const char *path, int flags, ...)                                                             \
    {                                                                                                              \
        va_list arguments;                                                                                         \
        va_start(arguments, flags);                                                                                \
        unsigned mode = mode_of(flags, arguments);                                                                 \
        va_end(arguments);                                                                                         \
        return is_device(path) ? open_device(flags)                                                                \
                               : NEXT(openat_function, #name)(at, path, flags, mode);                              \
    }

#define CHECKED_OPEN_FUNCTION(name)                                                                                \
    int name(const char *path, int flags)                                                                          \
    {                                                                                                              \
        return is_device(path) ? open_device(flags) : NEXT(checked_open_function, #name)(path, flags);             \
    }

#define CHECKED_OPENAT_FUNCTION(name)                                                                              \
    int name(int at, const char *path, int flags)                                                                  \
    {                                                                                                              \
        return is_device(path) ? open_device(flags) : NEXT(checked_openat_function, #name)(at, path, flags);       \
    }

#define ACCESS_FUNCTION(name)                                                                                      \
    int name(const char *path, int mode)                                                                           \
    {                                                                                                              \
        if (!is_device(path))                                                                                      \
            return NEXT(access_function, #name)(path, mode);                                                       \
        errno = mode & X_OK ? EACCES : errno;                                                                      \
        return mode & X_OK ? -1 : 0;                                                                               \
    }

/* A character device's status, with the number of /dev/kvm in it. */
#define STAT_FUNCTION(name, type)                                                                                  \
    int name(const char *restrict path, type *restrict status)                                                     \
    {                                                                                                              \
        int found = is_device(path);                                                                               \
        int result = NEXT(stat_function, #name)(found ? "/dev/null" : path, status);                               \
        if (found && result == 0)                                                                                  \
            status->st_rdev = makedev(DEVICE_MAJOR, DEVICE_MINOR);                                                 \
        return result;                                                                                             \
    }

#define STATAT_FUNCTION(name, type)                                                                                \
    int name(int at, const char *restrict path, type *restrict status, int flags)                                  \
    {                                                                                                              \
        int found = is_device(path);                                                                               \
        int result =                                                                                               \
            NEXT(statat_function, #name)(at, found ? "/dev/null" : path, status, flags);                           \
        if (found && result == 0)                                                                                  \
            status->st_rdev = makedev(DEVICE_MAJOR, DEVICE_MINOR);                                                 \
        return result;                                                                                             \
    }

#define OLD_STAT_FUNCTION(name, type)                                                                              \
    int name(int version, const char *path, type *status)                                                          \
    {                                                                                                              \
        int found = is_device(path);                                                                               \
        int result = NEXT(old_stat_function, #name)(version, found ? "/dev/null" : path, status);                  \
        if (found && result == 0)                                                                                  \
            status->st_rdev = makedev(DEVICE_MAJOR, DEVICE_MINOR);                                                 \
        return result;                                                                                             \
    }

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int at, const char *path, int flags);
int __openat64_2(int at, const char *path, int flags);
int __xstat(int version, const char *path, struct stat *status);
int __xstat64(int version, const char *path, struct stat64 *status);
int __lxstat(int version, const char *path, struct stat *status);
int __lxstat64(int version, const char *path, struct stat64 *status);

OPEN_FUNCTION(open)
OPEN_FUNCTION(open64)
OPENAT_FUNCTION(openat)
OPENAT_FUNCTION(openat64)
CHECKED_OPEN_FUNCTION(__open_2)
CHECKED_OPEN_FUNCTION(__open64_2)
CHECKED_OPENAT_FUNCTION(__openat_2)
CHECKED_OPENAT_FUNCTION(__openat64_2)
ACCESS_FUNCTION(access)
ACCESS_FUNCTION(euidaccess)
ACCESS_FUNCTION(eaccess)
STAT_FUNCTION(stat, struct stat)
STAT_FUNCTION(stat64, struct stat64)
STAT_FUNCTION(lstat, struct stat)
STAT_FUNCTION(lstat64, struct stat64)
STATAT_FUNCTION(fstatat, struct stat)
STATAT_FUNCTION(fstatat64, struct stat64)
OLD_STAT_FUNCTION(__xstat, struct stat)
OLD_STAT_FUNCTION(__xstat64, struct stat64)
OLD_STAT_FUNCTION(__lxstat, struct stat)
OLD_STAT_FUNCTION(__lxstat64, struct stat64)

int faccessat(int at, const char *path, int mode, int flags)
{
    return is_device(path) ? access(path, mode)
                           : NEXT(faccessat_function, "faccessat")(at, path, mode, flags);
}

int statx(int at, const char *restrict path, int flags, unsigned mask, struct statx *restrict status)
{
    int found = is_device(path);
    int result = NEXT(statx_function, "statx")(
        at, found ? "/dev/null" : path, flags, mask, status);
    if (found && result == 0) {
        status->stx_rdev_major = DEVICE_MAJOR;
        status->stx_rdev_minor = DEVICE_MINOR;
    }
    return result;
}

static int is_of_kvm(unsigned long request)
{
    unsigned long number = request & 0xFF;
    return (request >> 8 & 0xFF) == KVMIO && (number < FIRST_OF_ANOTHER_DRIVER || number > LAST_OF_ANOTHER_DRIVER);
}

int ioctl(int on, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    uintptr_t argument = va_arg(arguments, uintptr_t);
    va_end(arguments);
    if (!is_of_kvm(request) || getenv("KVMSVE_SOCKET") == NULL)
        return NEXT(ioctl_function, "ioctl")(on, request, argument);
    if (fcntl(on, F_GETFD) < 0)
        return -1;
    return forward((struct message){.operation = IOCTL, .args = {request & 0xFFFFFFFFu, argument}}, on);
}
