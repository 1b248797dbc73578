/* Every call that the shim stands in front of, with all that a program can give it by mistake. Prints a line for each,
 * call, arguments, result and errno: the lines are the same with and without the shim. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define PAGE 4096u

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int at, const char *path, int flags);
int __openat64_2(int at, const char *path, int flags);

struct named {
    const char *name;
    const char *path;
};

static struct named paths[32];
static size_t path_count;
static void *statuses[5];
static int descriptors[10];

/* `size` bytes of memory with none behind; of these the last are `text`, without its zero. */
static char *at_an_end(const char *text, size_t size)
{
    size_t room = (size + PAGE - 1) / PAGE * PAGE;
    char *memory = mmap(NULL, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || munmap(memory + room, PAGE) != 0)
        exit(3);
    memset(memory, 'a', room);
    memcpy(memory + room - strlen(text), text, strlen(text));
    return memory + room - size;
}

static void add_path(const char *name, const char *path)
{
    paths[path_count++] = (struct named){name, path};
}

static const char *of_length(size_t length, const char *end)
{
    char *path = at_an_end("", length + 1);
    memset(path, '/', length);
    memcpy(path + length - strlen(end), end, strlen(end));
    path[length] = '\0';
    return path;
}

static void prepare(const char *folder)
{
    char *hole = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    add_path("NULL", NULL);
    add_path("1", (const char *)1);
    add_path("unmapped", at_an_end("", 1) + 1);
    add_path("no access", hole);
    add_path("the kernel's", (const char *)UINTPTR_MAX);
    add_path("unterminated", at_an_end("/dev/kvm", 8));
    add_path("unterminated kvm", at_an_end("kvm", 3));
    add_path("unterminated a", at_an_end("", 1));
    add_path("unterminated page", at_an_end("", 2 * PAGE));
    add_path("4095", of_length(PATH_MAX - 1, "none/kvm"));
    add_path("4096", of_length(PATH_MAX, "none/kvm"));
    add_path("5000", of_length(5000, "/dev/kvm"));
    add_path("long name", of_length(4000, "") + 4000 - 300);
    memset((char *)(uintptr_t)paths[path_count - 1].path, 'k', 299);
    add_path("empty", at_an_end("", 1));
    *(char *)(uintptr_t)paths[path_count - 1].path = '\0';
    add_path("relative kvm", "kvm");
    add_path("none/kvm", "none/kvm");
    add_path("null/kvm", "/dev/null/kvm");
    add_path("kvm folder", "/dev/kvm-none/kvm");
    add_path("null", "/dev/null");
    add_path("folder", folder);
    void *const bad[] = {NULL, (void *)1, hole, at_an_end("", 8), malloc(512)};
    memcpy(statuses, bad, sizeof bad);
    int ends[2];
    if (pipe2(ends, O_NONBLOCK) != 0)
        exit(3);
    const int numbers[] = {-1, -5, 9999, INT_MAX, AT_FDCWD, open("/dev/null", O_RDWR), open(folder, O_RDONLY | O_DIRECTORY),
                           open(folder, O_PATH), ends[0], ends[1]};
    memcpy(descriptors, numbers, sizeof numbers);
}

#define TELL(what, ...)                                                                                                \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long long result_ = (long long)(what);                                                                         \
        int error_ = errno;                                                                                            \
        printf(__VA_ARGS__);                                                                                           \
        printf(" = %lld %d\n", result_, error_);                                                                       \
    } while (0)

#define TELL_OPEN(what, ...)                                                                                           \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        int result_ = (what), error_ = errno;                                                                          \
        printf(__VA_ARGS__);                                                                                           \
        printf(" = %s %d\n", result_ < 0 ? "-1" : "open", error_);                                                     \
        if (result_ >= 0)                                                                                              \
            close(result_);                                                                                            \
    } while (0)

static const int flags_of_open[] = {O_RDONLY, O_RDWR | O_CLOEXEC, O_WRONLY | O_NONBLOCK, 3, O_DIRECTORY, O_PATH, O_TMPFILE,
                                    O_NOFOLLOW | O_DIRECT, -1, 0x40000000};

