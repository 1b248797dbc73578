/* What a program does with /dev/kvm beside reading registers: files, processes and threads. Prints a line for each part,
 * and ends with 1 at the first that fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define KVM_GET_API_VERSION 0xAE00ul
#define KVM_CREATE_VM 0xAE01ul
#define KVM_CHECK_EXTENSION 0xAE03ul
#define KVM_CREATE_VCPU 0xAE41ul
#define KVM_SET_USER_MEMORY_REGION 0x4020AE46ul
#define KVM_CREATE_DEVICE 0xC00CAEE0ul
#define KVM_HAS_DEVICE_ATTR 0x4018AEE3ul
#define KVM_RUN 0xAE80ul
#define KVM_GET_ONE_REG 0x4010AEABul
#define KVM_SET_ONE_REG 0x4010AEACul
#define KVM_ARM_VCPU_INIT 0x4020AEAEul
#define KVM_ARM_VCPU_FINALIZE 0x4004AEC2ul
#define ROUNDS 100

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("failed: %s (line %d, errno %d)\n", #condition, __LINE__, errno);                                   \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

struct one_reg {
    uint64_t id, address;
};

static uint64_t zreg(unsigned n)
{
    return 0x6080000000150000u | (uint64_t)n << 5;
}

static int set(int vcpu, uint64_t id, const void *value)
{
    struct one_reg reg = {id, (uintptr_t)value};
    return ioctl(vcpu, KVM_SET_ONE_REG, &reg);
}

static int get(int vcpu, uint64_t id, void *value)
{
    struct one_reg reg = {id, (uintptr_t)value};
    return ioctl(vcpu, KVM_GET_ONE_REG, &reg);
}

static int create_vm(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    CHECK(kvm >= 0);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0ul);
    CHECK(vm >= 0);
    CHECK(close(kvm) == 0);
    return vm;
}

static int create_vcpu(int vm, unsigned long index)
{
    uint32_t init[8] = {5, 1u << 4}, vec = 4;
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, index);
    CHECK(vcpu >= 0);
    CHECK(ioctl(vcpu, KVM_ARM_VCPU_INIT, init) == 0);
    CHECK(ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, &vec) == 0);
    return vcpu;
}

static int holds(int vcpu, unsigned n, uint8_t byte)
{
    uint8_t value[256];
    return get(vcpu, zreg(n), value) == 0 && value[0] == byte && value[15] == byte;
}

static int fill(int vcpu, unsigned n, uint8_t byte)
{
    uint8_t value[256];
    memset(value, byte, sizeof value);
    return set(vcpu, zreg(n), value);
}

static void check_names(void)
{
    int (*const opens[])(const char *, int, ...) = {open, open64};
    for (size_t n = 0; n < sizeof opens / sizeof *opens; n++) {
        int kvm = opens[n]("/dev/kvm", O_RDWR);
        CHECK(kvm >= 0 && ioctl(kvm, KVM_GET_API_VERSION, 0ul) == 12);
        CHECK((fcntl(kvm, F_GETFD) & FD_CLOEXEC) == 0);
        CHECK(close(kvm) == 0);
    }
    int kvm = openat(AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC);
    CHECK(kvm >= 0 && fcntl(kvm, F_GETFD) == FD_CLOEXEC);
    CHECK(access("/dev/kvm", R_OK | W_OK) == 0 && faccessat(AT_FDCWD, "/dev/kvm", F_OK, 0) == 0);
    CHECK(access("/dev/kvm", R_OK | X_OK) == -1 && errno == EACCES);
    struct stat status[3];
    CHECK(stat("/dev/kvm", &status[0]) == 0 && lstat("/dev/kvm", &status[1]) == 0);
    CHECK(fstatat(AT_FDCWD, "/dev/kvm", &status[2], 0) == 0);
    for (size_t n = 0; n < 3; n++) {
        CHECK(S_ISCHR(status[n].st_mode));
        CHECK(major(status[n].st_rdev) == 10 && minor(status[n].st_rdev) == 232);
    }
    struct statx extended;
    CHECK(statx(AT_FDCWD, "/dev/kvm", 0, STATX_BASIC_STATS, &extended) == 0 && S_ISCHR(extended.stx_mode));
    CHECK(extended.stx_rdev_major == 10 && extended.stx_rdev_minor == 232);
    CHECK(stat("/dev/null", &status[0]) == 0 && major(status[0].st_rdev) == 1);
    CHECK(access("/dev/kvm/none", F_OK) != 0 && open("/dev/kvm-none", O_RDWR) < 0 && errno == ENOENT);
    CHECK(ioctl(kvm, 0xAE7Ful, 0ul) == -1 && errno == EINVAL);
    CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0ul) == 12 && errno == EINVAL); /* as it was */
    CHECK(ioctl(0, KVM_RUN, 0ul) == -1);
    CHECK(ioctl(999, KVM_RUN, 0ul) == -1 && errno == EBADF);
    CHECK(close(kvm) == 0);
    puts("names");
}

