/*
 * GNU readline, loaded when the first line is edited: linking it would cost every start of the
 * program. Built with LINE_EDITOR=edit it is libedit, which has the same names for most of it. Main
 * thread only, like readline itself.
 */
#ifndef LASH_READLINE_DL_H
#define LASH_READLINE_DL_H

#include "base/base.h"

#include <stdio.h>

#ifdef LASH_LIBEDIT
#include <editline/readline.h>
#else
#include <readline/history.h>
#include <readline/readline.h>
#endif

/* Functions, and pointers to the library's variables. Those behind the line may be NULL: libedit
 * has none of them. */
struct readline_api {
    __typeof__(rl_initialize) *initialize;
    __typeof__(rl_callback_handler_install) *callback_handler_install;
    __typeof__(rl_callback_handler_remove) *callback_handler_remove;
    __typeof__(rl_callback_read_char) *callback_read_char;
    __typeof__(rl_forced_update_display) *forced_update_display;
    __typeof__(rl_prep_terminal) *prep_terminal;
    __typeof__(rl_deprep_terminal) *deprep_terminal;
    __typeof__(rl_resize_terminal) *resize_terminal;
    __typeof__(rl_completion_matches) *completion_matches;
    __typeof__(add_history) *add_history;
    __typeof__(clear_history) *clear_history;
    __typeof__(stifle_history) *stifle_history;
    const char **readline_name;
    FILE **instream;
    FILE **outstream;
    char **line_buffer;
    int *point;
    int *end;
    int *catch_signals;
    rl_completion_func_t **attempted_completion_function;
    int *attempted_completion_over;
    int *completion_append_character;
    const char **completer_word_break_characters;
    /* ---- */
    int (*clear_visible_line)(void);
    int (*on_new_line)(void);
    void (*redisplay)(void);
    int (*kill_text)(int from, int to);
    int (*variable_bind)(const char *name, const char *value);
    void (*free_line_state)(void);
    void (*callback_sigcleanup)(void);
    void (*reset_screen_size)(void);
    void (*get_screen_size)(int *rows, int *columns);
    int (**getc_function)(FILE *in);
    void (**redisplay_function)(void);
    int *catch_sigwinch;
    int *change_environment;
    int *eof_found; /* NULL before 8.2, too */
    const char **basic_quote_characters;
};

/* Loads it once in the process. NULL when that failed: readline_dl_error() says why. */
const struct readline_api *readline_dl(void);

/* After readline_dl() gave NULL: a sentence with the remedy. */
const char *readline_dl_error(void);

#endif
