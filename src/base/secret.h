/*
 * Which variables of the environment hold keys of providers: programs that tools start do not get
 * them, unless on purpose. Any thread.
 */
#ifndef LASH_SECRET_H
#define LASH_SECRET_H

#include "base/base.h"

/* Judges the name in "NAME" or "NAME=value": those of known keys, and all that end in _API_KEY. */
bool secret_is_key(const char *entry);

#endif
