/* Normalization for one instruction set, float storage: sums over a tile of samples that stays in the cache, and the
   pass that writes y or dx. Included by _kernels_types.h, after _kernels_convolution.h, whose vector types it uses.

   Inside a tile numbers are float, about the tile's own mean; every result that leaves it is double. Samples of few
   channels lie side by side in a row, so that each of its columns is a lane and adds up few numbers. What float cannot
   hold (a sum that overflows, squares that underflow) a tile reports by returning 0, and the caller takes doubles. */

#define VECTOR NAME(Vector)
#define LOAD(p) (*(const NAME(Loose) *)(p))
#define STORE(p, value) (*(NAME(Loose) *)(p) = (value))
#ifndef KALNORM_WIDEST
#define KALNORM_WIDEST 256 /* columns of a row, at most, unless the tile has more channels than that */
#endif

/* A tile as rows of samples side by side. */
typedef struct {
    ptrdiff_t rows, width, down, beside; /* whole rows, numbers in each, numbers to the next, samples in each */
    ptrdiff_t rest;                      /* numbers of the incomplete row at the end */
} NAME(Rows);

static inline NAME(Rows) NAME(side_by_side)(const Block *at)
{
    NAME(Rows) t = {at->samples, at->width, at->stride, 1, 0};
    if (at->width == at->stride && at->width > 0) {
        while ((t.width % LANES || t.width < 4 * LANES) && 2 * t.width <= KALNORM_WIDEST && 2 * t.beside <= at->samples)
            t.width *= 2, t.beside *= 2;
        t.rows = at->samples / t.beside;
        t.rest = at->samples % t.beside * at->width;
        t.down = t.width;
    }
    return t;
}

static inline void NAME(repeat)(const float *channel, const NAME(Rows) *t, ptrdiff_t channels, float *row)
{
    for (ptrdiff_t j = 0; j < t->width; j++) row[j] = j < channels ? channel[j] : row[j - channels];
}

/* Add up the columns of each channel. */
static inline void NAME(fold)(const float *row, const NAME(Rows) *t, ptrdiff_t channels, double *sum)
{
    for (ptrdiff_t c = 0; c < channels; c++) {
        double total = 0;
        for (ptrdiff_t j = c; j < t->width; j += channels) total += row[j];
        sum[c] = total;
    }
}

/* Sums of columns j to j + V vectors (V is 4, 1) over the whole rows. Most rows are four vectors wide: by fours, and in
   the loops below too, memory is read from end to end. */
#define COLUMN_SUMS(V)                                                                                            \
    for (; j + V * LANES <= t.width; j += V * LANES) {                                                            \
        VECTOR acc[V];                                                                                            \
        for (int v = 0; v < V; v++) acc[v] = (VECTOR){0};                                                         \
        for (ptrdiff_t i = 0; i < t.rows; i++)                                                                    \
            for (int v = 0; v < V; v++) acc[v] += LOAD(x + i * t.down + j + v * LANES);                           \
        for (int v = 0; v < V; v++) STORE(row + j + v * LANES, acc[v]);                                           \
    }

/* A lane adds up SHORT squares at most before it joins the others': next to a large one, small ones round off. */
#define SHORT 16
#define COLUMN_SQUARES(V)                                                                                         \
    for (; j + V * LANES <= t.width; j += V * LANES) {                                                            \
        VECTOR d, mean[V], first[V], second[V];                                                                   \
        for (int v = 0; v < V; v++) mean[v] = LOAD(centres + j + v * LANES);                                      \
        for (ptrdiff_t begin = 0; begin < t.rows; begin += SHORT) {                                               \
            const ptrdiff_t end = t.rows - begin < SHORT ? t.rows : begin + SHORT;                                \
            for (int v = 0; v < V; v++) first[v] = second[v] = (VECTOR){0};                                       \
            for (ptrdiff_t i = begin; i < end; i++)                                                               \
                for (int v = 0; v < V; v++) {                                                                     \
                    d = LOAD(x + i * t.down + j + v * LANES) - mean[v];                                           \
                    first[v] += d;                                                                                \
                    second[v] += d * d;                                                                           \
                }                                                                                                 \
            for (int v = 0; v < V; v++) {                                                                         \
                STORE(row + j + v * LANES, LOAD(row + j + v * LANES) + first[v]);                                 \
                STORE(squares + j + v * LANES, LOAD(squares + j + v * LANES) + second[v]);                        \
            }                                                                                                     \
        }                                                                                                         \
    }

