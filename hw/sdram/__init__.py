"""SDR SDRAM as the accelerator's memory: chip data, controller, and the bridge from AXI."""
