/* Answers the exported float32 cases of batch normalization, in plain C: what a program brings to `kalnorm-ref judge`.

       cc -std=c99 -O2 example_bn.c -o example_bn -lm  &&  ./example_bn DIR  &&  kalnorm-ref judge DIR

   -DREAL=float     sums and statistics in float; double otherwise
   -DPROJECTION=0   a mistake, to see what the judge says of it: dx without its projection term

   forward    mean, var (biased) of the samples of a channel;  x_hat = (x - mean) (var + eps)^(-1/2);  y = gamma x_hat + beta
              running <- decay running + (1 - decay) batch, biased;  decay "cumulative": the mean over all steps so far
   backward   dx = rstd (g - mean g - x_hat mean(g x_hat)), g = gamma dy;  dgamma = sum dy x_hat;  dbeta = sum dy
   inference  mean and var are the running ones, constant: dx = rstd g                                              */
#include "kalnorm_cases.h"

#ifndef REAL
#define REAL double
#endif
#ifndef PROJECTION
#define PROJECTION 1
#endif

typedef struct {
    size_t outer, channels, inner; /* x is (outer, channels, inner): NHWC has inner = 1, NCHW outer = N */
} shape;

static shape shape_of(const kalnorm_case *c) {
    const kalnorm_array *x = kalnorm_tensor(c, "x");
    int axis = (int)(strchr(c->layout, 'C') - c->layout);
    shape s = {1, x->dims[axis], 1};
    for (int i = 0; i < axis; i++) s.outer *= x->dims[i];
    for (int i = axis + 1; i < x->ndim; i++) s.inner *= x->dims[i];
    return s;
}

/* Index of sample k of a channel. */
static size_t at(shape s, size_t channel, size_t k) {
    return (k / s.inner * s.channels + channel) * s.inner + k % s.inner;
}

/* Mean and biased variance of a channel, in two passes. */
static void moments(const float *x, shape s, size_t channel, REAL *mean, REAL *var) {
    size_t m = s.outer * s.inner;
    REAL sum = 0, squares = 0;
    for (size_t k = 0; k < m; k++) sum += x[at(s, channel, k)];
    *mean = sum / (REAL)m;
    for (size_t k = 0; k < m; k++) {
        REAL centred = x[at(s, channel, k)] - *mean;
        squares += centred * centred;
    }
    *var = squares / (REAL)m;
}

/* One training step for the running values; `step` counts those before it. */
static void update(const kalnorm_case *c, const float *x, shape s, int step, float *running_mean, float *running_var) {
    int cumulative = !strcmp(kalnorm_text(c, "decay"), "cumulative");
    REAL decay = cumulative ? (REAL)step / (REAL)(step + 1) : (REAL)kalnorm_param(c, "decay", 0), mean, var;
    for (size_t i = 0; i < s.channels; i++) {
        moments(x, s, i, &mean, &var);
        running_mean[i] = (float)(decay * running_mean[i] + (1 - decay) * mean);
        running_var[i] = (float)(decay * running_var[i] + (1 - decay) * var);
    }
}

/* y, dx, dgamma, dbeta of one channel. */
static void channel(const float *x, const float *dy, shape s, size_t i, REAL mean, REAL rstd, REAL gamma, REAL beta,
                    int training, float *y, float *dx, float *dgamma, float *dbeta) {
    size_t m = s.outer * s.inner;
    REAL sum = 0, projection = 0;
    for (size_t k = 0; k < m; k++) {
        size_t j = at(s, i, k);
        REAL x_hat = (x[j] - mean) * rstd;
        y[j] = (float)(gamma * x_hat + beta);
        sum += dy[j];
        projection += dy[j] * x_hat;
    }
    dgamma[i] = (float)projection;
    dbeta[i] = (float)sum;
    for (size_t k = 0; k < m; k++) {
        size_t j = at(s, i, k);
        REAL x_hat = (x[j] - mean) * rstd, g = dy[j];
        if (training) g -= sum / (REAL)m + PROJECTION * x_hat * projection / (REAL)m;
        dx[j] = (float)(rstd * gamma * g);
    }
}

