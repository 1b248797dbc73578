/* kvmsve's /dev/kvm in front of a program (LD_PRELOAD): what it does with the device goes to a server, the rest to libc.
 *
 *   link.c        connections to the server, one for each call at work
 *   memory.c      whether the program's memory can be read
 *   status.c      what a file is: our descriptors are files of memory, and look as KVM's
 *   names.c       calls that take a path: open, access
 *   descriptors.c calls that take a descriptor: ioctl, read, lseek, mmap
 *   programs.c    calls that start a program: it has the shim, too
 *
 * No function here follows a pointer of the program's before the operating system has looked at it, and none changes
 * errno where it succeeds.
 */
#ifndef KVMSVE_SHIM_H
#define KVMSVE_SHIM_H

#undef _FORTIFY_SOURCE /* the functions here are the ones that it would wrap or rename */
#undef _FILE_OFFSET_BITS
#undef _TIME_BITS
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define DEVICE "/dev/kvm"
#define DEVICE_MAJOR 10u
#define DEVICE_MINOR 232u

#define LIKENESS "/dev/null" /* a device with the access that /dev/kvm has: what KVM leaves to files is asked of it */

#define EXPORT __attribute__((visibility("default")))

/* The function that the program would have called without the shim. */
#define NEXT(type, name)                                                                                               \
    ({                                                                                                                 \
        static union {                                                                                                 \
            void *object;                                                                                              \
            type *function;                                                                                            \
        } found;                                                                                                       \
        if (found.object == NULL)                                                                                      \
            found.object = dlsym(RTLD_NEXT, name);                                                                     \
        found.function;                                                                                                \
    })

/* link.c */

enum operation { HELLO = 1, OPEN, IOCTL, READ, WRITE, INSTALL, RETURN };

struct message {
    uint64_t operation;
    uint64_t args[4]; /* HELLO: the program's number, its address or 0, the secret; OPEN: close-on-exec;
                         IOCTL: request and kind << 32, argument, device and inode of the file;
                         READ, WRITE: address, size; INSTALL: close-on-exec; RETURN: result, errno;
                         an answer: result */
};

/* The outcome of an operation at the server, as of a system call: EMFILE where there is no room for the descriptors that
 * it takes, ENODEV where no server answers. `size` bytes at `data`, if they can be read, go with the request. */
int ask_server(struct message request, uintptr_t data, size_t size);

/* Whether the program was started with a server; if not, the shim does nothing. */
int has_server(void);

/* memory.c */

/* The bytes from `address` that can be read: `size`, or as many as there are before a page that cannot. */
size_t readable_bytes(uintptr_t address, size_t size);

/* The length of a path; -1 where it cannot be read to its end, or is longer than paths are. */
ptrdiff_t path_length(const char *path);

/* status.c */

enum kind { NOT_OURS, KVM, VM, VCPU, CONTROLLER };

/* What a descriptor's file is; its identity, where it is ours. */
enum kind kind_of_descriptor(int descriptor, struct message *request);

/* names.c */

/* Whether the path names the device. */
int is_device(int at, const char *path);

/* The path; what the device is like, if it names that. */
const char *seen_as(int at, const char *path);

#endif
