/* Convolution for one instruction set and type: blocks of pixels times one or two vectors of output channels, whose
   sums stay in registers while the kernel's rows pass by. Included by _kernels_types.h. */

typedef REAL NAME(Vector) __attribute__((vector_size(LANES * sizeof(REAL))));
typedef REAL NAME(Loose) __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#define VECTOR NAME(Vector)
#define LOAD(p) (*(const NAME(Loose) *)(p))
#define STORE(p, value) (*(NAME(Loose) *)(p) = (value))

/* The first `count` lanes of a vector, at the end of a row of channels. */
static inline void NAME(store_part)(REAL *out, VECTOR value, ptrdiff_t count)
{
    memcpy(out, &value, count * sizeof(REAL));
}

static inline VECTOR NAME(load_part)(const REAL *in, ptrdiff_t count)
{
    VECTOR value = {0};
    memcpy(&value, in, count * sizeof(REAL));
    return value;
}

static inline void NAME(add_part)(REAL *out, VECTOR value, ptrdiff_t count)
{
    for (ptrdiff_t k = 0; k < count; k++) out[k] += value[k];
}

/* ---- y and dx: P pixels side by side ---- */

#define PIXEL_ARGUMENTS                                                                                           \
    const Sweep *at, const REAL *in, const REAL *w, const REAL *bias, const REAL *plus, REAL *out, ptrdiff_t count
#define START(p) acc[p][0] = first, acc[p][1] = second;
#define POINT(p) if (p % 3 == 0) x[p / 3] = in + p * step; /* an address holds one, two or three steps */
#define MULTIPLY(p)                                                                                               \
    {                                                                                                             \
        const REAL s = x[p / 3][p % 3 * step];                                                                    \
        acc[p][0] += w0 * s;                                                                                      \
        if (two) acc[p][1] += w1 * s;                                                                             \
    }
#define ADVANCE(p) if (p % 3 == 0) x[p / 3]++;
#define PLUS(p)                                                                                                   \
    if (two) acc[p][0] += LOAD(plus + p * at->out_step);                                                          \
    if (whole) acc[p][two] += LOAD(plus + p * at->out_step + two * LANES);                                        \
    else acc[p][two] += NAME(load_part)(plus + p * at->out_step + two * LANES, count);
#define WRITE(p)                                                                                                  \
    if (two) STORE(out + p * at->out_step, acc[p][0]);                                                            \
    if (whole) STORE(out + p * at->out_step + two * LANES, acc[p][two]);                                          \
    else NAME(store_part)(out + p * at->out_step + two * LANES, acc[p][two], count);

