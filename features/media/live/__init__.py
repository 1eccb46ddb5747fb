"""Media that are decoded while they are recorded: cameras, pipes and files that grow.

They are decoded in the process of the caller, in a thread, and not as untrusted files are.
"""
