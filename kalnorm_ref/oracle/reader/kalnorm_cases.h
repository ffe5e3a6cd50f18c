/* Reads cases that `kalnorm-ref export --format bin` wrote, and writes results where `kalnorm-ref judge` looks for them.

   C99, no library, one file: include it. Little-endian machines only, as the files are. A function that can fail returns
   0 (or NULL) and has printed to stderr what was wrong; the others return 1.

       kalnorm_case c;
       if (kalnorm_open(&c, "cases/bn.ordinary.float32")) {
           float *x = kalnorm_floats(&c, "x");                      any storage type as float; free() it
           double eps = kalnorm_param(&c, "eps", 0);
           ...
           kalnorm_write(&c, "y", "float32", kalnorm_tensor(&c, "x"), y);
       }
       kalnorm_close(&c);
*/
#ifndef KALNORM_CASES_H
#define KALNORM_CASES_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KALNORM_NAME 64
#define KALNORM_LINE 1024
#define KALNORM_PATH 4096
#define KALNORM_NDIM 8

typedef struct {
    char name[KALNORM_NAME];  /* x, gamma, dy, running_mean, before.0, ... */
    char dtype[16];           /* float64, float32, float16, bfloat16 */
    int ndim;
    size_t dims[KALNORM_NDIM];
    size_t count;             /* of elements */
    void *data;               /* as in the file: bfloat16 and float16 as uint16_t */
} kalnorm_array;

typedef struct {
    char name[KALNORM_NAME], text[KALNORM_NAME];
} kalnorm_parameter;

typedef struct {
    char folder[KALNORM_PATH], id[KALNORM_LINE];
    char op[16], dtype[16], layout[16];
    int training;             /* whether the judged forward is one of training */
    int before;               /* training steps that come first, with x = before.0, before.1, ... */
    int parameters, arrays, written;
    kalnorm_parameter *parameter;
    kalnorm_array *array;
} kalnorm_case;

static inline size_t kalnorm_size(const char *dtype) {
    if (!strcmp(dtype, "float64")) return 8;
    if (!strcmp(dtype, "float32")) return 4;
    if (!strcmp(dtype, "float16") || !strcmp(dtype, "bfloat16")) return 2;
    return 0;
}

static inline int kalnorm_complain(const char *what, const char *where) {
    fprintf(stderr, "kalnorm_cases: %s: %s\n", where, what);
    return 0;
}

/* Line "tensor NAME TYPE NDIM DIMS... FILE"; reads the file too. */
static inline int kalnorm_read_array(kalnorm_case *c, const char *line) {
    kalnorm_array *grown = realloc(c->array, (c->arrays + 1) * sizeof *grown), *a;
    char path[2 * KALNORM_PATH], file[KALNORM_LINE];
    int used;
    FILE *stream;
    if (!grown) return kalnorm_complain("out of memory", c->folder);
    c->array = grown;
    a = &grown[c->arrays];
    if (sscanf(line, "tensor %63s %15s %d%n", a->name, a->dtype, &a->ndim, &used) < 3 || !kalnorm_size(a->dtype) ||
        a->ndim < 0 || a->ndim > KALNORM_NDIM)
        return kalnorm_complain("no such line is known", line);
    a->count = 1;
    for (int i = 0; i < a->ndim; i++) {
        char *end;
        a->dims[i] = strtoul(line + used, &end, 10);
        used = (int)(end - line);
        a->count *= a->dims[i];
    }
    if (sscanf(line + used, "%1023s", file) != 1) return kalnorm_complain("names no file", line);
    snprintf(path, sizeof path, "%s/%s", c->folder, file);
    a->data = malloc(a->count ? a->count * kalnorm_size(a->dtype) : 1);
    stream = a->data ? fopen(path, "rb") : NULL;
    c->arrays++; /* from here on kalnorm_close frees it */
    if (!stream) return kalnorm_complain("cannot be read", path);
    size_t got = fread(a->data, kalnorm_size(a->dtype), a->count, stream);
    fclose(stream);
    return got == a->count ? 1 : kalnorm_complain("is shorter than its shape", path);
}

static inline int kalnorm_read_line(kalnorm_case *c, char *line) {
    kalnorm_parameter *grown;
    if (!strncmp(line, "tensor ", 7)) return kalnorm_read_array(c, line);
    if (!strncmp(line, "id ", 3)) return snprintf(c->id, sizeof c->id, "%s", line + 3) > 0;
    if (!strncmp(line, "expected ", 9)) return 1; /* for people to look at */
    if (!strncmp(line, "param ", 6)) {
        grown = realloc(c->parameter, (c->parameters + 1) * sizeof *grown);
        if (!grown) return kalnorm_complain("out of memory", c->folder);
        c->parameter = grown;
        grown += c->parameters++;
        return sscanf(line, "param %63s %63s", grown->name, grown->text) == 2 || kalnorm_complain("no value", line);
    }
    return sscanf(line, "op %15s", c->op) == 1 || sscanf(line, "dtype %15s", c->dtype) == 1 ||
           sscanf(line, "layout %15s", c->layout) == 1 || sscanf(line, "training %d", &c->training) == 1 ||
           sscanf(line, "before %d", &c->before) == 1 || kalnorm_complain("no such line is known", line);
}

