/* ---- Pieces of words ---- */

static int text_at[V + 1], letters[LETTERS]; /* where the text of each id is in `letters`, the ids of its characters */

static int length_of(int id) { return text_at[id + 1] - text_at[id]; }

static void spell(void) {
    for (int id = 0, at = 0; id < V; ++id) {
        text_at[id] = at;
        for (int half = 0; half < 2 && halves[id][half]; ++half)
            for (int k = 0; k < length_of(halves[id][half]); ++k) letters[at++] = letters[text_at[halves[id][half]] + k];
        if (!halves[id][0]) letters[at++] = id;
        text_at[id + 1] = at;
    }
}

static uint32_t code_at(const int *ids, size_t at, size_t count) { /* 0 behind the end of a story */
    return at < count && ids[at] != BOUNDARY ? code_points[ids[at] - RESERVED] : 0;
}

static int is_any(const char *some, const int *ids, size_t at, size_t count) {
    return at < count && ids[at] != BOUNDARY && strchr(some, classes[ids[at] - RESERVED]) != NULL;
}

static size_t run_of(const char *some, const int *ids, size_t at, size_t count) {
    size_t end = at;
    while (end < at + 40 && is_any(some, ids, end, count)) ++end;
    return end;
}

static size_t lines_from(const int *ids, size_t at, size_t count) {
    size_t end = at;
    while (end < at + 8 && code_at(ids, end, count) == '\n') ++end;
    return end;
}

/* Where the word that begins at a character ends: letters, digits or signs with the blank before them, clitics of English,
   blanks, line ends. */
static size_t word_end(const int *ids, size_t at, size_t count) {
    static const char *const clitics[] = {"s", "t", "re", "ve", "m", "ll", "d"}, *const kinds[] = {"lm", "d", "om_"};
    uint32_t first = code_at(ids, at, count);
    for (size_t k = 0; first == '\'' && k < sizeof clitics / sizeof *clitics; ++k) {
        size_t end = at + 1;
        for (const char *c = clitics[k]; *c && code_at(ids, end, count) == (uint32_t)*c; ++c) ++end;
        if (end == at + 1 + strlen(clitics[k]) && !is_any("ld_", ids, end, count)) return end;
    }
    size_t start = at + (first == ' '), end = at;
    for (int k = 0; k < 3; ++k)
        if ((end = run_of(kinds[k], ids, start, count)) > start) return k == 2 ? lines_from(ids, end, count) : end;
    for (end = at; end < at + 40 && is_any("s", ids, end, count); ++end)
        if (code_at(ids, end, count) == '\n' || code_at(ids, end, count) == 0x1F) break;
    if (end == at) end = lines_from(ids, at, count);
    return end > at ? end : at + 1;
}

/* The pieces of a word in the place of its characters; of two neighbours that can be merged the first ones learnt, from the
   left, always. Returns how many. */
static int cut(int *word, int count) {
    for (;;) {
        int best = MERGES, at = 0;
        for (int k = 0; k + 1 < count; ++k)
            for (int rank = 0; rank < best; ++rank)
                if (merges[rank][0] == word[k] && merges[rank][1] == word[k + 1]) {
                    best = rank;
                    at = k;
                }
        if (best == MERGES) return count;
        word[at] = merges[best][2];
        memmove(word + at + 1, word + at + 2, (size_t)(--count - at - 1) * sizeof *word);
    }
}

#if NGRAMS || MATCHES
#define LINE (PAST + 1)
#else
#define LINE 1
#endif

struct state {
    float h[L][H], c[L][H], logits[V_PADDED];
    int line[LINE];
};

static void copy_state(struct state *kept, int back) {
#define COPY(name) memcpy(back ? (void *)name : (void *)kept->name, back ? (void *)kept->name : (void *)name, sizeof name)
    COPY(h);
    COPY(c);
    COPY(logits);
#if NGRAMS || MATCHES
    COPY(line);
#endif
#undef COPY
}

