/* Reads the prompt, which is checked as a whole before anything is printed; returns how many characters it went on with. */
static long long read_prompt(const char *prompt, int print, long long most, double temperature) {
    size_t count;
    int *ids = ids_of(prompt, &count);
    step(BOUNDARY);
    for (size_t k = 0; k < count; ++k) {
        if (print) print_id(ids[k], 1);
        step(ids[k]);
    }
    free(ids);
    (void)most;
    (void)temperature;
    return 0;
}
