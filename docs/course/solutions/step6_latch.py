"""Solutions of step 6."""


def inside_quotes(text: str) -> list[bool]:
    is_open, found = False, []
    for c in text:
        is_open ^= c == '"'
        found.append(is_open)
    return found


def latch_weights(character: str) -> tuple[float, float, float]:
    if character == ",":
        return 15.0, -15.0, 15.0  # clear, and write 1
    if character in ".!?":
        return -15.0, -15.0, 0.0  # clear, write nothing
    return -15.0, 15.0, 0.0  # keep


def share_restored(base: float, source: float, patched: float) -> float:
    return (patched - base) / (source - base)
