// SdramMemory with a chip behind it (or OnChipMemory, with ON_CHIP defined) and CLIENTS clients in front, each with a read and a write port: random traffic against a
// reference memory, or one stream. A wrong word, answer or order ends the simulation with a message.
//
// Every client reads and writes rows of its own (the low bits of the row number are its number), so what it reads is known
// whatever the others do; banks, buses and the chip are shared. It writes a batch of bursts, waits for the answers, reads
// a batch, and so on. Bursts are single, short or long; they begin anywhere, where the last one ended, or beyond the chip.
//
// +seed=N, +accesses=N bursts in all, +pause=N chance in 256 that a handshake waits for a cycle, +long=1 none but long bursts,
// which fill the buffers. +stream=N instead: client 0 reads bursts of N beats one after the other; +stream_write=1 writes them.

`define CLIENT(I) \
    .readers__``I``__ar__valid(arvalid[I]), .readers__``I``__ar__ready(arready[I]), \
    .readers__``I``__ar__payload({2'b01, 3'($clog2(BYTES)), arlen[I], araddr[I]}), \
    .readers__``I``__r__valid(rvalid[I]), .readers__``I``__r__ready(rready[I]), \
    .readers__``I``__r__payload({rlast[I], rresp[I], rdata[I]}), \
    .writers__``I``__aw__valid(awvalid[I]), .writers__``I``__aw__ready(awready[I]), \
    .writers__``I``__aw__payload({2'b01, 3'($clog2(BYTES)), awlen[I], awaddr[I]}), \
    .writers__``I``__w__valid(wvalid[I]), .writers__``I``__w__ready(wready[I]), \
    .writers__``I``__w__payload({wlast[I], wstrb[I], wdata[I]}), \
    .writers__``I``__b__valid(bvalid[I]), .writers__``I``__b__ready(bready[I]), .writers__``I``__b__payload(bresp[I])

module sdram_system #(
    parameter int BYTES = 2,
    parameter int SIZE_BITS = 25        // of the memory, in bytes; beyond, bursts are refused
) (
    input  logic        clk /* verilator public_flat_rw */,
    input  logic        rst /* verilator public_flat_rw */,
    output logic        initialised /* verilator public_flat_rw */,
    output logic        done /* verilator public_flat_rw */,
    output logic [63:0] cycle /* verilator public_flat_rw */,        // since power-up was over
    output logic [63:0] finished /* verilator public_flat_rw */,     // bursts
    output logic [63:0] beats /* verilator public_flat_rw */,
    output logic [63:0] outside /* verilator public_flat_rw */,      // bursts that were refused
    output logic [31:0] latency /* verilator public_flat_rw */       // of a stream's first burst, ARVALID to RVALID
);
    localparam int CLIENTS = 2, WORDS = 1 << (SIZE_BITS - 1), PENDING = 16;
    localparam int PER_BEAT = BYTES / 2;
    typedef logic [8*BYTES-1:0] beat_t;

    logic [CLIENTS-1:0] arvalid, arready, rlast, rvalid, rready, awvalid, awready, wlast, wvalid, wready, bvalid, bready;
    logic [31:0] araddr [CLIENTS], awaddr [CLIENTS];
    logic [7:0] arlen [CLIENTS], awlen [CLIENTS];
    beat_t rdata [CLIENTS], wdata [CLIENTS];
    logic [BYTES-1:0] wstrb [CLIENTS];
    logic [1:0] rresp [CLIENTS], bresp [CLIENTS];

    logic pads__cke, pads__cs_n, pads__ras_n, pads__cas_n, pads__we_n, pads__dq_oe;
    logic [1:0] pads__ba, pads__dqm;
    logic [12:0] pads__a;
    logic [15:0] pads__dq_o, pads__dq_i;

    memory dut (.*, `CLIENT(0), `CLIENT(1));

`ifndef ON_CHIP
    sdram_chip chip (
        .clk, .cke(pads__cke), .cs_n(pads__cs_n), .ras_n(pads__ras_n), .cas_n(pads__cas_n), .we_n(pads__we_n),
        .ba(pads__ba), .a(pads__a), .dqm(pads__dqm), .dq_i(pads__dq_o), .dq_i_en(pads__dq_oe), .dq_o(pads__dq_i)
    );