static int is_emulated(void)
{
    return getenv("KVMSVE_EMULATED") != NULL;
}

static int create_gic(int vm)
{
    uint32_t created[3] = {7, 0, 0};
    CHECK(ioctl(vm, KVM_CREATE_DEVICE, created) == 0);
    return (int)created[1];
}

static int is_device(const struct stat *status)
{
    return S_ISCHR(status->st_mode) && major(status->st_rdev) == 10 && minor(status->st_rdev) == 232;
}

/* Other ways to the device than its name: each is ours, or would be the machine's own. */
static void check_ways(void)
{
    const char *const paths[] = {"//dev/kvm", "/dev//kvm", "/dev/./kvm", "/dev/../dev/kvm"};
    struct stat status;
    for (size_t n = 0; n < 4; n++) {
        int kvm = open(paths[n], O_RDWR);
        CHECK(kvm >= 0 && ioctl(kvm, KVM_GET_API_VERSION, 0ul) == 12 && close(kvm) == 0);
        CHECK(stat(paths[n], &status) == 0 && is_device(&status) && access(paths[n], R_OK) == 0);
    }
    int folder = open("/dev", O_RDONLY | O_DIRECTORY), kvm = openat(folder, "kvm", O_RDWR | O_NONBLOCK);
    CHECK(kvm >= 0 && ioctl(kvm, KVM_GET_API_VERSION, 0ul) == 12 && fcntl(kvm, F_GETFL) & O_NONBLOCK && close(kvm) == 0);
    CHECK(fstatat(folder, "kvm", &status, 0) == 0 && is_device(&status) && close(folder) == 0);
    CHECK(chdir("/dev") == 0 && (kvm = open("kvm", O_RDWR)) >= 0 && chdir("/") == 0);
    CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0ul) == 12 && close(kvm) == 0);
    CHECK(chdir("/dev/fd/..") == 0 && chdir("/") == 0 && open("kvm", O_RDWR) == -1 && errno == ENOENT);
    FILE *stream = fopen("/dev/kvm", "r+");
    CHECK(stream != NULL && ioctl(fileno(stream), KVM_GET_API_VERSION, 0ul) == 12 && fclose(stream) == 0);
    CHECK((kvm = creat("/dev/kvm", 0600)) >= 0 && ioctl(kvm, KVM_GET_API_VERSION, 0ul) == 12 && close(kvm) == 0);
    CHECK(open("/dev/kvm", O_RDWR | O_DIRECTORY) == -1 && errno == ENOTDIR);
    CHECK(open("/dev/kvm", O_RDWR | O_CREAT | O_EXCL, 0600) == -1 && errno == EEXIST);
    CHECK(open("/dev/kvm", O_RDWR | O_DIRECT) == -1 && errno == EINVAL);
    CHECK((kvm = open("/dev/kvm", O_PATH)) >= 0 && ioctl(kvm, KVM_GET_API_VERSION, 0ul) == -1);
    CHECK(close(kvm) == 0);
    puts("ways");
}

/* As Linux 6.12 and 7.3 answer for descriptors of /dev/kvm, a VM, a vCPU and a vGIC. */
static void check_files(void)
{
    int vm = create_vm();
    const int files[] = {open("/dev/kvm", O_RDWR), vm, create_vcpu(vm, 0), create_gic(vm)};
    const char *const links[] = {"/dev/kvm", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0", "anon_inode:kvm-arm-vgic-v3"};
    for (int n = 0; n < 4; n++) {
        struct stat status;
        char byte = 0, path[64], link[64] = "";
        CHECK(fstat(files[n], &status) == 0 && (n == 0 ? is_device(&status) : status.st_mode == 0600));
        CHECK(status.st_size == 0 && status.st_nlink == 1);
        snprintf(path, sizeof path, "/proc/self/fd/%d", files[n]);
        CHECK(is_emulated() || (readlink(path, link, sizeof link - 1) > 0 && strcmp(link, links[n]) == 0));
        CHECK(is_emulated() || (readlink(path, link, 4) == 4 && memcmp(link, links[n], 4) == 0));
        CHECK(read(files[n], &byte, 1) == -1 && errno == EINVAL && write(files[n], &byte, 0) == -1 && errno == EINVAL);
        CHECK(pread(files[n], &byte, 1, 0) == -1 && errno == (n == 0 ? EINVAL : ESPIPE));
        CHECK(pwrite(files[n], &byte, 1, -1) == -1 && errno == EINVAL);
        CHECK(lseek(files[n], 5, SEEK_SET) == (n == 3 ? -1 : 0) && lseek(files[n], 0, 99) == -1 && errno == EINVAL);
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, files[n], 0);
        CHECK((page != MAP_FAILED) == (n == 2) && (n == 2 || errno == ENODEV));
        CHECK(ioctl(files[n], FIOCLEX) == 0 && fcntl(files[n], F_GETFD) == FD_CLOEXEC && ioctl(files[n], FIONCLEX) == 0);
    }
    puts("files");
}

