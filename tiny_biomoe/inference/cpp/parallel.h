// A team of threads that share out the tasks of one image, and wait for no one who sleeps.
//
// Whoever is awake takes the next task, the caller always among them: a helper that the system has put to sleep costs
// its help, not its waking. Tasks write to places of their own, so who takes which changes no byte.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

inline void breathe() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Team {
  public:
    // Of the caller and threads - 1 helpers, or as many of them as the system grants.
    explicit Team(int threads) : threads_(threads) {
        try {
            for (int i = 1; i < threads; ++i) helpers_.emplace_back([this] { help(); });
        } catch (const std::system_error&) {
        }
    }

    int threads() const { return threads_; }

    // task(i) for every i below `tasks`; returns when all are done.
    template <class Task>
    void each(int tasks, const Task& task) {
        if (helpers_.empty() || tasks < 2) {
            for (int i = 0; i < tasks; ++i) task(i);
            return;
        }
        call_ = [](const void* f, int i) { (*static_cast<const Task*>(f))(i); };
        task_ = &task;
        done_ = 0;
        round_ = {round_.load().number + 1, 0, uint16_t(tasks)};
        while (take(true)) {}
        while (done_.load(std::memory_order_acquire) < tasks) breathe();
        report();
    }

    // A task that a helper, if one is awake, does before it helps with others; `finish_first` or `withdraw` must follow,
    // and the task live until then.
    template <class First>
    void offer_first(const First& first) {
        failed_ = false;  // whatever was dropped before
        first_call_ = [](const void* f) { (*static_cast<const First*>(f))(); };
        first_task_ = &first;
        first_ = OFFERED;
    }
    // Returns when that task is done: by the caller, if no helper took it.
    void finish_first() {
        take_first();
        while (!first_done()) breathe();
        report();
    }
    bool first_done() const { return first_.load(std::memory_order_acquire) == DONE; }

    // Whether nobody took that task, and nobody will.
    bool withdraw() {
        int offered = OFFERED;
        return first_.compare_exchange_strong(offered, DONE);
    }

    // Both tasks: the first as above, the second by the caller.
    template <class First, class Second>
    void both(const First& first, const Second& second) {
        offer_first(first);
        guarded(second);
        finish_first();
    }

    // Of the caller alone.
    static Team& one() {
        static auto* team = new Team(1);
        return *team;
    }

    // Between these, helpers look for tasks without rest.
    void begin() {
        if (helpers_.empty()) return;
        std::lock_guard<std::mutex> lock(mutex_);
        ++loans_;
        working_ = true;
        wake_.notify_all();
    }
    void end() { working_ = false; }

  private:
    enum { DONE, OFFERED, TAKEN };  // of the first of two tasks
    struct alignas(8) Round {
        uint32_t number;
        uint16_t first, end;  // of the tasks that are left
    };

    // One task, if one is left: the first for the caller, the last for a helper, so that each finds in its cache what it
    // wrote there in the round before. What was read of the round holds if the task could be had: a round ends with its
    // last one.
    bool take(bool caller) {
        Round round = round_;
        const auto call = call_.load();
        const void* task = task_;
        if (round.first >= round.end) return false;
        const Round rest = caller ? Round{round.number, uint16_t(round.first + 1), round.end}
                                  : Round{round.number, round.first, uint16_t(round.end - 1)};
        if (!round_.compare_exchange_strong(round, rest)) return true;
        guarded([&] { call(task, caller ? rest.first - 1 : rest.end); });
        done_.fetch_add(1, std::memory_order_release);
        return true;
    }

    // What is to be called is read once it is taken: the caller waits from then on, and offers nothing else.
    bool take_first() {
        int offered = OFFERED;
        if (first_ != OFFERED || !first_.compare_exchange_strong(offered, TAKEN)) return false;
        guarded([&] { first_call_.load()(first_task_); });
        first_.store(DONE, std::memory_order_release);
        return true;
    }

    // A task that fails (for want of memory) counts as done, and fails where its caller waits.
    template <class Task>
    void guarded(const Task& task) {
        try {
            task();
        } catch (...) {
            failed_ = true;
        }
    }

    void report() {
        if (failed_.exchange(false)) throw std::bad_alloc();
    }

    void help() {
        constexpr int PATIENCE = 20000;  // looks before a helper without work goes to sleep, up to a millisecond
        uint64_t forgotten = 0;  // the loan that offered nothing for so long that no one may be at work on it
        for (int idle = 0;;) {
            const bool working = working_;
            if (working && (take_first() || take(false))) {
                idle = 0;
            } else if (++idle < (working ? 200 * PATIENCE : PATIENCE)) {
                breathe();
            } else {
                std::unique_lock<std::mutex> lock(mutex_);
                if (working) forgotten = loans_;
                wake_.wait(lock, [&] { return working_ && loans_ != forgotten; });
                idle = 0;
            }
        }
    }

    const int threads_;
    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    uint64_t loans_ = 0;
    std::atomic<bool> working_{false}, failed_{false};
    alignas(64) std::atomic<Round> round_{Round{0, 0, 0}};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<int> first_{DONE};
    std::atomic<void (*)(const void*, int)> call_{nullptr};
    std::atomic<const void*> task_{nullptr};
    std::atomic<void (*)(const void*)> first_call_{nullptr};
    std::atomic<const void*> first_task_{nullptr};
};

// A team for the time of one call, kept for the next one and never dissolved. A forked process, in which no helper exists,
// forgets the teams of its parent.
class Loan {
  public:
    explicit Loan(int threads) : team_(take(threads)) { team_->begin(); }
    ~Loan() {
        team_->end();
        std::lock_guard<std::mutex> lock(*pool().mutex);
        pool().idle.push_back(team_);
    }
    Loan(const Loan&) = delete;
    Team& operator*() { return *team_; }
    Team* operator->() { return team_; }

    // Whether this process was forked meanwhile, and the helpers are not there any more.
    bool lost() const { return forks_ != pool().forks; }

  private:
    struct Pool {
        std::mutex* mutex = new std::mutex;
        std::vector<Team*> idle;
        int forks = 0;  // between the first process and this one
    };

    static Pool& pool() {
        static Pool* made = [] {
#if defined(__unix__) || defined(__APPLE__)
            pthread_atfork(nullptr, nullptr, [] {
                const int forks = pool().forks + 1;
                pool() = Pool();
                pool().forks = forks;
            });
#endif
            return new Pool;
        }();
        return *made;
    }

    static Team* take(int threads) {
        std::lock_guard<std::mutex> lock(*pool().mutex);
        for (Team*& each : pool().idle)
            if (each->threads() == threads) {
                std::swap(each, pool().idle.back());
                Team* found = pool().idle.back();
                pool().idle.pop_back();
                return found;
            }
        return new Team(threads);
    }

    Team* team_;
    const int forks_ = pool().forks;
};
