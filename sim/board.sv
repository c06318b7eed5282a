// The simulated board: accelerator and host link, and what lies behind the pads of a real one. Bytes come and go bit by bit
// over `rx` and `tx`; board_main.cpp turns the clock and carries them to a pseudo-terminal.
//
//   +accesses=FILE    every write that the host link makes, a line each: "register ADDRESS DATA", "memory ADDRESS BEATS", "beat DATA"

module board #(
    parameter int BYTES = 4,           // AXI data bus
    parameter int DEPTH = 1 << 20      // memory words of BYTES
) (
    input  logic clk /* verilator public_flat_rw */,
    input  logic rst /* verilator public_flat_rw */,
    input  logic rx /* verilator public_flat_rw */,
    output logic tx /* verilator public_flat_rw */,
    output logic busy /* verilator public_flat_rw */   // a frame is being computed
);
    `define PORT(P) \
        logic [31:0] P``__araddr, P``__awaddr; \
        logic [7:0] P``__arlen, P``__awlen; \
        logic [2:0] P``__arsize, P``__awsize; \
        logic [1:0] P``__arburst, P``__awburst, P``__rresp, P``__bresp; \
        logic P``__arvalid, P``__arready, P``__rlast, P``__rvalid, P``__rready; \
        logic P``__awvalid, P``__awready, P``__wlast, P``__wvalid, P``__wready, P``__bvalid, P``__bready; \
        logic [8*BYTES-1:0] P``__rdata, P``__wdata; \
        logic [BYTES-1:0] P``__wstrb;
    `PORT(core)
    `PORT(link)
    `PORT(chip)

    logic reset;
    always_ff @(posedge clk) reset <= rst;

    linked_machine dut (.rst(reset), .core_busy(busy), .activity(), .error(), .*);
    assign busy = dut.accelerator.registers.running || dut.accelerator.registers.halt;

    // ---- behind the pads: one memory, shared -----------------------------------------------------------------------
    axi_share #(.BYTES(BYTES)) share (.rst(reset), .*);

    axi_memory #(.DATA_WIDTH(8 * BYTES), .DEPTH(DEPTH)) memory (
        .clk, .rst(reset),
        .arvalid(chip__arvalid), .arready(chip__arready), .arid('0), .araddr(chip__araddr),
        .arlen(chip__arlen), .arsize(chip__arsize), .arburst(chip__arburst),
        .rvalid(chip__rvalid), .rready(chip__rready), .rid(), .rdata(chip__rdata), .rresp(chip__rresp), .rlast(chip__rlast),
        .awvalid(chip__awvalid), .awready(chip__awready), .awid('0), .awaddr(chip__awaddr),
        .awlen(chip__awlen), .awsize(chip__awsize), .awburst(chip__awburst),
        .wvalid(chip__wvalid), .wready(chip__wready), .wdata(chip__wdata), .wstrb(chip__wstrb), .wlast(chip__wlast),
        .bvalid(chip__bvalid), .bready(chip__bready), .bid(), .bresp(chip__bresp)
    );

    // ---- what the host link writes ------------------------------------------------------------------------------------
    int    accesses = 0;
    string file;
    initial if ($value$plusargs("accesses=%s", file)) accesses = $fopen(file, "w");
    always_ff @(posedge clk)
        if (accesses != 0 && !reset) begin
            if (link__awvalid && link__awready) $fdisplay(accesses, "memory %0d %0d", link__awaddr, link__awlen + 9'd1);
            if (link__wvalid && link__wready) $fdisplay(accesses, "beat %0h", link__wdata);
            if (dut.accelerator.control__wvalid && dut.accelerator.control__wready)
                $fdisplay(accesses, "register %0d %0d", dut.accelerator.control__awaddr, dut.accelerator.control__wdata);
        end
    final if (accesses != 0) $fclose(accesses);
endmodule
