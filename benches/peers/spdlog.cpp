// spdlog with one worker and a queue that blocks, in the frame of src/lib.rs: the same arguments, workloads and JSON.
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <spdlog/async.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#define MESSAGE "a client asked for the third part of a video; it is sent from the cache, which has the rest as well."
static_assert(sizeof(MESSAGE) - 1 == 100);

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr uint64_t kWarmUp = 1000;
constexpr double kLongestDelay = 0.1;

enum class Fmt { Const, Str, Args };

struct Plan {
    std::string mode = "tput", fmt = "str", file = "peer.log", variant;
    uint64_t threads = 1, lines = 1'000'000, rate = 100'000, group = 1, queue = 0;

    Fmt kind() const { return fmt == "const" ? Fmt::Const : fmt == "str" ? Fmt::Str : Fmt::Args; }
    uint64_t share(uint64_t thread) const { return lines / threads + (thread < lines % threads ? 1 : 0); }
};

[[noreturn]] void refuse(const std::string &what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(2);
}

Plan plan_from(int count, char **arguments) {
    Plan plan;
    const std::map<std::string, std::string *> texts{
        {"mode", &plan.mode}, {"fmt", &plan.fmt}, {"file", &plan.file}, {"variant", &plan.variant}};
    const std::map<std::string, uint64_t *> numbers{{"threads", &plan.threads}, {"lines", &plan.lines},
        {"rate", &plan.rate}, {"group", &plan.group}, {"queue", &plan.queue}};
    for (int nth = 1; nth < count; ++nth) {
        const std::string pair = arguments[nth];
        const auto at = pair.find('=');
        if (at == pair.npos) refuse("key=value");
        const auto key = pair.substr(0, at), value = pair.substr(at + 1);
        if (auto text = texts.find(key); text != texts.end()) *text->second = value;
        else if (auto number = numbers.find(key); number != numbers.end()) *number->second = std::stoull(value);
        else refuse("unknown: " + key);
    }
    return plan;
}

struct Peer {
    std::shared_ptr<spdlog::details::thread_pool> pool;
    std::shared_ptr<spdlog::logger> logger;

    explicit Peer(const Plan &plan) {
        const auto queue = plan.queue ? plan.queue : spdlog::details::default_async_q_size;
        pool = std::make_shared<spdlog::details::thread_pool>(queue, 1);
        auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(plan.file, true);
        sink->set_pattern("%Y-%m-%dT%H:%M:%S.%f %l [%n] [%t] %s:%# %v");
        logger = std::make_shared<spdlog::async_logger>("bench", sink, pool, spdlog::async_overflow_policy::block);
    }

    void log(Fmt fmt, const std::string &text, uint64_t nth) const {
        static const char *clients[] = {"10.0.0.17", "10.0.0.204", "10.0.1.8"};
        static const char *servers[] = {"store-a", "store-b"};
        switch (fmt) {
        case Fmt::Const: SPDLOG_LOGGER_INFO(logger, MESSAGE); break;
        case Fmt::Str: SPDLOG_LOGGER_INFO(logger, "{}", text); break;
        case Fmt::Args:
            SPDLOG_LOGGER_INFO(logger,
                "part {} of file {} sent to {} at offset {} after {} microseconds by {} from the cache", 100'000 + nth,
                40'000 + nth % 10'000, clients[nth % 3], 1'048'576 - int64_t(nth % 4096), 100 + nth % 900,
                servers[nth % 2]);
            break;
        }
    }

    // The pool's end drains its queue, the sink's end closes the file.
    void finish() {
        logger.reset();
        pool.reset();
    }
};

double seconds_since(Clock::time_point moment) { return std::chrono::duration<double>(Clock::now() - moment).count(); }

double nanos_since(Clock::time_point moment) { return seconds_since(moment) * 1e9; }

double processor_seconds() {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

uint64_t peak_rss_kib() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6));
    return 0;
}

std::string text() {
    std::string text = MESSAGE;
    asm volatile("" : "+m"(text));
    return text;
}

void print_quantiles(std::vector<double> &nanos) {
    std::sort(nanos.begin(), nanos.end());
    auto at = [&](double part) { return nanos[std::min(size_t(double(nanos.size()) * part), nanos.size() - 1)]; };
    std::printf("\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f", at(.5), at(.99), at(.999), at(1.));
}

template <class Produce> void on_threads(const Plan &plan, Clock::time_point &begun, double &busy, Produce produce) {
    std::barrier barrier(std::ptrdiff_t(plan.threads) + 1);
    std::vector<std::thread> threads;
    for (uint64_t nth = 0; nth < plan.threads; ++nth)
        threads.emplace_back([&, nth] {
            barrier.arrive_and_wait();
            produce(nth);
        });
    barrier.arrive_and_wait();
    begun = Clock::now();
    busy = processor_seconds();
    for (auto &thread : threads) thread.join();
}

