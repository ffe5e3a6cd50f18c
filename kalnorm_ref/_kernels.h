/* The innermost loops, compiled once for each instruction set and chosen when the module is imported.

   _kernels_set.h holds the loops, in C with vector types, and is included below for each set and type of number. A sum
   has one order within a set, and another in another: the same bits on one machine need the same set. Multiplications
   and additions contract to fused ones here, and nowhere else. */

#ifndef KALNORM_KERNELS_H
#define KALNORM_KERNELS_H

#include <stddef.h>
#include <string.h>

/* ---- what the loops are told ---- */

/* A sweep of a kernel over one image: out[r, j, o] = bias[o] + sum_{a, l} in[r down + a row + j step + l] w[a, l, o].
   `run` consecutive numbers, the channels of kernel-width pixels, meet one row of the weight, `c_out` numbers. */
typedef struct {
    ptrdiff_t row, down, step;     /* numbers from a row of the kernel, an output row, an output pixel to the next */
    ptrdiff_t high, run, c_out;    /* rows of the kernel, numbers in each, output channels */
    ptrdiff_t out_down, out_step;  /* of the output: numbers from a row, from a pixel to the next */
    ptrdiff_t rows, columns;       /* of the output */
} Sweep;

/* A tile of samples: `samples` rows of `width` channels, `stride` numbers apart. */
typedef struct {
    ptrdiff_t samples, stride, width;
} Block;

/* What standardizing needs, a number a channel: y = (x - centre) scale + shift. NULL where there is no ReLU. */
typedef struct {
    const float *centre, *scale, *shift;
} Affine;

/* ---- the loops, for each instruction set ---- */

#define EACH_1(M) M(0)
#define EACH_2(M) EACH_1(M) M(1)
#define EACH_3(M) EACH_2(M) M(2)
#define EACH_4(M) EACH_3(M) M(3)
#define EACH_5(M) EACH_4(M) M(4)
#define EACH_6(M) EACH_5(M) M(5)
#define EACH_7(M) EACH_6(M) M(6)
#define EACH_8(M) EACH_7(M) M(7)
#define EACH_9(M) EACH_8(M) M(8)
#define EACH_10(M) EACH_9(M) M(9)
#define EACH_11(M) EACH_10(M) M(10)
#define EACH_12(M) EACH_11(M) M(11)
#define EACH_13(M) EACH_12(M) M(12)
#define EACH_14(M) EACH_13(M) M(13)
#define EACH_15(M) EACH_14(M) M(14)
#define EACH_16(M) EACH_15(M) M(15)

#define JOINED(name, set, type) name##_##set##_##type
#define NAMED(name, set, type) JOINED(name, set, type)
#define NAME(name) NAMED(name, SET, REAL)

#define SET portable
#define BYTES 16
#define REGISTERS 16
#include "_kernels_types.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define HAS_X86_SETS

#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")
#pragma GCC target("avx2,fma")
#define SET avx2
#define BYTES 32
#define REGISTERS 16
#include "_kernels_types.h"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma,prefer-vector-width=512")
#define SET avx512
#define BYTES 64
#define REGISTERS 32
#include "_kernels_types.h"
#pragma GCC pop_options
#endif

/* Ask for memory that is soon to be read, or written, so that it is in the cache by then. Any address will do. */
static inline void fetch(const void *from, ptrdiff_t bytes, int to_write)
{
#ifdef __GNUC__
    const char *p = (const char *)from;
    for (ptrdiff_t k = 0; k < bytes; k += 64)
        if (to_write) __builtin_prefetch(p + k, 1, 2);
        else __builtin_prefetch(p + k, 0, 2);
#endif
}

/* ---- the choice ---- */

typedef struct {
    const char *name;
    void (*sweep_float)(const Sweep *, const float *, const float *, const float *, const float *, float *);
    void (*sweep_double)(const Sweep *, const double *, const double *, const double *, const double *, double *);
    void (*gather_float)(const Sweep *, const float *, const float *, float *);
    void (*gather_double)(const Sweep *, const double *, const double *, double *);
    int (*moments)(const Block *, const float *, double *, double *, double *);
    int (*sums)(const Block *, const float *, const float *, const float *, const float *, const Affine *, double *,
                double *);
    void (*combine)(const Block *, const float *, const float *, const float *, const float *, const float *,
                    const float *, const Affine *, int, const float *, float *);
    int (*passes)(float, float, float, float);
    void (*stretch)(ptrdiff_t, ptrdiff_t, const float *, const Affine *, float *);
} Kernels;

#define KERNELS(set)                                                                                              \
    {#set, sweep_##set##_float, sweep_##set##_double, gather_##set##_float, gather_##set##_double,                \
     moments_##set##_float, sums_##set##_float, combine_##set##_float, passes_##set##_float, stretch_##set##_float}

static const Kernels instruction_sets[] = {
    KERNELS(portable),
#ifdef HAS_X86_SETS
    KERNELS(avx2),
    KERNELS(avx512),
#endif
};

static const Kernels *kernels = instruction_sets;

/* How many of the sets, counted from the first, this machine can run. */
static int usable_sets(void)
{
#ifdef HAS_X86_SETS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return 3;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 2;
#endif
    return 1;
}

static const char *set_name(int index) { return instruction_sets[index].name; }
static const char *chosen_set(void) { return kernels->name; }
static void choose_set(int index) { kernels = instruction_sets + index; }

#endif
