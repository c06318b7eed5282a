// Main program of the machine's fast build: the clock runs in here.
//
// cocotb's own main program lets Python's clock object schedule every edge through VPI. This one turns the clock over itself, and
// looks at VPI only as far as somebody waits for something: a frame of half a million cycles has a few dozen such moments. The order
// of events within a time step is that of cocotb's program (timed callbacks, evaluation and value changes until nothing moves,
// read-write, read-only).

#include <memory>

#include "Vtop.h"
#include "verilated.h"
#include "verilated_vpi.h"

extern "C" void vlog_startup_routines_bootstrap(void);

namespace {

constexpr vluint64_t kHalfPeriod = 5000;  // ps; tessera.sim.bench.streams.CLOCK_PERIOD_NS is the whole
vluint64_t now = 0;

void settle_values() {
    while (VerilatedVpi::callValueCbs()) {
    }
}

void time_step(Vtop& top) {
    do {
        do {
            top.eval_step();
            VerilatedVpi::clearEvalNeeded();
            VerilatedVpi::doInertialPuts();
            settle_values();
        } while (VerilatedVpi::evalNeeded());
        if (VerilatedVpi::hasCbs(cbReadWriteSynch)) {
            VerilatedVpi::callCbs(cbReadWriteSynch);
            VerilatedVpi::doInertialPuts();
            settle_values();
        }
    } while (VerilatedVpi::evalNeeded());
    top.eval_end_step();
    if (VerilatedVpi::hasCbs(cbReadOnlySynch)) VerilatedVpi::callCbs(cbReadOnlySynch);
}

}  // namespace

double sc_time_stamp() { return now; }

int main(int argc, char** argv) {
    Verilated::commandArgs(argc, argv);
    const auto top = std::make_unique<Vtop>("");
    Verilated::fatalOnVpiError(false);
    vlog_startup_routines_bootstrap();
    Verilated::addExitCb([](void*) { VerilatedVpi::callCbs(cbEndOfSimulation); }, nullptr);
    VerilatedVpi::callCbs(cbStartOfSimulation);
    settle_values();

    top->clk = 0;
    vluint64_t edge = kHalfPeriod;
    time_step(*top);
    while (!Verilated::gotFinish()) {
        const vluint64_t deadline = VerilatedVpi::cbNextDeadline();
        now = deadline < edge ? deadline : edge;
        if (VerilatedVpi::hasCbs(cbNextSimTime)) {
            VerilatedVpi::callCbs(cbNextSimTime);
            settle_values();
        }
        if (now == edge) {
            top->clk = !top->clk;
            edge += kHalfPeriod;
        }
        if (now == deadline) VerilatedVpi::callTimedCbs();
        settle_values();  // before the evaluation: who waits for an edge sees the values from before it
        time_step(*top);
    }

    top->final();
    VerilatedVpi::callCbs(cbEndOfSimulation);
    return Verilated::threadContextp()->errorCount() > 0;
}
