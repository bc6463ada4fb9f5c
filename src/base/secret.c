#include "base/base.h"

#include "base/secret.h"

#include <string.h>

bool secret_is_key(const char *entry)
{
    static const char *const names[] = {"ANTHROPIC_AUTH_TOKEN", "OPENAI_ADMIN_KEY"};
    static const char ending[] = "_API_KEY";
    size_t len = strcspn(entry, "=");
    size_t ending_len = sizeof(ending) - 1;
    if (len >= ending_len && memcmp(entry + len - ending_len, ending, ending_len) == 0) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == len && memcmp(entry, names[i], len) == 0) {
            return true;
        }
    }
    return false;
}
