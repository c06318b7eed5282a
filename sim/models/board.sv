// The simulated board: the system of a real one, and the chip behind its pads. Bytes come and go bit by bit over `rx` and
// `tx`; board_main.cpp turns the clock and carries them to a pseudo-terminal.
//
//   +accesses=FILE    every write that the host link makes, a line each: "register ADDRESS DATA", "memory ADDRESS BEATS", "beat DATA"

module board (
    input  logic clk /* verilator public_flat_rw */,
    input  logic rst /* verilator public_flat_rw */,
    input  logic rx /* verilator public_flat_rw */,
    output logic tx /* verilator public_flat_rw */,
    output logic busy /* verilator public_flat_rw */   // a frame is being computed
);
    logic reset;
    always_ff @(posedge clk) reset <= rst;

    // ---- what the host link writes, and whether the accelerator is at work --------------------------------------------
    assign busy = dut.accelerator.state[0];
    int    accesses = 0;
    string file;
    initial if ($value$plusargs("accesses=%s", file)) accesses = $fopen(file, "w");
    always_ff @(posedge clk)
        if (accesses != 0 && !reset) begin
            // Payloads as tessera.hw.interfaces.axi lays them out: address and length of a burst, the data of a beat or a word.
            if (dut.host_link.write__aw__valid && dut.host_link.write__aw__ready)
                $fdisplay(accesses, "memory %0d %0d", dut.host_link.write__aw__payload[31:0],
                          dut.host_link.write__aw__payload[39:32] + 9'd1);
            if (dut.host_link.write__w__valid && dut.host_link.write__w__ready)
                $fdisplay(accesses, "beat %0h", dut.host_link.write__w__payload[$bits(dut.host_link.write__w__payload)*8/9-1:0]);
            if (dut.host_link.control__w__valid && dut.host_link.control__w__ready)
                $fdisplay(accesses, "register %0d %0d", dut.host_link.control__aw__payload,
                          dut.host_link.control__w__payload[31:0]);
        end
    final if (accesses != 0) $fclose(accesses);

`ifdef ON_CHIP
    system dut (.rst(reset), .lights(), .*);
`else
    logic pads__cke, pads__cs_n, pads__ras_n, pads__cas_n, pads__we_n, pads__dq_oe;
    logic [1:0] pads__ba, pads__dqm;
    logic [12:0] pads__a;
    logic [15:0] pads__dq_o, pads__dq_i;

    system dut (.rst(reset), .lights(), .*);

    sdram_chip chip (
        .clk, .cke(pads__cke), .cs_n(pads__cs_n), .ras_n(pads__ras_n), .cas_n(pads__cas_n), .we_n(pads__we_n),
        .ba(pads__ba), .a(pads__a), .dqm(pads__dqm), .dq_i(pads__dq_o), .dq_i_en(pads__dq_oe), .dq_o(pads__dq_i)
    );
`endif
endmodule
