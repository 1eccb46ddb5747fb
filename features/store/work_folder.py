"""The folder `<store>.work`: staging, locks, quarantine and caches beside a store."""

LOCKS, STAGING = "locks", "staging"  # in the folder beside the store; so are

BANKS = "banks"  # memory maps that records were packed into: a cache


REMOVED = "removed"  # the folder in the work folder


FOLDER = "throughput"
