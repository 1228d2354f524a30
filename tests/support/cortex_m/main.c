/* A story told without an operating system: text through semihosting, and what the first character took. */

#include "story.h"

#define SYSTICK ((volatile uint32_t *)0xE000E010)
#define FULL 0xFFFFFFu

static struct story teller;

static void ask_host(int what, const void *with) {
    register int r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = with;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

static void put(const char *text) { ask_host(4, text); }

static void put_number(uint32_t number) {
    char digits[12];
    int k = 11;
    for (digits[k] = 0; number || k == 11; number /= 10) digits[--k] = (char)('0' + number % 10);
    put(digits + k);
}

static void tell(void) {
    uint32_t ticks = 0;
    story_begin(&teller, 1);
    story_read(&teller, PROMPT);
    SYSTICK[1] = FULL;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
    while (SYSTICK[2] == 0) continue;
    for (int k = 0; k < CHARS; ++k) {
        uint32_t before = SYSTICK[2];
        int32_t character = story_next(&teller, 0);
        char text[5];
        if (k == 0) ticks = (before - SYSTICK[2]) & FULL;
        if (character < 0) break;
        story_utf8(character, text);
        put(text);
    }
    put("\n");
    put_number(ticks);
    put(" ");
    put_number(sizeof teller);
    put("\n");
}

__attribute__((noreturn)) static void start(void) {
    static const uint32_t done[2] = {0x20026, 0};
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* lets the unit for floats be used */
    __asm__ volatile("dsb; isb");
    tell();
    ask_host(0x20, done);
    for (;;) continue;
}

__attribute__((section(".vectors"), used)) static const void *const vectors[2] = {
    (const void *)0x20010000, (const void *)start};
