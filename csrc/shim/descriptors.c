/* Calls that take a descriptor. What KVM's files have besides ioctls is little: no reading, no position, and only a
 * vCPU's can be mapped. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define KVMIO 0xAEu
#define INLINE_BYTES 128u /* arguments up to this size go with the request */
#define FIGETBSZ 2u       /* of <linux/fs.h> */

typedef int ioctl_function(int, unsigned long, ...);
typedef ssize_t read_function(int, void *, size_t);
typedef ssize_t write_function(int, const void *, size_t);
typedef ssize_t vector_function(int, const struct iovec *, int);
typedef ssize_t read_at_function(int, void *, size_t, off_t);
typedef ssize_t write_at_function(int, const void *, size_t, off_t);
typedef off_t lseek_function(int, off_t, int);
typedef void *mmap_function(void *, size_t, int, int, int, off_t);
typedef ssize_t readlink_function(const char *, char *, size_t);
typedef ssize_t readlinkat_function(int, const char *, char *, size_t);

/* Answered for every file before it is asked itself (do_vfs_ioctl()). */
static int is_of_every_file(unsigned long request)
{
    return request == FIOCLEX || request == FIONCLEX || request == FIONBIO || request == FIOASYNC ||
           request == FIOQSIZE || request == FIGETBSZ;
}

EXPORT int ioctl(int on, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    uintptr_t argument = va_arg(arguments, uintptr_t);
    va_end(arguments);
    struct message message = {.operation = IOCTL, .args = {0, argument}};
    enum kind kind = kind_of_descriptor(on, &message);
    message.args[0] = (request & UINT_MAX) | (uint64_t)kind << 32;
    if (kind == NOT_OURS || is_of_every_file(request & UINT_MAX)) {
        if (_IOC_TYPE(request) == KVMIO && syscall(SYS_fcntl, on, F_GETFD, 0l) < 0)
            return -1; /* an emulator does not know the request, and would not come to look at the descriptor */
        return NEXT(ioctl_function, "ioctl")(on, request, argument);
    }
    size_t size = _IOC_DIR(request) & _IOC_WRITE ? _IOC_SIZE(request) : 0;
    return ask_server(message, argument, size <= INLINE_BYTES ? size : 0);
}

static int fail(int error)
{
    errno = error;
    return -1;
}

EXPORT ssize_t read(int on, void *buffer, size_t size)
{
    return kind_of_descriptor(on, NULL) == NOT_OURS ? NEXT(read_function, "read")(on, buffer, size) : fail(EINVAL);
}

EXPORT ssize_t write(int on, const void *buffer, size_t size)
{
    return kind_of_descriptor(on, NULL) == NOT_OURS ? NEXT(write_function, "write")(on, buffer, size) : fail(EINVAL);
}

EXPORT ssize_t readv(int on, const struct iovec *parts, int count)
{
    return kind_of_descriptor(on, NULL) == NOT_OURS ? NEXT(vector_function, "readv")(on, parts, count) : fail(EINVAL);
}

EXPORT ssize_t writev(int on, const struct iovec *parts, int count)
{
    return kind_of_descriptor(on, NULL) == NOT_OURS ? NEXT(vector_function, "writev")(on, parts, count) : fail(EINVAL);
}

/* Of KVM's files only the device has positions, so that reading at one comes as far as being refused. */
static int refuse_position(enum kind kind, off_t position)
{
    return fail(kind == KVM || position < 0 ? EINVAL : ESPIPE);
}

