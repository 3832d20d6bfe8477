"""From ledger to live policy: snapshots and their atomic swap."""
