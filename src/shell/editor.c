#include "base/base.h"

#include "shell/editor.h"

#include "base/buf.h"
#include "shell/readline_dl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum {
    KEYS_AT_ONCE = 4096, /* then the loop has its turn again */
    HISTORY_MAX = 10000,
};

#define PASTE_OFF "\033[?2004l"

static struct {
    const struct readline_api *rl;
    uv_loop_t *loop; /* borrowed */
    uv_poll_t keys;
    uv_signal_t resized, stopping, going_on;
    uv_async_t others;     /* another thread has written */
    struct termios before; /* as the terminal was */
    void (*on_key)(void *arg);
    void *arg;
    editor_complete_fn complete;
    void *complete_arg;
    char *line; /* owned: what the handler of readline was told */
    char *area; /* owned; NULL = none */
    /* Texts of others, which any thread may add. */
    uv_mutex_t lock;
    struct buf waiting;
    volatile sig_atomic_t raw; /* the terminal is readline's */
    int tty;                   /* our own description of it: the loop makes it non-blocking */
    unsigned area_lines;       /* of what stands on the terminal */
    atomic_bool active;        /* a line or an area is shown */
    bool open;
    bool editing;
    bool over; /* the line is */
} self;

/* ---- the terminal ---- */

void editor_restore(void)
{
    if (self.raw) {
        self.raw = false;
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &self.before);
        if (write(STDOUT_FILENO, PASTE_OFF "\r\n", sizeof(PASTE_OFF "\r\n") - 1) < 0) {
            /* it has gone */
        }
    }
}

static void write_all(const char *text, size_t len);

static void erase_area(void)
{
    char up[32];
    int n = snprintf(up, sizeof(up), self.area_lines > 1 ? "\r\033[%uA\033[J" : "\r\033[J",
                     self.area_lines - 1);
    write_all(up, (size_t)n);
}

static void hide(void)
{
    if (!self.editing) {
        erase_area();
        return;
    }
    if (self.rl->clear_visible_line != NULL) {
        (void)self.rl->clear_visible_line();
    } else {
        (void)fputs("\r\033[K", stdout);
    }
    (void)fflush(stdout);
}

static void show(void)
{
    if (!self.editing) {
        write_all(self.area, strlen(self.area));
        return;
    }
    if (self.rl->on_new_line != NULL && self.rl->redisplay != NULL) {
        (void)self.rl->on_new_line();
        self.rl->redisplay();
    } else {
        (void)self.rl->forced_update_display();
    }
    (void)fflush(stdout);
}

static void write_all(const char *text, size_t len)
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

/* ---- texts of others ---- */

/* Takes all whole lines that wait, or all there is. */
static void take_waiting(struct buf *out, bool all)
{
    uv_mutex_lock(&self.lock);
    struct buf *b = &self.waiting;
    const char *last = b->len > 0 ? memrchr(b->data, '\n', b->len) : NULL;
    size_t len = all ? b->len : last != NULL ? (size_t)(last - b->data) + 1 : 0;
    if (len > 0) {
        buf_append(out, b->data, len);
        memmove(b->data, b->data + len, b->len - len);
        b->len -= len;
    }
    uv_mutex_unlock(&self.lock);
}

static void print_waiting(void)
{
    struct buf lines = {0};
    take_waiting(&lines, false);
    if (lines.len > 0) {
        hide();
        write_all(lines.data, lines.len);
        show();
    }
    buf_release(&lines);
}

static void on_others(uv_async_t *async)
{
    (void)async;
    if (atomic_load(&self.active)) {
        print_waiting();
    }
}

bool editor_above(int fd, const char *text, size_t len)
{
    if (!atomic_load(&self.active) || !isatty(fd)) {
        return false;
    }
    uv_mutex_lock(&self.lock);
    bool taken = atomic_load(&self.active);
    if (taken) {
        buf_append(&self.waiting, text, len);
    }
    uv_mutex_unlock(&self.lock);
    if (taken) {
        (void)uv_async_send(&self.others);
    }
    return taken;
}

/* ---- from the loop ---- */

