#include "base/base.h"

#include "io/curl_dl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <uv.h>

#define SONAME "libcurl.so.4"
#define OLDEST \
    0x075700u /* 7.87.0: CURLOPT_QUICK_EXIT, without which a cancel waits for getaddrinfo */

// written once under uv_once, read-only afterwards
static uv_once_t once = UV_ONCE_INIT;
static struct curl_api api;
static bool loaded;
static char problem[256];

/* POSIX promises that the object pointer holds the function; ISO C has no cast for it. */
static bool find(void *lib, const char *name, void *slot)
{
    void **function = slot;
    *function = dlsym(lib, name);
    if (*function == NULL) {
        (void)snprintf(problem, sizeof problem, SONAME " lacks %s: install Debian's libcurl4",
                       name);
    }
    return *function != NULL;
}

static bool find_all(void *lib)
{
#define FIND(name) find(lib, "curl_" #name, &api.name)
    return FIND(global_init) && FIND(version_info) && FIND(easy_init) && FIND(easy_cleanup) &&
           FIND(easy_reset) && FIND(easy_setopt) && FIND(easy_getinfo) && FIND(easy_pause) &&
           FIND(easy_strerror) && FIND(multi_init) && FIND(multi_cleanup) && FIND(multi_setopt) &&
           FIND(multi_add_handle) && FIND(multi_remove_handle) && FIND(multi_socket_action) &&
           FIND(multi_info_read) && FIND(multi_assign) && FIND(multi_strerror) && FIND(url) &&
           FIND(url_set) && FIND(url_cleanup);
#undef FIND
}

static void load(void)
{
    // Never unloaded: OpenSSL leaves exit handlers behind. Lazily: to look up all that its thirty
    // libraries ask of each other was a tenth of what a process with one request executes.
    void *lib = dlopen(SONAME, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    if (lib == NULL) {
        (void)snprintf(problem, sizeof problem,
                       "HTTP needs " SONAME ", which could not be loaded: install the package "
                       "libcurl4 (apt install libcurl4)");
        return;
    }
    if (!find_all(lib)) {
        return;
    }
    CURLcode rc = api.global_init(CURL_GLOBAL_ALL);
    if (rc != CURLE_OK) {
        (void)snprintf(problem, sizeof problem, SONAME " does not start: %s",
                       api.easy_strerror(rc));
        return;
    }
    const curl_version_info_data *info = api.version_info(CURLVERSION_NOW);
    if (info->version_num < OLDEST) {
        (void)snprintf(problem, sizeof problem,
                       "libcurl %s is too old: install libcurl4 7.87 or newer", info->version);
        return;
    }
    loaded = true;
}

const struct curl_api *curl_dl(void)
{
    uv_once(&once, load);
    return loaded ? &api : NULL;
}

const char *curl_dl_error(void)
{
    return problem;
}
