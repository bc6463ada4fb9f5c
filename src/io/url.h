/*
 * What lash itself must know of an http or https URL: is it one, where does it go, how is it shown.
 * Stricter than libcurl where readers of URLs disagree. No state; any thread.
 */
#ifndef LASH_URL_H
#define LASH_URL_H

#include "base/base.h"
#include "base/buf.h"

/* Pieces point into the text that was parsed. */
struct url {
    bool tls;         /* https */
    const char *host; /* with the brackets of an IPv6 address */
    size_t host_len;
    unsigned port; /* 80 or 443 when the text has none */
    bool port_given;
    const char *userinfo; /* NULL or the part before the @ */
    size_t userinfo_len;
    const char *path; /* up to the end of the text, perhaps empty: path, query, fragment */
};

/* Parses `text` (NUL terminated). Returns NULL, or what is wrong as the end of a sentence
 * ("has no host"); `url` is untouched then. */
const char *url_parse(const char *text, struct url *url);

/* Same scheme, host and port? */
bool url_same_origin(const struct url *a, const struct url *b);

/* Is the host a numeric address or localhost, which need no name server? */
bool url_is_local_name(const struct url *url);

/* Appends the URL as it may be shown: without user, password, query and fragment, which may hold
 * secrets, and cut after 200 bytes. Of text that is no URL at most 60 bytes are shown. */
void url_show(const char *text, struct buf *out);

#endif
