"""SDR SDRAM as the accelerator's memory: chip data, controller and AXI bridge."""
