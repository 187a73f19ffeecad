/* The greatest number of 8-bit multiply-adds a second that one core gives, by instruction set: registers only.

   Each function does `rounds` rounds and returns the multiply-adds of one. */
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>

/* Twelve independent sums, so that latency does not count; the compiler may not look into them. */
#define TWELVE(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11)
#define HOLD(i) __asm__ volatile("" : "+v"(sum[i]));

__attribute__((target("avx512f,avx512vnni"))) int64_t avx512vnni(int64_t rounds)
{
    __m512i sum[12] = {0}, a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    for (int64_t r = 0; r < rounds; r++) {
#define STEP(i) sum[i] = _mm512_dpbusd_epi32(sum[i], a, b);
        TWELVE(STEP)
        TWELVE(HOLD)
#undef STEP
    }
    return 12 * 64;
}

__attribute__((target("avx2"))) int64_t avx2(int64_t rounds)
{
    __m256i sum[12] = {0}, a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(5);
    for (int64_t r = 0; r < rounds; r++) {
/* `a` may have changed, so that its products are made anew */
#define STEP(i) __asm__ volatile("" : "+x"(a)); sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(a, b));
        TWELVE(STEP)
#undef STEP
#undef HOLD
#define HOLD(i) __asm__ volatile("" : "+x"(sum[i]));
        TWELVE(HOLD)
    }
    return 12 * 16;
}
#endif
