/* What this processor and its operating system allow. Compilers' own queries are not trusted: some answer 0 always. */
#include "packed.h"

#if QI_X86
#include <cpuid.h>

int qi_has_vbmi;

static int allows_states(unsigned mask)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & mask) == mask;
}

static int bits_set(unsigned word, unsigned mask) { return (word & mask) == mask; }

static void find(const qi_isa **list)
{
    const unsigned osxsave = 1u << 27, ymm = 0x06, zmm = 0xe6;
    const unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31 /* f, dq, bw, vl */, vnni = 1u << 11;
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d) && bits_set(c, osxsave) && __get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        if (bits_set(b, avx2 | avx512) && bits_set(c, vnni) && allows_states(zmm)) *list++ = &qi_avx512vnni;
        qi_has_vbmi = bits_set(c, 1u << 1);
        if (bits_set(b, avx2) && allows_states(ymm)) *list++ = &qi_avx2;
    }
    *list = &qi_portable;
}
#else
static void find(const qi_isa **list) { *list = &qi_portable; }
#endif

const qi_isa *const *qi_available_isas(void)
{
    static const qi_isa *list[4]; /* filled when the module is imported, before there are threads in it */
    if (!list[0]) find(list);
    return list;
}
