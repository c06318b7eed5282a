"""The machine: an accelerator for multi-task mixture-of-experts vision transformers, in Amaranth."""