static int answer(kalnorm_case *c) {
    const kalnorm_array *x_array = kalnorm_tensor(c, "x"), *per_channel = kalnorm_tensor(c, "running_mean");
    shape s = shape_of(c);
    float *x = kalnorm_floats(c, "x"), *dy = kalnorm_floats(c, "dy");
    float *gamma = kalnorm_floats(c, "gamma"), *beta = kalnorm_floats(c, "beta");
    float *running_mean = kalnorm_floats(c, "running_mean"), *running_var = kalnorm_floats(c, "running_var");
    float *y = malloc((x_array->count + 1) * sizeof *y), *dx = malloc((x_array->count + 1) * sizeof *dx);
    float *dgamma = malloc(s.channels * sizeof *dgamma), *dbeta = malloc(s.channels * sizeof *dbeta);
    REAL eps = (REAL)kalnorm_param(c, "eps", 0), mean, var;
    int right;

    for (int step = 0; step < c->before; step++) {
        char name[KALNORM_NAME];
        snprintf(name, sizeof name, "before.%d", step);
        float *earlier = kalnorm_floats(c, name);
        update(c, earlier, s, step, running_mean, running_var);
        free(earlier);
    }
    for (size_t i = 0; i < s.channels; i++) {
        mean = running_mean[i], var = running_var[i];
        if (c->training) moments(x, s, i, &mean, &var);
        channel(x, dy, s, i, mean, 1 / (REAL)sqrt(var + eps), gamma ? gamma[i] : 1, beta ? beta[i] : 0, c->training, y, dx,
                dgamma, dbeta);
    }
    if (c->training) update(c, x, s, c->before, running_mean, running_var);

    right = kalnorm_write(c, "y", "float32", x_array, y) && kalnorm_write(c, "dx", "float32", x_array, dx) &&
            (!gamma || kalnorm_write(c, "dgamma", "float32", per_channel, dgamma)) &&
            (!beta || kalnorm_write(c, "dbeta", "float32", per_channel, dbeta)) &&
            kalnorm_write(c, "running_mean", "float32", per_channel, running_mean) &&
            kalnorm_write(c, "running_var", "float32", per_channel, running_var);
    free(x), free(dy), free(gamma), free(beta), free(running_mean), free(running_var);
    free(y), free(dx), free(dgamma), free(dbeta);
    return right;
}

int main(int argc, char **argv) {
    char path[KALNORM_PATH], line[KALNORM_LINE];
    int answered = 0, left = 0;
    FILE *list;
    if (argc != 2) return fprintf(stderr, "usage: example_bn DIR, the folder of an export\n"), 2;
    snprintf(path, sizeof path, "%s/cases.txt", argv[1]);
    list = fopen(path, "r");
    if (!list) return fprintf(stderr, "example_bn: %s cannot be read; expected the folder of an export\n", path), 2;
    while (fgets(line, sizeof line, list)) {
        kalnorm_case c;
        char folder[KALNORM_PATH + KALNORM_LINE];
        line[strcspn(line, "\r\n")] = 0;
        snprintf(folder, sizeof folder, "%s/%s", argv[1], line);
        int right = kalnorm_open(&c, folder);
        const kalnorm_array *x = right ? kalnorm_tensor(&c, "x") : NULL;
        int ours = right && !strcmp(c.op, "bn") && !strcmp(c.dtype, "float32") &&
                   kalnorm_param(&c, "statistics_batches", 1) == 1 && x->count > 0;
        if (ours) right = answer(&c);
        answered += ours, left += !ours;
        kalnorm_close(&c);
        if (!right) return fclose(list), 1;
    }
    fclose(list);
    printf("%d cases answered; %d left: not bn, not float32, empty, or of several statistics batches\n", answered, left);
    return 0;
}