/* Read a case whole. Call kalnorm_close whether or not this returns 1. */
static inline int kalnorm_open(kalnorm_case *c, const char *folder) {
    char path[2 * KALNORM_PATH], line[KALNORM_LINE];
    FILE *stream;
    int right = 1;
    memset(c, 0, sizeof *c);
    if (strlen(folder) >= sizeof c->folder) return kalnorm_complain("is too long a path", folder);
    strcpy(c->folder, folder);
    snprintf(path, sizeof path, "%s/case.txt", folder);
    stream = fopen(path, "r");
    if (!stream) return kalnorm_complain("cannot be read", path);
    while (right && fgets(line, sizeof line, stream)) {
        line[strcspn(line, "\r\n")] = 0;
        right = kalnorm_read_line(c, line);
    }
    fclose(stream);
    return right;
}

static inline void kalnorm_close(kalnorm_case *c) {
    for (int i = 0; i < c->arrays; i++) free(c->array[i].data);
    free(c->array);
    free(c->parameter);
    memset(c, 0, sizeof *c);
}

/* The tensor of that name, or NULL where the case has none: gamma may be absent. Prints nothing. */
static inline const kalnorm_array *kalnorm_tensor(const kalnorm_case *c, const char *name) {
    for (int i = 0; i < c->arrays; i++)
        if (!strcmp(c->array[i].name, name)) return &c->array[i];
    return NULL;
}

/* The text of a parameter, or NULL: eps, decay ("cumulative" is an average over all steps), groups, r_max, d_max,
   statistics_batches. */
static inline const char *kalnorm_text(const kalnorm_case *c, const char *name) {
    for (int i = 0; i < c->parameters; i++)
        if (!strcmp(c->parameter[i].name, name)) return c->parameter[i].text;
    return NULL;
}

/* Its value; `absent` where the case has no such parameter, NaN where it is no number. */
static inline double kalnorm_param(const kalnorm_case *c, const char *name, double absent) {
    const char *text = kalnorm_text(c, name);
    char *end;
    double value = text ? strtod(text, &end) : absent;
    return text && *end ? NAN : value;
}

static inline double kalnorm_half(uint16_t bits) {
    int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    double a = exponent == 31 ? (fraction ? NAN : INFINITY)
             : exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits >> 15 ? -a : a;
}

/* Element i as double, whatever its storage type. */
static inline double kalnorm_element(const kalnorm_array *a, size_t i) {
    uint32_t bits;
    float single;
    if (!strcmp(a->dtype, "float64")) return ((const double *)a->data)[i];
    if (!strcmp(a->dtype, "float32")) return ((const float *)a->data)[i];
    if (!strcmp(a->dtype, "float16")) return kalnorm_half(((const uint16_t *)a->data)[i]);
    bits = (uint32_t)((const uint16_t *)a->data)[i] << 16;
    memcpy(&single, &bits, sizeof single);
    return single;
}

/* A tensor as fresh float, or NULL where the case has none; free() it. float64 is rounded. */
static inline float *kalnorm_floats(const kalnorm_case *c, const char *name) {
    const kalnorm_array *a = kalnorm_tensor(c, name);
    float *out = a ? malloc((a->count + 1) * sizeof *out) : NULL;
    if (out)
        for (size_t i = 0; i < a->count; i++) out[i] = (float)kalnorm_element(a, i);
    return out;
}

/* The same as fresh double. */
static inline double *kalnorm_doubles(const kalnorm_case *c, const char *name) {
    const kalnorm_array *a = kalnorm_tensor(c, name);
    double *out = a ? malloc((a->count + 1) * sizeof *out) : NULL;
    if (out)
        for (size_t i = 0; i < a->count; i++) out[i] = kalnorm_element(a, i);
    return out;
}

/* Write a result (y, dx, dgamma, running_mean, ...) in the shape of another tensor; `data` has elements of `dtype`. What
   an earlier program wrote is replaced by the first result after kalnorm_open. */
static inline int kalnorm_write(kalnorm_case *c, const char *name, const char *dtype, const kalnorm_array *like,
                                const void *data) {
    char path[2 * KALNORM_PATH];
    FILE *stream;
    size_t put;
    if (!like || !kalnorm_size(dtype)) return kalnorm_complain("has no shape, or no type that is known", name);
    snprintf(path, sizeof path, "%s/returned.%s.bin", c->folder, name);
    stream = fopen(path, "wb");
    if (!stream) return kalnorm_complain("cannot be written", path);
    put = fwrite(data, kalnorm_size(dtype), like->count, stream);
    if (fclose(stream) || put != like->count) return kalnorm_complain("could not be written whole", path);
    snprintf(path, sizeof path, "%s/returned.txt", c->folder);
    stream = fopen(path, c->written++ ? "a" : "w");
    if (!stream) return kalnorm_complain("cannot be written", path);
    fprintf(stream, "tensor %s %s %d", name, dtype, like->ndim);
    for (int i = 0; i < like->ndim; i++) fprintf(stream, " %zu", like->dims[i]);
    fprintf(stream, " returned.%s.bin\n", name);
    return fclose(stream) ? kalnorm_complain("could not be written whole", path) : 1;
}

#endif