static double log_total(void) { /* of the probabilities that the logits are, but for the unknown character */
    double best = -INFINITY, total = 0;
    for (int k = 0; k < V; ++k)
        if (k != UNKNOWN && logits[k] > best) best = logits[k];
    for (int k = 0; k < V; ++k)
        if (k != UNKNOWN) total += exp(logits[k] - best);
    return best + log(total);
}

/* The end of the prompt, whose pieces what follows may change: it begins with its usual pieces, or with some of them and
   then one that reaches beyond. One is drawn, each as likely as the model makes it; the characters beyond are printed, and
   returned is how many. */
static long long begin(const int *text, int length, int *usual, int count, long long most, double temperature) {
    struct state *states = room((size_t)count * sizeof *states);
    float *scores = room(((size_t)count * V + RESERVED) * sizeof *scores);
    double *sums = room(((size_t)count * V + RESERVED) * sizeof *sums), behind = 0;
    int(*paths)[2] = room(((size_t)count * V + RESERVED) * sizeof *paths), found = RESERVED, at = 0;
    scores[0] = scores[1] = -INFINITY;
    for (int k = 0; k < count; ++k) {
        double total = log_total();
        copy_state(&states[k], 0);
        for (int id = RESERVED; id <= V; ++id) { /* the usual piece, if it is the last, behind all others */
            int one = id < V ? id : usual[k], rest = length - at;
            if (id < V ? length_of(id) <= rest : k + 1 < count) continue;
            if (memcmp(letters + text_at[one], text + at, (size_t)rest * sizeof *text) != 0) continue;
            paths[found][0] = k;
            paths[found][1] = one;
            scores[found++] = (float)(behind + (logits[one] - total));
        }
        behind += logits[usual[k]] - total;
        at += length_of(usual[k]);
        step(usual[k]);
    }
    int drawn = choose(scores, found, sums, temperature), place = paths[drawn][0], id = paths[drawn][1];
    copy_state(&states[place], 1);
    for (at = 0; place > 0; --place) at += length_of(usual[place - 1]);
    long long beyond = 0;
    for (int k = length - at; k < length_of(id) && beyond < most; ++k) beyond += print_id(letters[text_at[id] + k], 1);
    step(id);
    free(states);
    free(scores);
    free(sums);
    free(paths);
    return beyond;
}

/* Reads the prompt, which is checked as a whole before anything is printed; returns how many characters it went on with. */
static long long read_prompt(const char *prompt, int print, long long most, double temperature) {
    size_t count, at = 0;
    int *ids = ids_of(prompt, &count), usual[2 * 64], pieces = 0;
    spell();
    for (size_t k = 0; print && k < count; ++k) print_id(ids[k], 1);
    step(BOUNDARY);
    while (at < count) {
        if (ids[at] == BOUNDARY) {
            step(ids[at++]);
            continue;
        }
        size_t end = word_end(ids, at, count);
        size_t next = end < count && ids[end] != BOUNDARY ? word_end(ids, end, count) : end;
        if (next == count) { /* one of the last two words */
            memcpy(usual, ids + at, (end - at) * sizeof *ids);
            pieces = cut(usual, (int)(end - at));
            memcpy(usual + pieces, ids + end, (next - end) * sizeof *ids);
            if (next > end) pieces += cut(usual + pieces, (int)(next - end));
            break;
        }
        int word[64], n = (int)(end - at);
        memcpy(word, ids + at, (size_t)n * sizeof *word);
        n = cut(word, n);
        for (int k = 0; k < n; ++k) step(word[k]);
        at = end;
    }
    long long beyond = 0;
    if (pieces && most > 0) beyond = begin(ids + at, (int)(count - at), usual, pieces, most, temperature);
    else for (int k = 0; k < pieces; ++k) step(usual[k]);
    free(ids);
    return beyond;
}
