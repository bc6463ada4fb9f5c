/*
 * GNU readline, loaded when the first line is edited: linking it would cost every start of the
 * program. Built with LINE_EDITOR=edit it is libedit, which has the same names for most of it. Main
 * thread only, like readline itself.
 */
#ifndef LASH_READLINE_DL_H
#define LASH_READLINE_DL_H

#include "base/base.h"

#include <stdio.h>

#include <readline/history.h>
#include <readline/readline.h>

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
    __typeof__(rl_clear_visible_line) *clear_visible_line;
    __typeof__(rl_on_new_line) *on_new_line;
    __typeof__(rl_redisplay) *redisplay;
    __typeof__(rl_variable_bind) *variable_bind;
    __typeof__(rl_free_line_state) *free_line_state;
    __typeof__(rl_callback_sigcleanup) *callback_sigcleanup;
    __typeof__(rl_reset_screen_size) *reset_screen_size;
    rl_getc_func_t **getc_function;
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
