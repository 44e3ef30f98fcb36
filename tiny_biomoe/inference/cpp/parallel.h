// A team of threads that share the tasks of one image, and never wait for a helper that sleeps.
//
// Whoever is awake takes the next task, the caller always among them: a helper that the system has put to sleep costs
// its help, not its waking. Tasks write to places of their own, so who takes which changes no byte.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
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
    ~Team() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            dissolved_ = true;
        }
        wake_.notify_all();
        for (std::thread& helper : helpers_) helper.join();
    }
    Team(const Team&) = delete;

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

    // Both tasks: the first by a helper, if one is awake, before it helps with others; the second by the caller, who does
    // the first as well if no helper took it.
    template <class First, class Second>
    void both(const First& first, const Second& second) {
        if (helpers_.empty()) {  // a team that several callers may share
            first();
            second();
            return;
        }
        first_call_ = [](const void* f) { (*static_cast<const First*>(f))(); };
        first_task_ = &first;
        first_ = OFFERED;
        guarded(second);
        take_first();
        while (first_.load(std::memory_order_acquire) != DONE) breathe();
        report();
    }

    // Of the caller alone, whoever that is.
    static Team& one() {
        static auto* team = new Team(1);
        return *team;
    }

    // Between these, helpers look for tasks without rest.
    void begin() {
        if (helpers_.empty()) return;
        std::lock_guard<std::mutex> lock(mutex_);
        ++uses_;
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
        uint64_t quiet = 0;  // the use that offered no task for so long that nobody may be at work on it
        for (int idle = 0;;) {
            const bool working = working_;
            if (working && (take_first() || take(false))) {
                idle = 0;
            } else if (++idle < (working ? 200 * PATIENCE : PATIENCE)) {
                breathe();
            } else {
                std::unique_lock<std::mutex> lock(mutex_);
                if (working) quiet = uses_;
                wake_.wait(lock, [&] { return dissolved_ || (working_ && uses_ != quiet); });
                if (dissolved_) return;
                idle = 0;
            }
        }
    }

    const int threads_;
    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    uint64_t uses_ = 0;
    bool dissolved_ = false;
    std::atomic<bool> working_{false}, failed_{false};
    alignas(64) std::atomic<Round> round_{Round{0, 0, 0}};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<int> first_{DONE};
    std::atomic<void (*)(const void*, int)> call_{nullptr};
    std::atomic<const void*> task_{nullptr};
    std::atomic<void (*)(const void*)> first_call_{nullptr};
    std::atomic<const void*> first_task_{nullptr};
};

// The process's one team with helpers, for the time of one image. Calls at once are served in parallel already: while one
// has the helpers, the others compute alone, so there are never more helpers than one call asks for.
//
// A forked process has none of its parent's helpers: it forgets the team and makes its own. The lock is held while a
// process forks, so that no child inherits it from a thread that it does not have.
class Helpers {
  public:
    explicit Helpers(int threads) : team_(threads > 1 ? take(threads) : nullptr) {
        if (team_) team_->begin();
    }
    ~Helpers() {
        if (!team_) return;
        team_->end();
        std::lock_guard<std::mutex> lock(state().mutex);
        state().in_use = false;
    }
    Helpers(const Helpers&) = delete;
    Team& operator*() { return team_ ? *team_ : Team::one(); }
    Team* operator->() { return &**this; }

    // What must be whole when a process forks is changed under this lock.
    static std::mutex& mutex() { return state().mutex; }

  private:
    struct State {
        std::mutex mutex;
        Team* team = nullptr;
        bool in_use = false;
    };

    static State& state() {
        static State* made = [] {
#if defined(__unix__) || defined(__APPLE__)
            pthread_atfork([] { state().mutex.lock(); }, [] { state().mutex.unlock(); },
                           [] {
                               state().team = nullptr;
                               state().in_use = false;
                               state().mutex.unlock();
                           });
#endif
            return new State;
        }();
        return *made;
    }

    static Team* take(int threads) {
        std::unique_ptr<Team> other;  // of another size; its helpers end once the lock is released
        std::lock_guard<std::mutex> lock(state().mutex);
        if (state().in_use) return nullptr;
        if (state().team && state().team->threads() != threads) other.reset(std::exchange(state().team, nullptr));
        if (!state().team) state().team = new Team(threads);
        state().in_use = true;
        return state().team;
    }

    Team* team_;
};
