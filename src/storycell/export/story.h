/* @ABOUT@

   A recurrent language model in one C99 header, for small machines: weights are constants in bytes (they stay in flash),
   there is no heap, and all that changes is one struct story of a few kilobytes.

       #include "@FILE@"

       static struct story teller;
       story_begin(&teller, 1);                       a seed; the same one tells the same story
       story_read(&teller, "Once upon a");            returns how many characters were unknown, and left out
       for (;;) {
           int32_t c = story_next(&teller, 0.8);      one character; a temperature, 0 is always the likeliest
           if (c < 0) break;                          the story has ended; to go on begins another
           char text[5];
           story_utf8(c, text);                       its bytes, ended by a 0
       }

   Include it in one source file. It needs exp() of libm. Matrix products are of whole numbers: a character takes
   @PRODUCTS@. Weights: @BYTES@ bytes; the state: sizeof(struct story). */

#ifndef STORY_H
#define STORY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The model: V ids, H units in each of L layers, G gates of each unit. MATCHES is the longest match of the latest
   characters with earlier ones, that adds a row of `story_context` to the D numbers of the embedding (0: none).
   GATE_NORM: what goes into a gate, its bias included, is divided by its root mean square, and `story_gate_bias` is
   added. */
#define STORY_LSTM 0
#define STORY_GRU 1
#define STORY_RNN 2
@MODEL@
#define STORY_GH (STORY_G * STORY_H_UNITS)
#define STORY_BOUNDARY 0 /* the id between stories */
#define STORY_UNKNOWN 1  /* never generated */
#define STORY_RESERVED 2 /* the id of the first character */
#define STORY_ROWS (STORY_MATCHES * STORY_V)
#define STORY_PAST 1024 /* characters that matches look back at */

struct story {
    float h[STORY_L][STORY_H_UNITS];
#if STORY_CELL == STORY_LSTM
    float c[STORY_L][STORY_H_UNITS];
#endif
    float a[STORY_GH], b[STORY_GH]; /* the gates of a layer: from below, and from its own last output */
    float logits[STORY_V];
    int8_t bytes[STORY_H_UNITS]; /* an output in 127ths */
#if STORY_MATCHES
    STORY_ID line[STORY_PAST + 1]; /* the latest characters, the last one first; 0 from the last boundary on */
#endif
    uint32_t random[4];
    int last; /* the id that is read next */
};

/* ---- The weights. Matrices are whole numbers row by row, with a factor for each row that makes floats of sums. ---- */

@WEIGHTS@

/* ---- The network ---- */

/* 1 / (1 + e^-x): 2^n 2^f with |f| <= 1/2, and 2^f by its Taylor polynomial. */
static inline float story_sigmoid(float x) {
    float z = x * -1.44269504f, power;
    int32_t bits;
    if (z > 125.0f) z = 125.0f;
    if (z < -125.0f) z = -125.0f;
    int n = (int)(z + 127.5f) - 127;
    float f = z - (float)n;
    float p = 1.0f + f * (0.693147181f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f +
              f * (0.00133335581f + f * 0.000154035304f)))));
    bits = (int32_t)((uint32_t)(n + 127) << 23);
    memcpy(&power, &bits, sizeof power);
    return 1.0f / (1.0f + p * power);
}

static inline float story_tanh(float x) { return 2.0f * story_sigmoid(2.0f * x) - 1.0f; }

/* The outputs of a layer as whole numbers: they lie between -1 and 1. */
static inline void story_round(struct story *s, const float *h) {
    for (int j = 0; j < STORY_H_UNITS; ++j) {
        float x = h[j] * 127.0f;
        x = x > 127.0f ? 127.0f : x < -127.0f ? -127.0f : x;
        s->bytes[j] = (int8_t)(x < 0 ? x - 0.5f : x + 0.5f);
    }
}

/* y[rows] += factors * (M[rows][H] bytes) */
static inline void story_add_product(const struct story *s, float *y, const int8_t *M, const float *factors, int rows) {
    for (int j = 0; j < rows; ++j, M += STORY_H_UNITS) {
        int32_t sum = 0;
        for (int k = 0; k < STORY_H_UNITS; ++k) sum += (int32_t)M[k] * s->bytes[k];
        y[j] += (float)sum * factors[j];
    }
}