static void check_copies(void)
{
    int vm = create_vm(), vcpu = create_vcpu(vm, 0);
    int copy = dup(vcpu), third = fcntl(vcpu, F_DUPFD_CLOEXEC, 50);
    CHECK(close(vcpu) == 0 && close(vm) == 0);
    CHECK(fill(copy, 1, 7) == 0 && holds(third, 1, 7));
    struct pollfd polled = {.fd = third, .events = POLLIN | POLLOUT};
    CHECK(poll(&polled, 1, 0) == 1);
    CHECK(dup2(third, copy) == copy && close(third) == 0 && holds(copy, 1, 7));
    CHECK(close(copy) == 0);
    puts("copies");
}

static void check_pages(void)
{
    int vcpu = create_vcpu(create_vm(), 0);
    uint8_t *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    uint8_t *value = pages + 4096 - 8;
    for (uint8_t n = 0; n < 16; n++)
        value[n] = n;
    CHECK(set(vcpu, zreg(4), value) == 0);
    memset(value, 0xff, 16);
    CHECK(get(vcpu, zreg(4), value) == 0);
    for (uint8_t n = 0; n < 16; n++)
        CHECK(value[n] == n);
    puts("pages");
}

/* What a process that did not make the VM meets: EIO before everything else, but /dev/kvm and the mapping are open. */
static int is_foreign(int kvm, int vm, int vcpu, int gic)
{
    uint8_t value[256];
    const unsigned long of_vm[] = {KVM_CHECK_EXTENSION, KVM_CREATE_VCPU, KVM_SET_USER_MEMORY_REGION, 0xAE7Ful, TCGETS};
    const unsigned long of_vcpu[] = {KVM_GET_ONE_REG, KVM_ARM_VCPU_INIT, KVM_RUN, 0xAE7Ful, TCGETS};
    const unsigned long of_gic[] = {KVM_HAS_DEVICE_ATTR, 0xAE7Ful, TCGETS};
    for (size_t n = 0; n < 5; n++)
        if (ioctl(vm, of_vm[n], 1ul) != -1 || errno != EIO || ioctl(vcpu, of_vcpu[n], 1ul) != -1 || errno != EIO)
            return 0;
    for (size_t n = 0; n < 3; n++)
        if (ioctl(gic, of_gic[n], 1ul) != -1 || errno != EIO)
            return 0;
    int off = 0;
    if (ioctl(vm, FIONBIO, &off) != 0 || get(vcpu, zreg(0), value) != -1 || errno != EIO)
        return 0;
    int own = ioctl(kvm, KVM_CREATE_VM, 0ul);
    return ioctl(kvm, KVM_GET_API_VERSION, 0ul) == 12 && own >= 0 && fill(create_vcpu(own, 0), 1, 1) == 0;
}

