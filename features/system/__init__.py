"""The operating system: files, locks, signals, processes, memory, devices."""
