/* @ABOUT@

   A recurrent language model in one file of C99: it writes, character by character. No library but libm.

       cc -O2 @FILE@ -lm -o story
       ./story [-n chars] [-t temperature] [-s seed] [-l] [prompt]

   Without a prompt it begins as the model's own texts begin.

   -n  most characters to generate (default 1000; a story may end before)
   -t  above 1 bolder, below 1 safer, 0 always the likeliest (default 0.8)
   -s  the same seed generates the same text, here and in `storycell sample` (default: from the clock)
   -l  print the logits of the character after the prompt instead, in the order of ids

   `cc -O2 -march=native` is faster still. The weights are the long strings at the end. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The model: V characters, D numbers of embedding (0: one-hot), H units in each of L layers, G gates. NGRAMS is the
   longest n-gram of characters, of ROWS rows, and MATCHES the longest match of the latest characters with earlier ones,
   that add a row of `context` to the embedding (0: none). GATE_NORM: what goes into a gate, `bias` included, is
   divided by its root mean square, and `gate_bias` is added. */
#define LSTM 0
#define GRU 1
#define RNN 2
#define FP32 0
#define FP16 1
#define INT8 2
@MODEL@
#define BOUNDARY 0 /* the id between stories */
#define UNKNOWN 1  /* never generated */
#define RESERVED 2 /* the id of the first character */
#define GH (G * H)
#define X (D ? D : V) /* width into the first layer */
#define V_PADDED ((V + 15) / 16 * 16)
#define CONTEXT_ROWS (ROWS + MATCHES * V)
#define PAST (MATCHES ? 1024 : NGRAMS - 1) /* characters that are remembered */

static const char *const weights[STRINGS]; /* see the end */

/* Matrices lie transposed: an input's weights to all gates are neighbours, so that `add_product` runs along them. */
static float embedding[D ? V : 1][D ? D : 1];
#if NGRAMS || MATCHES
static float context[CONTEXT_ROWS][D];
static int line[PAST + 1]; /* the latest characters, the last one first; 0 from the last boundary on */
#else
static float table[V][GH]; /* what each character adds to the gates of the first layer, their bias included */
static char is_in_table[V];
#endif
static float input[L][X > H ? X : H][GH];
static float recurrent[L][H][GH];
static float bias[L][GH];
static float bias_n[L][H]; /* of the GRU's candidate: inside the product with r */
static float gate_bias[L][GH]; /* of normalised gates: after the division */
static float output[H][V_PADDED];
static float output_bias[V_PADDED];

static float h[L][H], c[L][H], logits[V_PADDED];

/* ---- Reading the weights ---- */

static const char *const *next_string = weights;
static const char *next_character = "";
static unsigned char group[3];
static int bytes_left;

static int take(void) {
    while (!*next_character) next_character = *next_string++;
    return (unsigned char)*next_character++;
}

static unsigned sextet(int character) {
    if (character >= 'a') return (unsigned)(character - 'a' + 26);
    if (character >= 'A') return (unsigned)(character - 'A');
    if (character >= '0') return (unsigned)((character - '0' + 52) & 63); /* and '=', which pads */
    return character == '+' ? 62 : 63;
}

static unsigned take_byte(void) {
    if (bytes_left == 0) {
        unsigned bits = 0;
        for (int k = 0; k < 4; ++k) bits = bits << 6 | sextet(take());
        for (int k = 0; k < 3; ++k) group[k] = (unsigned char)(bits >> (16 - 8 * k));
        bytes_left = 3;
    }
    return group[3 - bytes_left--];
}