static void check_child(pid_t child)
{
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void check_fork(void)
{
    int kvm = open("/dev/kvm", O_RDWR), vm = create_vm(), vcpu = create_vcpu(vm, 0), gic = create_gic(create_vm());
    uint8_t *run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    CHECK(run != MAP_FAILED && fill(vcpu, 2, 9) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(is_foreign(kvm, vm, vcpu, gic));
        run[1] = 1; /* immediate_exit: the mapping is shared all the same */
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(!is_foreign(kvm, vm, vcpu, gic));
        check_child(grandchild);
        close(vcpu);
        exit(0);
    }
    check_child(child);
    if (!is_emulated()) { /* a fork of which the C library knows nothing; QEMU 7 does not either */
        child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        if (child == 0)
            _exit(!is_foreign(kvm, vm, vcpu, gic));
        check_child(child);
    }
    CHECK(holds(vcpu, 2, 9));
    CHECK(ioctl(vcpu, KVM_RUN, 0ul) == -1 && errno == EINTR && run[1] == 1);
    CHECK(ioctl(vm, KVM_CREATE_VCPU, 1ul) >= 0);
    puts("fork");
}

/* This program as another, which gets the descriptors; it ends with 0 if they are foreign to it. */
static char *const *foreign_arguments(int kvm, int vm, int vcpu, int gic)
{
    static char text[4][12];
    static char *arguments[] = {"kvm_life", text[0], text[1], text[2], text[3], NULL};
    const int numbers[] = {kvm, vm, vcpu, gic};
    for (size_t n = 0; n < 4; n++) {
        CHECK(fcntl(numbers[n], F_SETFD, 0) == 0);
        snprintf(text[n], sizeof text[n], "%d", numbers[n]);
    }
    return arguments;
}

static void check_exec(void)
{
    if (is_emulated()) { /* what an emulated program executes is not emulated */
        puts("exec");
        return;
    }
    int kvm = open("/dev/kvm", O_RDWR), vm = create_vm(), vcpu = create_vcpu(vm, 0), gic = create_gic(vm);
    char *const *arguments = foreign_arguments(kvm, vm, vcpu, gic);
    pid_t child;
    CHECK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) == 0);
    check_child(child);
    child = fork();
    if (child == 0) { /* the maker itself, which is another when it has executed a program */
        kvm = open("/dev/kvm", O_RDWR), vm = create_vm(), vcpu = create_vcpu(vm, 0), gic = create_gic(vm);
        execv("/proc/self/exe", foreign_arguments(kvm, vm, vcpu, gic));
        _exit(2);
    }
    check_child(child);
    CHECK(fill(vcpu, 1, 1) == 0);
    puts("exec");
}

static void check_sent(void)
{
    int ends[2], received[4];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof received)];
    } control = {0};
    char byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes};
    message.msg_controllen = sizeof control.bytes;
    pid_t child = fork();
    if (child == 0) {
        int vm = create_vm(), vcpu = create_vcpu(vm, 0);
        int made[] = {open("/dev/kvm", O_RDWR), vm, vcpu, create_gic(vm)};
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        *rights = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof made), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(rights), made, sizeof made);
        CHECK(sendmsg(ends[1], &message, 0) == 1);
        CHECK(read(ends[1], &byte, 1) == 1); /* once they were tried */
        CHECK(fill(vcpu, 1, 1) == 0);
        exit(0);
    }
    CHECK(recvmsg(ends[0], &message, 0) == 1);
    memcpy(received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
    CHECK(is_foreign(received[0], received[1], received[2], received[3]));
    CHECK(write(ends[0], &byte, 1) == 1);
    check_child(child);
    CHECK(is_foreign(received[0], received[1], received[2], received[3])); /* its maker has ended */
    puts("sent");
}

/* A process that shares the memory of the VM's maker is none other. */
static void check_vfork(void)
{
    int vm = create_vm(), vcpu = create_vcpu(vm, 0);
    pid_t child = vfork();
    if (child == 0)
        _exit(fill(vcpu, 1, 7) != 0 || ioctl(vm, KVM_CREATE_VCPU, 1ul) < 0);
    check_child(child);
    CHECK(holds(vcpu, 1, 7));
    CHECK(ioctl(vm, KVM_CREATE_VCPU, 1ul) == -1 && errno == EEXIST);
    puts("vfork");
}

static void check_killed(void)
{
    int vcpu = create_vcpu(create_vm(), 0);
    for (unsigned n = 0; n < 5; n++) {
        pid_t child = fork();
        if (child == 0)
            for (int own = create_vcpu(create_vm(), 0);;) {
                fill(own, 3, 1);
                ioctl(own, KVM_RUN, 0ul);
            }
        usleep(20000 + 3000 * n);
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
        CHECK(fill(vcpu, 3, 5) == 0 && holds(vcpu, 3, 5));
    }
    puts("killed");
}

/* Everything above standard error is closed, and the numbers are other files' then. */
static void check_closed(void)
{
    int ends[2], numbers[128];
    for (unsigned round = 0; round < 3; round++) {
        int kvm = open("/dev/kvm", O_RDWR), vcpu = create_vcpu(create_vm(), 0);
        CHECK(kvm >= 0 && fill(vcpu, 1, 1) == 0);
        for (int number = 3; number < 1100; number++)
            close(number);
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) == 0);
        for (int n = 0; n < 128; n++)
            numbers[n] = fcntl(ends[0], F_DUPFD, 896 + n);
        vcpu = create_vcpu(create_vm(), 0);
        CHECK(fill(vcpu, 1, 2) == 0 && holds(vcpu, 1, 2));
        char byte;
        CHECK(read(ends[1], &byte, 1) == -1 && errno == EAGAIN);
        for (int n = 0; n < 128; n++)
            CHECK(write(numbers[n], "x", 1) == 1 && read(ends[1], &byte, 1) == 1 && close(numbers[n]) == 0);
    }
    puts("closed");
}

