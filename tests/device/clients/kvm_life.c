/* What a program does with /dev/kvm beside reading registers: files, processes and threads. Prints a line for each part,
 * and ends with 1 at the first that fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define KVM_GET_API_VERSION 0xAE00ul
#define KVM_CREATE_VM 0xAE01ul
#define KVM_CREATE_VCPU 0xAE41ul
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
    CHECK(ioctl(kvm, 0xAE7Ful, 0ul) == -1 && errno == ENOTTY);
    CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0ul) == 12 && errno == ENOTTY); /* as it was */
    CHECK(ioctl(0, KVM_RUN, 0ul) == -1);
    CHECK(ioctl(999, KVM_RUN, 0ul) == -1 && errno == EBADF);
    CHECK(close(kvm) == 0);
    puts("names");
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

static void check_fork(void)
{
    int vm = create_vm(), vcpu = create_vcpu(vm, 0);
    uint8_t *run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    CHECK(run != MAP_FAILED);
    pid_t child = fork();
    if (child == 0) {
        CHECK(fill(vcpu, 2, 9) == 0);
        run[1] = 1;
        CHECK(ioctl(vm, KVM_CREATE_VCPU, 1ul) >= 0);
        close(vcpu);
        exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(holds(vcpu, 2, 9));
    CHECK(ioctl(vcpu, KVM_RUN, 0ul) == -1 && errno == EINTR);
    CHECK(ioctl(vm, KVM_CREATE_VCPU, 1ul) == -1 && errno == EEXIST);
    puts("fork");
}

static void check_killed(void)
{
    int vm = create_vm(), vcpu = create_vcpu(vm, 0);
    for (unsigned n = 0; n < 5; n++) {
        pid_t child = fork();
        if (child == 0)
            for (;;) {
                fill(vcpu, 3, 1);
                ioctl(vcpu, KVM_RUN, 0ul);
            }
        usleep(20000 + 3000 * n);
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
        CHECK(fill(vcpu, 3, 5) == 0 && holds(vcpu, 3, 5));
    }
    puts("killed");
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
    for (rlim_t room = 0; room < 3; room++) { /* the shim needs two, and the new file is the third */
        limit.rlim_cur = (rlim_t)last + 1 + room;
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        CHECK(ioctl(vm, KVM_CREATE_VCPU, 0ul) == -1 && errno == EMFILE);
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    CHECK(ioctl(vm, KVM_CREATE_VCPU, 1ul) >= 0);
    puts("limit");
}

/* ENODEV whatever errno was, for a name of which there is no server and for one that is too long for a socket's. */
static void check_nobody(void)
{
    for (size_t length = 100; length < 120; length++) {
        char name[120] = "";
        memset(name, 'n', length);
        CHECK(setenv("KVMSVE_SOCKET", name, 1) == 0);
        errno = EMFILE;
        CHECK(open("/dev/kvm", O_RDWR) == -1 && errno == ENODEV);
    }
    puts("nobody");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    check_names();
    check_copies();
    check_pages();
    check_fork();
    check_killed();
    check_threads();
    check_limit();
    check_nobody();
    return 0;
}
