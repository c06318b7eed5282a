"""What is made of the ECP5's own blocks instead of what synthesis would choose."""
