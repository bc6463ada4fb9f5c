#include "base/base.h"

#include "shell/editor.h"

#include "base/buf.h"
#include "shell/above.h"
#include "shell/bottom.h"
#include "shell/crash.h"
#include "shell/readline_dl.h"
#include "shell/screen.h"
#include "shell/tall.h"
#include "shell/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum {
    KEYS_AT_ONCE = 4096, /* then the loop has its turn again */
    HISTORY_MAX = 10000,
    SILENCE_MS = 1000, /* in the middle of a paste or a letter: the rest does not come */
};

static struct {
    const struct readline_api *rl;
    uv_loop_t *loop; /* borrowed */
    uv_poll_t keys;
    uv_signal_t resized, stopping, going_on;
    void (*on_key)(void *arg);
    void *arg;
    editor_complete_fn complete;
    void *complete_arg;
    char *prompt;     /* owned */
    char *line;       /* owned: what the handler of readline was told */
    pthread_t thread; /* of the loop */
    int tty;          /* our own description of it: the loop makes it non-blocking */
    bool raw;         /* the terminal's settings are readline's */
    bool open;
    bool editing;
    bool over; /* the line is */
} self;

/* ---- the line, and what others write ---- */

static void hide_line(void)
{
    if (self.rl->clear_visible_line != NULL) {
        (void)self.rl->clear_visible_line();
    } else {
        (void)fputs("\r\033[K", stdout);
    }
    (void)fflush(stdout);
}

static void show_line(void)
{
    if (self.rl->on_new_line != NULL && self.rl->redisplay != NULL) {
        (void)self.rl->on_new_line();
        tall_redisplay();
    } else {
        (void)self.rl->forced_update_display();
    }
    (void)fflush(stdout);
}

static void print_waiting(void)
{
    if (!self.editing) {
        bottom_print();
        return;
    }
    struct buf lines = {0};
    above_take(&lines, false);
    if (lines.len > 0) {
        hide_line();
        screen_write(lines.data, lines.len);
        show_line();
    }
    buf_release(&lines);
}

/* ---- from the loop ---- */

static void begin_raw(void)
{
    tty_begin_line();
    self.raw = true;
}

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
    tall_resize();
    (void)fflush(stdout);
}

static void end_raw(void)
{
    self.rl->deprep_terminal();
    (void)fflush(stdout);
    tty_end_line();
    self.raw = false;
}

/* After Ctrl-Z or a SIGSTOP: the shell may have changed the terminal, and its size. */
static void on_going_on(uv_signal_t *handle, int sig)
{
    (void)handle;
    (void)sig;
    if (self.editing) {
        if (self.raw) {
            end_raw();
        }
        begin_raw();
        self.rl->prep_terminal(1);
        if (self.rl->reset_screen_size != NULL) {
            self.rl->reset_screen_size();
        }
        show_line();
    }
}

/* Ctrl-Z: the shell finds its terminal as it was. */
static void on_stopping(uv_signal_t *handle, int sig)
{
    end_raw();
    (void)uv_signal_stop(handle); // the default again
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
    tty_end_line();
    self.raw = false;
    (void)fflush(stdout);
    tall_write_whole(self.prompt, line != NULL ? line : "");
}

static void leave(void)
{
    (void)uv_poll_stop(&self.keys);
    (void)uv_signal_stop(&self.resized);
    (void)uv_signal_stop(&self.stopping);
    (void)uv_signal_stop(&self.going_on);
    self.editing = false;
    bottom_end(); // prints what waits
}

void editor_area(const char *text)
{
    ASSERT(self.open && !self.editing);
    bottom_area(text);
}

void editor_tail(const char *text, size_t len)
{
    ASSERT(self.open && !self.editing);
    bottom_tail(text, len);
}

void editor_quiet(void)
{
    ASSERT(self.open && !self.editing);
    tty_quiet(self.rl->variable_bind != NULL);
}

unsigned editor_lend(void)
{
    unsigned loan = tty_lend();
    if (loan != 0 && pthread_equal(pthread_self(), self.thread) != 0) {
        bottom_print();
    } else if (loan != 0) {
        above_wake();
    }
    return loan;
}

void editor_give_back(unsigned loan)
{
    tty_give_back(loan);
    if (loan != 0) {
        above_wake();
    }
}

void editor_recover(void)
{
    ASSERT(self.open && !self.editing);
    tty_recover();
}

/* Below the line that Ctrl-D has ended: readline has done that, if it knows pastes. */
static void end_line(void)
{
    if (self.rl->variable_bind == NULL) {
        screen_write("\n", 1);
    }
}

