// How the two sides of a product lie in memory: rows anywhere, weights in panels.
#pragma once

#include "memory.h"
#include "simd.h"

// A row of the left matrix: `count` pieces of `length` numbers, `stride` apart; the rows of a kernel, or a plain row.
struct Pieces {
    int count, length;
    long stride;
};

constexpr int DEEP = 32;  // numbers of a row that hardware tiles of bfloat16 take at once: pieces are filled up to these
constexpr int HIGH = 32;  // rows that two hardware tiles take at once

template <class T>
constexpr int filled(int length) {
    return sizeof(T) == 4 ? length : (length + DEEP - 1) / DEEP * DEEP;
}

constexpr int panels(int columns) { return (columns + PANEL - 1) / PANEL; }

template <class T>
constexpr long panel_size(Pieces pieces) {
    return long(pieces.count) * filled<T>(pieces.length) * PANEL;
}

// Where number k of a piece lies that a column weighs, in panels one behind the other: in bfloat16 two by two.
template <class T>
constexpr long place(Pieces pieces, int column, int piece, int k) {
    const long before = column / PANEL * panel_size<T>(pieces) + long(piece) * filled<T>(pieces.length) * PANEL;
    return before + (sizeof(T) == 4 ? k * PANEL + column % PANEL : (k / 2 * PANEL + column % PANEL) * 2 + k % 2);
}

// The left matrix: rows that lie `lda` apart, and as many in another place, if there is one.
template <class T>
struct Left {
    const T *first, *second;
    long lda;
    int rows;
};
