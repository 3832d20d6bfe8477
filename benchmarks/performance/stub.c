/* The upstream of the benchmark: one thread, epoll, keep-alive, pipelining; far faster than whatever stands before it.
 *
 *   stub PORT     prints "listening PORT" (0: a free one) and serves until standard input ends
 *
 * POST: a chat completion of about 600 bytes, or, where the body asks for "stream": true, 50 chunks, one with the usage
 * and [DONE], each in a write of its own, as providers send them. GET: how many completions were served.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN_MAX = 1 << 20, CHUNKS = 50, EVENTS = CHUNKS + 2 };

typedef struct {
    int fd;
    char *in, *out; /* out: what the socket did not take at once */
    size_t in_len, out_len, out_cap;
} Conn;

static int epoll_fd;
static unsigned long served;
static char answer[2048], chunk[EVENTS][512];
static int answer_len, chunk_len[EVENTS];

static const char *SSE_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                              "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

static void build_answers(void) {
    char body[1024], event[480];
    int n = snprintf(body, sizeof body,
        "{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1750000000,"
        "\"model\":\"stub\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":50,"
        "\"total_tokens\":150},\"service_tier\":\"default\",\"system_fingerprint\":\"fp_stub\"}",
        "A proxy stands between a client and a server and passes on what each of them says. It may count, choose and "
        "keep a record, but it must not make the client wait: whoever asks a model already waits for its answer, and "
        "every millisecond that is spent in between is spent on every single request.");
    answer_len = snprintf(answer, sizeof answer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", n, body);
    for (int i = 0; i < EVENTS; i++) {
        const char *head = "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\","
                           "\"created\":1750000000,\"model\":\"stub\",";
        if (i < CHUNKS)
            n = snprintf(event, sizeof event,
                "%s\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word%02d\"},\"finish_reason\":%s}]}\n\n", head, i,
                i == CHUNKS - 1 ? "\"stop\"" : "null");
        else if (i == CHUNKS)
            n = snprintf(event, sizeof event,
                "%s\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":50,\"total_tokens\":150}}\n\n",
                head);
        else
            n = snprintf(event, sizeof event, "data: [DONE]\n\n");
        chunk_len[i] = snprintf(chunk[i], sizeof chunk[i], "%x\r\n%s\r\n%s", (unsigned)n, event,
            i == EVENTS - 1 ? "0\r\n\r\n" : "");
    }
}

static void watch(Conn *c, int op, unsigned events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, op, c->fd, &e);
}

static void drop(Conn *c) {
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

/* 0, or -1 where the peer is gone */
static int put(Conn *c, const char *data, size_t len) {
    if (!c->out_len) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return -1;
        if (n > 0) data += n, len -= (size_t)n;
    }
    if (!len) return 0;
    if (c->out_len + len > c->out_cap) {
        c->out_cap = 2 * (c->out_len + len);
        if (!(c->out = realloc(c->out, c->out_cap))) abort();
    }
    if (!c->out_len) watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
    return 0;
}

static int flush(Conn *c) {
    ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    c->out_len -= (size_t)n;
    memmove(c->out, c->out + n, c->out_len);
    if (!c->out_len) watch(c, EPOLL_CTL_MOD, EPOLLIN);
    return 0;
}

static int complete(Conn *c, const char *body, size_t len) {
    served++;
    if (!memmem(body, len, "\"stream\":true", 13) && !memmem(body, len, "\"stream\": true", 14))
        return put(c, answer, (size_t)answer_len);
    if (put(c, SSE_HEAD, strlen(SSE_HEAD))) return -1;
    for (int i = 0; i < EVENTS; i++)
        if (put(c, chunk[i], (size_t)chunk_len[i])) return -1;
    return 0;
}

static int refuse(Conn *c) {
    const char *text = "HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    put(c, text, strlen(text));
    return -1;
}

/* Answer every whole request that has arrived; -1 ends the connection. */
static int answer_all(Conn *c) {
    size_t at = 0;
    for (;;) {
        char *start = c->in + at, *end = memmem(start, c->in_len - at, "\r\n\r\n", 4);
        if (!end) break;
        end += 4;
        if (*start == 'G') {
            char body[64], text[192];
            int n = snprintf(body, sizeof body, "{\"completions\":%lu}", served);
            n = snprintf(text, sizeof text,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", n, body);
            if (put(c, text, (size_t)n)) return -1;
            at = (size_t)(end - c->in);
            continue;
        }
        char saved = *end;
        *end = 0; /* the head alone, as a string */
        char *field = strcasestr(start, "\r\ncontent-length:");
        *end = saved;
        if (!field || field > end) return refuse(c);
        size_t length = strtoul(field + 17, NULL, 10);
        if (length > IN_MAX / 2) return refuse(c);
        if ((size_t)(c->in + c->in_len - end) < length) break;
        if (complete(c, end, length)) return -1;
        at = (size_t)(end - c->in) + length;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    return 0;
}

static int readable(Conn *c) {
    ssize_t n = recv(c->fd, c->in + c->in_len, IN_MAX - c->in_len - 1, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) return -1;
    c->in_len += (size_t)n;
    return answer_all(c);
}

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        Conn *c = calloc(1, sizeof *c);
        if (!c || !(c->in = malloc(IN_MAX))) abort();
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (argc < 2) return fprintf(stderr, "usage: stub PORT\n"), 2;
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&address, size) || listen(listener, 1024)) return perror("stub"), 1;
    getsockname(listener, (void *)&address, &size);
    build_answers();
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll_fd = epoll_create1(0);
    Conn at_door = {.fd = listener}, parent = {.fd = STDIN_FILENO};
    watch(&at_door, EPOLL_CTL_ADD, EPOLLIN);
    watch(&parent, EPOLL_CTL_ADD, EPOLLIN);
    struct epoll_event events[256];
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (c == &parent) return 0; /* whoever started us is gone */
            if (c == &at_door) accept_all(listener);
            else if (((events[i].events & EPOLLOUT) && flush(c)) || ((events[i].events & ~EPOLLOUT) && readable(c)))
                drop(c);
        }
    }
}