`endif

    // ---- settings ----------------------------------------------------------------------------------------------------
    longint accesses, seed;
    logic [7:0] pause;
    int stream;
    bit stream_write, long_only;
    bit   [15:0] reference [0:WORDS-1];

    initial begin
        {accesses, seed, pause, stream, stream_write, long_only} = {64'd20_000, 64'd1, 8'd0, 32'd0, 1'b0, 1'b0};
        void'($value$plusargs("accesses=%d", accesses));
        void'($value$plusargs("seed=%d", seed));
        void'($value$plusargs("pause=%d", pause));
        void'($value$plusargs("long=%d", long_only));
        void'($value$plusargs("stream=%d", stream));
        void'($value$plusargs("stream_write=%d", stream_write));
        for (int i = 0; i < CLIENTS; i++)
            random[i] = (64'(seed * CLIENTS + longint'(i)) * 64'h9E3779B97F4A7C15) ^ 64'hD1B54A32D192ED03;
    end

    // ---- random numbers ----------------------------------------------------------------------------------------------
    logic [63:0] random [CLIENTS];

    function automatic logic [31:0] draw(input int client);
        random[client] ^= random[client] << 13;
        random[client] ^= random[client] >> 7;
        random[client] ^= random[client] << 17;
        return random[client][47:16];
    endfunction

    function automatic logic goes(input int client);
        return draw(client)[7:0] >= pause;
    endfunction

    // ---- bursts ------------------------------------------------------------------------------------------------------
    typedef struct packed {
        logic [31:0] address;
        logic [7:0]  last;
    } burst_t;
    burst_t following [CLIENTS];        // where the last burst ended

    function automatic burst_t choose(input int client);
        burst_t burst;
        int room;
        if (stream != 0) burst.address = following[client].address & 32'((1 << SIZE_BITS) - 1);
        else begin
            case (draw(client) % 8)
                0, 1: burst.address = following[client].address;
                2, 3, 4: burst.address = {18'(draw(client) % 3), 14'(draw(client))};    // a few rows
                default: burst.address = draw(client);
            endcase
            burst.address[31:SIZE_BITS] = draw(client) % 32 == 0 ? (32 - SIZE_BITS)'(draw(client)) : '0;
            burst.address[12] = client[0];
        end
        burst.address &= ~32'(BYTES - 1);
        if (stream != 0) burst.last = 8'(stream - 1);
        else case (long_only ? 7 : draw(client) % 8)
            0, 1, 2, 3: burst.last = '0;
            4, 5: burst.last = 8'(draw(client) % 16);
            default: burst.last = 8'(draw(client));
        endcase
        room = (4096 - int'(burst.address[11:0])) / BYTES;
        if (int'(burst.last) >= room) burst.last = 8'(room - 1);
        following[client].address = burst.address + (32'(burst.last) + 1) * BYTES;
        return burst;
    endfunction

    // ---- clients -----------------------------------------------------------------------------------------------------
    burst_t pending [CLIENTS][PENDING];             // asked for and not answered
    burst_t giving [CLIENTS][PENDING];              // of which beats are to be written
    int pending_in [CLIENTS], pending_out [CLIENTS], giving_in [CLIENTS], giving_out [CLIENTS], beat [CLIENTS];
    int batch [CLIENTS];                            // bursts yet to be asked for
    logic [CLIENTS-1:0] writing;
    logic measured, stopping;
    int settle;
    longint asked;

    task automatic answer_read(input int client);
        burst_t burst;
        int word;
        beat_t expected;
        burst = pending[client][pending_out[client] % PENDING];
        word = int'(burst.address[SIZE_BITS-1:1]) + beat[client] * PER_BEAT;
        for (int i = 0; i < PER_BEAT; i++) expected[16*i +: 16] = reference[word + i];
        assert (pending_in[client] != pending_out[client]) else $error("client %0d: a beat that it did not ask for", client);
        assert (rresp[client] == (burst.address >> SIZE_BITS != 0 ? 2'b11 : 2'b00))
        else $error("client %0d: response %b at %h", client, rresp[client], burst.address);
        assert (rlast[client] == (beat[client] == int'(burst.last)))
        else $error("client %0d: RLAST is %b on beat %0d of %0d", client, rlast[client], beat[client], burst.last + 1);
        assert (burst.address >> SIZE_BITS != 0 || rdata[client] == expected)
        else $error("client %0d: read %h at word %h, expected %h", client, rdata[client], word, expected);
        beats <= beats + 1;
        beat[client]++;
        if (rlast[client]) begin
            beat[client] = 0;
            finish(client, burst);
        end
    endtask

    task automatic finish(input int client, input burst_t burst);
        pending_out[client]++;
        finished = finished + 1;
        if (burst.address >> SIZE_BITS != 0) outside = outside + 1;
    endtask

    task automatic ask(input int client, output burst_t burst);
        burst = choose(client);
        pending[client][pending_in[client] % PENDING] = burst;
        pending_in[client]++;
        batch[client]--;
    endtask

    task automatic give(input int client);
        burst_t burst;
        int word;
        burst = giving[client][giving_out[client] % PENDING];
        word = int'(burst.address[SIZE_BITS-1:1]) + beat[client] * PER_BEAT;
        for (int i = 0; i < PER_BEAT; i++) wdata[client][16*i +: 16] <= 16'(draw(client));
        wstrb[client] <= draw(client) % 4 == 0 ? BYTES'(draw(client)) : '1;
        wlast[client] <= beat[client] == int'(burst.last);
        wvalid[client] <= 1'b1;
        if (beat[client] == int'(burst.last)) begin
            beat[client] = 0;
            giving_out[client]++;
        end else beat[client]++;
    endtask

    // What was given reaches the reference when it is taken.
    burst_t taking [CLIENTS];
    int taken [CLIENTS], taking_out [CLIENTS], addressed [CLIENTS];

    task automatic take(input int client);
        burst_t burst;
        int word;
        burst = giving[client][taking_out[client] % PENDING];
        word = int'(burst.address[SIZE_BITS-1:1]) + taken[client] * PER_BEAT;
        if (burst.address >> SIZE_BITS == 0)
            for (int i = 0; i < BYTES; i++)
                if (wstrb[client][i]) reference[word + i / 2][8*(i % 2) +: 8] = wdata[client][8*i +: 8];
        taken[client]++;
        if (wlast[client]) begin
            taken[client] = 0;
            taking_out[client]++;
        end
    endtask

    task automatic step(input int client);
        burst_t burst;
        if (rvalid[client] && rready[client]) answer_read(client);
        if (wvalid[client] && wready[client]) take(client);
        if (bvalid[client] && bready[client]) begin
            burst = pending[client][pending_out[client] % PENDING];
            assert (pending_in[client] != pending_out[client] && taking_out[client] > pending_out[client] - written_before[client])
            else $error("client %0d: an answer before the write", client);
            assert (bresp[client] == (burst.address >> SIZE_BITS != 0 ? 2'b11 : 2'b00))
            else $error("client %0d: response %b to a write at %h", client, bresp[client], burst.address);
            beats <= beats + 64'(burst.last) + 1;
            finish(client, burst);
        end
        if (stopping) batch[client] = 0;
        else if (batch[client] == 0 && pending_in[client] == pending_out[client]) begin
            writing[client] = stream != 0 ? stream_write : !writing[client];
            written_before[client] = pending_out[client] - taking_out[client];
            batch[client] = stream != 0 ? 1 << 30 : 1 + int'(draw(client) % 32);
        end
        if (!arvalid[client] || arready[client]) begin
            arvalid[client] <= 1'b0;
            if (!writing[client] && batch[client] != 0 && pending_in[client] - pending_out[client] < PENDING && goes(client)) begin
                ask(client, burst);
                araddr[client] <= burst.address;
                arlen[client] <= burst.last;
                arvalid[client] <= 1'b1;
            end
        end
        // Beats may run ahead of their addresses, which is what fills the buffers.
        if (writing[client] && batch[client] != 0 && pending_in[client] - pending_out[client] < PENDING) begin
            ask(client, burst);
            giving[client][giving_in[client] % PENDING] = burst;
            giving_in[client]++;
        end
        if (!wvalid[client] || wready[client]) begin
            wvalid[client] <= 1'b0;
            if (giving_in[client] != giving_out[client] && goes(client)) give(client);
        end
        if (!awvalid[client] || awready[client]) begin
            awvalid[client] <= 1'b0;
            if (giving_in[client] != addressed[client] && goes(client)) begin
                burst = giving[client][addressed[client] % PENDING];
                awaddr[client] <= burst.address;
                awlen[client] <= burst.last;
                awvalid[client] <= 1'b1;
                addressed[client]++;
            end
        end
        rready[client] <= goes(client);
        bready[client] <= goes(client);
    endtask
    int written_before [CLIENTS];

    always @(posedge clk) begin
        if (rst) begin
            {arvalid, awvalid, wvalid, rready, bready, writing} <= '0;
            {done, cycle, finished, beats, outside, latency, measured, stopping, settle, asked} = '0;
            for (int i = 0; i < CLIENTS; i++) begin
                {pending_in[i], pending_out[i], giving_in[i], giving_out[i], beat[i], batch[i]} = '0;
                {taken[i], taking_out[i], addressed[i], written_before[i]} = '0;
                following[i] = '0;
            end
        end else if (initialised && !done) begin
            if (arvalid[0] && asked == 0) asked = cycle;
            if (rvalid[0] && !measured) begin
                measured = 1'b1;
                latency = 32'(cycle - asked);
            end
            cycle = cycle + 1;
            for (int i = 0; i < (stream != 0 ? 1 : CLIENTS); i++) step(i);
            // What was asked for is finished first, and the last word is on its way to the chip for a few cycles.
            stopping = finished >= accesses;
            settle = stopping && idle() ? settle + 1 : 0;
            done = stream != 0 ? stopping : settle == 16;
            if (stream == 0 && done) compare();
        end
    end

    function automatic bit idle();
        for (int i = 0; i < CLIENTS; i++) if (pending_in[i] != pending_out[i]) return 1'b0;
        return 1'b1;
    endfunction

    task automatic compare();
        int wrong;
        wrong = 0;
`ifdef ON_CHIP
        for (int i = 0; i < WORDS; i++)
            wrong += int'({dut.on_chip_words.lane_1[i], dut.on_chip_words.lane_0[i]} != reference[i]);
`else
        for (int i = 0; i < WORDS; i++) wrong += int'(chip.storage[i] != reference[i]);
`endif
        assert (wrong == 0) else $error("%0d words of the memory differ from the reference", wrong);
    endtask
endmodule