/* `count` is the number of channels in the last vector. Reading a row of w may go past its end, into the slack. */
#define PIXELS(P, V)                                                                                              \
    static void NAME(pixels_##P##_##V)(PIXEL_ARGUMENTS)                                                           \
    {                                                                                                             \
        enum { two = V - 1 };                                                                                     \
        const ptrdiff_t step = at->step, run = at->run, c_out = at->c_out;                                        \
        const int whole = count == LANES;                                                                         \
        VECTOR acc[P][2], first = {0}, second = {0};                                                              \
        const REAL *x[(P + 2) / 3];                                                                               \
        if (bias) {                                                                                               \
            first = LOAD(bias);                                                                                   \
            if (two) second = LOAD(bias + LANES);                                                                 \
        }                                                                                                         \
        EACH_##P(START)                                                                                           \
        for (ptrdiff_t a = 0; a < at->high; a++, in += at->row) {                                                 \
            EACH_##P(POINT)                                                                                       \
            for (ptrdiff_t l = 0; l < run; l++, w += c_out) {                                                     \
                VECTOR w0 = LOAD(w), w1 = w0;                                                                     \
                if (two) w1 = LOAD(w + LANES);                                                                    \
                EACH_##P(MULTIPLY)                                                                                \
                EACH_##P(ADVANCE)                                                                                 \
            }                                                                                                     \
        }                                                                                                         \
        if (plus) { EACH_##P(PLUS) }                                                                              \
        EACH_##P(WRITE)                                                                                           \
    }

/* ---- dW: P numbers of a patch, the same for every pixel ---- */

#define WEIGHT_ARGUMENTS                                                                                          \
    const Sweep *at, const REAL *in, const REAL *dy, ptrdiff_t rows, REAL *dw, ptrdiff_t count
#define MULTIPLY_PATCH(p)                                                                                         \
    {                                                                                                             \
        const REAL s = x[p];                                                                                      \
        acc[p][0] += g0 * s;                                                                                      \
        if (two) acc[p][1] += g1 * s;                                                                             \
    }
#define ADD(p)                                                                                                    \
    if (two) STORE(dw + p * c_out, LOAD(dw + p * c_out) + acc[p][0]);                                             \
    if (whole) STORE(dw + p * c_out + two * LANES, LOAD(dw + p * c_out + two * LANES) + acc[p][two]);             \
    else NAME(add_part)(dw + p * c_out + two * LANES, acc[p][two], count);

#define WEIGHTS(P, V)                                                                                             \
    static void NAME(weights_##P##_##V)(WEIGHT_ARGUMENTS)                                                         \
    {                                                                                                             \
        enum { two = V - 1 };                                                                                     \
        const ptrdiff_t step = at->step, c_out = at->c_out, columns = at->columns;                                \
        const int whole = count == LANES;                                                                         \
        VECTOR acc[P][2], first = {0}, second = {0};                                                              \
        EACH_##P(START)                                                                                           \
        for (ptrdiff_t r = 0; r < rows; r++, in += at->down, dy += at->out_down) {                                \
            const REAL *x = in, *g = dy;                                                                          \
            for (ptrdiff_t j = 0; j < columns; j++, x += step, g += c_out) {                                      \
                VECTOR g0 = LOAD(g), g1 = g0;                                                                     \
                if (two) g1 = LOAD(g + LANES);                                                                    \
                EACH_##P(MULTIPLY_PATCH)                                                                          \
            }                                                                                                     \
        }                                                                                                         \
        EACH_##P(ADD)                                                                                             \
    }

/* ---- every size of block that the registers hold ---- */

#define SIZES(M, V) M(1, V) M(2, V) M(3, V) M(4, V) M(5, V) M(6, V)
#define MORE(M, V) M(7, V) M(8, V) M(9, V) M(10, V) M(11, V) M(12, V)
#define MOST(M, V) M(13, V) M(14, V) M(15, V) M(16, V)

SIZES(PIXELS, 1) MORE(PIXELS, 1) SIZES(PIXELS, 2)
SIZES(WEIGHTS, 1) MORE(WEIGHTS, 1) SIZES(WEIGHTS, 2)
#if REGISTERS == 32
MOST(PIXELS, 1) MORE(PIXELS, 2)
MOST(WEIGHTS, 1) MORE(WEIGHTS, 2)
#define ONE 16
#define TWO 12
#else
#define ONE 12
#define TWO 6
#endif

typedef void (*NAME(Pixels))(PIXEL_ARGUMENTS);
typedef void (*NAME(Weights))(WEIGHT_ARGUMENTS);
#define PIXEL_ENTRY(P, V) NAME(pixels_##P##_##V),
#define WEIGHT_ENTRY(P, V) NAME(weights_##P##_##V),
static const NAME(Pixels) NAME(pixels)[2][16] = {
    {SIZES(PIXEL_ENTRY, 1) MORE(PIXEL_ENTRY, 1)
#if REGISTERS == 32
     MOST(PIXEL_ENTRY, 1)
#endif
    },
    {SIZES(PIXEL_ENTRY, 2)
#if REGISTERS == 32
     MORE(PIXEL_ENTRY, 2)
#endif
    }};
static const NAME(Weights) NAME(weights)[2][16] = {
    {SIZES(WEIGHT_ENTRY, 1) MORE(WEIGHT_ENTRY, 1)
#if REGISTERS == 32
     MOST(WEIGHT_ENTRY, 1)
#endif
    },
    {SIZES(WEIGHT_ENTRY, 2)
#if REGISTERS == 32
     MORE(WEIGHT_ENTRY, 2)
#endif
    }};

/* Rows of one image. bias and plus, which is added and lies as out does, may be NULL; w and bias end with a vector of
   slack where c_out is no multiple of LANES. */
static void NAME(sweep)(const Sweep *at, const REAL *in, const REAL *w, const REAL *bias, const REAL *plus, REAL *out)
{
    for (ptrdiff_t o = 0; o < at->c_out; o += 2 * LANES) {
        const ptrdiff_t left = at->c_out - o;
        const int two = left > LANES;
        const ptrdiff_t count = left >= (two + 1) * LANES ? LANES : left - two * LANES;
        const ptrdiff_t most = two ? TWO : ONE, blocks = (at->columns + most - 1) / most;
        for (ptrdiff_t r = 0; r < at->rows; r++)
            for (ptrdiff_t b = 0; b < blocks; b++) {
                const ptrdiff_t j = at->columns * b / blocks, size = at->columns * (b + 1) / blocks - j;
                const ptrdiff_t place = r * at->out_down + j * at->out_step + o;
                NAME(pixels)[two][size - 1](at, in + r * at->down + j * at->step, w + o, bias ? bias + o : NULL,
                                            plus ? plus + place : NULL, out + place, count);
            }
    }
}

/* dw[a, l, o] += sum_{r, j} in[r down + a row + j step + l] dy[r out_down + j c_out + o], for rows of one image. */
static void NAME(gather)(const Sweep *at, const REAL *in, const REAL *dy, REAL *dw)
{
    for (ptrdiff_t o = 0; o < at->c_out; o += 2 * LANES) {
        const ptrdiff_t left = at->c_out - o;
        const int two = left > LANES;
        const ptrdiff_t count = left >= (two + 1) * LANES ? LANES : left - two * LANES;
        const ptrdiff_t most = two ? TWO : ONE, blocks = (at->run + most - 1) / most;
        for (ptrdiff_t a = 0; a < at->high; a++)
            for (ptrdiff_t b = 0; b < blocks; b++) {
                const ptrdiff_t l = at->run * b / blocks, size = at->run * (b + 1) / blocks - l;
                NAME(weights)[two][size - 1](at, in + a * at->row + l, dy + o, at->rows,
                                             dw + (a * at->run + l) * at->c_out + o, count);
            }
    }
}

#undef VECTOR
#undef LOAD
#undef STORE
#undef PIXEL_ARGUMENTS
#undef START
#undef POINT
#undef MULTIPLY
#undef ADVANCE
#undef PLUS
#undef WRITE
#undef PIXELS
#undef WEIGHT_ARGUMENTS
#undef MULTIPLY_PATCH
#undef ADD
#undef WEIGHTS
#undef SIZES
#undef MORE
#undef MOST
#undef ONE
#undef TWO
#undef PIXEL_ENTRY
#undef WEIGHT_ENTRY