#if STORY_GATE_NORM
static inline void story_normalise(struct story *s, int l) {
    for (int g = 0; g < STORY_GH; g += STORY_H_UNITS) {
        float squares = 0;
        for (int j = g; j < g + STORY_H_UNITS; ++j) {
            s->a[j] += s->b[j];
            squares += s->a[j] * s->a[j];
            s->b[j] = story_gate_bias[l][j];
        }
        float by = 1.0f / sqrtf(squares / STORY_H_UNITS + STORY_EPSILON);
        for (int j = g; j < g + STORY_H_UNITS; ++j) s->a[j] *= by;
    }
}
#endif

static inline void story_update(struct story *s, int l) {
    float *a = s->a, *b = s->b, *h = s->h[l];
    (void)b;
    for (int j = 0; j < STORY_H_UNITS; ++j) {
#if STORY_CELL == STORY_LSTM
        float i = story_sigmoid(a[j] + b[j]), f = story_sigmoid(a[STORY_H_UNITS + j] + b[STORY_H_UNITS + j]);
        float g = story_tanh(a[2 * STORY_H_UNITS + j] + b[2 * STORY_H_UNITS + j]);
        float o = story_sigmoid(a[3 * STORY_H_UNITS + j] + b[3 * STORY_H_UNITS + j]);
        s->c[l][j] = f * s->c[l][j] + i * g;
        h[j] = o * story_tanh(s->c[l][j]);
#elif STORY_CELL == STORY_GRU
        float r = story_sigmoid(a[j] + b[j]), z = story_sigmoid(a[STORY_H_UNITS + j] + b[STORY_H_UNITS + j]);
        float n = story_tanh(a[2 * STORY_H_UNITS + j] + r * (b[2 * STORY_H_UNITS + j] + story_bias_hn[l][j]));
        h[j] = (1.0f - z) * n + z * h[j];
#else
        h[j] = story_tanh(a[j] + b[j]);
#endif
    }
}

#if STORY_MATCHES
/* Of all places where the latest characters stood before, the one that agrees with most of them (up to MATCHES), the
   latest of several: n of them and what follows there as (n - 1) V + c, or 0. */
static inline int story_longest_match(const struct story *s) {
    const STORY_ID *line = s->line;
    int longest = 1, at = 0;
    for (int d = 1; d <= STORY_PAST - STORY_MATCHES + 1 && line[d]; ++d) {
        if ((line[d] != line[0]) | (line[d + longest] != line[longest])) continue;
        int n = 1;
        while (n < STORY_MATCHES && line[n] && line[d + n] == line[n]) ++n;
        if (n <= longest) continue;
        longest = n;
        at = d;
        if (n == STORY_MATCHES) break;
    }
    return at ? (longest - 1) * STORY_V + (int)line[at - 1] : 0;
}
#endif

/* What a character adds to the gates of the first layer, their bias included. */
static inline void story_first_gates(struct story *s, int id) {
#if STORY_MATCHES
    if (id) memmove(s->line + 1, s->line, sizeof s->line - sizeof *s->line);
    else memset(s->line, 0, sizeof s->line);
    s->line[0] = (STORY_ID)id;
    int row = story_longest_match(s);
    memcpy(s->a, story_first_bias, sizeof s->a);
    for (int k = 0; k < STORY_D; ++k) {
        float x = story_embedding[id][k] + (float)story_context[row][k] * story_context_scales[row];
        for (int j = 0; j < STORY_GH; ++j) s->a[j] += x * story_first[k][j];
    }
#else
    memcpy(s->a, story_first[id], sizeof s->a);
#endif
}

/* One character: the state moves on, and the logits are those of the next. */
static inline void story_step(struct story *s, int id) {
    for (int l = 0; l < STORY_L; ++l) {
        if (l == 0) story_first_gates(s, id);
#if STORY_L > 1
        else {
            memcpy(s->a, story_bias[l - 1], sizeof s->a);
            story_add_product(s, s->a, story_input[l - 1], story_input_factors[l - 1], STORY_GH); /* bytes: layer below */
        }
#endif
        memset(s->b, 0, sizeof s->b);
        story_round(s, s->h[l]);
        story_add_product(s, s->b, story_recurrent[l], story_recurrent_factors[l], STORY_GH);
#if STORY_GATE_NORM
        story_normalise(s, l);
#endif
        story_update(s, l);
        story_round(s, s->h[l]);
    }
    memcpy(s->logits, story_output_bias, sizeof s->logits);
    story_add_product(s, s->logits, story_output, story_output_factors, STORY_V);
}

