/* What the CPU kernels call of the C library, for an emulated processor without an operating system
 * (tests/python/emulated_arm.py). Compiled with -fno-builtin, lest a loop become a call of itself. */
#include <fenv.h>
#include <stdlib.h>
#include <string.h>

void *memcpy(void *restrict to, const void *restrict from, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    }
    return to;
}

void *memset(void *array, int value, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        ((unsigned char *)array)[i] = (unsigned char)value;
    }
    return array;
}

int strcmp(const char *a, const char *b) {
    while (*a != '\0' && *a == *b) {
        ++a;
        ++b;
    }
    return *a - *b;
}

char *getenv(const char *name) {
    (void)name;
    return NULL;
}

int fegetenv(fenv_t *environment) {
    unsigned long control;
    unsigned long status;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(control), "=r"(status));
    environment->__fpcr = (unsigned)control;
    environment->__fpsr = (unsigned)status;
    return 0;
}

int fesetenv(const fenv_t *environment) {
    const unsigned long control = environment == FE_DFL_ENV ? 0 : environment->__fpcr;
    const unsigned long status = environment == FE_DFL_ENV ? 0 : environment->__fpsr;
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(control), "r"(status));
    return 0;
}