static float take_float(void) {
    uint32_t bits = 0;
    float number;
    for (int k = 0; k < 32; k += 8) bits |= (uint32_t)take_byte() << k;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static float take_half(void) {
    unsigned bits = take_byte();
    bits |= take_byte() << 8;
    int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
    float size = exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
    return bits >> 15 ? -size : size;
}

static int take_level(void) { /* one of 89 characters: no quote, no <, no ?, no backslash */
    int k = take();
    return k - 33 - (k > '"') - (k > '<') - (k > '?') - (k > '\\') - 44;
}

static void take_vector(float *to, int count) {
    bytes_left = 0;
    for (int k = 0; k < count; ++k) to[k] = take_float();
}

/* A matrix is stored row by row; `to` gets its columns as rows of `width` numbers, or its rows if not `transposed`. */
static void take_matrix(float *to, int rows, int columns, int width, int transposed) {
    static float scales[GH + V + CONTEXT_ROWS];
    if (WEIGHTS == INT8) take_vector(scales, rows);
    bytes_left = 0;
    for (int j = 0; j < rows; ++j)
        for (int k = 0; k < columns; ++k) {
            float weight = WEIGHTS == INT8 ? (float)take_level() * scales[j]
                         : WEIGHTS == FP16 ? take_half() : take_float();
            to[transposed ? k * width + j : j * width + k] = weight;
        }
}

static void load(void) {
    if (D) take_matrix(&embedding[0][0], V, D, D, 0);
#if NGRAMS || MATCHES
    take_matrix(&context[0][0], CONTEXT_ROWS, D, D, 0);
#endif
    for (int l = 0; l < L; ++l) {
        take_matrix(&input[l][0][0], GH, l ? H : X, GH, 1);
        take_matrix(&recurrent[l][0][0], GH, H, GH, 1);
        take_vector(bias[l], GH);
        if (CELL == GRU) take_vector(bias_n[l], H);
        if (GATE_NORM) take_vector(gate_bias[l], GH);
    }
    take_matrix(&output[0][0], V, H, V_PADDED, 1);
    take_vector(output_bias, V);
}

/* ---- The network ---- */

/* y[N] += x[K] M[K][N]: eight rows at once, so that y is loaded and stored only every eighth time. */
static inline void add_product(float *restrict y, const float *restrict x, const float *restrict M, int K, int N) {
    int k = 0;
    for (; k + 8 <= K; k += 8, x += 8, M += 8 * N)
        for (int j = 0; j < N; ++j)
            y[j] += ((x[0] * M[j] + x[1] * M[N + j]) + (x[2] * M[2 * N + j] + x[3] * M[3 * N + j])) +
                    ((x[4] * M[4 * N + j] + x[5] * M[5 * N + j]) + (x[6] * M[6 * N + j] + x[7] * M[7 * N + j]));
    for (; k < K; ++k, ++x, M += N)
        for (int j = 0; j < N; ++j) y[j] += x[0] * M[j];
}

static void add_gates(float *restrict y, const float *restrict x, const float *restrict M, int K) {
    add_product(y, x, M, K, GH);
}

/* 1 / (1 + e^-x) to about one unit in the last place; no branch and no call, so that compilers vectorise it.
   e^-x = 2^n 2^f with |f| <= 1/2, and 2^f by its Taylor polynomial. The exponent is kept within 125 by an integer
   minimum of its bits, since a comparison of floats would be a branch. */
static inline float sigmoid(float x) {
    float z = x * -1.44269504f, power;
    int32_t bits, size;
    memcpy(&bits, &z, sizeof bits);
    size = bits & 0x7FFFFFFF;
    size = size < 0x42FA0000 ? size : 0x42FA0000;
    bits = (bits & ~0x7FFFFFFF) | size;
    memcpy(&z, &bits, sizeof z);
    int n = (int)(z + 127.5f) - 127;
    float f = z - (float)n;
    float p = 1.0f + f * (0.693147181f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f +
              f * (0.00133335581f + f * 0.000154035304f)))));
    bits = (n + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return 1.0f / (1.0f + p * power);
}

