// Memory of the network: aligned arrays, the weights as they are handed over, and maps with a frame of zeros.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>

// n numbers, zero at first, aligned to 64 bytes; as many bytes behind them may be read as a kernel reaches too far.
template <class T>
class Array {
  public:
    explicit Array(long n = 0) : data_(nullptr, std::free) {
        const size_t bytes = (sizeof(T) * n + REACH + 63) / 64 * 64;
        data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
        if (!data_) throw std::bad_alloc();
        std::memset(static_cast<void*>(data_.get()), 0, bytes);
    }
    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    T& operator[](long i) { return data_.get()[i]; }
    const T& operator[](long i) const { return data_.get()[i]; }

  private:
    static constexpr size_t REACH = 1 << 14;
    std::unique_ptr<T, void (*)(void*)> data_;
};

// Room for n numbers that one task of a thread writes and reads; the next task of the same user finds it again.
template <class User, class T, int which = 0>
T* scratch(long n) {
    thread_local Array<T> room;
    thread_local long size = 0;
    if (n > size) {
        room = Array<T>(n);
        size = n;
    }
    return room.data();
}

// The weights, one number after another in the order in which the layers are built.
class Reader {
  public:
    Reader(const float* numbers, long count) : next_(numbers), left_(count) {}
    const float* take(long n) {
        if (n > left_) throw std::length_error("fewer weights than the architecture has");
        left_ -= n;
        next_ += n;
        return next_ - n;
    }
    long left() const { return left_; }

  private:
    const float* next_;
    long left_;
};
