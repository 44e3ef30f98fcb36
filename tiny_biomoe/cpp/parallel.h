// A team of threads that share out the tasks of one image, and wait for no one who sleeps.
//
// Whoever is awake takes the next task, the caller always among them: a helper that the system has put to sleep costs
// its help, not its waking. Tasks write to places of their own, so who takes which changes no byte.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

inline void breathe() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

class Team {
  public:
    explicit Team(int threads) {
        for (int i = 1; i < threads; ++i) helpers_.emplace_back([this] { help(); });
    }

    int threads() const { return int(helpers_.size()) + 1; }

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
    }

    // Both tasks: the first by a helper, if one is awake, before it helps with the second; else by the caller afterwards.
    template <class First, class Second>
    void both(const First& first, const Second& second) {
        if (helpers_.empty()) {
            second();
            first();
            return;
        }
        first_call_ = [](const void* f) { (*static_cast<const First*>(f))(); };
        first_task_ = &first;
        first_ = OFFERED;
        second();
        int offered = OFFERED;
        if (first_.compare_exchange_strong(offered, TAKEN))
            first();
        else
            while (first_.load(std::memory_order_acquire) != DONE) breathe();
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
        call(task, caller ? rest.first - 1 : rest.end);
        done_.fetch_add(1, std::memory_order_release);
        return true;
    }

    bool take_first() {
        const auto call = first_call_.load();
        const void* task = first_task_;
        int offered = OFFERED;
        if (first_ != OFFERED || !first_.compare_exchange_strong(offered, TAKEN)) return false;
        call(task);
        first_.store(DONE, std::memory_order_release);
        return true;
    }

    void help() {
        constexpr int PATIENCE = 20000;  // looks, about a millisecond, before a helper without work goes to sleep
        for (int idle = 0;;) {
            if (working_) {
                idle = 0;
                if (!take_first() && !take(false)) breathe();
            } else if (++idle < PATIENCE) {
                breathe();
            } else {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [this] { return working_.load(); });
                idle = 0;
            }
        }
    }

    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<bool> working_{false};
    alignas(64) std::atomic<Round> round_{Round{0, 0, 0}};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<int> first_{DONE};
    std::atomic<void (*)(const void*, int)> call_{nullptr};
    std::atomic<const void*> task_{nullptr};
    std::atomic<void (*)(const void*)> first_call_{nullptr};
    std::atomic<const void*> first_task_{nullptr};
};

// A team for the time of one call. Teams are kept for the next call and never dissolved: a forked process, in which their
// helpers do not exist, would wait for these for ever, and so merely finds that the caller does everything.
class Loan {
  public:
    explicit Loan(int threads) : team_(take(threads)) { team_->begin(); }
    ~Loan() {
        team_->end();
        std::lock_guard<std::mutex> lock(mutex());
        idle().push_back(team_);
    }
    Loan(const Loan&) = delete;
    Team& operator*() { return *team_; }
    Team* operator->() { return team_; }

  private:
    static Team* take(int threads) {
        std::lock_guard<std::mutex> lock(mutex());
        for (Team*& each : idle())
            if (each->threads() == threads) {
                std::swap(each, idle().back());
                Team* found = idle().back();
                idle().pop_back();
                return found;
            }
        return new Team(threads);
    }
    static std::mutex& mutex() {
        static auto* made = new std::mutex;
        return *made;
    }
    static std::vector<Team*>& idle() {
        static auto* made = new std::vector<Team*>;
        return *made;
    }

    Team* team_;
};
