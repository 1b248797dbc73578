/* Makes the ioctls that its standard input asks for, each on memory that ends where a page does.
 *
 *   open                       -> descriptor, errno
 *   ioctl FD REQUEST =N        -> result, errno
 *   ioctl FD REQUEST HEX [HEX] -> result, errno, the argument's bytes, the buffer's bytes
 *   poke FD OFFSET BYTE        -> result, errno: a byte of the file's mapping
 *   close FD                   -> result, errno
 *   user UID                   -> result, errno: the program is this user's from now on
 *
 * The first HEX is the argument's structure, "-" for none; the second a buffer, whose address is put at offset 8 of the
 * structure. Behind either there is no memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROOM (128u * 1024u)

struct edge {
    uint8_t *end;
    uint8_t *bytes;
    size_t size;
};

static struct edge make_edge(void)
{
    uint8_t *memory = mmap(NULL, 2 * ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || munmap(memory + ROOM, ROOM) != 0)
        exit(3);
    return (struct edge){.end = memory + ROOM};
}

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Puts the bytes of a hexadecimal text at the end of the memory. */
static void place(struct edge *edge, const char *hex)
{
    size_t digits = strcmp(hex, "-") == 0 ? 0 : strlen(hex);
    edge->size = digits / 2;
    edge->bytes = edge->end - edge->size;
    for (size_t n = 0; n < edge->size; n++)
        edge->bytes[n] = (uint8_t)(digit(hex[2 * n]) << 4 | digit(hex[2 * n + 1]));
}

static void print_bytes(const struct edge *edge)
{
    putchar(' ');
    if (edge->size == 0)
        putchar('-');
    for (size_t n = 0; n < edge->size; n++)
        printf("%02x", edge->bytes[n]);
}

static void make_ioctl(struct edge *argument, struct edge *buffer)
{
    int on = atoi(strtok(NULL, " \n"));
    unsigned long request = strtoul(strtok(NULL, " \n"), NULL, 16);
    const char *first = strtok(NULL, " \n"), *second = strtok(NULL, " \n");
    if (first[0] == '=') {
        int result = ioctl(on, request, strtoul(first + 1, NULL, 0));
        printf("%d %d\n", result, result < 0 ? errno : 0);
        return;
    }
    place(argument, first);
    if (second != NULL) {
        place(buffer, second);
        uint64_t address = (uintptr_t)buffer->bytes;
        memcpy(argument->bytes + 8, &address, sizeof address);
    }
    int result = ioctl(on, request, argument->bytes);
    printf("%d %d", result, result < 0 ? errno : 0);
    print_bytes(argument);
    if (second != NULL)
        print_bytes(buffer);
    putchar('\n');
}

static void poke(void)
{
    int on = atoi(strtok(NULL, " \n"));
    size_t offset = strtoul(strtok(NULL, " \n"), NULL, 0);
    uint8_t *mapped = mmap(NULL, offset + 1, PROT_READ | PROT_WRITE, MAP_SHARED, on, 0);
    if (mapped == MAP_FAILED) {
        printf("-1 %d\n", errno);
        return;
    }
    mapped[offset] = (uint8_t)strtoul(strtok(NULL, " \n"), NULL, 0);
    munmap(mapped, offset + 1);
    puts("0 0");
}

int main(void)
{
    struct edge argument = make_edge(), buffer = make_edge();
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        const char *verb = strtok(line, " \n");
        if (strcmp(verb, "open") == 0) {
            int on = open("/dev/kvm", O_RDWR | O_CLOEXEC);
            printf("%d %d\n", on, on < 0 ? errno : 0);
        } else if (strcmp(verb, "ioctl") == 0) {
            make_ioctl(&argument, &buffer);
        } else if (strcmp(verb, "close") == 0) {
            int result = close(atoi(strtok(NULL, " \n")));
            printf("%d %d\n", result, result < 0 ? errno : 0);
        } else if (strcmp(verb, "user") == 0) {
            int result = setuid((uid_t)atoi(strtok(NULL, " \n")));
            printf("%d %d\n", result, result < 0 ? errno : 0);
        } else {
            poke();
        }
        fflush(stdout);
    }
    free(line);
    return 0;
}