static int signals_vcpu;
static volatile sig_atomic_t signals_failed, signals;

static void make_call(int number)
{
    (void)number;
    signals_failed |= !holds(signals_vcpu, 1, 3);
    signals++;
}

static sigjmp_buf back;

static void leave_call(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

/* Handlers that make calls of their own while one is at work, and some that never come back to it. */
static void check_signals(void)
{
    const struct itimerval often = {{0, 3000}, {0, 3000}}, once = {{0, 0}, {0, 3000}}, never = {0};
    signals_vcpu = create_vcpu(create_vm(), 0);
    CHECK(fill(signals_vcpu, 1, 3) == 0);
    signal(SIGALRM, make_call);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (unsigned n = 0; n < 300 || signals < 20; n++)
        CHECK(holds(signals_vcpu, 1, 3));
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0 && !signals_failed);
    signal(SIGALRM, leave_call);
    for (unsigned n = 0; n < 20; n++) {
        int vcpu = create_vcpu(create_vm(), 0);
        if (sigsetjmp(back, 1) == 0) {
            CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
            for (;;)
                ioctl(vcpu, KVM_RUN, 0ul);
        }
        CHECK(close(vcpu) == 0 && holds(signals_vcpu, 1, 3));
    }
    puts("signals");
}

static void *call_for_ever(void *argument)
{
    while (holds(*(int *)argument, 1, 3))
        pthread_testcancel();
    return NULL;
}

/* ioctl() is no place where a thread can be cancelled. */
static void check_cancelled(void)
{
    int vcpu = create_vcpu(create_vm(), 0);
    CHECK(fill(vcpu, 1, 3) == 0);
    for (unsigned n = 0; n < 40; n++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, call_for_ever, &vcpu) == 0);
        usleep(500);
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
        CHECK(holds(vcpu, 1, 3));
    }
    puts("cancelled");
}

static void *hammer(void *argument)
{
    int vcpu = *(int *)argument;
    for (unsigned n = 0; n < ROUNDS; n++) {
        uint8_t byte = (uint8_t)((unsigned)vcpu * 31 + n);
        CHECK(fill(vcpu, n % 32, byte) == 0 && holds(vcpu, n % 32, byte));
    }
    return NULL;
}

static void check_threads(void)
{
    int vm = create_vm();
    int vcpus[3] = {create_vcpu(vm, 0), create_vcpu(vm, 1), create_vcpu(create_vm(), 0)};
    pthread_t threads[3];
    for (unsigned n = 0; n < 3; n++)
        CHECK(pthread_create(&threads[n], NULL, hammer, &vcpus[n]) == 0);
    for (unsigned n = 0; n < 3; n++)
        CHECK(pthread_join(threads[n], NULL) == 0);
    puts("threads");
}

static void check_limit(void)
{
    int vm = create_vm();
    int last;
    do /* until no number below is free */
        last = dup(vm);
    while (last < vm);
    struct rlimit limit, old;
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    limit = old;
    limit.rlim_cur = (rlim_t)last + 1;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(ioctl(vm, KVM_CREATE_VCPU, 0ul) == -1 && errno == EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    CHECK(ioctl(vm, KVM_CREATE_VCPU, 0ul) >= 0); /* as the kernel, which has undone it */
    puts("limit");
}

/* What a sandbox forbids when the first call has been made is not missed. */
static void check_sandbox(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof rules / sizeof *rules, rules};
    pid_t child = fork();
    if (child > 0) {
        check_child(child);
        puts("sandbox");
        return;
    }
    int vm = create_vm();
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0 || is_emulated());
    CHECK(is_emulated() || (socket(AF_UNIX, SOCK_STREAM, 0) == -1 && errno == EPERM));
    CHECK(fill(create_vcpu(vm, 0), 1, 1) == 0);
    exit(0);
}

int main(int count, char **arguments)
{
    if (count == 5)
        return !is_foreign(atoi(arguments[1]), atoi(arguments[2]), atoi(arguments[3]), atoi(arguments[4]));
    setvbuf(stdout, NULL, _IOLBF, 0);
    check_names();
    check_ways();
    check_files();
    check_copies();
    check_pages();
    check_fork();
    check_exec();
    check_sent();
    check_vfork();
    check_killed();
    check_closed();
    check_threads();
    check_limit();
    check_cancelled();
    check_sandbox();
    check_signals();
    return 0;
}
