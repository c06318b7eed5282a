// Main program of the simulated board: the clock, and a UART at the pins whose other end is a pseudo-terminal.
//
//   +cycles_per_bit=N    length of a bit
//
// The name of the terminal goes to standard output, in one line. The simulation ends when standard input does. It stands
// still while there is nothing to do: no byte on its way, no frame being computed, and the line silent for kRestCycles.

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <deque>
#include <memory>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr uint64_t kLookCycles = 256;      // between looks at the terminal
constexpr uint64_t kPaceCycles = 4096;     // of silence before the clock slows down, so that a host in want of time is not taken for dead
constexpr int kPaceMilliseconds = 5;       // between looks from then on
constexpr uint64_t kRestCycles = 16384;    // of silence before it stops; more than any time-out of the link
constexpr uint64_t kLookInput = 1 << 16;   // between looks at standard input
constexpr size_t kAhead = 4096;            // bytes taken from the terminal before they are sent
uint64_t cycle = 0;

[[noreturn]] void fail(const char* what) {
    perror(what);
    exit(1);
}

// A pseudo-terminal that passes bytes as they are; the far end is held open, so that hosts may come and go.
int open_terminal() {
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal)) fail("pseudo-terminal");
    const char* name = ptsname(terminal);
    const int far = open(name, O_RDWR | O_NOCTTY);
    termios settings;
    if (far < 0 || tcgetattr(far, &settings)) fail(name);
    cfmakeraw(&settings);
    if (tcsetattr(far, TCSANOW, &settings)) fail(name);
    fcntl(terminal, F_SETFL, fcntl(terminal, F_GETFL) | O_NONBLOCK);
    printf("%s\n", name);
    fflush(stdout);
    dup2(STDERR_FILENO, STDOUT_FILENO);  // what assertions say belongs to the log
    return terminal;
}

bool input_ended() {
    pollfd input{0, POLLIN, 0};
    char byte;
    return poll(&input, 1, 0) > 0 && read(0, &byte, 1) <= 0;
}

// Puts bytes on a line: start bit, eight data bits, stop bit.
struct Sender {
    std::deque<uint8_t> bytes;
    unsigned frame = 1, bits = 0, left = 0;

    bool busy() const { return bits || !bytes.empty(); }
    bool level(unsigned cycles_per_bit) {
        if (left == 0) {
            if (bits) frame >>= 1, --bits;
            if (!bits && !bytes.empty()) frame = 0x200 | bytes.front() << 1, bits = 10, bytes.pop_front();
            if (!bits) return true;
            left = cycles_per_bit;
        }
        --left;
        return frame & 1;
    }
};

// Takes bytes from a line; each bit in its middle.
struct Receiver {
    unsigned bits = 0, left = 0, frame = 0;

    // Returns a byte, -1 while there is none, -2 if its stop bit is missing.
    int take(bool level, unsigned cycles_per_bit) {
        if (!bits) {
            if (!level) bits = 10, left = cycles_per_bit / 2, frame = 0;
            return -1;
        }
        if (--left) return -1;
        left = cycles_per_bit;
        frame |= unsigned(level) << (10 - bits);
        if (--bits) return -1;
        return level ? int(frame >> 1 & 0xff) : -2;
    }
};

}  // namespace

double sc_time_stamp() { return double(cycle); }

int main(int argc, char** argv) {
    Verilated::commandArgs(argc, argv);
    const char* argument = Verilated::commandArgsPlusMatch("cycles_per_bit=");
    const unsigned cycles_per_bit = *argument ? unsigned(atoi(strchr(argument, '=') + 1)) : 8;
    const auto top = std::make_unique<Vtop>("");
    const int terminal = open_terminal();
    Sender sender;
    Receiver receiver;
    uint64_t quiet = 0;
    top->clk = 0;
    top->rx = 1;
    top->rst = 1;
    while (!Verilated::gotFinish()) {
        if (cycle == 4) top->rst = 0;
        if (cycle % kLookInput == 0 && input_ended()) break;
        if (cycle % kLookCycles == kLookCycles - 1) {
            const int patience = quiet > kRestCycles ? -1 : quiet > kPaceCycles ? kPaceMilliseconds : 0;
            pollfd waiting[2] = {{terminal, POLLIN, 0}, {0, POLLIN, 0}};
            if (poll(waiting, 2, patience) > 0) {
                if (waiting[1].revents && input_ended()) break;
                uint8_t buffer[1024];
                ssize_t count = 0;
                if (sender.bytes.size() < kAhead) count = read(terminal, buffer, sizeof buffer);
                if (count > 0) sender.bytes.insert(sender.bytes.end(), buffer, buffer + count);
            }
        }
        top->rx = sender.level(cycles_per_bit);
        top->clk = 1;
        top->eval();
        const int byte = receiver.take(top->tx, cycles_per_bit);
        if (byte == -2) fprintf(stderr, "board: a byte without a stop bit at cycle %llu\n", (unsigned long long)cycle);
        if (byte >= 0) {
            const uint8_t content = uint8_t(byte);
            if (write(terminal, &content, 1) != 1) fprintf(stderr, "board: the terminal takes no more\n");
        }
        quiet = sender.busy() || receiver.bits || top->busy ? 0 : quiet + 1;
        top->clk = 0;
        top->eval();
        ++cycle;
    }
    top->final();
    fprintf(stderr, "board: %llu cycles\n", (unsigned long long)cycle);
    return Verilated::threadContextp()->errorCount() > 0;
}
