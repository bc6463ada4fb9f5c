#include "base/base.h"

#include "shell/bottom.h"

#include "base/buf.h"
#include "shell/above.h"
#include "shell/screen.h"
#include "shell/tty.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAIL_MAX = 4096 };

static struct {
    char *area;      /* owned; NULL = none */
    struct buf tail; /* what stands in the last line of a text that comes in pieces */
    bool is_long;    /* the tail is more than can be drawn again */
    bool away;       /* the terminal is lent: nothing of it is drawn */
} self;

static void draw_area(void)
{
    screen_write(self.area, strlen(self.area));
}

static void forget_tail(void)
{
    buf_clear(&self.tail);
    self.is_long = false;
}

static void hide(void)
{
    if (tty_was_stopped()) { // what stood there is above what a shell has written
        forget_tail();
    } else if (self.area != NULL) {
        // most terminals break lines anew when they get narrower
        screen_erase(screen_rows(self.area, strlen(self.area)));
    } else if (self.is_long) { // the text goes on below what others write
        screen_write("\n", 1);
        forget_tail();
    } else if (self.tail.len > 0) {
        screen_erase(screen_rows(self.tail.data, self.tail.len));
    }
}

static void show(void)
{
    if (self.area != NULL) {
        draw_area();
    } else if (self.tail.len > 0) {
        screen_write(self.tail.data, self.tail.len);
    }
}

static void print(bool all)
{
    struct buf lines = {0};
    above_take(&lines, all);
    screen_write(lines.data, lines.len);
    buf_release(&lines);
}

/* Who was lent the terminal has all of it. */
static void step_back(void)
{
    above_set_active(false);
    if (self.area != NULL) {
        hide();
    } else if (self.tail.len > 0) {
        screen_write("\n", 1);
        forget_tail();
    }
    print(true);
}

static void come_back(void)
{
    if (self.area != NULL) {
        screen_fresh_line();
        draw_area();
        above_set_active(true);
    }
}

/* Whether there is nothing to be drawn now. */
static bool is_away(void)
{
    bool away = tty_is_lent();
    if (away != self.away) {
        self.away = away;
        (void)fflush(stdout);
        if (away) {
            step_back();
        } else {
            come_back();
        }
    }
    return away;
}

void bottom_print(void)
{
    struct buf lines = {0};
    if (is_away() || (self.area == NULL && self.tail.len == 0)) {
        return;
    }
    above_take(&lines, false);
    if (lines.len > 0) {
        hide();
        screen_write(lines.data, lines.len);
        show();
    }
    buf_release(&lines);
}

void bottom_end(void)
{
    (void)fflush(stdout);
    above_set_active(false);
    if (self.area != NULL && !self.away) {
        hide();
    }
    free(self.area);
    self.area = NULL;
    forget_tail();
    self.away = false;
    print(true);
}

static void set_area(const char *text)
{
    char *copy = text != NULL ? xstrdup(text) : NULL;
    free(self.area);
    self.area = copy;
}

void bottom_area(const char *text)
{
    if (is_away()) {
        set_area(text);
    } else if (text == NULL) {
        bottom_end();
    } else if (self.area != NULL) {
        hide();
        print(false);
        set_area(text);
        draw_area();
    } else {
        if (self.tail.len > 0) {
            screen_write("\n", 1);
        }
        bottom_end();
        set_area(text);
        draw_area();
        above_set_active(true);
    }
}

void bottom_tail(const char *text, size_t len)
{
    (void)fflush(stdout);
    if (is_away()) {
        screen_write(text, len);
        return;
    } else if (self.area != NULL) {
        bottom_end();
    }
    bottom_print();
    screen_write(text, len);
    const char *last = len > 0 ? memrchr(text, '\n', len) : NULL;
    if (last != NULL) {
        forget_tail();
        len -= (size_t)(last - text) + 1;
        text = last + 1;
    }
    if (self.tail.len + len > TAIL_MAX) {
        self.is_long = true;
    } else {
        buf_append(&self.tail, text, len);
    }
    if (self.tail.len > 0) {
        above_set_active(true);
    } else {
        bottom_end();
    }
}
