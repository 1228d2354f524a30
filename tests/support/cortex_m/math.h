/* What story.h asks of a C library; Zig's own run-time library has it. */
double exp(double);
