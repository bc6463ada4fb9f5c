#include "base/base.h"

#include "shell/tall.h"

#include "base/buf.h"
#include "shell/screen.h"

#include <stdio.h>
#include <string.h>
#include <wchar.h>

enum { ROWS_MIN = 4, MARKS = 2 };

static const struct readline_api *rl;
static unsigned shown_rows; /* of the part that is shown; 0: all of the line is */
static unsigned prompt_cells;
static size_t shown_from, shown_to;
static bool takes_over; /* the place of readline's function */

/* As readline knows it: it learns of a change later than the terminal. */
static void get_size(unsigned *width, unsigned *rows)
{
    int high = 24, wide = 80;
    if (takes_over) {
        rl->get_screen_size(&high, &wide);
    }
    *width = wide > 0 ? (unsigned)wide : 80;
    *rows = high > 0 ? (unsigned)high : 24;
}

struct place {
    unsigned row, column;
};

/* Behind the character at text[*at], as readline shows it on a screen of this width. */
static void step(struct place *p, const char *text, size_t len, size_t *at, unsigned width)
{
    unsigned char c = (unsigned char)text[*at];
    unsigned cells = 1;
    size_t n = 1;
    if (c == '\n') {
        *at += 1;
        *p = (struct place){p->row + 1, 0};
        return;
    } else if (c == '\t') {
        cells = 8 - p->column % 8;
    } else if (c < ' ' || c == 0x7f) {
        cells = 2; // ^X
    } else if (c >= 0x80) {
        mbstate_t state = {0};
        wchar_t wide;
        size_t got = mbrtowc(&wide, text + *at, len - *at, &state);
        n = got > 0 && got <= len - *at ? got : 1;
        cells = n > 1 && wcwidth(wide) >= 0 ? (unsigned)wcwidth(wide) : 1;
    }
    *at += n;
    if (p->column + cells > width) {
        *p = (struct place){p->row + 1, 0};
    }
    p->column += cells;
    if (p->column >= width) { // at once: a line end behind it makes an empty row
        *p = (struct place){p->row + 1, 0};
    }
}

static unsigned rows_of(const char *text, size_t len, unsigned from_column, unsigned width)
{
    struct place p = {1, from_column};
    for (size_t i = 0; i < len;) {
        step(&p, text, len, &i, width);
    }
    return p.row;
}

static size_t lines_of(const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        n += text[i] == '\n' ? 1 : 0;
    }
    return n;
}

/* Where a part of so many rows begins that ends at `end`: at the begin of a line, if that is near.
 */
static size_t begin_of(const char *text, size_t end, unsigned rows, unsigned width)
{
    size_t from = end;
    while (from > 0) {
        const char *eol = memrchr(text, '\n', from - 1 > 0 ? from - 1 : 0);
        size_t start = eol != NULL ? (size_t)(eol - text) + 1 : 0;
        if (rows_of(text + start, end - start, 0, width) > rows) {
            break;
        }
        from = start;
    }
    if (from == end && end > 0) { // a line of very many rows
        size_t most = (size_t)(rows - 1) * width;
        from = end > most ? end - most : 0;
        while (from < end && (((unsigned char)text[from] & 0xc0) == 0x80 ||
                              rows_of(text + from, end - from, 0, width) > rows)) {
            from++;
        }
    }
    return from;
}

/* Where the part ends that begins at `from`. */
static size_t end_of(const char *text, size_t from, size_t len, unsigned rows, unsigned width)
{
    struct place p = {1, 0};
    size_t at = from, whole = from;
    while (at < len) {
        size_t before = at;
        if (text[at] == '\n') {
            whole = at;
        }
        step(&p, text, len, &at, width);
        if (p.row > rows) {
            return whole > from ? whole : before;
        }
    }
    return len;
}

