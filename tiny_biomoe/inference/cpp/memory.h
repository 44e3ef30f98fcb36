// Memory of the network: aligned arrays, the weights as they are handed over, and maps with a frame of zeros.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

constexpr size_t REACH = 128;  // bytes of zeros behind an array, which a kernel may read and weigh with zero

inline size_t whole(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

inline char* aligned(size_t alignment, size_t bytes) {
    void* memory = std::aligned_alloc(alignment, whole(bytes, alignment));
    if (!memory) throw std::bad_alloc();
    return static_cast<char*>(memory);
}

// Large pieces of memory in large pages, which arrays share that live as long as it does: weights are read once an image,
// and looking up thousands of small pages takes its time.
class Arena {
  public:
    // While such a thing exists, its thread's arrays come from an arena.
    class Use {
      public:
        explicit Use(Arena& arena) : before_(current()) { current() = &arena; }
        ~Use() { current() = before_; }
        Use(const Use&) = delete;

      private:
        Arena* before_;
    };

    static Arena*& current() {
        thread_local Arena* arena = nullptr;
        return arena;
    }

    char* take(size_t bytes) {
        if (bytes > left_) {
            left_ = whole(std::max(bytes, PIECE), PAGE);
            pieces_.emplace_back(aligned(PAGE, left_), std::free);
            next_ = pieces_.back().get();
#if defined(MADV_HUGEPAGE)
            madvise(next_, left_, MADV_HUGEPAGE);
#endif
        }
        left_ -= bytes;
        next_ += bytes;
        return next_ - bytes;
    }

  private:
    static constexpr size_t PAGE = 1 << 21, PIECE = 4 * PAGE;
    std::vector<std::unique_ptr<char, void (*)(void*)>> pieces_;
    char* next_ = nullptr;
    size_t left_ = 0;
};

// n numbers, zero at first, aligned to 64 bytes.
template <class T>
class Array {
  public:
    explicit Array(long n = 0) : data_(nullptr, std::free) {
        const size_t bytes = whole(sizeof(T) * n + REACH, 64);
        if (Arena* arena = Arena::current())
            data_ = {reinterpret_cast<T*>(arena->take(bytes)), [](void*) {}};
        else
            data_.reset(reinterpret_cast<T*>(aligned(64, bytes)));
        std::memset(static_cast<void*>(data_.get()), 0, bytes);
    }
    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    T& operator[](long i) { return data_.get()[i]; }
    const T& operator[](long i) const { return data_.get()[i]; }

  private:
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