static inline float hyperbolic_tangent(float x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

#if MATCHES
/* Of all places where the latest characters stood before, the one that agrees with most of them (up to MATCHES), the
   latest of several: n of them and what follows there as (n - 1) V + c, or 0. */
static int longest_match(void) {
    int longest = 1, at = 0;
    for (int d = 1; d <= PAST - MATCHES + 1 && line[d]; ++d) {
        if ((line[d] != line[0]) | (line[d + longest] != line[longest])) continue; /* one branch, seldom taken */
        int n = 1;
        while (n < MATCHES && line[n] && line[d + n] == line[n]) ++n;
        if (n <= longest) continue;
        longest = n;
        at = d;
        if (n == MATCHES) break;
    }
    return at ? (longest - 1) * V + line[at - 1] : 0;
}
#endif

#if NGRAMS || MATCHES
static void add_row(float *restrict x, uint64_t row) {
    for (int k = 0; k < D; ++k) x[k] += context[row][k];
}

/* The embedding, a row for each n-gram that ends with the character, found by a hash, and that of the longest match. */
static const float *first_input(int id) {
    static float x[D], a[GH];
    if (id) memmove(line + 1, line, sizeof line - sizeof *line);
    else memset(line, 0, sizeof line);
    line[0] = id;
    memcpy(x, embedding[id], sizeof x);
#if NGRAMS
    uint64_t hash = (uint64_t)id + 1;
    for (int n = 1; n < NGRAMS; ++n) {
        hash = (hash * 1999993 + (uint64_t)line[n] + 1) % 2147483647;
        add_row(x, hash % ROWS);
    }
#endif
#if MATCHES
    add_row(x, (uint64_t)(ROWS + longest_match()));
#endif
    memcpy(a, bias[0], sizeof a);
    add_gates(a, x, &input[0][0][0], D);
    return a;
}
#else
static const float *first_input(int id) {
    if (!is_in_table[id]) {
        is_in_table[id] = 1;
        memcpy(table[id], bias[0], sizeof table[id]);
        if (D) add_gates(table[id], embedding[D ? id : 0], &input[0][0][0], D);
        else for (int j = 0; j < GH; ++j) table[id][j] += input[0][D ? 0 : id][j];
    }
    return table[id];
}
#endif

/* Divides the sums of each gate by their root mean square, and adds `after`. */
static void normalise(float *restrict a, const float *restrict after) {
    for (int g = 0; g < G; ++g, a += H, after += H) {
        double squares = 0;
        for (int j = 0; j < H; ++j) squares += (double)a[j] * a[j];
        float by = (float)(1 / sqrt(squares / H + @EPSILON@));
        for (int j = 0; j < H; ++j) a[j] = a[j] * by + after[j];
    }
}

/* What a layer makes of its gates: a from the input, b from its own last output, their bias in a. */
static void update(int l, float *restrict a, const float *restrict b) {
    float *restrict hidden = h[l], *restrict memory = c[l];
    if (CELL == LSTM) {
        for (int j = 0; j < GH; ++j) a[j] += b[j];
        if (GATE_NORM) normalise(a, gate_bias[l]);
        for (int j = 0; j < 2 * H; ++j) a[j] = sigmoid(a[j]);
        for (int j = 2 * H; j < 3 * H; ++j) a[j] = hyperbolic_tangent(a[j]);
        for (int j = 3 * H; j < GH; ++j) a[j] = sigmoid(a[j]);
        for (int j = 0; j < H; ++j) memory[j] = a[H + j] * memory[j] + a[j] * a[2 * H + j];
        for (int j = 0; j < H; ++j) hidden[j] = a[3 * H + j] * hyperbolic_tangent(memory[j]);
    } else if (CELL == GRU) {
        for (int j = 0; j < 2 * H; ++j) a[j] = sigmoid(a[j] + b[j]);
        for (int j = 0; j < H; ++j) a[2 * H + j] = hyperbolic_tangent(a[2 * H + j] + a[j] * (b[2 * H + j] + bias_n[l][j]));
        for (int j = 0; j < H; ++j) hidden[j] = (1.0f - a[H + j]) * a[2 * H + j] + a[H + j] * hidden[j];
    } else {
        for (int j = 0; j < H; ++j) hidden[j] = hyperbolic_tangent(a[j] + b[j]);
    }
}

/* One character: the state moves on, and `logits` are those of the next. */
static void step(int id) {
    static float a[GH], b[GH];
    for (int l = 0; l < L; ++l) {
        memcpy(a, l ? bias[l] : first_input(id), sizeof a);
        if (l) add_gates(a, h[l - 1], &input[l][0][0], H);
        memset(b, 0, sizeof b);
        add_gates(b, h[l], &recurrent[l][0][0], H);
        update(l, a, b);
    }
    memcpy(logits, output_bias, sizeof logits);
    add_product(logits, h[L - 1], &output[0][0], H, V_PADDED);
}

/* ---- Choosing ---- */

/* xoshiro128++ 1.0 (Blackman & Vigna 2019), its state filled from the seed by splitmix64, as storycell does. */
static uint32_t s[4];

static void sow(uint64_t seed) {
    for (int k = 0; k < 4; k += 2) {
        uint64_t z = seed += UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
        z ^= z >> 31;
        s[k] = (uint32_t)z;
        s[k + 1] = (uint32_t)(z >> 32);
    }
}

static uint32_t rotated(uint32_t x, int k) { return x << k | x >> (32 - k); }

static double draw(void) { /* from 0 (included) to 1 (excluded) */
    uint32_t drawn = rotated(s[0] + s[3], 7) + s[0], t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotated(s[3], 11);
    return drawn / 4294967296.0;
}

static int choose(const float *scores, int count, double *sums, double temperature) {
    int best = BOUNDARY;
    for (int k = RESERVED; k < count; ++k)
        if (scores[k] > scores[best]) best = k;
    if (temperature == 0) return best;
    double sum = 0;
    for (int k = 0; k < count; ++k) {
        if (k != UNKNOWN) sum += exp(((double)scores[k] - (double)scores[best]) / temperature);
        sums[k] = sum;
    }
    double point = draw() * sum;
    int k = 0;
    while (k < count - 1 && sums[k] <= point) ++k;
    return k;
}

/* ---- Text ---- */

static void print_code_point(uint32_t code, FILE *to) {
    if (code < 0x80) {
        putc((int)code, to);
        return;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    putc((int)((0xF0u << (3 - more) & 0xF0) | code >> 6 * more), to);
    while (more--) putc((int)(0x80 | (code >> 6 * more & 0x3F)), to);
}

/* At most so many characters of an id, of which only a piece of a word has several; returns how many. */
static long long print_id(int id, long long most) {
@PRINTING@    if (most < 1) return 0;
    if (id == BOUNDARY) fputs("<|endoftext|>\n", stdout);
    else if (BYTES) putchar((int)code_points[id - RESERVED]);
    else print_code_point(code_points[id - RESERVED], stdout);
    return 1;
}

/* The next code point of UTF-8 text, which is moved on; one that is not UTF-8 ends the program. */
static uint32_t take_code_point(const unsigned char **text) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *at = *text;
    int more = *at < 0x80 ? 0 : *at >> 5 == 6 ? 1 : *at >> 4 == 14 ? 2 : *at >> 3 == 30 ? 3 : -1;
    uint32_t code = more > 0 ? *at & (0x3Fu >> more) : *at;
    for (int k = 1; k <= more; ++k) {
        if (at[k] >> 6 != 2) more = -1;
        else code = code << 6 | (at[k] & 0x3F);
    }
    if (more < 0 || code < least[more] || code > 0x10FFFF || code >> 11 == 0x1B) {
        fputs("story: the prompt is not UTF-8 text\n", stderr);
        exit(1);
    }
    *text = at + 1 + more;
    return code;
}

/* The id of a character; -1 where the model does not know it. */
static int id_of(uint32_t code) {
    int low = 0, high = CHARACTERS;
    while (low < high) {
        int middle = (low + high) / 2;
        if (code_points[middle] < code) low = middle + 1;
        else high = middle;
    }
    return low < CHARACTERS && code_points[low] == code ? low + RESERVED : -1;
}

static int is_invisible(uint32_t code) { /* soft hyphen, joiners, marks of direction, variation selectors */
    static const uint32_t ranges[][2] = {
        {0xAD, 0xAD}, {0x34F, 0x34F}, {0x61C, 0x61C}, {0x180B, 0x180F}, {0x200B, 0x200F}, {0x202A, 0x202E},
        {0x2060, 0x206F}, {0xFE00, 0xFE0F}, {0xFEFF, 0xFEFF}, {0xE0000, 0xE0FFF}};
    for (size_t k = 0; k < sizeof ranges / sizeof *ranges; ++k)
        if (ranges[k][0] <= code && code <= ranges[k][1]) return 1;
    return 0;
}

/* A letter and its accent as one character; 0 where the model has no use for it. */
static uint32_t composed(uint32_t letter, uint32_t accent) {
    for (int k = 0; pairs[k][0]; ++k)
        if (pairs[k][0] == letter && pairs[k][1] == accent) return pairs[k][2];
    return 0;
}

/* The next character by the rules of a text file, where every line end is \n. */
static uint32_t take_plain(const unsigned char **text) {
    uint32_t code = BYTES ? *(*text)++ : take_code_point(text);
    if (code != '\r') return code;
    *text += **text == '\n';
    return '\n';
}

/* The same, in the form that the model knows: accents that stand by themselves join their letters. */
static uint32_t take_known(const unsigned char **text) {
    uint32_t code = take_plain(text), both;
    const unsigned char *after = *text;
    while (!BYTES && *after) {
        uint32_t next = take_code_point(&after);
        if ((id_of(code) >= 0 && id_of(next) >= 0) || !(both = composed(code, next))) break;
        code = both;
        *text = after;
    }
    return code;
}

static int takes_separator(const unsigned char **text) {
    static const char separator[] = "<|endoftext|>";
    size_t length = sizeof separator - 1;
    if (strncmp((const char *)*text, separator, length) != 0) return 0;
    const unsigned char *end = *text + length;
    if (*end && *end != '\n' && *end != '\r') return 0;
    if (*end) take_plain(&end);
    *text = end;
    return 1;
}

static void refuse(uint32_t code, const unsigned char *prompt, const unsigned char *at) {
    long position = 0;
    for (; prompt < at; ++prompt) position += *prompt >> 6 != 2;
    fputs("story: the model does not know '", stderr);
    print_code_point(code, stderr);
    fprintf(stderr, "' (U+%04lX) at position %ld; write the prompt without it\n", (unsigned long)code, position);
    exit(1);
}

static void *room(size_t bytes) {
    void *found = malloc(bytes);
    if (!found) {
        fputs("story: out of memory\n", stderr);
        exit(1);
    }
    return found;
}

/* The ids of a prompt, which is read as `storycell sample` reads it; a line <|endoftext|> is a boundary. */
static int *ids_of(const char *prompt, size_t *count) {
    const unsigned char *start = (const unsigned char *)prompt, *text = start;
    int *ids = room((SPELT * strlen(prompt) + 1) * sizeof *ids), starts_line = 1;
    *count = 0;
    if (strncmp(prompt, "\xEF\xBB\xBF", 3) == 0) text += 3;
    while (*text) {
        const unsigned char *at = text;
        if (starts_line && takes_separator(&text)) {
            ids[(*count)++] = BOUNDARY;
            continue;
        }
        uint32_t code = take_known(&text);
        int id = id_of(code), row = 0;
        starts_line = code == '\n';
        if (id >= 0) ids[(*count)++] = id;
        if (id >= 0 || is_invisible(code)) continue;
        while (same[row][0] && same[row][0] != code) ++row;
        if (!same[row][0]) refuse(code, start, at);
        for (int k = 1; k <= SPELT && same[row][k]; ++k) ids[(*count)++] = id_of(same[row][k]);
    }
    return ids;
}

@READING@
/* ---- The command ---- */

static int wrong(const char *what, const char *value) {
    fprintf(stderr, "story: %s%s; usage: story [-n chars] [-t temperature] [-s seed] [-l] [prompt]\n", what, value);
    return 2;
}

static int is_number(const char *text, const char *characters) {
    return *text && text[strspn(text, characters)] == '\0';
}

int main(int count, char **words) {
    const char *prompt = PROMPT, *n = "1000", *t = "0.8", *seed = NULL, *end = "";
    int only_logits = 0, k = 1;
    for (; k < count && words[k][0] == '-' && words[k][1]; ++k) {
        const char *flag = words[k], **value = NULL;
        if (strcmp(flag, "--") == 0) {
            ++k;
            break;
        }
        if (strcmp(flag, "-l") == 0) only_logits = 1;
        else if (strcmp(flag, "-n") == 0) value = &n;
        else if (strcmp(flag, "-t") == 0) value = &t;
        else if (strcmp(flag, "-s") == 0) value = &seed;
        else return wrong("there is no flag ", flag);
        if (value && k + 1 == count) return wrong("a number must follow ", flag);
        if (value) *value = words[++k];
    }
    if (k < count) prompt = words[k++];
    if (k < count) return wrong("one prompt, in quotes, and not also ", words[k]);
    if (!is_number(n, "0123456789") || strlen(n) > 18) return wrong("-n takes a number of characters, not ", n);
    double temperature = strtod(t, (char **)&end);
    if (*end || end == t || !(temperature >= 0 && temperature < 1e6)) return wrong("-t takes a number of at least 0, not ", t);
    uint64_t number = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 1000003 + (uint64_t)clock();
    char again[24];
    snprintf(again, sizeof again, "%llu", (unsigned long long)number);
    if (seed && (!is_number(seed, "0123456789") || strcmp(seed + strspn(seed, "0"), number ? again : "")))
        return wrong("-s takes a whole number from 0 to 18446744073709551615, not ", seed);

    load();
    sow(number);
    long long left = only_logits ? 0 : strtoll(n, NULL, 10);
    left -= read_prompt(prompt, !only_logits, left, temperature);
    if (only_logits) {
        for (int id = 0; id < V; ++id) printf("%.9g\n", (double)logits[id]);
    } else {
        static double sums[V];
        while (left > 0) {
            int id = choose(logits, V, sums, temperature);
            if (id == BOUNDARY) break;
            left -= print_id(id, left);
            if (left > 0) step(id);
        }
        putchar('\n');
    }
    if (fflush(stdout) || ferror(stdout)) {
        fputs("story: the output cannot be written\n", stderr);
        return 1;
    }
    return 0;
}

/* ---- The weights: @CODING@ ---- */

static const char *const weights[STRINGS] = {
@WEIGHTS@
};
