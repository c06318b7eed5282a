// The way onto one of the ECP5's clock networks.
module DCCA (input CLKI, CE, output CLKO);
    assign CLKO = CLKI && CE;
endmodule
