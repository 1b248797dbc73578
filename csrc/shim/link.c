/* Connections to the server.
 *
 * A call at work has a connection to itself, which is kept for the next. Nothing here has to be told of what the program
 * does meanwhile: a kept connection is used where its descriptor is still that socket, whatever was closed, and where
 * the process is still the one that made it, whatever was forked.
 */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define KVM_RUN 0xAE80u
#define KEPT_CONNECTIONS 16u
#define LOW_NUMBERS 1024u /* what select() takes; programs count on the first of them */
#define HIGH_NUMBERS 64u  /* the last of those that we take if they are free */
#define PAGE_BYTES 4096u

struct connection {
    _Atomic uint64_t user; /* the number of the process that has a call at work here */
    uint64_t maker;        /* of the process that made it; 0: there is none */
    int descriptor;
    dev_t device;
    ino_t inode;
};

static struct connection kept[KEPT_CONNECTIONS];
static char server_name[sizeof((struct sockaddr_un *)NULL)->sun_path];
static uint64_t server_secret;

/* A number that is this process's alone, as its memory is: threads and what vfork() makes share it, fork() makes another
 * (the kernel wipes its page, or, in an emulator that does not, a handler), and so does exec. */
static _Atomic uint64_t *number_page;
static _Atomic uint64_t number_without_page;

static _Atomic uint64_t *number(void)
{
    return number_page != NULL ? number_page : &number_without_page;
}

static void forget_number(void)
{
    atomic_store(number(), 0);
}

/* An emulator sets LD_PRELOAD for what it emulates. What that starts runs on the real machine: it could not load this
 * shim, and would say so. */
static void stay_in_the_emulator(void)
{
    if (getenv("KVMSVE_EMULATED") != NULL)
        unsetenv("LD_PRELOAD");
}

/* An emulator on this machine: the program that it runs has a shim of its own, which sees what this one would hide. */
static int is_emulator(void)
{
    static const char name[] = "/qemu-aarch64";
    char program[PATH_MAX] = "";
    if (syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", program, sizeof program - 1) < 0)
        return 0;
    const char *last = strrchr(program, '/');
    return last != NULL && strncmp(last, name, sizeof name - 1) == 0;
}

__attribute__((constructor)) static void begin(void)
{
    if (is_emulator())
        return;
    const char *name = getenv("KVMSVE_SOCKET"), *end = name == NULL ? NULL : strrchr(name, ':');
    if (end != NULL && (size_t)(end - name) < sizeof server_name - 1) {
        memcpy(server_name, name, (size_t)(end - name));
        server_secret = strtoull(end + 1, NULL, 10);
    }
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED && madvise(page, PAGE_BYTES, MADV_WIPEONFORK) == 0)
        number_page = page;
    pthread_atfork(NULL, NULL, forget_number);
    stay_in_the_emulator();
}

int has_server(void)
{
    return server_name[0] != '\0';
}

static uint64_t process_number(void)
{
    uint64_t present = atomic_load(number()), fresh = 0;
    while (present == 0) {
        if (syscall(SYS_getrandom, &fresh, sizeof fresh, 0) != sizeof fresh || fresh == 0)
            fresh = (uint64_t)getpid();
        if (atomic_compare_exchange_strong(number(), &present, fresh))
            present = fresh;
    }
    return present;
}

/* Sends a message, and `size` bytes at `data` with it if they can be read. */
static int send_message(int server, const struct message *message, uintptr_t data, size_t size)
{
    struct iovec parts[] = {
        {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof *message},
        {.iov_base = (void *)data, .iov_len = size},
    };
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = size > 0 ? 2 : 1};
    for (;;) {
        if (syscall(SYS_sendmsg, server, &header, MSG_NOSIGNAL) >= (long)sizeof *message)
            return 0;
        if (errno == EFAULT && header.msg_iovlen > 1)
            header.msg_iovlen = 1;
        else if (errno != EINTR)
            return -1;
    }
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
    long received;
    do {
        header = (struct msghdr){.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes};
        header.msg_controllen = sizeof control.bytes;
        received = syscall(SYS_recvmsg, server, &header, MSG_CMSG_CLOEXEC);
    } while (received < 0 && errno == EINTR);
    *descriptor = -1;
    struct cmsghdr *rights = received > 0 ? CMSG_FIRSTHDR(&header) : NULL;
    if (rights != NULL && rights->cmsg_type == SCM_RIGHTS)
        memcpy(descriptor, CMSG_DATA(rights), sizeof *descriptor);
    return received == (long)sizeof *message ? 0 : -1;
}