/* ---- Choosing: xoshiro128++ 1.0 (Blackman & Vigna 2019), filled from the seed by splitmix64, as storycell does ---- */

static inline uint32_t story_rotated(uint32_t x, int k) { return x << k | x >> (32 - k); }

static inline double story_draw(uint32_t *s) { /* from 0 (included) to 1 (excluded) */
    uint32_t drawn = story_rotated(s[0] + s[3], 7) + s[0], t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = story_rotated(s[3], 11);
    return drawn / 4294967296.0;
}

static inline int story_choose(struct story *s, double temperature) {
    int best = STORY_BOUNDARY, last = STORY_BOUNDARY;
    for (int k = STORY_RESERVED; k < STORY_V; ++k)
        if (s->logits[k] > s->logits[best]) best = k;
    if (!(temperature > 0)) return best;
    double sum = 0, point, seen = 0;
    for (int k = 0; k < STORY_V; ++k)
        if (k != STORY_UNKNOWN) sum += exp(((double)s->logits[k] - (double)s->logits[best]) / temperature);
    point = story_draw(s->random) * sum;
    for (int k = 0; k < STORY_V; ++k) {
        if (k == STORY_UNKNOWN) continue;
        seen += exp(((double)s->logits[k] - (double)s->logits[best]) / temperature);
        last = k;
        if (seen > point) break;
    }
    return last;
}

/* ---- What a program calls ---- */

/* Before the first character of a story. */
static inline void story_begin(struct story *s, uint64_t seed) {
    memset(s, 0, sizeof *s);
    for (int k = 0; k < 4; k += 2) {
        uint64_t z = seed += UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
        z ^= z >> 31;
        s->random[k] = (uint32_t)z;
        s->random[k + 1] = (uint32_t)(z >> 32);
    }
    s->last = STORY_BOUNDARY;
}

/* The id of a character; -1 where the model does not know it. */
static inline int story_id(uint32_t code) {
    for (int k = 0; k < STORY_V - STORY_RESERVED; ++k)
        if (story_code_points[k] == code) return k + STORY_RESERVED;
    return -1;
}

/* Read a text in UTF-8; returns how many of its characters the model does not know, which are left out. */
static inline int story_read(struct story *s, const char *text) {
    int unknown = 0;
    while (*text) {
        uint32_t code = (unsigned char)*text++;
        if (!STORY_BYTES && code >= 0xC0) {
            int more = code >= 0xF0 ? 3 : code >= 0xE0 ? 2 : 1;
            code &= 0x3Fu >> more;
            while (more-- && ((unsigned char)*text & 0xC0) == 0x80) code = code << 6 | ((unsigned char)*text++ & 0x3F);
        }
        int id = story_id(code);
        if (id < 0) {
            ++unknown;
            continue;
        }
        story_step(s, s->last);
        s->last = id;
    }
    return unknown;
}

/* The next character: its code point (of a model of bytes, the byte), or -1 where the story ends. */
static inline int32_t story_next(struct story *s, double temperature) {
    story_step(s, s->last);
    s->last = story_choose(s, temperature);
    return s->last < STORY_RESERVED ? -1 : (int32_t)story_code_points[s->last - STORY_RESERVED];
}

/* A character's bytes, ended by a 0; returns how many. */
static inline int story_utf8(int32_t character, char to[5]) {
    uint32_t code = (uint32_t)character;
    int more = STORY_BYTES || code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3, length = more + 1;
    to[length] = 0;
    if (!more) {
        to[0] = (char)code;
        return 1;
    }
    for (int k = more; k > 0; --k, code >>= 6) to[k] = (char)(0x80 | (code & 0x3F));
    to[0] = (char)((0xF0u << (3 - more) & 0xF0) | code);
    return length;
}

#endif
