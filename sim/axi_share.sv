// Two AXI4 masters, core and link, on one memory: bursts of one until none is unanswered, then bursts of the other that waits.
// The link comes first: it never asks for more than one burst at a time.

module axi_share #(
    parameter int BYTES = 4
) (
    input  logic clk,
    input  logic rst,
    `define MASTER(P) \
        input  logic [31:0] P``__araddr, input logic [7:0] P``__arlen, input logic [2:0] P``__arsize, \
        input  logic [1:0] P``__arburst, input logic P``__arvalid, output logic P``__arready, \
        output logic [8*BYTES-1:0] P``__rdata, output logic [1:0] P``__rresp, output logic P``__rlast, \
        output logic P``__rvalid, input logic P``__rready, \
        input  logic [31:0] P``__awaddr, input logic [7:0] P``__awlen, input logic [2:0] P``__awsize, \
        input  logic [1:0] P``__awburst, input logic P``__awvalid, output logic P``__awready, \
        input  logic [8*BYTES-1:0] P``__wdata, input logic [BYTES-1:0] P``__wstrb, input logic P``__wlast, \
        input  logic P``__wvalid, output logic P``__wready, \
        output logic [1:0] P``__bresp, output logic P``__bvalid, input logic P``__bready,
    `MASTER(core)
    `MASTER(link)
    output logic [31:0] chip__araddr, output logic [7:0] chip__arlen, output logic [2:0] chip__arsize,
    output logic [1:0] chip__arburst, output logic chip__arvalid, input logic chip__arready,
    input  logic [8*BYTES-1:0] chip__rdata, input logic [1:0] chip__rresp, input logic chip__rlast,
    input  logic chip__rvalid, output logic chip__rready,
    output logic [31:0] chip__awaddr, output logic [7:0] chip__awlen, output logic [2:0] chip__awsize,
    output logic [1:0] chip__awburst, output logic chip__awvalid, input logic chip__awready,
    output logic [8*BYTES-1:0] chip__wdata, output logic [BYTES-1:0] chip__wstrb, output logic chip__wlast,
    output logic chip__wvalid, input logic chip__wready,
    input  logic [1:0] chip__bresp, input logic chip__bvalid, output logic chip__bready
);
    // Whoever has the channel passes a request that is already shown; no further one while the other waits.
    logic reader, read_shown, read_wanted, writer, write_shown, write_wanted;
    logic [5:0] reads, writes;

    assign read_wanted = reader ? core__arvalid && !link__arvalid : link__arvalid;
    assign chip__arvalid = (reader ? link__arvalid : core__arvalid) && (read_shown || !read_wanted);
    assign chip__araddr = reader ? link__araddr : core__araddr;
    assign chip__arlen = reader ? link__arlen : core__arlen;
    assign chip__arsize = reader ? link__arsize : core__arsize;
    assign chip__arburst = reader ? link__arburst : core__arburst;
    assign chip__rready = reader ? link__rready : core__rready;
    assign core__arready = !reader && chip__arvalid && chip__arready;
    assign link__arready = reader && chip__arvalid && chip__arready;
    assign {core__rdata, core__rresp, core__rlast} = {chip__rdata, chip__rresp, chip__rlast};
    assign {link__rdata, link__rresp, link__rlast} = {chip__rdata, chip__rresp, chip__rlast};
    assign core__rvalid = !reader && chip__rvalid;
    assign link__rvalid = reader && chip__rvalid;

    assign write_wanted = writer ? core__awvalid && !link__awvalid : link__awvalid;
    assign chip__awvalid = (writer ? link__awvalid : core__awvalid) && (write_shown || !write_wanted);
    assign chip__awaddr = writer ? link__awaddr : core__awaddr;
    assign chip__awlen = writer ? link__awlen : core__awlen;
    assign chip__awsize = writer ? link__awsize : core__awsize;
    assign chip__awburst = writer ? link__awburst : core__awburst;
    assign chip__wdata = writer ? link__wdata : core__wdata;
    assign chip__wstrb = writer ? link__wstrb : core__wstrb;
    assign chip__wlast = writer ? link__wlast : core__wlast;
    assign chip__wvalid = writes != 0 && (writer ? link__wvalid : core__wvalid);
    assign chip__bready = writer ? link__bready : core__bready;
    assign core__awready = !writer && chip__awvalid && chip__awready;
    assign link__awready = writer && chip__awvalid && chip__awready;
    assign core__wready = !writer && writes != 0 && chip__wready;
    assign link__wready = writer && writes != 0 && chip__wready;
    assign core__bresp = chip__bresp;
    assign link__bresp = chip__bresp;
    assign core__bvalid = !writer && chip__bvalid;
    assign link__bvalid = writer && chip__bvalid;

    always_ff @(posedge clk) begin
        read_shown <= chip__arvalid && !chip__arready;
        write_shown <= chip__awvalid && !chip__awready;
        reads <= reads + 6'(chip__arvalid && chip__arready) - 6'(chip__rvalid && chip__rready && chip__rlast);
        writes <= writes + 6'(chip__awvalid && chip__awready) - 6'(chip__bvalid && chip__bready);
        if (read_wanted && reads == 0 && !chip__arvalid) reader <= !reader;
        if (write_wanted && writes == 0 && !chip__awvalid) writer <= !writer;
        if (rst) {reader, read_shown, reads, writer, write_shown, writes} <= '0;
    end
endmodule