/* Where the server can reach this process's memory by itself: not in an emulator, whose addresses are others. */
static uint64_t reachable_address(void)
{
    uint64_t copy;
    struct iovec here = {.iov_base = &copy, .iov_len = sizeof copy};
    struct iovec there = {.iov_base = (void *)(uintptr_t)number(), .iov_len = sizeof copy};
    return syscall(SYS_process_vm_readv, getpid(), &here, 1ul, &there, 1ul, 0ul) == sizeof copy ? (uintptr_t)number() : 0;
}

/* A descriptor where programs do not look for theirs, if there is room; the same one if there is none. */
static int move_away(int descriptor)
{
    struct rlimit limit = {.rlim_cur = LOW_NUMBERS};
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t end = limit.rlim_cur < LOW_NUMBERS ? limit.rlim_cur : LOW_NUMBERS;
    long moved = end < HIGH_NUMBERS ? -1 : syscall(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, (long)(end - HIGH_NUMBERS));
    if (moved < 0)
        return descriptor;
    syscall(SYS_close, descriptor);
    return (int)moved;
}

/* The errno of a call that the server has not answered: that there is no room for a descriptor, which is the program's
 * affair, or ENODEV. Why, is said once. */
static int lost(int error)
{
    static atomic_flag told = ATOMIC_FLAG_INIT;
    static const char begin[] = "kvmsve: /dev/kvm is lost: ", forbidden[] = "a sandbox forbids the socket to kvmsve run\n",
                      gone[] = "kvmsve run has ended, or cannot be reached from here\n";
    if (error == EMFILE || error == ENFILE)
        return error;
    int is_forbidden = error == EPERM || error == EACCES || error == ENOSYS;
    struct iovec parts[] = {
        {.iov_base = (void *)(uintptr_t)begin, .iov_len = sizeof begin - 1},
        {.iov_base = (void *)(uintptr_t)(is_forbidden ? forbidden : gone),
         .iov_len = (is_forbidden ? sizeof forbidden : sizeof gone) - 1},
    };
    if (!atomic_flag_test_and_set(&told))
        syscall(SYS_writev, STDERR_FILENO, parts, 2);
    return ENODEV;
}

/* A socket that is connected to the server's file, or to its abstract name; -1 and errno. */
static int open_socket(int is_abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path + is_abstract, server_name);
    int server = (int)syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    while (server >= 0 && syscall(SYS_connect, server, &address, sizeof address) != 0)
        if (errno != EINTR) {
            int error = errno;
            syscall(SYS_close, server);
            errno = error;
            return -1;
        }
    return server;
}

/* A connection to the server, which knows who calls; -1 and errno. */
static int connect_to_server(uint64_t process)
{
    struct message hello = {.operation = HELLO, .args = {process, reachable_address(), server_secret}};
    int server = open_socket(1);
    if (server < 0 && errno != EMFILE && errno != ENFILE)
        server = open_socket(0);
    if (server < 0 || send_message(server, &hello, 0, 0) == 0)
        return server;
    syscall(SYS_close, server);
    errno = ENODEV;
    return -1;
}

static int is_still_there(const struct connection *connection)
{
    struct stat status;
    return connection->maker != 0 && syscall(SYS_fstat, connection->descriptor, &status) == 0 &&
           status.st_dev == connection->device && status.st_ino == connection->inode;
}

static void end_connection(struct connection *connection)
{
    if (is_still_there(connection))
        syscall(SYS_close, connection->descriptor);
    connection->maker = 0;
}

/* The connection has a descriptor to the server; -1 and errno. */
static int begin_connection(struct connection *connection, uint64_t process)
{
    int server = connect_to_server(process);
    struct stat status;
    if (server < 0)
        return -1;
    connection->descriptor = move_away(server);
    syscall(SYS_fstat, connection->descriptor, &status);
    connection->device = status.st_dev;
    connection->inode = status.st_ino;
    connection->maker = process;
    return 0;
}

