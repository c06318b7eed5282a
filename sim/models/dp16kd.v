// What the ECP5's block RAM does, as far as Yosys' mapping uses it: 1,024 words of 18 bits; two ports of 1, 2, 4, 9 or
// 18 bits with outputs that are not registered again, or a write port A and a read port B of up to 36 bits.
// What is read where the other port writes is undefined on the device; here every such bit is wrong.
module DP16KD #(
    parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0,
    INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0,
    INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
    INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0,
    INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0,
    INITVAL_22 = 0, INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0, INITVAL_28 = 0,
    INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
    INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0,
    INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0, INITVAL_3C = 0, INITVAL_3D = 0,
    INITVAL_3E = 0, INITVAL_3F = 0,
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG", RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", CLKAMUX = "CLKA", CLKBMUX = "CLKB",
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL", GSR = "AUTO"
) (
    input CLKA, CEA, OCEA, WEA, RSTA, CSA0, CSA1, CSA2,
    input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
    input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13, DIA14, DIA15, DIA16,
    DIA17,
    output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13, DOA14, DOA15,
    DOA16, DOA17,
    input CLKB, CEB, OCEB, WEB, RSTB, CSB0, CSB1, CSB2,
    input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
    input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13, DIB14, DIB15, DIB16,
    DIB17,
    output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13, DOB14, DOB15,
    DOB16, DOB17
);
    localparam [320*64-1:0] INITIAL = {INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A,
    INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31,
    INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
    INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F,
    INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
    INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D,
    INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
    INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};
    localparam BITS = 1024 * 18;

    reg [17:0] words [0:1023];
    integer place;
    initial begin
        for (place = 0; place < 1024; place = place + 1)
            words[place] = INITIAL[320 * (place / 16) + 20 * (place % 16) +: 18];
        if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
            $fatal(1, "DP16KD: only outputs without a register and rising edges are modelled");
    end

    wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [35:0] data_in_a = {{DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
        DIB4, DIB3, DIB2, DIB1, DIB0}, {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7,
        DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0}};
    wire [35:0] data_in_b = {18'b0, {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6,
        DIB5, DIB4, DIB3, DIB2, DIB1, DIB0}};
    wire wide = DATA_WIDTH_A == 36 || DATA_WIDTH_B == 36;

    // Which bits of the 36 at an even word a port writes (the lowest address bits of a wide one enable its bytes), and
    // where they begin.
    function [35:0] mask(input integer width, input [13:0] address);
        case (width)
            36: mask = {{9{address[3]}}, {9{address[2]}}, {9{address[1]}}, {9{address[0]}}};
            18: mask = {18'b0, {9{address[1]}}, {9{address[0]}}} << start(width, address);
            9: mask = 36'h1FF << start(width, address);
            4: mask = 36'hF << start(width, address);
            2: mask = 36'h3 << start(width, address);
            default: mask = 36'h1 << start(width, address);
        endcase
    endfunction

    function integer start(input integer width, input [13:0] address);
        start = width == 36 ? 0 : 18 * address[4];
        if (width <= 9) start = start + 9 * address[3];
        if (width <= 4) start = start + 4 * address[2];
        if (width <= 2) start = start + 2 * address[1];
        if (width <= 1) start = start + address[0];
    endfunction

    wire writes_a = WEA && CEA && !RSTA;
    wire writes_b = WEB && CEB && !RSTB && !wide;
    wire [35:0] pair_a = {words[{address_a[13:5], 1'b1}], words[{address_a[13:5], 1'b0}]};
    wire [35:0] pair_b = {words[{address_b[13:5], 1'b1}], words[{address_b[13:5], 1'b0}]};
    wire [35:0] mask_a = mask(DATA_WIDTH_A, address_a);
    wire [35:0] mask_b = mask(DATA_WIDTH_B, address_b);
    wire [35:0] new_a = pair_a & ~mask_a | data_in_a << start(DATA_WIDTH_A, address_a) & mask_a;
    wire [35:0] new_b = pair_b & ~mask_b | data_in_b << start(DATA_WIDTH_B, address_b) & mask_b;
    wire together = address_a[13:5] == address_b[13:5];
    wire [35:0] seen_a = (WEA && WRITEMODE_A == "WRITETHROUGH" ? new_a : pair_a) ^ (writes_b && together ? mask_b : 0);
    wire [35:0] seen_b = (WEB && WRITEMODE_B == "WRITETHROUGH" ? new_b : pair_b) ^ (writes_a && together ? mask_a : 0);
    reg [35:0] out_a, out_b;

    // A table has no clock at port A.
    always @(posedge CLKA) begin
        if (RSTA) out_a <= 0;
        else if (CEA && !(WEA && WRITEMODE_A == "NORMAL")) out_a <= seen_a >> start(DATA_WIDTH_A, address_a);
        if (writes_a && |mask_a[17:0]) words[{address_a[13:5], 1'b0}] <= new_a[17:0];
        if (writes_a && |mask_a[35:18]) words[{address_a[13:5], 1'b1}] <= new_a[35:18];
    end
    always @(posedge CLKB) begin
        if (RSTB) out_b <= 0;
        else if (CEB && !(WEB && WRITEMODE_B == "NORMAL")) out_b <= seen_b >> start(DATA_WIDTH_B, address_b);
        if (writes_b && |mask_b[17:0]) words[{address_b[13:5], 1'b0}] <= new_b[17:0];
        if (writes_b && |mask_b[35:18]) words[{address_b[13:5], 1'b1}] <= new_b[35:18];
    end

    always @* if (RESETMODE != "SYNC" && (RSTA || RSTB)) $fatal(1, "DP16KD: only synchronous resets are modelled");

    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
        DOA1, DOA0} = wide ? out_b[17:0] : out_a[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
        DOB1, DOB0} = wide && DATA_WIDTH_B == 36 ? out_b[35:18] : out_b[17:0];
endmodule