/* Per channel: centre, a mean rounded to float, sum d and sum d^2 with d = x - centre. 0 if float cannot tell. */
static int NAME(moments)(const Block *at, const float *x, double *centre, double *rest, double *square)
{
    const NAME(Rows) t = NAME(side_by_side)(at);
    const ptrdiff_t channels = at->width, samples = at->samples;
    float row[KALNORM_WIDEST], squares[KALNORM_WIDEST], centres[KALNORM_WIDEST], means[KALNORM_WIDEST];
    const float *last = x + t.rows * t.down;
    ptrdiff_t j = 0;
    int held = 1;
    COLUMN_SUMS(4)
    COLUMN_SUMS(1)
    for (; j < t.width; j++) {
        row[j] = 0;
        for (ptrdiff_t i = 0; i < t.rows; i++) row[j] += x[i * t.down + j];
    }
    for (j = 0; j < t.rest; j++) row[j] += last[j];
    NAME(fold)(row, &t, channels, centre);
    for (ptrdiff_t c = 0; c < channels; c++) centre[c] = means[c] = (float)(centre[c] / samples);
    NAME(repeat)(means, &t, channels, centres);
    for (j = 0; j < t.width; j++) row[j] = squares[j] = 0;
    j = 0;
    COLUMN_SQUARES(4)
    COLUMN_SQUARES(1)
    for (; j < t.width; j++)
        for (ptrdiff_t begin = 0; begin < t.rows; begin += SHORT) {
            float first = 0, second = 0;
            for (ptrdiff_t i = begin; i < t.rows && i < begin + SHORT; i++) {
                const float d = x[i * t.down + j] - centres[j];
                first += d;
                second += d * d;
            }
            row[j] += first;
            squares[j] += second;
        }
    for (j = 0; j < t.rest; j++) {
        const float d = last[j] - centres[j];
        row[j] += d;
        squares[j] += d * d;
    }
    NAME(fold)(row, &t, channels, rest);
    NAME(fold)(squares, &t, channels, square);
    for (ptrdiff_t c = 0; c < channels; c++) held &= 1e-28 <= square[c] && square[c] <= 1e37;
    return held;
}

/* What a ReLU behind the normalizer lets pass of dy: all but where y <= 0, so that NaN passes. */
#define PASSED(dy, y) ((VECTOR)((NAME(Bits))(dy) & ~(NAME(Bits))((y) <= (VECTOR){0})))
typedef int NAME(Bits) __attribute__((vector_size(LANES * sizeof(int))));

#define COLUMN_PRODUCTS(V, RELU)                                                                                  \
    for (; j + V * LANES <= t.width; j += V * LANES) {                                                            \
        VECTOR g, z, mean[V], r[V], scale[V], shift[V], middle[V], first[V], second[V];                           \
        for (int v = 0; v < V; v++) {                                                                             \
            mean[v] = LOAD(rows[0] + j + v * LANES), r[v] = LOAD(rows[1] + j + v * LANES);                        \
            if (RELU) middle[v] = LOAD(rows[2] + j + v * LANES), scale[v] = LOAD(rows[3] + j + v * LANES);        \
            if (RELU) shift[v] = LOAD(rows[4] + j + v * LANES);                                                   \
            first[v] = second[v] = (VECTOR){0};                                                                   \
        }                                                                                                         \
        for (ptrdiff_t i = 0; i < t.rows; i++)                                                                    \
            for (int v = 0; v < V; v++) {                                                                         \
                z = LOAD(x + i * t.down + j + v * LANES);                                                         \
                g = LOAD(dy + i * t.down + j + v * LANES);                                                        \
                if (RELU) g = PASSED(g, (z - middle[v]) * scale[v] + shift[v]);                                   \
                first[v] += g;                                                                                    \
                second[v] += g * ((z - mean[v]) * r[v]);                                                          \
            }                                                                                                     \
        for (int v = 0; v < V; v++) STORE(ones + j + v * LANES, first[v]), STORE(twos + j + v * LANES, second[v]); \
    }

static inline float NAME(product)(const float *rows[5], int relu, ptrdiff_t j, float dy, float x, float *passed)
{
    *passed = relu && (x - rows[2][j]) * rows[3][j] + rows[4][j] <= 0 ? 0 : dy;
    return *passed * ((x - rows[0][j]) * rows[1][j]);
}