static void try_opens(const struct named *each)
{
    int (*const opens[])(const char *, int, ...) = {open, open64};
    int (*const checked[])(const char *, int) = {__open_2, __open64_2};
    int (*const openats[])(int, const char *, int, ...) = {openat, openat64};
    int (*const checked_ats[])(int, const char *, int) = {__openat_2, __openat64_2};
    int (*const creats[])(const char *, mode_t) = {creat, creat64};
    FILE *(*const fopens[])(const char *, const char *) = {fopen, fopen64};
    for (size_t way = 0; way < 2; way++) {
        for (size_t n = 0; n < COUNT(flags_of_open); n++) {
            int flags = flags_of_open[n], creates = flags == -1 || flags == O_TMPFILE;
            TELL_OPEN(opens[way](each->path, flags, 0600), "open %zu %s %x", way, each->name, flags);
            if (!creates)
                TELL_OPEN(checked[way](each->path, flags), "__open_2 %zu %s %x", way, each->name, flags);
            for (size_t at = 0; at < COUNT(descriptors); at++) {
                TELL_OPEN(openats[way](descriptors[at], each->path, flags, 0600), "openat %zu %zu %s %x", way, at, each->name,
                          flags);
                if (!creates)
                    TELL_OPEN(checked_ats[way](descriptors[at], each->path, flags), "__openat_2 %zu %zu %s %x", way, at,
                              each->name, flags);
            }
        }
        if (strstr(each->name, "relative") == NULL)
            TELL_OPEN(creats[way](each->path, 0600), "creat %zu %s", way, each->name);
        for (size_t n = 0; n < 2; n++) {
            errno = 0;
            FILE *stream = fopens[way](each->path, n ? "r+" : "re");
            printf("fopen %zu %zu %s = %d %d\n", way, n, each->name, stream != NULL, stream == NULL ? errno : 0);
            if (stream != NULL)
                fclose(stream);
        }
    }
}

static void try_accesses(const struct named *each)
{
    const int modes[] = {F_OK, R_OK, W_OK | X_OK, 8, -1, 99};
    const int flags[] = {0, AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 0x4000, -1};
    for (size_t n = 0; n < COUNT(modes); n++) {
        TELL(access(each->path, modes[n]), "access %s %d", each->name, modes[n]);
        TELL(euidaccess(each->path, modes[n]), "euidaccess %s %d", each->name, modes[n]);
        TELL(eaccess(each->path, modes[n]), "eaccess %s %d", each->name, modes[n]);
        for (size_t m = 0; m < COUNT(flags); m++)
            for (size_t at = 0; at < COUNT(descriptors); at++)
                TELL(faccessat(descriptors[at], each->path, modes[n], flags[m]), "faccessat %zu %s %d %x", at, each->name,
                     modes[n], flags[m]);
    }
}

static void try_stats(const struct named *each)
{
    typedef int old_stat(int, const char *, void *);
    static const char *const old_names[] = {"__xstat", "__xstat64", "__lxstat", "__lxstat64"};
    const int flags[] = {0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 0x40000000, -1};
    for (size_t n = 0; n < COUNT(statuses); n++) {
        void *status = statuses[n];
        TELL(stat(each->path, status), "stat %s %zu", each->name, n);
        TELL(stat64(each->path, status), "stat64 %s %zu", each->name, n);
        TELL(lstat(each->path, status), "lstat %s %zu", each->name, n);
        TELL(lstat64(each->path, status), "lstat64 %s %zu", each->name, n);
        for (size_t old = 0; old < COUNT(old_names); old++) {
            union {
                void *object;
                old_stat *function;
            } found = {dlsym(RTLD_DEFAULT, old_names[old])};
            if (found.object != NULL)
                for (int version = -1; version < 3; version++)
                    TELL(found.function(version, each->path, status), "%s %d %s %zu", old_names[old], version, each->name, n);
        }
        for (size_t m = 0; m < COUNT(flags); m++)
            for (size_t at = 0; at < COUNT(descriptors); at++) {
                TELL(fstatat(descriptors[at], each->path, status, flags[m]), "fstatat %zu %s %zu %x", at, each->name, n,
                     flags[m]);
                TELL(fstatat64(descriptors[at], each->path, status, flags[m]), "fstatat64 %zu %s %zu %x", at, each->name, n,
                     flags[m]);
                TELL(statx(descriptors[at], each->path, flags[m], m == 3 ? ~0u : STATX_BASIC_STATS, status),
                     "statx %zu %s %zu %x", at, each->name, n, flags[m]);
            }
    }
}

