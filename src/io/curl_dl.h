/*
 * libcurl, loaded when the first request is made: linking it would cost 3 ms and 6 MB before
 * main(). Included by the http*.c files only. Any thread.
 */
#ifndef LASH_CURL_DL_H
#define LASH_CURL_DL_H

#include "base/base.h"

// its macros of the same names are function-like: the bare names below mean the prototypes
#include <curl/curl.h>

/* Variadic calls go through the table unchecked: numbers must be long or curl_off_t, as the option
 * says. */
struct curl_api {
    __typeof__(curl_global_init) *global_init;
    __typeof__(curl_version_info) *version_info;
    __typeof__(curl_easy_init) *easy_init;
    __typeof__(curl_easy_cleanup) *easy_cleanup;
    __typeof__(curl_easy_reset) *easy_reset;
    __typeof__(curl_easy_setopt) *easy_setopt;
    __typeof__(curl_easy_getinfo) *easy_getinfo;
    __typeof__(curl_easy_pause) *easy_pause;
    __typeof__(curl_easy_strerror) *easy_strerror;
    __typeof__(curl_multi_init) *multi_init;
    __typeof__(curl_multi_cleanup) *multi_cleanup;
    __typeof__(curl_multi_setopt) *multi_setopt;
    __typeof__(curl_multi_add_handle) *multi_add_handle;
    __typeof__(curl_multi_remove_handle) *multi_remove_handle;
    __typeof__(curl_multi_socket_action) *multi_socket_action;
    __typeof__(curl_multi_info_read) *multi_info_read;
    __typeof__(curl_multi_assign) *multi_assign;
    __typeof__(curl_multi_strerror) *multi_strerror;
    __typeof__(curl_url) *url;
    __typeof__(curl_url_set) *url_set;
    __typeof__(curl_url_cleanup) *url_cleanup;
};

/* Loads and initialises libcurl once in the process. NULL when that failed: curl_dl_error() says
 * why. */
const struct curl_api *curl_dl(void);

/* After curl_dl() gave NULL: a sentence with the remedy. */
const char *curl_dl_error(void);

#endif