/* Per channel: sum dy and sum dy x_hat, x_hat = (x - mean) rstd; dy only where relu, a standardization, is above 0. */
static int NAME(sums)(const Block *at, const float *dy, const float *x, const float *mean, const float *rstd,
                      const Affine *relu, double *sum_dy, double *sum_dy_x_hat)
{
    const NAME(Rows) t = NAME(side_by_side)(at);
    const ptrdiff_t channels = at->width;
    float room[5][KALNORM_WIDEST], ones[KALNORM_WIDEST], twos[KALNORM_WIDEST], g;
    const float *rows[5], *given[5] = {mean, rstd};
    const float *last_x = x + t.rows * t.down, *last_dy = dy + t.rows * t.down;
    ptrdiff_t j = 0;
    int held = 1;
    if (relu) given[2] = relu->centre, given[3] = relu->scale, given[4] = relu->shift;
    for (int k = 0; k < (relu ? 5 : 2); k++) {
        rows[k] = t.beside == 1 ? given[k] : room[k];
        if (t.beside > 1) NAME(repeat)(given[k], &t, channels, room[k]);
    }
    if (relu) { /* seven vectors for each of V, in as many registers as there are */
        COLUMN_PRODUCTS(REGISTERS / 8, 1)
        COLUMN_PRODUCTS(1, 1)
    } else {
        COLUMN_PRODUCTS(4, 0)
        COLUMN_PRODUCTS(1, 0)
    }
    for (; j < t.width; j++) {
        ones[j] = twos[j] = 0;
        for (ptrdiff_t i = 0; i < t.rows; i++) {
            twos[j] += NAME(product)(rows, relu != NULL, j, dy[i * t.down + j], x[i * t.down + j], &g);
            ones[j] += g;
        }
    }
    for (j = 0; j < t.rest; j++) {
        twos[j] += NAME(product)(rows, relu != NULL, j, last_dy[j], last_x[j], &g);
        ones[j] += g;
    }
    NAME(fold)(ones, &t, channels, sum_dy);
    NAME(fold)(twos, &t, channels, sum_dy_x_hat);
    for (ptrdiff_t c = 0; c < channels; c++)
        held &= -1e37 <= sum_dy[c] && sum_dy[c] <= 1e37 && -1e37 <= sum_dy_x_hat[c] && sum_dy_x_hat[c] <= 1e37;
    return held;
}

/* out = weight dy + scale (x - centre) + shift + plus. Without dy its term and `plus` drop out, and RELU is max(out, 0);
   with dy, RELU lets it pass only where the standardization `relu` is above 0. */
#define COMBINE_ROWS(DY, RELU, PLUS, V)                                                                                 \
    for (; j + V * LANES <= t.width; j += V * LANES) {                                                            \
        VECTOR z, g, value, c[V], s[V], h[V], w[V], middle[V], scale[V], shift[V];                                \
        for (int v = 0; v < V; v++) {                                                                             \
            c[v] = LOAD(rows[0] + j + v * LANES), s[v] = LOAD(rows[1] + j + v * LANES);                           \
            h[v] = LOAD(rows[2] + j + v * LANES);                                                                 \
            if (DY) w[v] = LOAD(rows[3] + j + v * LANES);                                                         \
            if (DY && RELU) middle[v] = LOAD(rows[4] + j + v * LANES), scale[v] = LOAD(rows[5] + j + v * LANES);  \
            if (DY && RELU) shift[v] = LOAD(rows[6] + j + v * LANES);                                             \
        }                                                                                                         \
        for (ptrdiff_t i = 0; i < t.rows; i++)                                                                    \
            for (int v = 0; v < V; v++) {                                                                         \
                const ptrdiff_t k = i * t.down + j + v * LANES;                                                   \
                z = LOAD(x + k);                                                                                  \
                value = (z - c[v]) * s[v] + h[v];                                                                 \
                if (DY) {                                                                                         \
                    g = LOAD(dy + k);                                                                             \
                    if (RELU) g = PASSED(g, (z - middle[v]) * scale[v] + shift[v]);                               \
                    value += w[v] * g;                                                                            \
                    if (PLUS) value += LOAD(plus + k);                                                            \
                } else if (RELU)                                                                                  \
                    value = PASSED(value, value);                                                                 \
                STORE(out + k, value);                                                                            \
            }                                                                                                     \
    }

