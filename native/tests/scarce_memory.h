// Memory that runs out when a test says so: in place of the program's operator new.
#pragma once

constexpr int kUnlimited = 1 << 30;

// From now on so many allocations are granted and all others refused, until the next call.
void grant_allocations(int count);
int refused_allocations();
int granted_allocations();  // that are left  // since that call
