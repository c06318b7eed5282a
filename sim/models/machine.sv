// The machine in its test harness: accelerator, memory model and trace writer. Only the control bus, the interrupt and a few
// numbers for the progress display reach Python, so that a frame runs at the simulator's full speed. With SDRAM defined, the
// memory is a board's: the SDRAM controller, with the host link's ports idle, and the chip's model.

`define TRACE(SPACE, PORT) \
    if (PORT``__valid) trace_record(SPACE, cycle, frame, PORT``__place, ($bits(PORT``__payload) + 31) / 32, 1024'(PORT``__payload));

module machine #(
    parameter int BYTES = 32,          // AXI data bus
    parameter int DEPTH = 1 << 20,     // memory words of BYTES
    parameter int SCRATCH_BITS = 1,    // payload widths of the trace ports
    parameter int RESIDUAL_BITS = 1,
    parameter int SCORE_BITS = 1,
    parameter int EXPONENTIAL_BITS = 1,
    parameter int QUEUE_BITS = 1,
    parameter int QUERY_BITS = 1,
    parameter int STREAM_BITS = 1
) (
    input  logic        clk /* verilator public_flat_rw */,
    input  logic        rst /* verilator public_flat_rw */,
    input  logic [31:0] frame /* verilator public_flat_rw */,         // labels the trace records

    input  logic [7:0]  control__awaddr /* verilator public_flat_rw */,
    input  logic        control__awvalid /* verilator public_flat_rw */,
    output logic        control__awready /* verilator public_flat_rd */,
    input  logic [31:0] control__wdata /* verilator public_flat_rw */,
    input  logic [3:0]  control__wstrb /* verilator public_flat_rw */,
    input  logic        control__wvalid /* verilator public_flat_rw */,
    output logic        control__wready /* verilator public_flat_rd */,
    output logic [1:0]  control__bresp /* verilator public_flat_rd */,
    output logic        control__bvalid /* verilator public_flat_rd */,
    input  logic        control__bready /* verilator public_flat_rw */,
    input  logic [7:0]  control__araddr /* verilator public_flat_rw */,
    input  logic        control__arvalid /* verilator public_flat_rw */,
    output logic        control__arready /* verilator public_flat_rd */,
    output logic [31:0] control__rdata /* verilator public_flat_rd */,
    output logic [1:0]  control__rresp /* verilator public_flat_rd */,
    output logic        control__rvalid /* verilator public_flat_rd */,
    input  logic        control__rready /* verilator public_flat_rw */,

    output logic        interrupt /* verilator public_flat_rd */,
    output logic        initialised /* verilator public_flat_rd */,   // the memory may be used
    output logic [31:0] trace_place /* verilator public_flat_rd */,   // of the engine's latest job: command, expert << 16, second matrix << 31
    output logic [63:0] cycle /* verilator public_flat_rd */
);
    import "DPI-C" function void trace_record(input int space, input longint cycle, input int frame, input int place,
                                              input int words, input bit [1023:0] data);
    import "DPI-C" function void trace_flush();

    // Payloads of AXI channels as tessera.hw.interfaces.axi lays them out: its first field is the last one here.
    typedef struct packed { logic [1:0] burst; logic [2:0] size; logic [7:0] len; logic [31:0] addr; } burst_t;
    typedef struct packed { logic last; logic [1:0] resp; logic [8*BYTES-1:0] data; } read_beat_t;
    typedef struct packed { logic last; logic [BYTES-1:0] strb; logic [8*BYTES-1:0] data; } write_beat_t;
    burst_t read__ar__payload, write__aw__payload;
    read_beat_t read__r__payload;
    write_beat_t write__w__payload;
    logic [1:0] write__b__payload;
    logic read__ar__valid, read__ar__ready, read__r__valid, read__r__ready;
    logic write__aw__valid, write__aw__ready, write__w__valid, write__w__ready, write__b__valid, write__b__ready;

    logic trace__scratchpad__valid, trace__residual__valid, trace__score__valid;
    logic trace__exponential__valid, trace__queue__valid, trace__query__valid, trace__stream__valid;
    logic [31:0] trace__scratchpad__place, trace__residual__place, trace__score__place, trace__stream__place;
    logic [31:0] trace__exponential__place, trace__queue__place, trace__query__place;
    logic [SCRATCH_BITS-1:0] trace__scratchpad__payload;
    logic [RESIDUAL_BITS-1:0] trace__residual__payload;
    logic [SCORE_BITS-1:0] trace__score__payload;
    logic [EXPONENTIAL_BITS-1:0] trace__exponential__payload;
    logic [QUEUE_BITS-1:0] trace__queue__payload;
    logic [QUERY_BITS-1:0] trace__query__payload;
    logic [STREAM_BITS-1:0] trace__stream__payload;

    // Registers between the pins and the machine: what depends on pins is evaluated at every change of the clock.
    logic reset;
    always_ff @(posedge clk) reset <= rst;

    logic host_awvalid, host_awready, host_wvalid, host_wready, host_bvalid, host_bready;
    logic host_arvalid, host_arready, host_rvalid, host_rready;
    logic [7:0] host_awaddr, host_araddr;
    logic [31:0] host_wdata, host_rdata;
    logic [3:0] host_wstrb;
    logic [1:0] host_bresp, host_rresp;
    channel_register #(8) awaddr_register (
        .clk, .rst(reset), .valid(control__awvalid), .ready(control__awready), .payload(control__awaddr),
        .next_valid(host_awvalid), .next_ready(host_awready), .next_payload(host_awaddr)
    );
    channel_register #(36) wdata_register (
        .clk, .rst(reset), .valid(control__wvalid), .ready(control__wready), .payload({control__wstrb, control__wdata}),
        .next_valid(host_wvalid), .next_ready(host_wready), .next_payload({host_wstrb, host_wdata})
    );
    channel_register #(2) bresp_register (
        .clk, .rst(reset), .valid(host_bvalid), .ready(host_bready), .payload(host_bresp),
        .next_valid(control__bvalid), .next_ready(control__bready), .next_payload(control__bresp)
    );
    channel_register #(8) araddr_register (
        .clk, .rst(reset), .valid(control__arvalid), .ready(control__arready), .payload(control__araddr),
        .next_valid(host_arvalid), .next_ready(host_arready), .next_payload(host_araddr)
    );
    channel_register #(34) rdata_register (
        .clk, .rst(reset), .valid(host_rvalid), .ready(host_rready), .payload({host_rresp, host_rdata}),
        .next_valid(control__rvalid), .next_ready(control__rready), .next_payload({control__rresp, control__rdata})
    );

    accelerator dut (
        .rst(reset), .state(),
        .control__aw__valid(host_awvalid), .control__aw__ready(host_awready), .control__aw__payload(host_awaddr),
        .control__w__valid(host_wvalid), .control__w__ready(host_wready), .control__w__payload({host_wstrb, host_wdata}),
        .control__b__valid(host_bvalid), .control__b__ready(host_bready), .control__b__payload(host_bresp),
        .control__ar__valid(host_arvalid), .control__ar__ready(host_arready), .control__ar__payload(host_araddr),
        .control__r__valid(host_rvalid), .control__r__ready(host_rready), .control__r__payload({host_rresp, host_rdata}),
        .*
    );

`ifdef SDRAM
    logic pads__cke, pads__cs_n, pads__ras_n, pads__cas_n, pads__we_n, pads__dq_oe;
    logic [1:0] pads__ba, pads__dqm;
    logic [12:0] pads__a;
    logic [15:0] pads__dq_o, pads__dq_i;

    sdram_memory controller (
        .rst(reset),
        .readers__0__ar__valid(read__ar__valid), .readers__0__ar__ready(read__ar__ready),
        .readers__0__ar__payload(read__ar__payload), .readers__0__r__valid(read__r__valid),
        .readers__0__r__ready(read__r__ready), .readers__0__r__payload(read__r__payload),
        .writers__0__aw__valid(write__aw__valid), .writers__0__aw__ready(write__aw__ready),
        .writers__0__aw__payload(write__aw__payload), .writers__0__w__valid(write__w__valid),
        .writers__0__w__ready(write__w__ready), .writers__0__w__payload(write__w__payload),
        .writers__0__b__valid(write__b__valid), .writers__0__b__ready(write__b__ready),
        .writers__0__b__payload(write__b__payload),
        .readers__1__ar__valid('0), .readers__1__ar__ready(), .readers__1__ar__payload('0),
        .readers__1__r__valid(), .readers__1__r__ready('0), .readers__1__r__payload(),
        .writers__1__aw__valid('0), .writers__1__aw__ready(), .writers__1__aw__payload('0),
        .writers__1__w__valid('0), .writers__1__w__ready(), .writers__1__w__payload('0),
        .writers__1__b__valid(), .writers__1__b__ready('0), .writers__1__b__payload(),
        .*
    );

    sdram_chip memory (
        .clk, .cke(pads__cke), .cs_n(pads__cs_n), .ras_n(pads__ras_n), .cas_n(pads__cas_n), .we_n(pads__we_n),
        .ba(pads__ba), .a(pads__a), .dqm(pads__dqm), .dq_i(pads__dq_o), .dq_i_en(pads__dq_oe), .dq_o(pads__dq_i)
    );
`else
    assign initialised = 1'b1;

    axi_memory #(.DATA_WIDTH(8 * BYTES), .DEPTH(DEPTH)) memory (
        .clk, .rst(reset),
        .arvalid(read__ar__valid), .arready(read__ar__ready), .arid('0), .araddr(read__ar__payload.addr),
        .arlen(read__ar__payload.len), .arsize(read__ar__payload.size), .arburst(read__ar__payload.burst),
        .rvalid(read__r__valid), .rready(read__r__ready), .rid(), .rdata(read__r__payload.data),
        .rresp(read__r__payload.resp), .rlast(read__r__payload.last),
        .awvalid(write__aw__valid), .awready(write__aw__ready), .awid('0), .awaddr(write__aw__payload.addr),
        .awlen(write__aw__payload.len), .awsize(write__aw__payload.size), .awburst(write__aw__payload.burst),
        .wvalid(write__w__valid), .wready(write__w__ready), .wdata(write__w__payload.data),
        .wstrb(write__w__payload.strb), .wlast(write__w__payload.last),
        .bvalid(write__b__valid), .bready(write__b__ready), .bid(), .bresp(write__b__payload)
    );
`endif

`ifdef WAVES
    // Waves from +wave_first=CYCLE into +wave_file=FILE; the bench ends the simulation where the window does.
    string wave_file;
    longint wave_first;
    bit waves_wanted;
    initial waves_wanted = $value$plusargs("wave_file=%s", wave_file) && $value$plusargs("wave_first=%d", wave_first);
    always_ff @(posedge clk)
        if (waves_wanted && !rst && cycle + 1 == wave_first) begin
            $dumpfile(wave_file);
            $dumpvars;
        end
`endif

    always_ff @(posedge clk) begin
        cycle <= reset ? '0 : cycle + 1;
        if (!reset) begin
            `TRACE(0, trace__scratchpad)
            `TRACE(1, trace__residual)
            `TRACE(2, trace__score)
            `TRACE(3, trace__exponential)
            `TRACE(4, trace__queue)
            `TRACE(5, trace__query)
            `TRACE(6, trace__stream)
        end
        if (interrupt) trace_flush();
    end
endmodule

// One transfer in a register: no path from a pin to anything but registers.
module channel_register #(
    parameter int WIDTH = 1
) (
    input  logic             clk, rst, valid, next_ready,
    input  logic [WIDTH-1:0] payload,
    output logic             ready, next_valid,
    output logic [WIDTH-1:0] next_payload
);
    assign ready = !next_valid;
    always_ff @(posedge clk) begin
        if (rst) next_valid <= 0;
        else if (valid && ready) begin
            next_valid <= 1;
            next_payload <= payload;
        end else if (next_ready) next_valid <= 0;
    end
endmodule