#define READ_AT_FUNCTION(name)                                                                                         \
    EXPORT ssize_t name(int on, void *buffer, size_t size, off_t position)                                             \
    {                                                                                                                  \
        enum kind kind = kind_of_descriptor(on, NULL);                                                                 \
        return kind == NOT_OURS ? NEXT(read_at_function, #name)(on, buffer, size, position)                            \
                                : refuse_position(kind, position);                                                     \
    }

#define WRITE_AT_FUNCTION(name)                                                                                        \
    EXPORT ssize_t name(int on, const void *buffer, size_t size, off_t position)                                       \
    {                                                                                                                  \
        enum kind kind = kind_of_descriptor(on, NULL);                                                                 \
        return kind == NOT_OURS ? NEXT(write_at_function, #name)(on, buffer, size, position)                           \
                                : refuse_position(kind, position);                                                     \
    }

/* A seek is to nowhere and 0 (noop_llseek()); a controller has none. */
#define SEEK_FUNCTION(name)                                                                                            \
    EXPORT off_t name(int on, off_t offset, int whence)                                                                \
    {                                                                                                                  \
        enum kind kind = kind_of_descriptor(on, NULL);                                                                 \
        if (kind == NOT_OURS)                                                                                          \
            return NEXT(lseek_function, #name)(on, offset, whence);                                                    \
        if (whence < SEEK_SET || whence > SEEK_HOLE)                                                                   \
            return fail(EINVAL);                                                                                       \
        return kind == CONTROLLER ? fail(ESPIPE) : 0;                                                                  \
    }

#define MMAP_FUNCTION(name)                                                                                            \
    EXPORT void *name(void *address, size_t size, int protection, int flags, int on, off_t offset)                     \
    {                                                                                                                  \
        enum kind kind = flags & MAP_ANONYMOUS ? NOT_OURS : kind_of_descriptor(on, NULL);                              \
        if (kind == NOT_OURS || kind == VCPU)                                                                          \
            return NEXT(mmap_function, #name)(address, size, protection, flags, on, offset);                           \
        errno = size > 0 ? ENODEV : EINVAL;                                                                            \
        return MAP_FAILED;                                                                                             \
    }

READ_AT_FUNCTION(pread)
READ_AT_FUNCTION(pread64)
WRITE_AT_FUNCTION(pwrite)
WRITE_AT_FUNCTION(pwrite64)
SEEK_FUNCTION(lseek)
SEEK_FUNCTION(lseek64)
MMAP_FUNCTION(mmap)
MMAP_FUNCTION(mmap64)

/* A link of /proc/self/fd to a file of ours is to "/memfd:NAME (deleted)", to KVM's to NAME. The length of that, which is
 * put there; 0 for another link. */
static size_t name_of_link(int at, const char *path, char name[NAME_MAX])
{
    static const char before[] = "/memfd:", after[] = " (deleted)", nameless[] = "anon_inode:kvm-";
    const size_t before_length = sizeof before - 1, after_length = sizeof after - 1;
    char whole[NAME_MAX + sizeof before + sizeof after];
    int saved = errno;
    long length = has_server() ? syscall(SYS_readlinkat, at, path, whole, sizeof whole) : 0;
    errno = saved;
    if (length <= (long)(before_length + after_length) || memcmp(whole, before, before_length) != 0)
        return 0;
    size_t name_length = (size_t)length - before_length - after_length;
    memcpy(name, whole + before_length, name_length);
    return strncmp(name, nameless, sizeof nameless - 1) == 0 || strncmp(name, DEVICE, sizeof DEVICE - 1) == 0 ? name_length
                                                                                                               : 0;
}

#define READLINK(at, path, link, room, call)                                                                           \
    char name[NAME_MAX];                                                                                               \
    size_t length = name_of_link(at, path, name);                                                                      \
    size_t shown = length > 0 && length < room ? length : room; /* no byte behind the name is touched */               \
    ssize_t size = call;                                                                                               \
    if (size > 0 && length > 0)                                                                                        \
        memcpy(link, name, (size_t)size);                                                                              \
    return size

EXPORT ssize_t readlink(const char *restrict path, char *restrict link, size_t room)
{
    READLINK(AT_FDCWD, path, link, room, NEXT(readlink_function, "readlink")(seen_as(AT_FDCWD, path), link, shown));
}

EXPORT ssize_t readlinkat(int at, const char *restrict path, char *restrict link, size_t room)
{
    READLINK(at, path, link, room, NEXT(readlinkat_function, "readlinkat")(at, seen_as(at, path), link, shown));
}
