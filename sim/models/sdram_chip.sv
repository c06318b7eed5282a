// An SDR SDRAM chip for simulation: 16M x 16 bits in 4 banks of 8192 rows of 512 words.
//
// It stores words and, above all, checks: every minimum distance between commands, the power-up sequence, the state of
// the banks, refresh, and who drives the data pins. The first violation ends the simulation with a message that names the
// data sheet's parameter, the bank and the times. It knows what a controller of single words needs: bursts of one, no auto
// precharge, no BURST TERMINATE, no power-down; anything else is an error too.
//
// A clock edge is `period` after the one before: times are counted in picoseconds of that, whatever the simulator's clock is.
// A word read at edge E is on `dq_o` before edge E + CAS latency and at no other; in between is noise.
//
// Settings are plusargs in picoseconds, +sdram_NAME=N: period, tck2, tck3 (shortest period at CAS latency 2 and 3), trcd, trp,
// tras, trc, trrd, twr, trfc, tmrd, powerup, tref (+sdram_rows=N refreshes are due in this time), gap (longest from one
// refresh to the next; JEDEC allows 9 tREFI). +sdram_first=N refreshes are needed before the mode register is set;
// +sdram_board=N cycles (at most 3) are added on the way to the controller. +sdram_image=FILE loads raw bytes; the rest is
// zero.

