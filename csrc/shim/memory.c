/* The program's memory as the operating system sees it. */
#include "shim.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_BYTES 4096u /* the smallest page: access to memory can begin or end at no finer grain */
#define WORD_BYTES 8u    /* of a set of signals, as the kernel has it */
#define NO_ACTION (~0L)  /* a way to change the set of signals that there is not */

/* A change of the signal mask in no known way: the kernel reads the set, and refuses. */
static int is_readable(uintptr_t address)
{
    uintptr_t word = address - address % WORD_BYTES;
    return word != 0 && syscall(SYS_rt_sigprocmask, NO_ACTION, word, NULL, (size_t)WORD_BYTES) != 0 && errno != EFAULT;
}

size_t readable_bytes(uintptr_t address, size_t size)
{
    int saved = errno;
    size_t done = 0;
    while (done < size && is_readable(address + done))
        done += PAGE_BYTES - (address + done) % PAGE_BYTES;
    errno = saved;
    return done < size ? done : size;
}

ptrdiff_t path_length(const char *path)
{
    uintptr_t address = (uintptr_t)path;
    for (size_t done = 0; done < PATH_MAX;) {
        size_t rest = PAGE_BYTES - (address + done) % PAGE_BYTES, most = PATH_MAX - done;
        size_t part = rest < most ? rest : most;
        if (readable_bytes(address + done, part) < part)
            return -1;
        const char *end = memchr((const char *)(address + done), '\0', part);
        if (end != NULL)
            return end - path;
        done += part;
    }
    return -1;
}