static void add_mark(struct buf *part, const char *left_out, size_t len)
{
    size_t lines = lines_of(left_out, len);
    if (lines > 0) {
        buf_appendf(part, "[... %zu more lines]", lines);
    } else {
        buf_append_str(part, "[...]");
    }
}

/* Around the cursor, if possible from the begin of a line to the end of one. */
static void choose(unsigned room, unsigned width, size_t *from, size_t *to)
{
    const char *line = *rl->line_buffer;
    size_t len = (size_t)*rl->end, point = (size_t)*rl->point;
    const char *eol = memchr(line + point, '\n', len - point);
    *from = begin_of(line, eol != NULL ? (size_t)(eol - line) : len, room, width);
    if (*from > point) {
        *from = begin_of(line, point, room, width);
    }
    *to = end_of(line, *from, len, room, width);
    *to = *to < point ? point : *to;
}

static void show_part(unsigned room, unsigned width)
{
    char *line = *rl->line_buffer;
    int len = *rl->end, point = *rl->point;
    size_t from, to;
    struct buf part = {0};
    choose(room, width, &from, &to);
    bool other = shown_rows == 0 || from != shown_from || (to < (size_t)len) != (shown_to > 0);
    if (other) { // readline would look for what both have in common
        (void)rl->clear_visible_line();
        (void)rl->on_new_line();
    }
    shown_from = from;
    shown_to = to < (size_t)len ? to : 0;
    if (from > 0) {
        add_mark(&part, line, from);
        buf_append_char(&part, '\n');
    }
    *rl->point = (int)(part.len + (size_t)point - from);
    buf_append(&part, line + from, to - from);
    if (to < (size_t)len) {
        buf_append_char(&part, '\n');
        add_mark(&part, line + to, (size_t)len - to);
    }
    *rl->end = (int)part.len;
    shown_rows = rows_of(part.data, part.len, prompt_cells, width);
    buf_append_char(&part, '\0');
    *rl->line_buffer = part.data;
    rl->redisplay();
    *rl->line_buffer = line;
    *rl->end = len;
    *rl->point = point;
    buf_release(&part);
}

static bool is_tall(void)
{
    unsigned width, rows;
    get_size(&width, &rows);
    return takes_over && rows >= ROWS_MIN &&
           rows_of(*rl->line_buffer, (size_t)*rl->end, prompt_cells, width) >= rows;
}

void tall_redisplay(void)
{
    unsigned width, rows;
    get_size(&width, &rows);
    if (is_tall()) {
        show_part(rows - 1 - MARKS, width);
    } else {
        shown_rows = 0;
        rl->redisplay();
    }
}

void tall_resize(void)
{
    if (!takes_over) {
        rl->resize_terminal();
    } else if (shown_rows > 0 || is_tall()) {
        (void)rl->clear_visible_line();
        rl->reset_screen_size();
        (void)rl->on_new_line();
        tall_redisplay();
    } else {
        *rl->redisplay_function = rl->redisplay;
        rl->resize_terminal();
        *rl->redisplay_function = tall_redisplay;
    }
}

void tall_begin(const char *prompt)
{
    unsigned width, rows;
    get_size(&width, &rows);
    struct place p = {0, 0};
    for (size_t i = 0, len = strlen(prompt); i < len;) {
        step(&p, prompt, len, &i, width);
    }
    prompt_cells = p.column;
    shown_rows = 0;
}

void tall_write_whole(const char *prompt, const char *line)
{
    if (shown_rows > 0) {
        screen_erase(shown_rows + 1);
        screen_write(prompt, strlen(prompt));
        screen_write(line, strlen(line));
        screen_write("\n", 1);
        shown_rows = 0;
    }
}

void tall_open(const struct readline_api *api)
{
    rl = api;
    if (rl->redisplay_function != NULL && rl->clear_visible_line != NULL &&
        rl->on_new_line != NULL && rl->reset_screen_size != NULL && rl->get_screen_size != NULL) {
        takes_over = true;
        *rl->redisplay_function = tall_redisplay;
    }
}
