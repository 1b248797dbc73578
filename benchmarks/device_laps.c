/* Microseconds that a call takes, the least of some rounds of calls in a row, printed as a line.
 *
 *   device CALLS ROUNDS       KVM_GET_ONE_REG of Z0 on /dev/kvm
 *   echo CALLS ROUNDS PATH    a message of a call's size, to a server behind a socket of the same kind, and back
 *
 * It begins once a line has come on standard input.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define KVM_CREATE_VM 0xAE01ul
#define KVM_CREATE_VCPU 0xAE41ul
#define KVM_GET_ONE_REG 0x4010AEABul
#define KVM_ARM_VCPU_INIT 0x4020AEAEul
#define KVM_ARM_VCPU_FINALIZE 0x4004AEC2ul
#define MESSAGE_BYTES 56

static struct {
    uint64_t id, address;
} zreg = {0x6080000000150000u, 0};

static int vcpu, server;

static int get(void)
{
    return ioctl(vcpu, KVM_GET_ONE_REG, &zreg);
}

static int echo(void)
{
    char message[MESSAGE_BYTES] = {0};
    return send(server, message, sizeof message, 0) != sizeof message ||
           recv(server, message, sizeof message, 0) != sizeof message;
}

static int prepare_vcpu(void)
{
    static uint8_t value[256];
    uint32_t init[8] = {5, 1u << 4}, vec = 4;
    int vm = ioctl(open("/dev/kvm", O_RDWR | O_CLOEXEC), KVM_CREATE_VM, 0ul);
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);
    zreg.address = (uintptr_t)value;
    return ioctl(vcpu, KVM_ARM_VCPU_INIT, init) | ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, &vec);
}

static int connect_echo(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    server = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    return connect(server, (struct sockaddr *)&address, sizeof address);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

int main(int count, char **arguments)
{
    if (count < 4)
        return 2;
    int (*const call)(void) = strcmp(arguments[1], "device") == 0 ? get : echo;
    int calls = atoi(arguments[2]), rounds = atoi(arguments[3]);
    if (call == get ? prepare_vcpu() : connect_echo(arguments[4]))
        return 1;
    getchar();
    double least = 1e9, begin = now();
    for (int round = 0; round < rounds; round++) {
        double start = now();
        for (int n = 0; n < calls; n++)
            if (call() != 0)
                return 1;
        double took = (now() - start) / calls;
        least = took < least ? took : least;
    }
    printf("%f %f\n", least, (now() - begin) / calls / rounds);
    return 0;
}
