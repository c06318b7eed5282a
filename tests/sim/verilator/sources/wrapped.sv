// A top of its own around an exported design, with a memory for the back door and a function in C++.
module wrapped (
    input  logic       clk,
    input  logic       rst,
    input  logic [8:0] factor,
    output int         doubled
);
    import "DPI-C" function int twice(input int value);

    logic        i_ready, o_valid;
    logic [17:0] o_payload;
    logic [7:0]  operands [0:3];

    scale scale (
        .clk, .rst, .factor,
        .i__valid(1'b1), .i__ready(i_ready), .i__payload({1'b0, operands[2]}),
        .o__valid(o_valid), .o__ready(1'b1), .o__payload(o_payload)
    );
    always_ff @(posedge clk) if (o_valid) doubled <= twice(32'($signed(o_payload[16:0])));
endmodule
