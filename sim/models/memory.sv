// AXI4 slave memory for simulation: the DRAM behind the accelerator.
//
// Serves INCR bursts of full-width beats, in order, up to OUTSTANDING reads and writes at a time, one beat a cycle unless
// told to stall. Byte A of the image is byte A of the address space; addresses at or above DEPTH words answer DECERR.
// It checks the master too: burst kind, size, alignment, 4 KiB crossings, last beat, and requests that change before they
// are accepted stop the simulation with a message.
//
// Settings are plusargs, read at time 0, and variables of the same names that a test may change at any time:
//
//   +memory_image=FILE    raw bytes loaded from address 0; zero elsewhere
//   +read_latency=N       cycles from the AR transfer to the first R transfer, at least 2 (default 60)
//   +write_latency=N      cycles from the last W transfer to the B transfer, at least 2 (default 20)
//   +stall_ar=N           chance in 256 that the channel pauses for a cycle; also stall_r, stall_aw, stall_w, stall_b
//   +stall_seed=N         chooses the pattern of pauses
//   +error_low=HEX +error_high=HEX   byte window [low, high) that answers SLVERR and ignores writes
//   +drop_read_beat=N     fault: beat N of all read beats (from 0) is never sent
//   +flip_address=HEX +flip_bit=N    fault: bit N of that byte reads inverted
//
// The array `storage` is open to the back door; `read_beats` and `write_beats` count transfers.