void throughput(const Plan &plan, Peer &peer) {
    Clock::time_point begun;
    double busy = 0;
    on_threads(plan, begun, busy, [&](uint64_t nth) {
        const auto message = text();
        for (uint64_t line = 0; line < plan.share(nth); ++line) peer.log(plan.kind(), message, line);
    });
    const auto produced = seconds_since(begun);
    peer.finish();
    std::printf("\"lines\":%lu,\"produced_s\":%.6f,\"wall_s\":%.6f,\"cpu_s\":%.6f", plan.lines, produced,
        seconds_since(begun), processor_seconds() - busy);
}

void spin_paced(const Plan &plan, const Peer &peer, const std::string &message, std::vector<double> &nanos) {
    const auto begun = Clock::now();
    for (uint64_t first = 0; first < plan.lines; first += plan.group) {
        while (seconds_since(begun) < double(first) / double(plan.rate)) __builtin_ia32_pause();
        const auto group = std::min(plan.group, plan.lines - first);
        const auto before = Clock::now();
        for (auto line = first; line < first + group; ++line) peer.log(plan.kind(), message, line);
        nanos.push_back(nanos_since(before) / double(group));
    }
}

void tick_paced(const Plan &plan, const Peer &peer, const std::string &message, uint64_t lines,
    std::vector<double> &nanos) {
    const auto rate = double(plan.rate) / double(plan.threads);
    const auto begun = Clock::now();
    for (uint64_t line = 0; line < lines;) {
        const auto tick = std::chrono::milliseconds(1 + uint64_t(seconds_since(begun) * 1000));
        std::this_thread::sleep_until(begun + tick);
        const auto due = std::min(uint64_t(std::chrono::duration<double>(tick).count() * rate), lines);
        for (; line < due; ++line) {
            const auto before = Clock::now();
            peer.log(plan.kind(), message, line);
            nanos.push_back(nanos_since(before));
        }
    }
}

void calls(const Plan &plan, Peer &peer) {
    std::vector<std::vector<double>> nanos(plan.threads);
    Clock::time_point begun;
    double busy = 0;
    on_threads(plan, begun, busy, [&](uint64_t nth) {
        const auto message = text();
        for (uint64_t line = 0; line < kWarmUp; ++line) {
            peer.log(plan.kind(), message, line);
            if (line % 50 == 0) std::this_thread::sleep_for(1ms);
        }
        nanos[nth].resize(plan.lines + 1, 1.);
        nanos[nth].clear();
        if (plan.threads == 1) spin_paced(plan, peer, message, nanos[nth]);
        else tick_paced(plan, peer, message, plan.share(nth), nanos[nth]);
    });
    std::vector<double> all, clock;
    for (auto &some : nanos) all.insert(all.end(), some.begin(), some.end());
    peer.finish();
    for (int nth = 0; nth < 20'000; ++nth) clock.push_back(nanos_since(Clock::now()));
    std::sort(clock.begin(), clock.end());
    std::printf("\"lines\":%lu,\"group\":%lu,\"clock_ns\":%.1f,", plan.lines + kWarmUp * plan.threads, plan.group,
        clock[clock.size() / 2] / double(plan.group));
    print_quantiles(all);
}

void delay(const Plan &plan, Peer &peer) {
    const auto message = text();
    std::vector<double> nanos;
    for (uint64_t line = 0; line < plan.lines; ++line) {
        const auto size = std::filesystem::file_size(plan.file);
        const auto before = Clock::now();
        peer.log(plan.kind(), message, line);
        while (std::filesystem::file_size(plan.file) == size && seconds_since(before) < kLongestDelay) __builtin_ia32_pause();
        nanos.push_back(nanos_since(before));
        std::this_thread::sleep_for(3ms);
    }
    peer.finish();
    std::printf("\"lines\":%lu,", plan.lines);
    print_quantiles(nanos);
}

} // namespace

int main(int count, char **arguments) {
    const auto plan = plan_from(count, arguments);
    std::remove(plan.file.c_str());
    Peer peer(plan);
    std::printf("{\"peer\":\"spdlog\",\"mode\":\"%s\",\"threads\":%lu,\"fmt\":\"%s\",", plan.mode.c_str(), plan.threads,
        plan.fmt.c_str());
    if (plan.mode == "tput") throughput(plan, peer);
    else if (plan.mode == "lat") calls(plan, peer);
    else if (plan.mode == "delay") delay(plan, peer);
    else refuse("mode=" + plan.mode);
    std::printf(",\"rss_kib\":%lu}\n", peak_rss_kib());
}
