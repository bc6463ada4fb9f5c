/*
 * Searching a tree for the paths that match a pattern. In threads of the pool, in turns.
 *
 * The tree is walked once, whatever the pattern: each directory carries the set of the parts of the
 * pattern that its names may match, bit i for part i; bit `nparts` says that all parts are matched.
 * So "**" costs no more than reading each directory once. Where only fixed names can follow, the
 * directory is not read at all.
 */
#include "base/base.h"

#include "io/fs_int.h"
#include "io/fs_pattern.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PARTS_MAX 60

struct part {
    char *text; /* owned; without escapes when `fixed` */
    bool fixed;
    bool deep; /* "**": any number of directories */
};

struct place {
    char *path; /* owned: "", or ends in a slash */
    uint64_t set;
};

struct glob {
    struct part parts[PARTS_MAX];
    size_t nparts;
    bool directories; /* the pattern ends in a slash: no files */
    struct place *todo;
    size_t ntodo;
    size_t cap;
    struct place now; /* what is being read, with `dir` */
    DIR *dir;
    struct buf path; /* of the name that is looked at */
};

static void glob_free(void *state)
{
    struct glob *g = state;
    for (size_t i = 0; i < g->nparts; i++) {
        free(g->parts[i].text);
    }
    for (size_t i = 0; i < g->ntodo; i++) {
        free(g->todo[i].path);
    }
    if (g->dir != NULL) {
        (void)closedir(g->dir);
    }
    free(g->now.path);
    free(g->todo);
    buf_release(&g->path);
    free(g);
}

static uint64_t bit(size_t i)
{
    return (uint64_t)1 << i;
}

/* With what "**" lets follow. */
static uint64_t closure(const struct glob *g, uint64_t set)
{
    for (size_t i = 0; i < g->nparts; i++) {
        if (g->parts[i].deep && (set & bit(i)) != 0) {
            set |= bit(i + 1);
        }
    }
    return set;
}

static void push(struct glob *g, const char *path, size_t len, uint64_t set)
{
    if (g->ntodo == g->cap) {
        g->cap = g->cap > 0 ? 2 * g->cap : 16;
        g->todo = xrealloc(g->todo, g->cap * sizeof *g->todo);
    }
    char *copy = xmalloc(len + 1);
    memcpy(copy, path, len);
    copy[len] = '\0';
    g->todo[g->ntodo++] = (struct place){copy, set};
}

/* -- the pattern ------------------------------------------------------------------------------- */

static int add_part(struct glob *g, const char *text)
{
    bool deep = strcmp(text, "**") == 0;
    if (deep && g->nparts > 0 && g->parts[g->nparts - 1].deep) {
        return 0;
    }
    if (g->nparts == PARTS_MAX) {
        return EINVAL;
    }
    struct part *part = &g->parts[g->nparts++];
    part->deep = deep;
    part->fixed = !fs_pattern_is_wild(text);
    if (part->fixed) {
        struct buf name = {0};
        fs_pattern_unescape(text, &name);
        part->text = name.data;
    } else {
        part->text = xstrdup(text);
    }
    return 0;
}

/* Splits the pattern. Fixed parts at its beginning are only a path: they go to `base`. */
static int parse(struct glob *g, const char *pattern, struct buf *base)
{
    struct buf text = {0};
    int err = 0;
    const char *p = pattern + strspn(pattern, "/");
    buf_append_str(base, p > pattern ? "/" : "");
    while (*p != '\0' && err == 0) {
        size_t len = strcspn(p, "/");
        buf_clear(&text);
        buf_append(&text, p, len);
        p += len;
        g->directories = *p == '/';
        p += strspn(p, "/");
        if (g->nparts == 0 && *p != '\0' && !fs_pattern_is_wild(text.data)) {
            fs_pattern_unescape(text.data, base);
            buf_append_char(base, '/');
        } else {
            err = add_part(g, text.data);
        }
    }
    if (err == 0 && g->nparts > 0 && g->parts[g->nparts - 1].deep) {
        err = add_part(g, "*"); // all that is below
    }
    buf_release(&text);
    return err;
}

/* -- the tree ---------------------------------------------------------------------------------- */

/* Errors of a directory that is passed over, as if nothing in it matched. */
static bool passed_over(int err)
{
    return err == EACCES || err == EPERM || err == ENOENT || err == ENOTDIR || err == ELOOP;
}