module axi_memory #(
    parameter int DATA_WIDTH  = 128,
    parameter int ADDR_WIDTH  = 32,
    parameter int ID_WIDTH    = 1,
    parameter int DEPTH       = 1 << 20,
    parameter int OUTSTANDING = 16,
    parameter bit ALIGNED     = 1   // refuse requests that do not start on a whole beat; AXI itself allows them
) (
    input  logic                    clk,
    input  logic                    rst,

    input  logic                    arvalid,
    output logic                    arready,
    input  logic [ID_WIDTH-1:0]     arid,
    input  logic [ADDR_WIDTH-1:0]   araddr,
    input  logic [7:0]              arlen,
    input  logic [2:0]              arsize,
    input  logic [1:0]              arburst,

    output logic                    rvalid,
    input  logic                    rready,
    output logic [ID_WIDTH-1:0]     rid,
    output logic [DATA_WIDTH-1:0]   rdata,
    output logic [1:0]              rresp,
    output logic                    rlast,

    input  logic                    awvalid,
    output logic                    awready,
    input  logic [ID_WIDTH-1:0]     awid,
    input  logic [ADDR_WIDTH-1:0]   awaddr,
    input  logic [7:0]              awlen,
    input  logic [2:0]              awsize,
    input  logic [1:0]              awburst,

    input  logic                    wvalid,
    output logic                    wready,
    input  logic [DATA_WIDTH-1:0]   wdata,
    input  logic [DATA_WIDTH/8-1:0] wstrb,
    input  logic                    wlast,

    output logic                    bvalid,
    input  logic                    bready,
    output logic [ID_WIDTH-1:0]     bid,
    output logic [1:0]              bresp
);
    localparam int BYTES = DATA_WIDTH / 8;
    localparam int SHIFT = $clog2(BYTES);
    localparam int SLOT = $clog2(OUTSTANDING);
    localparam logic [1:0] INCR = 2'b01, OKAY = 2'b00, SLVERR = 2'b10, DECERR = 2'b11;

    typedef logic [ADDR_WIDTH-1:0] address_t;
    typedef struct packed {
        logic [ID_WIDTH-1:0] id;
        address_t            address;
        logic [7:0]          last;
        logic [31:0]         due;
    } request_t;
    typedef struct packed {
        logic [ID_WIDTH-1:0] id;
        logic [1:0]          response;
        logic [31:0]         due;
    } response_t;

    logic [DATA_WIDTH-1:0] storage [0:DEPTH-1] /* verilator public_flat_rw */;

    // ---- settings ----------------------------------------------------------------------------------------------------
    logic [31:0] read_latency /* verilator public_flat_rw */;
    logic [31:0] write_latency /* verilator public_flat_rw */;
    logic [7:0]  stall_ar /* verilator public_flat_rw */;
    logic [7:0]  stall_r /* verilator public_flat_rw */;
    logic [7:0]  stall_aw /* verilator public_flat_rw */;
    logic [7:0]  stall_w /* verilator public_flat_rw */;
    logic [7:0]  stall_b /* verilator public_flat_rw */;
    logic [63:0] error_low /* verilator public_flat_rw */;
    logic [63:0] error_high /* verilator public_flat_rw */;
    logic [63:0] drop_read_beat /* verilator public_flat_rw */;
    logic [63:0] flip_address /* verilator public_flat_rw */;
    logic [2:0]  flip_bit /* verilator public_flat_rw */;
    logic [63:0] read_beats /* verilator public_flat_rw */;
    logic [63:0] write_beats /* verilator public_flat_rw */;
    logic [63:0] random;

    initial begin
        string image;
        int    file, count, seed;
        logic [DATA_WIDTH-1:0] filled;
        read_latency = 60;
        write_latency = 20;
        {stall_ar, stall_r, stall_aw, stall_w, stall_b} = '0;
        {error_low, error_high, flip_bit} = '0;
        drop_read_beat = '1;
        flip_address = '1;
        seed = 1;
        void'($value$plusargs("read_latency=%d", read_latency));
        void'($value$plusargs("write_latency=%d", write_latency));
        void'($value$plusargs("stall_ar=%d", stall_ar));
        void'($value$plusargs("stall_r=%d", stall_r));
        void'($value$plusargs("stall_aw=%d", stall_aw));
        void'($value$plusargs("stall_w=%d", stall_w));
        void'($value$plusargs("stall_b=%d", stall_b));
        void'($value$plusargs("stall_seed=%d", seed));
        void'($value$plusargs("error_low=%h", error_low));
        void'($value$plusargs("error_high=%h", error_high));
        void'($value$plusargs("drop_read_beat=%d", drop_read_beat));
        void'($value$plusargs("flip_address=%h", flip_address));
        void'($value$plusargs("flip_bit=%d", flip_bit));
        random = (64'(seed) * 64'h9E3779B97F4A7C15) ^ 64'hD1B54A32D192ED03;

        for (int i = 0; i < DEPTH; i++) storage[i] = '0;
        if ($value$plusargs("memory_image=%s", image)) begin
            file = $fopen(image, "rb");
            if (file == 0) $fatal(1, "axi_memory: cannot open the image %s", image);
            count = $fread(storage, file);
            if ($fgetc(file) != -1) $fatal(1, "axi_memory: the image %s exceeds %0d bytes", image, DEPTH * BYTES);
            $fclose(file);
            // $fread fills words from the top byte down. (The streaming operator would do it, bit by bit.)
            for (int i = 0; i * BYTES < count; i++) begin
                filled = storage[i];
                for (int lane = 0; lane < BYTES; lane++) storage[i][8*lane +: 8] = filled[8*(BYTES-1-lane) +: 8];
            end
        end
    end

    // ---- random pauses ---------------------------------------------------------------------------------------------
    logic [31:0] now;
    logic pause_ar, pause_r, pause_aw, pause_w, pause_b;

    function automatic logic [63:0] next_random(input logic [63:0] state);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
    endfunction

    always_ff @(posedge clk) begin
        now <= rst ? '0 : now + 1;
        random <= next_random(random);
        pause_ar <= random[15:8] < stall_ar;
        pause_r <= random[23:16] < stall_r;
        pause_aw <= random[31:24] < stall_aw;
        pause_w <= random[39:32] < stall_w;
        pause_b <= random[47:40] < stall_b;
    end

    // ---- addresses -------------------------------------------------------------------------------------------------
    function automatic address_t whole_beat(input address_t address);
        return address & ~address_t'(BYTES - 1);
    endfunction

    function automatic logic [1:0] response_at(input address_t address);
        if (64'(address) >> SHIFT >= 64'(DEPTH)) return DECERR;
        if (64'(address) >= error_low && 64'(address) < error_high) return SLVERR;
        return OKAY;
    endfunction

    function automatic logic [DATA_WIDTH-1:0] fault_at(input address_t address);
        if (flip_address >> SHIFT != 64'(address) >> SHIFT) return '0;
        return DATA_WIDTH'(1) << (8 * (flip_address & 64'(BYTES - 1)) + 64'(flip_bit));
    endfunction

    task automatic check_request(input string channel, input address_t address, input logic [7:0] last,
                                 input logic [2:0] size, input logic [1:0] burst);
        assert (burst == INCR) else $error("axi_memory: %s burst kind %0d, only INCR is served", channel, burst);
        assert (int'(size) == SHIFT) else $error("axi_memory: %s beats of %0d bytes, need %0d", channel, 1 << size, BYTES);
        assert (!ALIGNED || address == whole_beat(address))
        else $error("axi_memory: %s address %h is not aligned to %0d bytes", channel, address, BYTES);
        assert (int'(whole_beat(address) & 'hfff) + (int'(last) + 1) * BYTES <= 4096)
        else $error("axi_memory: %s burst of %0d beats at %h crosses a 4 KiB boundary", channel, int'(last) + 1, address);
    endtask

    // ---- reads -----------------------------------------------------------------------------------------------------
    request_t        reads [OUTSTANDING];
    logic [SLOT-1:0] read_in, read_out;
    logic [SLOT:0]   read_count;
    logic [7:0]      read_beat;
    request_t        read;
    address_t        read_address;
    logic            read_taken, read_issued, read_done;

    assign read = reads[read_out];
    assign read_address = read.address + (address_t'(read_beat) << SHIFT);
    assign arready = int'(read_count) != OUTSTANDING && !pause_ar && !rst;
    assign read_taken = arvalid && arready;
    assign read_issued = (!rvalid || rready) && read_count != 0 && now >= read.due && !pause_r;
    assign read_done = read_issued && read_beat == read.last;

    always_ff @(posedge clk) begin
        if (rst) begin
            {read_in, read_out, read_count, read_beat, rvalid} <= '0;
            read_beats <= '0;
        end else begin
            if (read_taken) begin
                check_request("AR", araddr, arlen, arsize, arburst);
                reads[read_in] <= '{id: arid, address: whole_beat(araddr), last: arlen, due: now + read_latency - 1};
                read_in <= read_in + 1;
            end
            if (!rvalid || rready) rvalid <= read_issued && read_beats != drop_read_beat;
            if (read_issued) begin
                rid <= read.id;
                rresp <= response_at(read_address);
                rdata <= response_at(read_address) == OKAY
                    ? storage[read_address >> SHIFT] ^ fault_at(read_address) : '0;
                rlast <= read_beat == read.last;
                read_beat <= read_done ? '0 : read_beat + 1;
                read_beats <= read_beats + 1;
            end
            if (read_done) read_out <= read_out + 1;
            read_count <= read_count + (SLOT + 1)'(read_taken) - (SLOT + 1)'(read_done);
        end
    end

    // ---- writes ----------------------------------------------------------------------------------------------------
    request_t        writes [OUTSTANDING];
    response_t       responses [OUTSTANDING];
    logic [SLOT-1:0] write_in, write_out, response_in, response_out;
    logic [SLOT:0]   write_count, response_count;
    logic [7:0]      write_beat;
    logic [1:0]      write_worst;
    request_t        write;
    response_t       response;
    address_t        write_address;
    logic            write_taken, write_accepted, write_done, response_issued;

    assign write = writes[write_out];
    assign write_address = write.address + (address_t'(write_beat) << SHIFT);
    assign awready = int'(write_count) != OUTSTANDING && !pause_aw && !rst;
    assign write_taken = awvalid && awready;
    assign wready = write_count != 0 && int'(response_count) != OUTSTANDING && !pause_w;
    assign write_accepted = wvalid && wready;
    assign write_done = write_accepted && write_beat == write.last;
    assign response = responses[response_out];
    assign response_issued = (!bvalid || bready) && response_count != 0 && now >= response.due && !pause_b;

    always_ff @(posedge clk) begin
        if (rst) begin
            {write_in, write_out, write_count, write_beat, write_worst, write_beats} <= '0;
            {response_in, response_out, response_count, bvalid} <= '0;
        end else begin
            if (write_taken) begin
                check_request("AW", awaddr, awlen, awsize, awburst);
                writes[write_in] <= '{id: awid, address: whole_beat(awaddr), last: awlen, due: '0};
                write_in <= write_in + 1;
            end
            if (write_accepted) begin
                automatic logic [1:0] worst = write_worst | response_at(write_address);
                assert (wlast == (write_beat == write.last))
                else $error("axi_memory: WLAST is %b on beat %0d of %0d", wlast, write_beat, int'(write.last) + 1);
                if (response_at(write_address) == OKAY)
                    for (int i = 0; i < BYTES; i++)
                        if (wstrb[i]) storage[write_address >> SHIFT][8*i +: 8] <= wdata[8*i +: 8];
                write_beat <= write_done ? '0 : write_beat + 1;
                write_worst <= write_done ? OKAY : worst;
                write_beats <= write_beats + 1;
                if (write_done) begin
                    responses[response_in] <= '{id: write.id, response: worst, due: now + write_latency - 1};
                    response_in <= response_in + 1;
                    write_out <= write_out + 1;
                end
            end
            if (!bvalid || bready) bvalid <= response_issued;
            if (response_issued) begin
                bid <= response.id;
                bresp <= response.response;
                response_out <= response_out + 1;
            end
            write_count <= write_count + (SLOT + 1)'(write_taken) - (SLOT + 1)'(write_done);
            response_count <= response_count + (SLOT + 1)'(write_done) - (SLOT + 1)'(response_issued);
        end
    end

    // ---- what the master must keep still until it is accepted -------------------------------------------------------
    stable_ar : assert property (@(posedge clk) disable iff (rst)
        arvalid && !arready |=> arvalid && $stable({arid, araddr, arlen, arsize, arburst}))
    else $error("axi_memory: AR changed before it was accepted");
    stable_aw : assert property (@(posedge clk) disable iff (rst)
        awvalid && !awready |=> awvalid && $stable({awid, awaddr, awlen, awsize, awburst}))
    else $error("axi_memory: AW changed before it was accepted");
    stable_w : assert property (@(posedge clk) disable iff (rst)
        wvalid && !wready |=> wvalid && $stable({wdata, wstrb, wlast}))
    else $error("axi_memory: W changed before it was accepted");
endmodule
