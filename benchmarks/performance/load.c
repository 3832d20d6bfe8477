/* A closed loop: each connection sends the next request as soon as its answer is whole.
 *
 *   load PORT CONNECTIONS WARMUP_S SECONDS REQUESTS_MAX WARMUP_REQUESTS FIRST FILE
 *
 * FILE holds whole HTTP requests, each after a line with its length in bytes; they are sent in turn from number FIRST
 * on, over and over. Nothing is recorded for WARMUP_S and WARMUP_REQUESTS; then until SECONDS or REQUESTS_MAX (0: no
 * bound) are over, for ten times SECONDS where not every connection has had an answer. Prints one JSON object: next (the number to go on with), warm (answers not recorded), requests,
 * errors (another status than 200, or a broken connection) and the first such status, elapsed_s, events (lines that
 * begin with "data:"), and latencies to the whole answer in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 16384, READ_MAX = 65536, LATENCIES_MAX = 4 << 20 };
typedef enum { HEAD, BODY, SIZE, DATA, DATA_END, LAST } Part;

typedef struct {
    int fd, status, matched; /* matched: characters of "\ndata:" seen */
    Part part;
    char head[HEAD_MAX];
    size_t head_len, left, blank; /* left: bytes of body or chunk; blank: whether the line is empty so far */
    double sent_s;
} Conn;

static struct { char *text; size_t len; } *requests;
static size_t count, next_request;
static int epoll_fd, recording, first_bad;
static double *latencies_s;
static long done, errors, events, warm, broken;
static struct sockaddr_in address = {.sin_family = AF_INET};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s\n", what);
    exit(1);
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t length, room = 0;
    if (!file) die("cannot read the requests");
    while (fscanf(file, "%zu", &length) == 1 && fgetc(file) == '\n') {
        if (count == room && !(requests = realloc(requests, (room = 2 * room + 64) * sizeof *requests))) die("memory");
        requests[count].text = malloc(length);
        requests[count].len = length;
        if (fread(requests[count++].text, 1, length, file) != length) die("a request is cut off");
    }
    fclose(file);
    if (!count) die("no requests");
}

static void send_next(Conn *c) {
    size_t i = next_request++ % count;
    c->part = HEAD;
    c->head_len = 0;
    c->matched = 1; /* a body begins a line */
    c->sent_s = now_s();
    /* a request is a few kilobytes and the socket is empty: it takes all of it or is broken */
    if (send(c->fd, requests[i].text, requests[i].len, MSG_NOSIGNAL) != (ssize_t)requests[i].len) c->status = -1;
}

static void open_connection(Conn *c) {
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&address, sizeof address)) die("cannot connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
    send_next(c);
}

static void finished(Conn *c) {
    if (c->status != 200) {
        if (!first_bad) first_bad = c->status;
        errors++;
    } else if (recording && done < LATENCIES_MAX)
        latencies_s[done++] = now_s() - c->sent_s;
    else
        warm++;
    send_next(c);
}

static void reconnect(Conn *c) {
    close(c->fd);
    errors++;
    if (++broken > 1000) die("the server keeps breaking connections");
    open_connection(c);
}

static void count_event(Conn *c, char byte) {
    static const char PATTERN[] = "\ndata:";
    c->matched = byte == PATTERN[c->matched] ? c->matched + 1 : byte == '\n';
    if (c->matched == 6) c->matched = 0, events += recording;
}

static void head_ends(Conn *c) {
    c->head[c->head_len] = 0;
    c->status = atoi(c->head + 9);
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) c->part = SIZE, c->left = 0;
    else if (length && (c->left = strtoul(length + 17, NULL, 10))) c->part = BODY;
    else finished(c);
}

static int hex(char byte) {
    return byte >= '0' && byte <= '9' ? byte - '0' : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1;
}

static void take(Conn *c, char byte) {
    switch (c->part) {
    case HEAD:
        if (c->head_len >= HEAD_MAX - 1) die("an answer's head is too long");
        c->head[c->head_len++] = byte;
        if (byte == '\n' && c->head_len >= 4 && !memcmp(c->head + c->head_len - 4, "\r\n\r\n", 4)) head_ends(c);
        break;
    case BODY:
        if (!--c->left) finished(c);
        break;
    case SIZE:
        if (hex(byte) >= 0) c->left = 16 * c->left + (size_t)hex(byte);
        else if (byte == '\n') c->part = c->left ? DATA : LAST, c->blank = 1;
        break;
    case DATA:
        count_event(c, byte);
        if (!--c->left) c->part = DATA_END;
        break;
    case DATA_END:
        if (byte == '\n') c->part = SIZE, c->left = 0;
        break;
    case LAST: /* trailers, up to an empty line */
        if (byte == '\n') {
            if (c->blank) finished(c);
            c->blank = 1;
        } else if (byte != '\r') c->blank = 0;
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile_us(double share) { return done ? 1e6 * latencies_s[(long)(share * (double)(done - 1) + 0.5)] : 0; }

int main(int argc, char **argv) {
    static char buffer[READ_MAX];
    if (argc != 9) die("usage: load PORT CONNECTIONS WARMUP_S SECONDS REQUESTS_MAX WARMUP_REQUESTS FIRST FILE");
    int connections = atoi(argv[2]);
    double warmup_s = atof(argv[3]), seconds = atof(argv[4]), began_s = now_s(), from_s = 0, at_s;
    long requests_max = atol(argv[5]), warmup_requests = atol(argv[6]);
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    read_requests(argv[8]);
    next_request = strtoul(argv[7], NULL, 10);
    if (!(latencies_s = malloc(sizeof(double) * LATENCIES_MAX))) die("memory");
    epoll_fd = epoll_create1(0);
    Conn *all = calloc((size_t)connections, sizeof *all);
    for (int i = 0; i < connections; i++) open_connection(&all[i]);
    for (;;) {
        struct epoll_event ready[256];
        int n = epoll_wait(epoll_fd, ready, 256, 100);
        for (int i = 0; i < n; i++) {
            Conn *c = ready[i].data.ptr;
            ssize_t got = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            for (ssize_t j = 0; j < got; j++) take(c, buffer[j]);
            if (got <= 0 || c->status < 0) reconnect(c);
        }
        at_s = now_s();
        if (!recording && at_s - began_s >= warmup_s && warm >= warmup_requests) recording = 1, from_s = at_s, errors = 0;
        if (recording && requests_max && done >= requests_max) break;
        /* a server that has not answered each connection once is given longer, but not for ever */
        if (recording && at_s - from_s >= (done + errors >= connections ? seconds : 10 * seconds)) break;
        if (!recording && at_s - began_s > warmup_s + 30) die("no answers while warming up");
    }
    double elapsed_s = at_s - from_s, mean = 0;
    for (long i = 0; i < done; i++) mean += 1e6 * latencies_s[i] / (double)done;
    qsort(latencies_s, (size_t)done, sizeof(double), ascending);
    printf("{\"next\":%zu,\"warm\":%ld,\"requests\":%ld,\"errors\":%ld,\"bad_status\":%d,\"elapsed_s\":%.6f,\"events\":%ld,\"mean_us\":%.2f,"
           "\"min_us\":%.2f,\"p50_us\":%.2f,\"p90_us\":%.2f,\"p99_us\":%.2f}\n",
        next_request % count, warm, done, errors, first_bad, elapsed_s, events, mean, quantile_us(0), quantile_us(0.5), quantile_us(0.9), quantile_us(0.99));
    return 0;
}
