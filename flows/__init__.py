"""The flows: one file a flow, order and retries, nothing else."""