static void on_keys(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    (void)uv_poll_stop(poll);
    self.on_key(self.arg);
}

static void on_resized(uv_signal_t *handle, int sig)
{
    (void)handle;
    (void)sig;
    self.rl->resize_terminal();
}

static void begin_raw(void)
{
    if (!self.raw && tcgetattr(STDIN_FILENO, &self.before) == 0) {
        self.raw = true;
    }
}

static void on_going_on(uv_signal_t *handle, int sig)
{
    (void)handle;
    (void)sig;
    if (self.editing) {
        self.rl->prep_terminal(1);
        self.raw = true;
        show();
    }
}

/* Ctrl-Z: the shell finds its terminal as it was. */
static void on_stopping(uv_signal_t *handle, int sig)
{
    self.rl->deprep_terminal();
    self.raw = false;
    (void)uv_signal_stop(handle);
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
    // continued
    (void)uv_signal_start(handle, on_stopping, SIGTSTP);
}

/* ---- one line ---- */

static void on_line(char *line)
{
    self.over = true;
    self.line = line;
    // the terminal is right before anybody else writes to it
    self.rl->callback_handler_remove();
    self.raw = false;
}

static void leave(void)
{
    (void)uv_poll_stop(&self.keys);
    (void)uv_signal_stop(&self.resized);
    (void)uv_signal_stop(&self.stopping);
    (void)uv_signal_stop(&self.going_on);
    atomic_store(&self.active, false);
    self.editing = false;
    struct buf rest = {0};
    take_waiting(&rest, true);
    if (rest.len > 0) {
        write_all(rest.data, rest.len);
    }
    buf_release(&rest);
}

void editor_area(const char *text)
{
    ASSERT(self.open && !self.editing);
    struct buf lines = {0};
    (void)fflush(stdout);
    if (self.area != NULL) {
        erase_area();
        free(self.area);
        self.area = NULL;
    }
    take_waiting(&lines, text == NULL);
    write_all(lines.data, lines.len);
    buf_release(&lines);
    if (text != NULL) {
        self.area = xstrdup(text);
        self.area_lines = 1;
        for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++) {
            self.area_lines++;
        }
        write_all(text, strlen(text));
    }
    atomic_store(&self.active, text != NULL);
}

void editor_begin(const char *prompt, void (*on_key)(void *arg), void *arg)
{
    ASSERT(self.open && !self.editing);
    (void)fflush(stdout);
    self.on_key = on_key;
    self.arg = arg;
    self.over = false;
    self.line = NULL;
    if (self.area != NULL) {
        editor_area(NULL);
    }
    begin_raw();
    self.editing = true;
    self.rl->callback_handler_install(prompt, on_line);
    (void)fflush(stdout);
    atomic_store(&self.active, true);
    (void)uv_signal_start(&self.resized, on_resized, SIGWINCH);
    (void)uv_signal_start(&self.stopping, on_stopping, SIGTSTP);
    (void)uv_signal_start(&self.going_on, on_going_on, SIGCONT);
    (void)uv_poll_start(&self.keys, UV_READABLE, on_keys);
}

static bool has_key(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

enum editor_result editor_feed(char **line)
{
    *line = NULL;
    for (int i = 0; i < KEYS_AT_ONCE && !self.over && has_key(); i++) {
        self.rl->callback_read_char();
    }
    (void)fflush(stdout);
    if (!self.over) {
        (void)uv_poll_start(&self.keys, UV_READABLE, on_keys);
        return EDITOR_MORE;
    }
    leave();
    if (self.line == NULL) {
        return EDITOR_END;
    }
    *line = self.line;
    self.line = NULL;
    return EDITOR_LINE;
}

void editor_end(const char *mark)
{
    if (!self.editing) {
        return;
    }
    if (self.rl->free_line_state != NULL) {
        self.rl->free_line_state();
    }
    if (self.rl->callback_sigcleanup != NULL) {
        self.rl->callback_sigcleanup();
    }
    *self.rl->point = *self.rl->end;
    self.rl->callback_handler_remove();
    self.raw = false;
    if (mark != NULL) {
        write_all(mark, strlen(mark));
    }
    write_all("\n", 1);
    leave();
}

/* ---- completion and history ---- */

static char **on_complete(const char *text, int start, int end)
{
    (void)text;
    *self.rl->attempted_completion_over = 1;      // no file names where we know nothing
    *self.rl->completion_append_character = '\0'; // readline sets a blank each time
    return self.complete != NULL
               ? self.complete(*self.rl->line_buffer, start, end, self.complete_arg)
               : NULL;
}

void editor_set_completer(editor_complete_fn fn, void *arg)
{
    self.complete = fn;
    self.complete_arg = arg;
}

void editor_add_history(const char *entry)
{
    self.rl->add_history(entry);
}

void editor_clear_history(void)
{
    self.rl->clear_history();
}

/* ---- making ---- */

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0';
}