static void try_links(const struct named *each)
{
    for (size_t n = 0; n < COUNT(statuses); n++)
        for (size_t room = 0; room < 32; room += 8) {
            TELL(readlink(each->path, statuses[n], room), "readlink %s %zu %zu", each->name, n, room);
            for (size_t at = 0; at < COUNT(descriptors); at++)
                TELL(readlinkat(descriptors[at], each->path, statuses[n], room), "readlinkat %zu %s %zu %zu", at, each->name,
                     n, room);
        }
}

static void try_descriptor(size_t number)
{
    const unsigned long requests[] = {0, 0xAE00, 0xAE01, 0x4010AEAB, 0x5401, 0x541B, 0x5451, 0xFFFFFFFFFFFFFFFF};
    const off_t offsets[] = {0, 5, -1};
    int on = descriptors[number];
    for (size_t n = 0; n < COUNT(statuses); n++) {
        void *memory = statuses[n];
        TELL(fstat(on, memory), "fstat %zu %zu", number, n);
        TELL(fstat64(on, memory), "fstat64 %zu %zu", number, n);
        for (size_t m = 0; m < COUNT(requests); m++)
            TELL(ioctl(on, requests[m], memory), "ioctl %zu %zu %lx", number, n, requests[m]);
        if (n == 0 || n == 3)
            TELL(write(on, memory, n), "write %zu %zu", number, n);
        TELL(read(on, memory, 8), "read %zu %zu", number, n);
        struct iovec parts[] = {{memory, 4}};
        TELL(readv(on, parts, 1), "readv %zu %zu", number, n);
        TELL(readv(on, memory, (int)n - 1), "readv bad %zu %zu", number, n);
        TELL(writev(on, n == 4 ? parts : memory, 0), "writev %zu %zu", number, n);
        for (size_t m = 0; m < COUNT(offsets); m++) {
            TELL(pread(on, memory, 8, offsets[m]), "pread %zu %zu %zu", number, n, m);
            TELL(pread64(on, memory, 8, offsets[m]), "pread64 %zu %zu %zu", number, n, m);
            TELL(pwrite(on, memory, 0, offsets[m]), "pwrite %zu %zu %zu", number, n, m);
            TELL(pwrite64(on, memory, 0, offsets[m]), "pwrite64 %zu %zu %zu", number, n, m);
        }
    }
    for (int whence = -1; whence < 7; whence++) {
        TELL(lseek(on, 5, whence), "lseek %zu %d", number, whence);
        TELL(lseek64(on, -5, whence), "lseek64 %zu %d", number, whence);
    }
    for (size_t size = 0; size <= PAGE; size += PAGE / 2) {
        TELL(mmap(NULL, size, PROT_READ, MAP_SHARED, on, 0) == MAP_FAILED, "mmap %zu %zu", number, size);
        TELL(mmap64(NULL, size, PROT_READ, 0, on, 1) == MAP_FAILED, "mmap64 %zu %zu", number, size);
    }
}

/* A program that there is, and environments that there are not. */
static void try_executions(const struct named *each)
{
    char *arguments[] = {"true", NULL}, *variables[] = {"A=B", (char *)(uintptr_t)each->path, NULL};
    int is_bad = each < paths + 9 && each->path != NULL;
    const char *program = is_bad ? "/bin/true" : each->path;
    if (!is_bad && strcmp(each->name, "NULL") != 0 && strcmp(each->name, "null") != 0)
        return;
    TELL(execve(program, arguments, variables), "execve %s", each->name);
    if (is_bad) /* the C library itself looks at the name */
        TELL(execvpe(program, arguments, variables), "execvpe %s", each->name);
    TELL(execve(program, arguments, is_bad ? (char **)statuses[2] : NULL), "execve bad %s", each->name);
    TELL(execve(program, arguments, is_bad ? (char **)statuses[3] : NULL), "execve end %s", each->name);
    pid_t child;
    TELL(posix_spawn(&child, program, NULL, NULL, arguments, variables) > 0, "posix_spawn %s", each->name);
}

int main(int count, char **arguments)
{
    (void)count;
    prepare(arguments[1]);
    if (chdir(arguments[1]) != 0)
        return 3;
    for (size_t n = 0; n < path_count; n++) {
        try_opens(&paths[n]);
        try_accesses(&paths[n]);
        try_stats(&paths[n]);
        try_links(&paths[n]);
        try_executions(&paths[n]);
    }
    for (size_t number = 0; number < COUNT(descriptors); number++)
        try_descriptor(number);
    return 0;
}
