"""Trial passes before a recording: the stimulus axis of each tensor, and the size of batches."""
