// A team of threads that share out the tasks of one image, and wait for no one who sleeps.
//
// Whoever is awake takes the next task, the caller always among them: a helper that the system has put to sleep costs
// its help, not its waking. Tasks write to places of their own, so who takes which changes no byte.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
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
    // A team that nobody has just now, or a new one. Teams are never dissolved: a forked process, in which their helpers
    // do not exist, would wait for these for ever, and so finds that the caller does everything.
    static std::unique_ptr<Team> take(int threads) {
        std::lock_guard<std::mutex> lock(idle_mutex());
        auto& teams = idle();
        for (auto& each : teams)
            if (each->threads() == threads) {
                std::unique_ptr<Team> found = std::move(each);
                each = std::move(teams.back());
                teams.pop_back();
                found->begin();
                return found;
            }
        std::unique_ptr<Team> made(new Team(threads));
        made->begin();
        return made;
    }

    static void give(std::unique_ptr<Team> team) {
        team->working_ = false;
        std::lock_guard<std::mutex> lock(idle_mutex());
        idle().push_back(std::move(team));
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
        round_ = {round_.load().number + 1, uint16_t(tasks), 0};
        while (take()) {}
        while (done_.load(std::memory_order_acquire) < tasks) breathe();
    }

  private:
    explicit Team(int threads) {
        for (int i = 1; i < threads; ++i) helpers_.emplace_back([this] { help(); });
    }

    static std::mutex& idle_mutex() {
        static auto* mutex = new std::mutex;
        return *mutex;
    }
    static std::vector<std::unique_ptr<Team>>& idle() {
        static auto* teams = new std::vector<std::unique_ptr<Team>>;
        return *teams;
    }

    // From here until they are given back, helpers look for tasks without rest.
    void begin() {
        if (helpers_.empty()) return;
        std::lock_guard<std::mutex> lock(mutex_);
        working_ = true;
        wake_.notify_all();
    }

    struct alignas(8) Round {
        uint32_t number;
        uint16_t tasks, next;
    };

    // One task, if one is left. What was read of a round holds if the task could be had: a round ends with its last one.
    bool take() {
        Round round = round_;
        const auto call = call_.load();
        const void* task = task_;
        if (round.next >= round.tasks) return false;
        if (!round_.compare_exchange_strong(round, {round.number, round.tasks, uint16_t(round.next + 1)})) return true;
        call(task, round.next);
        done_.fetch_add(1, std::memory_order_release);
        return true;
    }

    void help() {
        constexpr int PATIENCE = 20000;  // looks, about a millisecond, before a helper without work goes to sleep
        for (int idle = 0;;) {
            if (working_) {
                idle = take() ? 0 : idle;
                breathe();
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
    std::atomic<Round> round_{Round{0, 0, 0}};
    std::atomic<int> done_{0};
    std::atomic<void (*)(const void*, int)> call_{nullptr};
    std::atomic<const void*> task_{nullptr};
};