void editor_begin(const char *prompt, void (*on_key)(void *arg), void *arg)
{
    ASSERT(self.open && !self.editing);
    (void)fflush(stdout);
    self.on_key = on_key;
    self.arg = arg;
    self.over = false;
    self.line = NULL;
    bottom_end();
    self.editing = true;
    if (self.rl->reset_screen_size != NULL) {
        self.rl->reset_screen_size(); // nobody looked while no line was edited
    }
    if (self.rl->eof_found != NULL) {
        *self.rl->eof_found = 0; // else it ends each line twice from the first Ctrl-D on
    }
    screen_fresh_line();
    free(self.prompt);
    self.prompt = xstrdup(prompt);
    tall_begin(prompt);
    begin_raw();
    self.rl->callback_handler_install(prompt, on_line);
    (void)fflush(stdout);
    above_set_active(true);
    (void)uv_signal_start(&self.resized, on_resized, SIGWINCH);
    (void)uv_signal_start(&self.stopping, on_stopping, SIGTSTP);
    (void)uv_signal_start(&self.going_on, on_going_on, SIGCONT);
    (void)uv_poll_start(&self.keys, UV_READABLE, on_keys);
}

/* A key for readline, which asks when there is one, but goes on until a paste or a letter is
 * complete. */
static int get_key(FILE *in)
{
    unsigned char key;
    (void)in;
    for (;;) {
        ssize_t n = read(self.tty, &key, 1);
        if (n == 1) {
            return key;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            return EOF;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = self.tty, .events = POLLIN};
            if (poll(&p, 1, SILENCE_MS) == 0) {
                return EOF;
            }
        }
    }
}

static bool has_key(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

enum editor_result editor_feed(char **line)
{
    *line = NULL;
    above_hold(true);
    for (int i = 0; i < KEYS_AT_ONCE && !self.over && has_key(); i++) {
        self.rl->callback_read_char();
    }
    above_hold(false);
    (void)fflush(stdout);
    if (!self.over) {
        (void)uv_poll_start(&self.keys, UV_READABLE, on_keys);
        return EDITOR_MORE;
    }
    leave();
    if (self.line == NULL) {
        end_line();
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
#ifdef LASH_LIBEDIT
    if (self.rl->kill_text != NULL) {
        (void)self.rl->kill_text(0, *self.rl->end); // else the next line begins in this one
    }
#endif
    if (self.rl->free_line_state != NULL) {
        self.rl->free_line_state();
    }
    if (self.rl->callback_sigcleanup != NULL) {
        self.rl->callback_sigcleanup();
    }
    *self.rl->point = *self.rl->end;
    if (self.rl->redisplay != NULL) {
        tall_redisplay(); // the cursor stands behind the text, in its last row
    }
    (void)fflush(stdout);
    if (mark != NULL) { // before readline goes to the first column
        screen_write(mark, strlen(mark));
    }
    screen_write("\r\n", 2);
    self.rl->callback_handler_remove();
    (void)fflush(stdout);
    tty_end_line();
    self.raw = false;
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
#ifdef LASH_LIBEDIT
    (void)setlocale(LC_CTYPE, ""); // readline does so itself
#endif
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
    tall_open(rl);
    *rl->instream = stdin;
    *rl->outstream = stdout;
    if (rl->getc_function != NULL) {
        *rl->getc_function = get_key;
    }
    *rl->attempted_completion_function = on_complete;
    *rl->completer_word_break_characters = " \t\n\"'`@$><=;|&{}()[]+-*/%^#~,?!";
    if (rl->basic_quote_characters != NULL) {
        *rl->basic_quote_characters = ""; // it would close a string behind a folder
    }
    if (rl->variable_bind != NULL) {
        (void)rl->variable_bind("enable-bracketed-paste", "on");
        (void)rl->variable_bind("enable-active-region", "off"); // a paste would be drawn twice
        // these two would read keys while everything else stands still
        (void)rl->variable_bind("completion-query-items", "0");
        (void)rl->variable_bind("page-completions", "off");
    }
    rl->stifle_history(HISTORY_MAX);
}

/* A description of our own: that of stdin is shared with the shell and must stay blocking. Another
 * user's terminal (su) can be opened only as the one that controls us. */
static int open_tty(void)
{
    enum { FLAGS = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC };
    int fd = open("/proc/self/fd/0", FLAGS);
    if (fd < 0 && tcgetsid(STDIN_FILENO) == getsid(0)) {
        fd = open("/dev/tty", FLAGS);
    }
    return fd;
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
    self.tty = open_tty();
    if (self.tty < 0 || uv_poll_init(loop, &self.keys, self.tty) != 0) {
        if (self.tty >= 0) {
            (void)close(self.tty);
        }
        return "the terminal cannot be watched for keys";
    }
    ASSERT(uv_signal_init(loop, &self.resized) == 0);
    ASSERT(uv_signal_init(loop, &self.stopping) == 0);
    ASSERT(uv_signal_init(loop, &self.going_on) == 0);
    above_open(loop, print_waiting);
    tty_open();
    self.rl = rl;
    self.loop = loop;
    self.thread = pthread_self();
    self.open = true;
    set_up(rl);
    crash_open(tty_restore);
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
    bottom_end();
    tty_loud();
    self.open = false;
    uv_close((uv_handle_t *)&self.resized, NULL);
    uv_close((uv_handle_t *)&self.stopping, NULL);
    uv_close((uv_handle_t *)&self.going_on, NULL);
    above_close();
    uv_close((uv_handle_t *)&self.keys, on_closed);
}
