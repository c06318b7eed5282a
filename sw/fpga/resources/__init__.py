"""What a configuration will take of an ECP5, and how fast it will run, without synthesising it."""
