#include "base/base.h"

#include "shell/screen.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

void screen_write(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, text, len);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
            (void)poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return;
        }
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
}

void screen_erase(unsigned rows)
{
    char up[32];
    int n = snprintf(up, sizeof(up), rows > 1 ? "\r\033[%uA\033[J" : "\r\033[J", rows - 1);
    screen_write(up, (size_t)n);
}

static unsigned columns(void)
{
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 80;
}

void screen_fresh_line(void)
{
    static const char end[] = "\r\033[K";
    char blanks[256];
    memset(blanks, ' ', sizeof(blanks));
    for (size_t left = columns(), n; left > 0; left -= n) {
        n = left < sizeof(blanks) ? left : sizeof(blanks);
        screen_write(blanks, n);
    }
    screen_write(end, sizeof(end) - 1);
}

unsigned screen_rows(const char *text, size_t len)
{
    unsigned width = columns(), rows = 1, used = 0;
    mbstate_t state = {0};
    for (size_t i = 0; i < len;) {
        wchar_t c = (unsigned char)text[i];
        size_t n = 1;
        if (c == '\033' && i + 1 < len && text[i + 1] == '[') {
            i += 2;
            i += strcspn(text + i, "ABCDEFGHJKSTfhlmnsu");
            i += i < len;
            continue;
        } else if (c >= 0x80) {
            n = mbrtowc(&c, text + i, len - i, &state);
            if (n == 0 || n > len - i) {
                n = 1;
                state = (mbstate_t){0};
            }
        }
        i += n;
        int known = wcwidth(c);
        unsigned cells = c == '\t' ? 8 - used % 8 : known < 0 ? 1 : (unsigned)known;
        if (c == '\n' || used + cells > width) { // the last column may be full
            rows++;
            used = 0;
        }
        used += c == '\n' ? 0 : cells;
    }
    return rows;
}
