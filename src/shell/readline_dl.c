#include "base/base.h"

#include "shell/readline_dl.h"

#include <dlfcn.h>
#include <stdio.h>

#ifdef LASH_LIBEDIT
#define SONAME "libedit.so.2"
#define PACKAGE "libedit2"
#else
#define SONAME "libreadline.so.8"
#define PACKAGE "libreadline8"
#endif

static bool tried;
static bool loaded;
static struct readline_api api;
static char problem[256];

/* POSIX promises that the object pointer holds the function; ISO C has no cast for it. */
static bool find(void *lib, const char *name, void *slot, bool needed)
{
    void **symbol = slot;
    *symbol = dlsym(lib, name);
    if (*symbol == NULL && needed) {
        (void)snprintf(problem, sizeof(problem), SONAME " lacks %s: install Debian's " PACKAGE,
                       name);
    }
    return *symbol != NULL || !needed;
}

static bool find_all(void *lib)
{
#define RL(name) find(lib, "rl_" #name, &api.name, true)
#define PLAIN(name) find(lib, #name, &api.name, true)
#define MAYBE(name) find(lib, "rl_" #name, &api.name, false)
#ifdef LASH_LIBEDIT
#define KNOWN(name) true /* it has the name, for something else */
#else
#define KNOWN(name) MAYBE(name)
#endif
    return RL(initialize) && RL(callback_handler_install) && RL(callback_handler_remove) &&
           RL(callback_read_char) && RL(forced_update_display) && RL(prep_terminal) &&
           RL(deprep_terminal) && RL(resize_terminal) && RL(completion_matches) &&
           PLAIN(add_history) && PLAIN(clear_history) && PLAIN(stifle_history) &&
           RL(readline_name) && RL(instream) && RL(outstream) && RL(line_buffer) && RL(point) &&
           RL(end) && RL(catch_signals) && RL(attempted_completion_function) &&
           RL(attempted_completion_over) && RL(completion_append_character) &&
           RL(completer_word_break_characters) && MAYBE(clear_visible_line) && MAYBE(on_new_line) &&
           KNOWN(redisplay) && MAYBE(kill_text) && KNOWN(variable_bind) && MAYBE(free_line_state) &&
           MAYBE(callback_sigcleanup) && MAYBE(catch_sigwinch) && MAYBE(change_environment) &&
           MAYBE(eof_found) && MAYBE(basic_quote_characters) && MAYBE(reset_screen_size) &&
           MAYBE(getc_function) && KNOWN(redisplay_function) && KNOWN(get_screen_size);
#undef RL
#undef PLAIN
#undef MAYBE
#undef KNOWN
}

const struct readline_api *readline_dl(void)
{
    if (tried) {
        return loaded ? &api : NULL;
    }
    tried = true;
    void *lib = dlopen(SONAME, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    if (lib == NULL) {
        (void)snprintf(problem, sizeof(problem),
                       "lines cannot be edited: " SONAME " could not be loaded: install the "
                       "package " PACKAGE " (apt install " PACKAGE ")");
        return NULL;
    }
    loaded = find_all(lib);
    return loaded ? &api : NULL;
}

const char *readline_dl_error(void)
{
    return problem;
}