static inline float NAME(combined)(const float *rows[7], const float *dy, int relu, ptrdiff_t j, ptrdiff_t k, float x)
{
    float value = (x - rows[0][j]) * rows[1][j] + rows[2][j];
    if (!dy) return relu && value <= 0 ? 0 : value;
    if (!relu || !((x - rows[4][j]) * rows[5][j] + rows[6][j] <= 0)) value += rows[3][j] * dy[k];
    return value;
}

static void NAME(combine)(const Block *at, const float *dy, const float *x, const float *weight, const float *centre,
                          const float *scale, const float *shift, const Affine *relu, int rectify,
                          const float *plus, float *out)
{
    const NAME(Rows) t = NAME(side_by_side)(at);
    float room[7][KALNORM_WIDEST];
    const float *rows[7], *given[7] = {centre, scale, shift, weight};
    const ptrdiff_t last = t.rows * t.down;
    const int masked = dy ? relu != NULL : rectify, needed = !dy ? 3 : relu ? 7 : 4;
    ptrdiff_t j = 0;
    if (relu) given[4] = relu->centre, given[5] = relu->scale, given[6] = relu->shift;
    for (int k = 0; k < needed; k++) {
        rows[k] = t.beside == 1 ? given[k] : room[k];
        if (t.beside > 1) NAME(repeat)(given[k], &t, at->width, room[k]);
    }
    if (!dy && !masked) {
        COMBINE_ROWS(0, 0, 0, 4)
        COMBINE_ROWS(0, 0, 0, 1)
    } else if (!dy) {
        COMBINE_ROWS(0, 1, 0, 4)
        COMBINE_ROWS(0, 1, 0, 1)
    } else if (!masked && !plus) {
        COMBINE_ROWS(1, 0, 0, 4)
        COMBINE_ROWS(1, 0, 0, 1)
    } else if (!masked) {
        COMBINE_ROWS(1, 0, 1, 4)
        COMBINE_ROWS(1, 0, 1, 1)
    } else if (!plus) {
        COMBINE_ROWS(1, 1, 0, 4)
        COMBINE_ROWS(1, 1, 0, 1)
    } else {
        COMBINE_ROWS(1, 1, 1, 4)
        COMBINE_ROWS(1, 1, 1, 1)
    }
    for (; j < t.width; j++)
        for (ptrdiff_t i = 0; i < t.rows; i++) {
            const ptrdiff_t k = i * t.down + j;
            out[k] = NAME(combined)(rows, dy, masked, j, k, x[k]) + (plus ? plus[k] : 0);
        }
    for (j = 0; j < t.rest; j++) {
        const ptrdiff_t k = last + j;
        out[k] = NAME(combined)(rows, dy, masked, j, k, x[k]) + (plus ? plus[k] : 0);
    }
}

/* Whether y = (x - centre) scale + shift, with the rounding that combine has, lets a gradient pass. */
static int NAME(passes)(float x, float centre, float scale, float shift)
{
    return !((x - centre) * scale + shift <= 0);
}

/* out = max((x - centre) scale + shift, 0) for n numbers, as combine has it; `period` numbers of each term, repeated. */
static void NAME(stretch)(ptrdiff_t n, ptrdiff_t period, const float *x, const Affine *terms, float *out)
{
    for (ptrdiff_t k = 0; k < n; k += period) {
        const ptrdiff_t size = n - k < period ? n - k : period;
        ptrdiff_t j = 0;
        for (; j + LANES <= size; j += LANES) {
            const VECTOR d = LOAD(x + k + j) - LOAD(terms->centre + j);
            const VECTOR value = d * LOAD(terms->scale + j) + LOAD(terms->shift + j);
            STORE(out + k + j, PASSED(value, value));
        }
        for (; j < size; j++) {
            const float value = (x[k + j] - terms->centre[j]) * terms->scale[j] + terms->shift[j];
            out[k + j] = value <= 0 ? 0 : value;
        }
    }
}

#undef VECTOR
#undef LOAD
#undef STORE
#undef COLUMN_SUMS
#undef COLUMN_SQUARES
#undef SHORT
#undef PASSED
#undef COLUMN_PRODUCTS
#undef COMBINE_ROWS
