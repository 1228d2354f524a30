// What a caller in another language has copied from arguments.h and model.h, as text to compare with.
#pragma once

namespace storycell {

// One line each: "cell NAME gates saved back", by number; "struct NAME bytes", followed by its fields in order,
// "field NAME kind byte". A kind is int64, uint64, double or pointer.
const char* layout();

}  // namespace storycell
