"""What a board puts around the accelerator: memory controllers, links to a host, tops."""