/* Where no variable says what letters are, they are UTF-8, as on every terminal of our days.
 * readline looks at the environment when it begins; children do not see this. */
static void initialize(const struct readline_api *rl)
{
    bool unset = !is_set("LC_ALL") && !is_set("LC_CTYPE") && !is_set("LANG");
    if (unset) {
        (void)setenv("LC_CTYPE", "C.UTF-8", 1);
    }
    (void)rl->initialize();
    if (unset) {
        (void)unsetenv("LC_CTYPE");
    }
}

static void set_up(const struct readline_api *rl)
{
    *rl->readline_name = "lash";
    *rl->catch_signals = 0; // they are ours
    if (rl->catch_sigwinch != NULL) {
        *rl->catch_sigwinch = 0;
    }
    if (rl->change_environment != NULL) {
        *rl->change_environment = 0; // LINES and COLUMNS are the children's to find out
    }
    initialize(rl);
    *rl->instream = stdin;
    *rl->outstream = stdout;
    *rl->attempted_completion_function = on_complete;
    *rl->completer_word_break_characters = " \t\n\"'`@$><=;|&{}()[]+-*/%^#~,?!";
    if (rl->variable_bind != NULL) {
        (void)rl->variable_bind("enable-bracketed-paste", "on");
    }
    rl->stifle_history(HISTORY_MAX);
}

const char *editor_open(uv_loop_t *loop)
{
    if (self.open) {
        return NULL;
    }
    const char *term = getenv("TERM");
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return "lines are edited on a terminal only";
    } else if (term == NULL || *term == '\0' || strcmp(term, "dumb") == 0) {
        return "this terminal cannot move its cursor (TERM)";
    }
    const struct readline_api *rl = readline_dl();
    if (rl == NULL) {
        return readline_dl_error();
    }
    // a description of our own: that of stdin is shared with the shell and must stay blocking
    self.tty = open("/proc/self/fd/0", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (self.tty < 0 || uv_poll_init(loop, &self.keys, self.tty) != 0) {
        if (self.tty >= 0) {
            (void)close(self.tty);
        }
        return "the terminal cannot be watched for keys";
    }
    ASSERT(uv_signal_init(loop, &self.resized) == 0);
    ASSERT(uv_signal_init(loop, &self.stopping) == 0);
    ASSERT(uv_signal_init(loop, &self.going_on) == 0);
    ASSERT(uv_async_init(loop, &self.others, on_others) == 0);
    ASSERT(uv_mutex_init(&self.lock) == 0);
    uv_unref((uv_handle_t *)&self.others);
    self.rl = rl;
    self.loop = loop;
    self.open = true;
    set_up(rl);
    return NULL;
}

static void on_closed(uv_handle_t *handle)
{
    (void)handle;
    (void)close(self.tty);
}

void editor_close(void)
{
    if (!self.open) {
        return;
    }
    editor_end(NULL);
    if (self.area != NULL) {
        editor_area(NULL);
    }
    self.open = false;
    uv_close((uv_handle_t *)&self.resized, NULL);
    uv_close((uv_handle_t *)&self.stopping, NULL);
    uv_close((uv_handle_t *)&self.going_on, NULL);
    uv_close((uv_handle_t *)&self.others, NULL);
    uv_close((uv_handle_t *)&self.keys, on_closed);
}