/* A connection that is this call's until release(): a kept one, or `spare` where all are at work, in other threads or in
 * runs that a signal handler has left for good. */
static struct connection *claim(struct connection *spare, uint64_t process)
{
    for (struct connection *each = kept; each < kept + KEPT_CONNECTIONS; each++) {
        uint64_t user = atomic_load(&each->user);
        if (user != process && atomic_compare_exchange_strong(&each->user, &user, process))
            return each;
    }
    *spare = (struct connection){0};
    return spare;
}

static void release(struct connection *connection, const struct connection *spare)
{
    if (connection == spare)
        end_connection(connection);
    atomic_store(&connection->user, 0);
}

/* The number of the descriptor that the server sent; the negated errno where there was no room for it. */
static int64_t install(int descriptor, int close_on_exec)
{
    if (descriptor < 0)
        return -EMFILE;
    if (!close_on_exec)
        syscall(SYS_fcntl, descriptor, F_SETFD, 0l);
    return descriptor;
}

/* Takes the message with the bytes to be written; all of them are, or none. */
static uint64_t write_memory(int server, uintptr_t address, size_t size)
{
    char rest;
    long copied, taken;
    do
        copied = syscall(SYS_recvfrom, server, address, size, MSG_PEEK, NULL, NULL);
    while (copied < 0 && errno == EINTR);
    do
        taken = syscall(SYS_recvfrom, server, &rest, sizeof rest, 0, NULL, NULL);
    while (taken < 0 && errno == EINTR);
    return copied == (long)size ? size : 0;
}

/* Does what the server asks until it returns. 0 and the outcome; -1 where the server has gone. */
static int serve(int server, struct message *asked)
{
    for (;;) {
        struct message answer = {.operation = RETURN};
        uintptr_t data = 0;
        size_t size = 0;
        int descriptor;
        if (receive_message(server, asked, &descriptor) != 0)
            return -1;
        switch (asked->operation) {
        case READ:
            data = asked->args[0];
            size = readable_bytes(data, asked->args[1]);
            break;
        case WRITE:
            answer.args[0] = write_memory(server, asked->args[0], asked->args[1]);
            break;
        case INSTALL:
            answer.args[0] = (uint64_t)install(descriptor, asked->args[0] != 0);
            break;
        default:
            return 0;
        }
        if (send_message(server, &answer, data, size) != 0)
            return -1;
    }
}

/* The request is at the server; a connection that the server has given up is made again. */
static int send_request(struct connection *connection, uint64_t process, const struct message *request, uintptr_t data,
                        size_t size)
{
    if (connection->maker == process && is_still_there(connection) &&
        send_message(connection->descriptor, request, data, size) == 0)
        return 0;
    end_connection(connection);
    return begin_connection(connection, process) == 0 ? send_message(connection->descriptor, request, data, size) : -1;
}

/* The signals that the thread had blocked before; now it has all. */
static uint64_t block_signals(void)
{
    const uint64_t all = UINT64_MAX;
    uint64_t before = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    return before;
}

static struct message outcome_of(const struct message *request, uintptr_t data, size_t size)
{
    uint64_t process = process_number();
    struct connection spare, *connection = claim(&spare, process);
    struct message outcome;
    int error = 0;
    if (send_request(connection, process, request, data, size) != 0)
        error = errno;
    else if (serve(connection->descriptor, &outcome) != 0) {
        end_connection(connection);
        error = ENODEV;
    }
    release(connection, &spare);
    return error == 0 ? outcome : (struct message){.args = {(uint64_t)-1, (uint64_t)lost(error)}};
}

int ask_server(struct message request, uintptr_t data, size_t size)
{
    int saved = errno;
    int runs = request.operation == IOCTL && (uint32_t)request.args[0] == KVM_RUN;
    uint64_t mask = runs ? 0 : block_signals(); /* a handler that asks, too, might wait for what this call has at work */
    struct message outcome = outcome_of(&request, data, size);
    if (!runs)
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
    errno = (int64_t)outcome.args[0] < 0 ? (int)outcome.args[1] : saved;
    return (int)outcome.args[0];
}
