/*
 * Only in builds with the thread sanitizer. It follows setjmp and longjmp, but Debian's Lua raises
 * its errors by the checked longjmp of glibc, which it does not know: what it keeps of the stack
 * would grow with every error, until all memory is gone.
 */
#undef _FORTIFY_SOURCE /* it would make the call below one of the function itself */
#include "base/base.h"

#include <setjmp.h>

NORETURN __attribute__((visibility("default"))) void __longjmp_chk(struct __jmp_buf_tag *env,
                                                                   int value);

void __longjmp_chk(struct __jmp_buf_tag *env, int value)
{
    longjmp(env, value); // also of what _setjmp kept
}
