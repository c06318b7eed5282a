// Trace writer: every write of the machine into its own memories, as binary records that tessera.sw.verifier.verify compares with the golden model.
//
// A record is: cycle (8 bytes), frame (4), place (4: command, expert << 16, second matrix << 31), then the payload's 32-bit words.
// One file a memory, named by the plusarg +trace=DIRECTORY; without it nothing is written.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "svdpi.h"
#include "verilated.h"

namespace {

constexpr const char* kNames[] = {"scratchpad", "residual", "score", "exponential", "queue", "query", "stream"};
constexpr int kMaximumWords = 32;  // of the 1024 bits that machine.sv hands over
constexpr int kSpaces = sizeof(kNames) / sizeof(kNames[0]);

struct Files {
    std::FILE* file[kSpaces] = {};
    bool enabled = false;

    Files() {
        const char* match = Verilated::commandArgsPlusMatch("trace=");
        if (match == nullptr || match[0] == '\0') return;
        const std::string directory = std::string(match).substr(std::string("+trace=").size());
        enabled = true;
        for (int space = 0; space < kSpaces; ++space) {
            file[space] = std::fopen((directory + "/" + kNames[space] + ".bin").c_str(), "wb");
            enabled = enabled && file[space] != nullptr;
            if (file[space] != nullptr) std::setvbuf(file[space], nullptr, _IOFBF, 1 << 20);
        }
        if (!enabled) std::fprintf(stderr, "trace: cannot write into %s\n", directory.c_str());
    }

    ~Files() {
        for (std::FILE* f : file)
            if (f != nullptr) std::fclose(f);
    }
};

Files& files() {
    static Files instance;
    return instance;
}

}  // namespace

extern "C" void trace_record(int space, long long cycle, int frame, int place, int words, const svBitVecVal* data) {
    Files& f = files();
    if (!f.enabled) return;
    struct {
        std::int64_t cycle;
        std::int32_t frame;
        std::int32_t place;
        svBitVecVal payload[kMaximumWords];
    } record;
    record.cycle = cycle;
    record.frame = frame;
    record.place = place;
    std::memcpy(record.payload, data, words * sizeof(svBitVecVal));
    fwrite_unlocked(&record, offsetof(decltype(record), payload) + words * sizeof(svBitVecVal), 1, f.file[space]);
}

extern "C" void trace_flush() {
    for (std::FILE* f : files().file) {
        if (f == nullptr) continue;
        if (std::fflush(f) == 0 && std::ferror(f) == 0) continue;
        // Half a trace would look like a machine that did not write.
        std::fprintf(stderr, "trace: cannot write: %s\n", std::strerror(errno));
        std::_Exit(EXIT_FAILURE);
    }
}
