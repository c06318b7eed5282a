// The DPI-C function that wrapped.sv imports.
extern "C" int twice(int value) { return 2 * value; }
