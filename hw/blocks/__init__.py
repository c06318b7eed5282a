"""Units that know nothing of Tessera: arithmetic, delays, queues, slices, multipliers and arbitration."""
