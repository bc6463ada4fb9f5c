/*
 * The line editor of the console: one in the process, over readline, fed from the loop. While a
 * line is edited all else goes on, and what is written meanwhile (above.h) appears above it.
 *
 *     editor_open(loop)                       once; fails where no line can be edited
 *     editor_begin(prompt, on_key, arg)       the prompt stands there
 *     on_key(arg)                             from the loop: call editor_feed() soon, outside of it
 *     editor_feed(&line)                      EDITOR_MORE: on_key() comes again
 *                                             EDITOR_LINE, EDITOR_END: as after editor_end()
 *     editor_end()                            at any time: the terminal is as it was before
 *
 * The thread that opened it, unless a function says else.
 */
#ifndef LASH_EDITOR_H
#define LASH_EDITOR_H

#include "base/base.h"

#include <uv.h>

enum editor_result {
    EDITOR_MORE, /* the line is still edited */
    EDITOR_LINE, /* it was entered */
    EDITOR_END,  /* Ctrl-D on an empty line, or the terminal has gone */
};

/* What could stand where the cursor is: a list as rl_completion_matches() makes it, or NULL.
 * `start` and `end` are byte positions of the word in `line`. */
typedef char **(*editor_complete_fn)(const char *line, int start, int end, void *arg);

/* Makes the editor, for a terminal at stdin and stdout. Returns NULL, or why no line can be edited
 * here: a sentence. Once it was opened further calls do nothing. */
const char *editor_open(uv_loop_t *loop);

/* Closes all of its handles; for the end of the loop. */
void editor_close(void);

/* Shows the prompt (UTF-8; control sequences between \001 and \002) and begins to edit. */
void editor_begin(const char *prompt, void (*on_key)(void *arg), void *arg);

/* Takes the keys that are there. *line with EDITOR_LINE: the text without line end, the caller's to
 * free. */
enum editor_result editor_feed(char **line);

/* Ends the line; `mark` (may be NULL) is shown behind it, such as "^C". */
void editor_end(const char *mark);

/* Called with the Tab key. */
void editor_set_completer(editor_complete_fn fn, void *arg);

/* The history of the arrow keys: entries, the oldest first. */
void editor_add_history(const char *entry);
void editor_clear_history(void);

/* While no line is edited: shows `text` (lines without a line end behind the last one, fewer than
 * the terminal has) at the bottom in place of the text before; NULL takes it away. What others
 * write appears above it. */
void editor_area(const char *text);

/* While no line is edited and no area is shown: writes a piece of a text. What others write appears
 * above the line that it has begun (below it, when that is very long). */
void editor_tail(const char *text, size_t len);

/* While no line is edited: from now on keys are not shown but kept for the next line, at which this
 * ends. Who reads from the terminal meanwhile, or starts a child that may, is lent it: see tty.h.
 * The last two: any thread; nothing of the console is drawn between them. */
void editor_quiet(void);
unsigned editor_lend(void);
void editor_give_back(unsigned loan);

/* While no line is edited: the terminal's settings are those from before the last line again, after
 * somebody else has left it in disorder. */
void editor_recover(void);

#endif
