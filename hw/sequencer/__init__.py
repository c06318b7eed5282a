"""The sequencer: it fetches commands, dispatches them in order, and schedules the weight stream ahead of them."""