module sdram_chip (
    input  logic        clk,
    input  logic        cke,
    input  logic        cs_n,
    input  logic        ras_n,
    input  logic        cas_n,
    input  logic        we_n,
    input  logic [1:0]  ba,
    input  logic [12:0] a,
    input  logic [1:0]  dqm,
    input  logic [15:0] dq_i,      // what the controller drives
    input  logic        dq_i_en,   // whether it does
    output logic [15:0] dq_o       // what it gets
);
    localparam int WORDS = 1 << 24, MOST_ROWS = 8192;
    localparam longint NEVER = -(longint'(1) << 60);
    localparam logic [2:0] NOP = 3'b111, ACTIVE = 3'b011, READ = 3'b101, WRITE = 3'b100, PRECHARGE = 3'b010,
                           REFRESH = 3'b001, LOAD_MODE = 3'b000;

    bit   [15:0] storage [0:WORDS-1] /* verilator public_flat_rw */;
    longint refreshes /* verilator public_flat_rw */;    // since the mode register was set

    // ---- settings ----------------------------------------------------------------------------------------------------
    int first, board;
    longint rows;
    longint period, tck2, tck3, trcd, trp, tras, trc, trrd, twr, trfc, tmrd, tref, gap, powerup;

    initial begin
        string image;
        int    file, count;
        period = 10_000;
        {tck2, tck3} = {64'd10_000, 64'd7_500};
        {trcd, trp, tras, trc, trrd, twr, trfc} = {64'd20_000, 64'd20_000, 64'd44_000, 64'd66_000, 64'd15_000, 64'd15_000, 64'd66_000};
        {tmrd, tref, powerup} = {64'd20_000, 64'd64_000_000_000, 64'd200_000_000};
        void'($value$plusargs("sdram_period=%d", period));
        void'($value$plusargs("sdram_tck2=%d", tck2));
        void'($value$plusargs("sdram_tck3=%d", tck3));
        void'($value$plusargs("sdram_trcd=%d", trcd));
        void'($value$plusargs("sdram_trp=%d", trp));
        void'($value$plusargs("sdram_tras=%d", tras));
        void'($value$plusargs("sdram_trc=%d", trc));
        void'($value$plusargs("sdram_trrd=%d", trrd));
        void'($value$plusargs("sdram_twr=%d", twr));
        void'($value$plusargs("sdram_trfc=%d", trfc));
        void'($value$plusargs("sdram_tmrd=%d", tmrd));
        void'($value$plusargs("sdram_tref=%d", tref));
        void'($value$plusargs("sdram_powerup=%d", powerup));
        {rows, first, board} = {64'(MOST_ROWS), 32'd2, 32'd0};
        void'($value$plusargs("sdram_rows=%d", rows));
        void'($value$plusargs("sdram_first=%d", first));
        void'($value$plusargs("sdram_board=%d", board));
        gap = 9 * tref / rows;
        void'($value$plusargs("sdram_gap=%d", gap));

        if ($value$plusargs("sdram_image=%s", image)) begin
            file = $fopen(image, "rb");
            if (file == 0) $fatal(1, "sdram_chip: cannot open the image %s", image);
            count = $fread(storage, file);
            if ($fgetc(file) != -1) $fatal(1, "sdram_chip: the image %s exceeds %0d bytes", image, 2 * WORDS);
            $fclose(file);
            // $fread fills words from the top byte down.
            for (int i = 0; 2 * i < count; i++) storage[i] = {storage[i][7:0], storage[i][15:8]};
        end
    end

    // ---- what has happened -------------------------------------------------------------------------------------------
    longint      now;
    logic [3:0]  active;
    logic [12:0] row [4];
    longint      activated [4], precharged [4], written [4];
    longint      any_activated, refreshed, mode_set;
    longint      history [MOST_ROWS];                    // times of the latest refreshes, in a ring
    int          cas_latency;
    int          power_up_refreshes;
    logic        power_up_precharged, ready;

    initial begin
        now = 0;
        active = '0;
        {any_activated, refreshed, mode_set} = {NEVER, NEVER, NEVER};
        for (int i = 0; i < 4; i++) {activated[i], precharged[i], written[i]} = {NEVER, NEVER, NEVER};
        {cas_latency, power_up_refreshes} = '0;
        {power_up_precharged, ready, refreshes} = '0;
    end

    task automatic require(input bit holds, input string what);
        assert (holds) else $error("sdram_chip: at %0d ps: %s", now, what);
    endtask

    task automatic distance(input string name, input logic [1:0] bank, input longint since, input longint least);
        assert (now - since >= least)
        else $error("sdram_chip: %s violated in bank %0d: %0d ps after %0d ps is %0d ps, must be %0d ps or more",
                    name, bank, now, since, now - since, least);
    endtask

    // What must have passed before any command.
    task automatic after_all();
        if (refreshed != NEVER) distance("tRFC", 0, refreshed, trfc);
        if (mode_set != NEVER) distance("tMRD", 0, mode_set, tmrd);
    endtask

    task automatic precharge(input logic [1:0] bank);
        if (active[bank]) begin
            distance("tRAS", bank, activated[bank], tras);
            distance("tWR", bank, written[bank], twr);
            precharged[bank] = now;
        end
        active[bank] = 1'b0;
    endtask

    task automatic all_idle(input string command);
        require(active == '0, $sformatf("%s while banks %b are active", command, active));
        for (int bank = 0; bank < 4; bank++) distance("tRP", 2'(bank), precharged[bank], trp);
    endtask

    // ---- refresh -----------------------------------------------------------------------------------------------------
    task automatic refresh();
        all_idle("AUTO REFRESH");
        for (int bank = 0; bank < 4; bank++) distance("tRC", 2'(bank), activated[bank], trc);
        if (!ready) power_up_refreshes++;
        else begin
            history[refreshes % rows] = now;
            refreshes++;
        end
        refreshed = now;
    endtask

    task automatic check_refresh();
        assert (now - refreshed <= gap)
        else $error("sdram_chip: tREFI violated: no refresh for %0d ps, at most %0d ps are allowed", now - refreshed, gap);
        // `rows` of them in every window of tREF, and what JEDEC allows to postpone. At power-up all rows count as fresh.
        if (refreshes >= rows)
            assert (now - history[refreshes % rows] <= tref + 9 * tref / rows)
            else $error("sdram_chip: tREF violated: the latest %0d refreshes took %0d ps, at most %0d ps are allowed",
                        rows, now - history[refreshes % rows], tref + 9 * tref / rows);
        else
            assert ((now - mode_set) <= (refreshes + 9) * tref / rows)
            else $error("sdram_chip: tREF violated: only %0d refreshes in the %0d ps since power-up", refreshes, now - mode_set);
    endtask

    // ---- commands ----------------------------------------------------------------------------------------------------
    task automatic load_mode();
        all_idle("LOAD MODE REGISTER");
        require(power_up_refreshes >= first, $sformatf("power-up: %0d refreshes before the mode register is set, %0d are needed",
                                                       power_up_refreshes, first));
        require(ba == 0 && a[12:7] == 0 && a[3:0] == 0,
                $sformatf("mode register %h is not for sequential bursts of one word", {ba, a}));
        cas_latency = int'(a[6:4]);
        require(cas_latency == 2 || cas_latency == 3, $sformatf("CAS latency %0d", cas_latency));
        require(period >= (cas_latency == 2 ? tck2 : tck3),
                $sformatf("tCK: CAS latency %0d is too short for a clock of %0d ps", cas_latency, period));
        mode_set = now;
        ready = 1'b1;
    endtask

    task automatic access(input string command);
        require(ready, $sformatf("power-up: %s before the mode register is set", command));
        require(active[ba], $sformatf("%s in bank %0d, which has no row open", command, ba));
        require(!a[10] && a[12:9] == 0, $sformatf("%s with address %h: auto precharge, or no column", command, a));
        distance("tRCD", ba, activated[ba], trcd);
    endtask

    task automatic execute(input logic [2:0] command);
        if (command != NOP) begin
            require(now >= powerup, $sformatf("power-up: a command after %0d ps, the pause is %0d ps", now, powerup));
            after_all();
        end
        case (command)
            NOP: ;
            ACTIVE: begin
                require(ready, "power-up: ACTIVE before the mode register is set");
                require(!active[ba], $sformatf("ACTIVE in bank %0d, which has row %h open", ba, row[ba]));
                distance("tRP", ba, precharged[ba], trp);
                distance("tRC", ba, activated[ba], trc);
                distance("tRRD", ba, any_activated, trrd);
                active[ba] = 1'b1;
                row[ba] = a;
                activated[ba] = now;
                any_activated = now;
            end
            READ: access("READ");
            WRITE: begin
                access("WRITE");
                require(dq_i_en, "WRITE while nobody drives the data pins");
                for (int i = 0; i < 2; i++)
                    if (!dqm[i]) storage[{row[ba], ba, a[8:0]}][8*i +: 8] = dq_i[8*i +: 8];
                written[ba] = now;
            end
            PRECHARGE: begin
                for (int bank = 0; bank < 4; bank++)
                    if (a[10] || ba == 2'(bank)) precharge(2'(bank));
                if (a[10]) begin
                    power_up_precharged = 1'b1;
                    for (int bank = 0; bank < 4; bank++) precharged[bank] = now;
                end
            end
            REFRESH: begin
                require(power_up_precharged, "power-up: AUTO REFRESH before all banks are precharged");
                refresh();
            end
            LOAD_MODE: load_mode();
            default: require(1'b0, "BURST TERMINATE is not known");
        endcase
    endtask

    // ---- data pins ---------------------------------------------------------------------------------------------------
    // `coming[n]` is the word for the data pins in n cycles, `driven` that the chip drives them, `released` that it has just
    // stopped: a controller must leave a cycle in between.
    logic [15:0] coming [3];
    logic [2:0]  is_coming;
    logic [1:0]  masked;
    logic        driven, released;
    logic [31:0] noise;
    logic [15:0] pins [4];

    initial begin
        {is_coming, masked, driven, released} = '0;
        noise = 32'h1234567;
    end

    always @(posedge clk) begin
        assert (!(dq_i_en && driven)) else $error("sdram_chip: DQ contention at %0d ps: both sides drive", now);
        assert (!(dq_i_en && released))
        else $error("sdram_chip: tHZ violated at %0d ps: no cycle between the chip's word and the controller's", now);
        if (cke && !cs_n) execute({ras_n, cas_n, we_n});
        if (ready) check_refresh();

        {is_coming, coming[0], coming[1]} = {1'b0, is_coming[2:1], coming[1], coming[2]};
        if (cke && !cs_n && {ras_n, cas_n, we_n} == READ) begin
            is_coming[cas_latency - 1] = 1'b1;
            coming[cas_latency - 1] = storage[{row[ba], ba, a[8:0]}];
        end
        noise = {noise[30:0], noise[31] ^ noise[21] ^ noise[1] ^ noise[0]};
        released = driven;
        driven = is_coming[0];
        pins[0] <= noise[15:0];
        for (int i = 0; i < 2; i++)
            if (is_coming[0] && !masked[i]) pins[0][8*i +: 8] <= coming[0][8*i +: 8];
        masked = dqm;
        for (int i = 1; i < 4; i++) pins[i] <= pins[i-1];
        now += period;
    end

    assign dq_o = pins[board];
endmodule