static bool part_matches(const struct part *part, const char *name)
{
    if (part->fixed) {
        return strcmp(part->text, name) == 0;
    }
    const char *first = part->text[0] == '\\' ? part->text + 1 : part->text;
    return (name[0] != '.' || first[0] == '.') && fs_pattern_matches(part->text, name);
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int emit(struct fs_request *req, struct glob *g, char type)
{
    struct fs_result *res = &req->result;
    if (g->directories && type != 'd' && !(type == 'l' && is_directory(g->path.data))) {
        return 0;
    }
    if (res->count == req->max) {
        return E2BIG;
    }
    res->count++;
    buf_append(&res->data, g->path.data, g->path.len);
    buf_append(&res->data, g->directories ? "/" : "", g->directories ? 2 : 1);
    return 0;
}

/* One name in the directory `now`. Returns 0 or errno. */
static int consider(struct fs_request *req, struct glob *g, const char *name, char type)
{
    uint64_t stay = 0;
    uint64_t onward = 0;
    for (size_t i = 0; i < g->nparts; i++) {
        if ((g->now.set & bit(i)) == 0) {
            continue;
        }
        if (g->parts[i].deep) {
            stay |= name[0] != '.' ? bit(i) : 0;
        } else if (part_matches(&g->parts[i], name)) {
            onward |= bit(i + 1);
        }
    }
    stay = closure(g, stay);
    onward = closure(g, onward);
    if ((stay | onward) == 0) {
        return 0;
    }
    buf_clear(&g->path);
    buf_appendf(&g->path, "%s%s", g->now.path, name);
    struct stat st;
    if (type == '?' && lstat(g->path.data, &st) == 0) {
        type = fs_type(st.st_mode);
    }
    int err = (onward & bit(g->nparts)) != 0 ? emit(req, g, type) : 0;
    // "**" follows no links: they may lead in a circle
    uint64_t below = (type == 'd' ? stay | onward : type == 'l' ? onward : 0) & ~bit(g->nparts);
    if (below != 0) {
        buf_append_char(&g->path, '/');
        push(g, g->path.data, g->path.len, below);
    }
    return err;
}

/* Whether the part is a fixed name that is looked for in this directory. */
static bool is_due(const struct glob *g, size_t i)
{
    return (g->now.set & bit(i)) != 0 && g->parts[i].fixed;
}

static bool was_due_before(const struct glob *g, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (is_due(g, j) && strcmp(g->parts[j].text, g->parts[i].text) == 0) {
            return true;
        }
    }
    return false;
}

/* Names that are known need no reading. `dots` = only "." and "..", which are not read. */
static int look_up(struct fs_request *req, struct glob *g, bool dots)
{
    int err = 0;
    for (size_t i = 0; i < g->nparts && err == 0; i++) {
        const char *name = g->parts[i].text;
        bool dot = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
        if (!is_due(g, i) || (dots && !dot) || was_due_before(g, i)) {
            continue;
        }
        struct stat st;
        buf_clear(&g->path);
        buf_appendf(&g->path, "%s%s", g->now.path, name);
        if (lstat(g->path.data, &st) == 0) {
            err = consider(req, g, name, fs_type(st.st_mode));
        } else if (!passed_over(errno)) {
            err = errno;
        }
    }
    return err;
}

/* Takes the next directory. */
static int visit(struct fs_request *req, struct glob *g)
{
    free(g->now.path);
    g->now = g->todo[--g->ntodo];
    bool reads = false;
    for (size_t i = 0; i < g->nparts; i++) {
        reads = reads || ((g->now.set & bit(i)) != 0 && !g->parts[i].fixed);
    }
    if (reads) {
        g->dir = opendir(g->now.path[0] != '\0' ? g->now.path : ".");
        if (g->dir == NULL) {
            return passed_over(errno) ? 0 : errno;
        }
    }
    return look_up(req, g, reads);
}

static int read_one(struct fs_request *req, struct glob *g)
{
    errno = 0;
    struct dirent *entry = readdir(g->dir);
    if (entry == NULL) {
        int err = passed_over(errno) ? 0 : errno;
        (void)closedir(g->dir);
        g->dir = NULL;
        return err;
    }
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
        return 0;
    }
    char type = entry->d_type != DT_UNKNOWN ? fs_type(DTTOIF(entry->d_type)) : '?';
    return consider(req, g, entry->d_name, type);
}

static int begin(struct fs_request *req, struct glob *g)
{
    struct buf base = {0};
    int err = parse(g, req->path, &base);
    if (err == 0 && g->nparts > 0) {
        push(g, base.data != NULL ? base.data : "", base.len, closure(g, 1));
    } else if (err == 0 && base.len > 0) { // "/"
        req->result.count = 1;
        buf_append(&req->result.data, base.data, base.len + 1);
    }
    buf_release(&base);
    return err;
}

static void name_fault(struct fs_request *req, const struct glob *g)
{
    if (req->err != E2BIG && req->err != EINVAL && g->now.path != NULL) {
        buf_append_str(&req->fault, g->now.path[0] != '\0' ? g->now.path : ".");
    }
}

void fs_job_glob(struct fs_request *req)
{
    uint64_t began = uv_hrtime();
    struct glob *g = req->state;
    if (g == NULL) {
        g = req->state = xcalloc(1, sizeof *g);
        req->free_state = glob_free;
        req->err = begin(req, g);
    }
    while (req->err == 0 && (g->dir != NULL || g->ntodo > 0) && !fs_abandoned(req)) {
        if (fs_turn_is_over(began)) {
            req->again = true;
            return;
        }
        req->err = g->dir != NULL ? read_one(req, g) : visit(req, g);
    }
    if (req->err != 0) {
        name_fault(req, g);
    } else if (!fs_abandoned(req)) {
        fs_sort(&req->result.data, req->result.count, 0);
    }
}
