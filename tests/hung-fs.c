/* hung-fs DIR [file]: mounts a file system on DIR that does not answer, as root, and says the number of its process.
 *
 * The kernel gets what it needs to mount it; whoever then looks for anything below DIR waits without a limit, whatever signal
 * comes.  With "file" every name in DIR is found to be a regular file, which can be opened and not be read.
 * The end of the process ends all waits with an error; DIR is still to be unmounted. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int device;

static void reply(const struct fuse_in_header *request, const void *body, size_t length)
{
    struct fuse_out_header head = { (unsigned)(sizeof head + length), 0, request->unique };
    struct iovec parts[] = { { &head, sizeof head }, { (void *)body, length } };
    if (writev(device, parts, 2) < 0)
        perror("hung-fs: reply");
}

static struct fuse_attr attributes(unsigned long number)
{
    struct fuse_attr attr = { .ino = number, .nlink = 1, .blksize = 4096 };
    attr.mode = number == 1 ? S_IFDIR | 0755 : S_IFREG | 0644;
    attr.size = number == 1 ? 0 : 100;
    return attr;
}

static void answer(const struct fuse_in_header *request, int has_files)
{
    switch (request->opcode) {
    case FUSE_INIT: {
        const struct fuse_init_in *asked = (const void *)(request + 1);
        struct fuse_init_out init = { .major = 7, .minor = asked->minor < 31 ? asked->minor : 31, .max_write = 4096 };
        reply(request, &init, sizeof init);
        return;
    }
    case FUSE_GETATTR: {
        struct fuse_attr_out found = { .attr = attributes(request->nodeid) };
        reply(request, &found, sizeof found);
        return;
    }
    case FUSE_LOOKUP: {
        struct fuse_entry_out found = { .nodeid = 2, .attr = attributes(2) };
        if (has_files)
            reply(request, &found, sizeof found);
        return;
    }
    case FUSE_OPEN: {
        struct fuse_open_out opened = { .fh = 1 };
        if (has_files)
            reply(request, &opened, sizeof opened);
        return;
    }
    default:
        return;
    }
}

int main(int count, char **words)
{
    char options[128], buffer[1 << 17];
    int has_files = count == 3 && !strcmp(words[2], "file");
    if (count < 2 || count > 3 || (count == 3 && !has_files)) {
        fprintf(stderr, "usage: hung-fs DIR [file]\n");
        return 2;
    }
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0) {
        fprintf(stderr, "hung-fs: /dev/fuse: %s\n", strerror(errno));
        return 1;
    }
    snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", device);
    if (mount("hung", words[1], "fuse.hung", MS_NOSUID | MS_NODEV, options) != 0) {
        fprintf(stderr, "hung-fs: %s: %s\n", words[1], strerror(errno));
        return 1;
    }
    pid_t server = fork();
    if (server != 0) {
        printf("%d\n", (int)server);
        return server < 0;
    }
    /* Nobody is to wait for this process's own streams. */
    for (int stream = 0; stream < 3; stream++)
        close(stream);
    setsid();
    for (;;) {
        ssize_t length = read(device, buffer, sizeof buffer);
        if (length < 0 && errno != EINTR && errno != ENOENT)
            return 0;
        if (length >= (ssize_t)sizeof(struct fuse_in_header))
            answer((const void *)buffer, has_files);
    }
}
